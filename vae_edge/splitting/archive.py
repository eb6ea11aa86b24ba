"""The `.keras` archive, read and checked before Keras sees any of it."""

from __future__ import annotations

import json
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vae_edge.errors import ModelError

__all__ = ["OLDEST_KERAS", "Archive", "read_archive"]

# The oldest release whose files are tested to load.
OLDEST_KERAS = (3, 0, 0)
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
# Keras stores its members uncompressed, and recompressing weights gains little.
_MOST_EXPANSION = 200
_SMALL_BYTES = 64 * 2**20
_MOST_CONFIG_BYTES = 64 * 2**20
_MOST_MEMBERS = 10_000
_MOST_LISTED = 4
_RUNS_CODE = (
    "can run code when they are loaded, so they are not. Load it where you trust it, and save it "
    "again: model.save('model.keras')."
)
_PYTORCH = "PyTorch models are pickles: build the model in Keras, and copy its weights."
_MADE = "is what models are exported to. Give the Keras model that it was made from."
# By ending, the longer one first: what to say of a file of another format.
_INSTEAD = {
    ".weights.h5": "Weights alone do not say which layers they are of: build the model, "
    "model.load_weights(...), and model.save('model.keras').",
    ".h5": f"HDF5 files {_RUNS_CODE}",
    ".hdf5": f"HDF5 files {_RUNS_CODE}",
    ".pkl": f"Pickles {_RUNS_CODE}",
    ".pickle": f"Pickles {_RUNS_CODE}",
    ".joblib": f"Pickles {_RUNS_CODE}",
    ".pb": f"SavedModels {_RUNS_CODE}",
    ".npz": "Weights alone do not say which layers they are of: build the model, set its weights, "
    "and model.save('model.keras').",
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
    ".tflite": f"TFLite {_MADE}",
    ".onnx": f"ONNX {_MADE}",
}
_SAVE_AGAIN = "Save the model again with model.save('model.keras')"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What a `.keras` file says of itself.

    Attributes:
        path: of the file.
        config: `config.json`, as it was read.
        keras_version: release that wrote the file; None where it does not say.
    """

    path: Path
    config: dict[str, Any]
    keras_version: str | None

    def copy_weights(self, out: zipfile.ZipFile) -> None:
        """Copy the weights, and nothing else, into another archive."""
        with (
            zipfile.ZipFile(self.path) as source,
            source.open(WEIGHTS) as weights,
            out.open(WEIGHTS, "w", force_zip64=True) as target,
        ):
            while chunk := weights.read(2**20):
                target.write(chunk)


def read_archive(path: Path) -> Archive:
    """Read a `.keras` file's members, all but the weights.

    Raises:
        ModelError: no such file, another format, damaged, older than Keras 3, or an archive that
            is made to do harm.
    """
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            config = _read_json(archive, CONFIG, path)
            names = archive.namelist()
            metadata = _read_json(archive, METADATA, path) if METADATA in names else {}
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is what zipfile raises for a password
        raise ModelError(f"{path}: is damaged: {_sentence(error)} {_SAVE_AGAIN}.") from error
    version = metadata.get("keras_version")
    version = version if isinstance(version, str) else None
    _check_version(version, path)
    if not isinstance(config.get("class_name"), str):
        raise ModelError(
            f"{path}: is damaged or not a .keras model: {CONFIG} names no class. {_SAVE_AGAIN}."
        )
    return Archive(path=path, config=config, keras_version=version)


def _check_file(path: Path) -> None:
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise ModelError(
                f"{path}: is a link to {path.readlink()}, which is not there. Give the .keras file."
            ) from None
        raise ModelError(
            f"{path}: no such model. Train one with `vae-edge train`, or leave MODEL out to export "
            "the one that ships with vae-edge."
        ) from None
    except (OSError, ValueError) as error:  # ValueError is what a null byte causes
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot be read: {reason}.") from error
    if stat.S_ISDIR(kind):
        raise ModelError(f"{path}: {_directory(path)}")
    if not stat.S_ISREG(kind):  # a pipe would be waited for
        raise ModelError(f"{path}: is no file but a device or pipe. Give the .keras file.")
    suffixes = "".join(path.suffixes[-2:]).lower()
    if path.suffix.lower() != ".keras":
        ending = next((each for each in _INSTEAD if suffixes.endswith(each)), None)
        instead = _INSTEAD[ending] if ending else f"{path.suffix or 'such'} files are not loaded."
        raise ModelError(f"{path}: expected a .keras file (Keras 3). {instead}")
    try:
        content_is_zip = zipfile.is_zipfile(path)
        with path.open("rb"):
            pass
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}.") from error
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: is empty. {_SAVE_AGAIN}, or copy it again.")
    if not content_is_zip:
        raise ModelError(
            f"{path}: is damaged or not a .keras file (a zip archive was expected). {_SAVE_AGAIN}, "
            "or copy it again."
        )


def _directory(path: Path) -> str:
    """Say what to do about a directory in a model's place."""
    if (path / "saved_model.pb").exists():
        return (
            "is a SavedModel, which is not loaded, because it can run code when it is. Load it "
            "where you trust it, and save it again: model.save('model.keras')."
        )
    files = sorted(each.name for each in path.glob("*.keras"))
    if files:
        more = f" and {len(files) - _MOST_LISTED} more" * (len(files) > _MOST_LISTED)
        return f"is a directory. Give the file in it: {', '.join(files[:_MOST_LISTED])}{more}."
    return "is a directory. Give the .keras file: model.save('model.keras')."


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    refused = f"{path}: was not written by Keras, and is not loaded"
    for member in members[:_MOST_MEMBERS]:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in member.filename:
            raise ModelError(f"{refused}: its member {member.filename!r} lies outside of it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ModelError(f"{refused}: its member {member.filename!r} is a symbolic link.")
        if member.file_size > max(_SMALL_BYTES, _MOST_EXPANSION * member.compress_size):
            raise ModelError(
                f"{refused}: its member {member.filename!r} of {member.compress_size} bytes would "
                f"unpack to {member.file_size}."
            )
    if len(names) > _MOST_MEMBERS or len(set(names)) != len(names):
        raise ModelError(f"{refused}: it has {len(names)} members, some of one name or too many.")
    if "model.weights.npz" in names and WEIGHTS not in names:
        raise ModelError(f"{path}: its weights are .npz; expected {WEIGHTS}. {_SAVE_AGAIN}.")
    missing = [name for name in (CONFIG, WEIGHTS) if name not in names]
    if missing:
        raise ModelError(
            f"{path}: is damaged or not a .keras file: {' and '.join(missing)} missing; it holds "
            f"{', '.join(names[:8]) or 'nothing'}. {_SAVE_AGAIN}."
        )


def _read_json(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    if archive.getinfo(name).file_size > _MOST_CONFIG_BYTES:
        raise ModelError(f"{path}: is damaged: {name} is larger than any model's.")
    try:
        found = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: is damaged: {name} is no JSON ({_sentence(error)}) {_SAVE_AGAIN}."
        ) from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is damaged: {name} holds no object. {_SAVE_AGAIN}.")
    return found


def _check_version(version: str | None, path: Path) -> None:
    if version is None:
        return
    try:
        major = int(version.split(".", maxsplit=1)[0])
    except ValueError:
        raise ModelError(
            f"{path}: is damaged: {METADATA} says that Keras {version!r} wrote it."
        ) from None
    if major < OLDEST_KERAS[0]:
        oldest = ".".join(map(str, OLDEST_KERAS))
        raise ModelError(
            f"{path}: was saved by Keras {version}; files of Keras {oldest} and later are read. "
            "Build the model in Keras 3, load_weights from a .weights.h5 that the old one saved, "
            "and save that."
        )


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
