"""Loading a `.keras` file: checked first, then by Keras in safe mode, then split.

Keras and TensorFlow are imported inside the functions, so that this module can be imported where
they are not installed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from vae_edge.errors import ModelError, RuntimeMissingError
from vae_edge.keras_vae import host_remedy
from vae_edge.splitting.archive import (
    CONFIG,
    METADATA,
    OLDEST_KERAS,
    WEIGHTS,
    Archive,
    read_archive,
)
from vae_edge.splitting.config_check import CheckedConfig, check_config
from vae_edge.splitting.custom_code import KnownClasses
from vae_edge.splitting.stand_ins import stand_in_class
from vae_edge.splitting.weight_budget import WeightBudget

__all__ = ["Loaded", "import_keras", "load_model"]

_PARTS_ROOT = "vae_edge_parts"
_POLICIES = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model as Keras loaded it.

    Attributes:
        model: the Keras model.
        notes: what the user should know of how it was loaded.
    """

    model: Any
    notes: tuple[str, ...] = ()


def import_keras() -> Any:
    """Import Keras, on TensorFlow, with what `vae-edge train` registers.

    Raises:
        RuntimeMissingError: one of them is not installed, or Keras runs on something else.
    """
    try:
        importlib.import_module("tensorflow")
        keras = importlib.import_module("keras")
        # Registers the VAE of `vae-edge train`, so that its files load.
        importlib.import_module("vae_edge.training.model")
    except ImportError as error:
        raise RuntimeMissingError(
            f"Loading a Keras model needs the host packages, and {error.name} cannot be imported: "
            f"{host_remedy()}."
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise RuntimeMissingError(
            f"Keras runs on the backend '{keras.backend.backend()}'; vae-edge converts through "
            "TensorFlow. Set KERAS_BACKEND=tensorflow."
        )
    return keras


def load_model(path: Path, modules: Sequence[ModuleType] = ()) -> Loaded:
    """Load a `.keras` file.

    Args:
        path: of the file.
        modules: the user's, imported already; their layers may be made.

    Raises:
        ModelError: the file is damaged, not safe, or needs code that is not at hand.
        RuntimeMissingError: TensorFlow or Keras is not installed.
    """
    archive = read_archive(path)
    keras = import_keras()
    checked = check_config(archive.config, KnownClasses(modules), path)
    groups, held = _check_weights(path)
    custom: dict[str, Any] = dict(checked.custom)
    custom.update({missing.key: stand_in_class(missing) for missing in checked.missing})
    if checked.missing_root is not None and not checked.config:
        custom[_PARTS_ROOT] = _parts_class(checked, groups, path)
        config: dict[str, Any] = {
            "module": None,
            "class_name": _PARTS_ROOT,
            "config": {"parts": dict(checked.parts)},
            "registered_name": _PARTS_ROOT,
        }
    else:
        config = checked.config
    budget = WeightBudget(held=held, where=str(path))
    model = _load(keras, archive, config, custom, budget)
    if not isinstance(model, keras.layers.Layer):
        raise ModelError(
            f"{path}: holds a {type(model).__name__} and no model. Save the whole VAE: "
            "vae.save('model.keras')."
        )
    notes = [f"without running it, {missing} was cut away." for missing in checked.missing]
    if checked.missing_root is not None:
        notes.append(
            f"the class {checked.missing_root} is not at hand; the model was put together from its "
            "parts in the file."
        )
    return Loaded(model=model, notes=tuple(notes))


def _load(
    keras: Any,
    archive: Archive,
    config: dict[str, Any],
    custom: dict[str, Any],
    budget: WeightBudget,
) -> Any:
    """Load what was checked, and nothing else that the archive holds."""
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as directory:
        checked = Path(directory) / "checked.keras"
        with zipfile.ZipFile(checked, "w") as out:
            out.writestr(METADATA, json.dumps({"keras_version": keras.__version__}))
            out.writestr(CONFIG, json.dumps(config))
            archive.copy_weights(out)
        try:
            with _policy_of(keras, config), budget.watched(keras):
                return keras.saving.load_model(
                    checked, custom_objects=custom, compile=False, safe_mode=True
                )
        except Exception as error:  # Keras raises whatever the damaged part happens to cause
            raise budget.excess or _not_loaded(keras, archive, error) from error


@contextlib.contextmanager
def _policy_of(keras: Any, config: dict[str, Any]) -> Iterator[None]:
    """Load under the policy that most layers have.

    A layer of the user's own makes its inner layers under the policy that is set then, as it did
    when the model was built.
    """
    before = keras.config.dtype_policy()
    counted = Counter(_policies(config)).most_common(1)
    if counted and counted[0][0] in _POLICIES:
        keras.config.set_dtype_policy(counted[0][0])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _policies(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        inner = value.get("config")
        if value.get("class_name") == "DTypePolicy" and isinstance(inner, dict):
            yield str(inner.get("name"))
        for each in value.values():
            yield from _policies(each)
    elif isinstance(value, list):
        for each in value:
            yield from _policies(each)


def _not_loaded(keras: Any, archive: Archive, error: Exception) -> ModelError:
    same = archive.keras_version == keras.__version__
    by = f"Keras {archive.keras_version}" if archive.keras_version else "an unknown Keras"
    saved = "" if same else f"was saved by {by} and "
    oldest = ".".join(map(str, OLDEST_KERAS))
    other = (
        ", or that release writes what this one cannot read (files of Keras "
        f"{oldest} and later are tested)"
    ) * (not same)
    return ModelError(
        f"{archive.path}: {saved}cannot be loaded by Keras {keras.__version__}: "
        f"{_short(error)} Either the file is damaged, or its custom layers were saved with other "
        f"code than they are loaded with{other}. Save the model again where it was trained."
    )


def _check_weights(path: Path) -> tuple[tuple[str, ...], int]:
    """Refuse a weights file that refers to others or blows up.

    Gives the groups at its top, and how many values are in it.
    """
    h5py: Any = importlib.import_module("h5py")
    damaged = f"{path}: is damaged: its weights cannot be read"
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(WEIGHTS)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ModelError(f"{damaged}: {_short(error)} Save or copy it again.") from error
    total = values = 0
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for group in _groups(h5py, file):
                for name in group:
                    link = group.get(name, getlink=True)
                    if not isinstance(link, h5py.HardLink):
                        raise ModelError(
                            f"{path}: is not loaded: its weights refer to something else "
                            f"({group.name}/{name}), which Keras never writes."
                        )
                    item = group[name]
                    if isinstance(item, h5py.Dataset):
                        if item.external or item.is_virtual:
                            raise ModelError(
                                f"{path}: is not loaded: its weights {item.name} are kept in "
                                "another file, which Keras never does."
                            )
                        total += item.nbytes
                        values += item.size or 0
            top = tuple(file)
    except ModelError:
        raise
    except Exception as error:  # h5py raises several kinds for what is not HDF5
        raise ModelError(f"{damaged}: {_short(error)} Save or copy it again.") from error
    if total > max(2**26, 200 * len(content)):
        raise ModelError(
            f"{path}: is not loaded: {len(content)} bytes of weights would unpack to {total}."
        )
    return top, values


def _groups(h5py: Any, file: Any) -> Any:
    """Every group, in which nothing is followed but what the file itself holds."""
    waiting = [file]
    while waiting:
        group = waiting.pop()
        yield group
        own = [n for n in group if isinstance(group.get(n, getlink=True), h5py.HardLink)]
        waiting.extend(group[name] for name in own if isinstance(group[name], h5py.Group))


def _parts_class(checked: CheckedConfig, groups: tuple[str, ...], path: Path) -> type:
    """A model that holds what a model of a class that is not at hand holds."""
    keras: Any = importlib.import_module("keras")
    absent = [name for name in checked.parts if name not in groups]
    if len(checked.parts) < 2 or absent:
        told = (
            f"its parts {', '.join(absent)} have no weights of their own there"
            if absent
            else ("it does not say what an encoder and a decoder in it are made of")
        )
        raise ModelError(
            f"{path}: holds a model of the class {checked.missing_root}, whose code is not at "
            f"hand, and {told}. Name the module or file that defines the class with --import "
            "(which runs it), or save the halves: vae.encoder.save('encoder.keras'), "
            "vae.decoder.save('decoder.keras'), and give --encoder and --decoder."
        )

    class Parts(keras.Model):  # type: ignore[misc]  # keras has no types
        def __init__(self, parts: dict[str, Any], **_: Any) -> None:
            super().__init__()
            for name, config in parts.items():
                setattr(self, name, keras.saving.deserialize_keras_object(config))
            self.built = True

    return Parts


def _short(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    # Keras says what was being made first, at length, and then what went wrong.
    text = text.rsplit("Exception encountered: ", maxsplit=1)[-1]
    text = " ".join(text.split()) or type(error).__name__
    text = text if len(text) <= 300 else text[:297] + "..."
    return text if text.endswith(".") else f"{text}."
