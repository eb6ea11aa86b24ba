"""From `--calibration` to images: which data a model is calibrated and judged on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vae_edge.cli.console import note
from vae_edge.errors import DataError, UsageError

if TYPE_CHECKING:
    from exporters.representative import Representative
    from vae_edge.keras_vae import KerasVAE

__all__ = ["AUTO", "CALIBRATION_HELP", "representative_for"]

AUTO = "auto"
SAMPLES = "samples"
CALIBRATION_HELP = (
    "Images that quantized ranges and golden vectors are taken from: auto, samples (the model's "
    "own), digits, mnist, fashion-mnist, digits+samples, or a path (.npz, .npy, IDX, folder)."
)


def representative_for(
    vae: KerasVAE, model: Path, calibration: str, data_dir: Path | None, seed: int
) -> Representative:
    """Find the images that `--calibration` asks for.

    `auto` is the data set that `vae-edge train` recorded beside the model, where it is at hand;
    for the model that ships with vae-edge, and where nothing better is known, it is what
    docs/calibration.md found best without the training data.

    Raises:
        DataError: a named source that cannot be found, or does not fit the model.
    """
    from exporters.representative import from_samples, mix

    if calibration != AUTO:
        parts = [_one(vae, name, data_dir, seed) for name in calibration.split("+")]
        if len(parts) > 2:
            raise DataError(f"--calibration {calibration}: at most two sources can be mixed.")
        return parts[0] if len(parts) == 1 else mix(*parts)
    recorded = _recorded_dataset(model)
    if recorded is not None:
        try:
            return _one(vae, recorded, data_dir, seed)
        except DataError as error:
            note(
                f"note: the model was trained on '{recorded}', which is not at hand, so it is "
                f"calibrated on other images; give --data-dir to use it. ({error})"
            )
    if vae.image_shape == (28, 28, 1):
        return mix(_one(vae, "digits", data_dir, seed), from_samples(vae, seed))
    note(
        "note: no data set is known for this model, so it is calibrated on its own samples. "
        "Ranges taken from your own images are safer: --calibration PATH."
    )
    return from_samples(vae, seed)


def _one(vae: KerasVAE, name: str, data_dir: Path | None, seed: int) -> Representative:
    from exporters.representative import from_images, from_samples
    from vae_edge.training.data import load_dataset

    if name == SAMPLES:
        return from_samples(vae, seed)
    return from_images(load_dataset(name, data_dir), vae.image_shape, seed)


def _recorded_dataset(model: Path) -> str | None:
    """The data set's name in the settings that `vae-edge train` leaves beside its model."""
    from vae_edge.codec import DecodeError, decode, loads
    from vae_edge.training.settings import TrainSettings

    path = model.parent / "settings.json"
    if not path.is_file():
        return None
    try:
        return decode(TrainSettings, loads(path.read_text(encoding="utf-8"))).dataset
    except (DecodeError, UsageError, OSError, UnicodeDecodeError):
        return None
