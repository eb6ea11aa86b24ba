"""Which Keras model to measure artifacts against, or why there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report_parts import RecordedLatency, ReferenceRecord
from vae_edge.bundle import Bundle, sha256_of
from vae_edge.errors import ModelError, RuntimeMissingError, UsageError
from vae_edge.keras_vae import shipped_model_path
from vae_edge.manifest import Manifest
from vae_edge.split_options import SplitOptions

__all__ = [
    "ReferenceChoice",
    "choose_reference",
    "name_of_reference",
    "recorded_latencies",
    "reference_record",
]

_FOUND = SplitOptions()


@dataclass(frozen=True, kw_only=True)
class ReferenceChoice:
    """A choice, with what the user should know of it.

    Attributes:
        path: the Keras model; None where none can be measured, or the halves are two files.
        note: which model it is, or why there is none.
        warning: what is doubtful about it.
    """

    path: Path | None
    note: str
    warning: str | None = None


def tensorflow_installed() -> bool:
    """Say whether TensorFlow and Keras can be found, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in ("tensorflow", "keras"))


def choose_reference(
    bundle: Bundle,
    requested: Path | None,
    has_tensorflow: Callable[[], bool] = tensorflow_installed,
    split: SplitOptions = _FOUND,
) -> ReferenceChoice:
    """Take the model that was asked for; else the shipped one, if the bundle came from it.

    Args:
        bundle: what is measured.
        requested: the whole model's file; None where none is, or `split` names the halves.
        has_tensorflow: says whether TensorFlow is installed.
        split: how the model is taken apart.

    Raises:
        UsageError: it is said how to take a model apart, and not which.
        ModelError: the requested file does not exist.
        RuntimeMissingError: it was asked for, and TensorFlow is not installed.
    """
    source = bundle.manifest.model.source_sha256
    if requested is None and split.encoder is None:
        if split != _FOUND:
            raise UsageError(
                "options that say how a model is taken apart go with --reference MODEL, or with "
                "--encoder and --decoder; received neither."
            )
        if not _is_shipped(source):
            return ReferenceChoice(path=None, note="no --reference MODEL given")
        if not has_tensorflow():
            return ReferenceChoice(path=None, note="TensorFlow is not installed")
        return ReferenceChoice(
            path=shipped_model_path(), note="the MNIST VAE that ships with vae-edge"
        )
    name = name_of_reference(requested, split)
    for file in (requested,) if requested is not None else (split.encoder, split.decoder):
        if not Path(str(file)).is_file():
            raise ModelError(
                f"{file}: no such model. Give --reference the .keras file that the bundle was "
                "exported from, or leave it out."
            )
    if not has_tensorflow():
        raise RuntimeMissingError(
            f"Measuring {name} needs TensorFlow, which is not installed: "
            "pip install 'vae-edge[host]'. Or leave --reference out."
        )
    received = _sha256(requested, split)
    warning = None
    if received != source:
        warning = (
            f"{name} is not the model that the bundle was exported from (SHA-256 "
            f"{received[:12]}..., the manifest says {source[:12]}...): the ratios compare the "
            "artifacts with another model."
        )
    return ReferenceChoice(path=requested, note=name, warning=warning)


def name_of_reference(path: Path | None, split: SplitOptions = _FOUND) -> str:
    """Name the file of the model that is measured, or the two files of its halves."""
    if path is not None:
        return str(path)
    return "no reference given" if split.encoder is None else f"{split.encoder}, {split.decoder}"


def reference_record(
    bundle: Bundle, path: Path | None, note: str, split: SplitOptions = _FOUND
) -> ReferenceRecord:
    """Record what was measured against, as the report keeps it."""
    sha256 = None if path is None and split.encoder is None else _sha256(path, split)
    return ReferenceRecord(
        measured=sha256 is not None,
        note=note,
        sha256=sha256,
        matches_bundle=None if sha256 is None else sha256 == bundle.manifest.model.source_sha256,
    )


def recorded_latencies(manifest: Manifest) -> tuple[RecordedLatency, ...]:
    """Give what a manifest says of latency at export, on whatever machine that was."""
    return tuple(
        RecordedLatency(
            file=record.file,
            component=record.component,
            format=record.format,
            precision=record.precision,
            latency=record.latency,
        )
        for record in manifest.artifacts
        if record.latency is not None
    )


def _sha256(path: Path | None, split: SplitOptions) -> str:
    # On a device without the host packages there is no reference, and nothing of this is needed.
    from vae_edge.splitting import source_sha256

    return source_sha256(path, split)


def _is_shipped(sha256: str) -> bool:
    try:
        return sha256_of(shipped_model_path()) == sha256
    except (ModelError, OSError):
        return False
