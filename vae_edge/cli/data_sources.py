"""From `--calibration` to images: which data a model is calibrated and judged on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vae_edge.cli.console import note
from vae_edge.errors import DataError, TrainingError, UsageError

if TYPE_CHECKING:
    from exporters.representative import Representative
    from vae_edge.keras_vae import KerasVAE

__all__ = ["AUTO", "CALIBRATION_HELP", "check_calibration", "representative_for"]

AUTO = "auto"
SAMPLES = "samples"
CALIBRATION_HELP = (
    "Data that quantized ranges and golden vectors are taken from: auto, samples (the model's "
    "own), digits, mnist, fashion-mnist, digits+samples, or a path of your own (.npy, .npz, IDX, a "
    "folder of pictures or of such folders, one for each class)."
)


def representative_for(
    vae: KerasVAE, model: Path, calibration: str, data_dir: Path | None, seed: int
) -> Representative:
    """Find the images that `--calibration` asks for.

    `auto` is the data set that `vae-edge train` recorded beside the model, where it is at hand;
    for the model that ships with vae-edge it is MNIST where a data directory is given. Otherwise it
    is what docs/calibration.md found best without the training data.

    Raises:
        DataError: a named source that cannot be found, or does not fit the model.
    """
    from exporters.representative import from_samples, mix
    from vae_edge.keras_vae import shipped_model_path

    if calibration != AUTO:
        if Path(calibration).exists():
            return _one(vae, calibration, data_dir, seed)
        parts = [_one(vae, name, data_dir, seed) for name in calibration.split("+")]
        return parts[0] if len(parts) == 1 else mix(*parts)
    recorded = _recorded_dataset(model, data_dir)
    if recorded is not None:
        try:
            return _one(vae, recorded, data_dir, seed, allow_download=False)
        except DataError:
            if data_dir is not None:
                raise
            note(
                f"note: the model was trained on '{recorded}', which is not at hand, so it is "
                "calibrated on other images. To use it, give --data-dir, or --calibration "
                f"{recorded}."
            )
    if model == shipped_model_path() or recorded == "mnist":
        return mix(_one(vae, "digits", data_dir, seed), from_samples(vae, seed))
    note(
        "note: calibrated on the model's own samples, which are smoother than data: on MNIST an "
        "int8 encoder's largest errors were six times those after calibration on data, its mean "
        "errors twice (docs/calibration.md). Your own data is better: --calibration PATH."
    )
    return from_samples(vae, seed)


def check_calibration(calibration: str) -> None:
    """Refuse, before any work, a `--calibration` that names nothing.

    Raises:
        DataError: neither a known name nor an existing path; lists the names.
    """
    from vae_edge.training.data import DATASET_NAMES

    known = (SAMPLES, *DATASET_NAMES)
    parts = calibration.split("+")
    if calibration == AUTO or Path(calibration).exists():
        return
    unknown = [part for part in parts if part not in known and not Path(part).exists()]
    if unknown or len(parts) > 2:
        raise DataError(
            f"--calibration {calibration}: expected auto, one of {', '.join(known)}, a path that "
            "exists, or two of them joined by +."
        )


def _one(
    vae: KerasVAE, name: str, data_dir: Path | None, seed: int, *, allow_download: bool = True
) -> Representative:
    from exporters.own_data import from_path
    from exporters.representative import from_images, from_samples
    from vae_edge.training.data import DATASET_NAMES, load_dataset

    if name == SAMPLES:
        return from_samples(vae, seed)
    path = Path(name)
    if name not in DATASET_NAMES and path.exists() and not _is_idx(path):
        return from_path(path, vae, seed)
    data = load_dataset(name, data_dir, allow_download=allow_download)
    return from_images(data, vae.image_shape, seed, vae.preprocessing)


def _is_idx(path: Path) -> bool:
    from vae_edge.training.user_data import find_idx_files

    if path.is_dir():
        return bool(find_idx_files(path))
    return "idx" in path.name and path.suffix.lower() not in (".npy", ".npz")


def _recorded_dataset(model: Path, data_dir: Path | None) -> str | None:
    """The data set's name in the settings that `vae-edge train` leaves beside its model."""
    from vae_edge.keras_vae import shipped_model_path
    from vae_edge.training.run_dir import load_settings

    if model == shipped_model_path():
        # Only where it is given: the default must not depend on what a machine happens to have.
        return "mnist" if data_dir is not None else None

    try:
        return load_settings(model.parent).dataset
    except (TrainingError, UsageError):  # not a run of ours: then nothing is recorded
        return None
