"""What a head to head compares: one file, who made it, and what runs it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from vae_edge.bundle import Bundle
from vae_edge.terms import Component, Format, Precision

__all__ = ["OURS", "Contestant", "Engine", "from_bundle", "size_of"]

OURS = "vae-edge"


class Engine(str, Enum):
    """What runs a file."""

    LITERT = "LiteRT"
    ONNXRUNTIME = "ONNX Runtime"
    TENSORFLOW = "TensorFlow"
    OPENVINO = "OpenVINO"
    MNN = "MNN"

    def __str__(self) -> str:
        return str(self.value)


_ENGINES = {Format.TFLITE: Engine.LITERT, Format.ONNX: Engine.ONNXRUNTIME}


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A component as some tool exported it.

    Attributes:
        tool: who made it, with its recipe where it has several; `vae-edge` for ours.
        component: which half of the VAE.
        format: None for a SavedModel.
        precision: of its weights and activations.
        engine: what runs it.
        baseline: whether artifacts of the same component, format and precision are compared with
            it: the standard converter's own.
        path: the file; a directory for a SavedModel.
    """

    tool: str
    component: Component
    format: Format | None
    precision: Precision
    engine: Engine
    baseline: bool
    path: Path

    @property
    def ours(self) -> bool:
        """Whether vae-edge made it."""
        return self.tool == OURS

    @property
    def name(self) -> str:
        """Unique in a run, e.g. `decoder float32 onnx, tf2onnx`."""
        form = self.format or "SavedModel"
        return f"{self.component} {self.precision} {form}, {self.tool}"


def from_bundle(bundle: Bundle) -> tuple[Contestant, ...]:
    """Give a bundle's artifacts, in the manifest's order."""
    return tuple(
        Contestant(
            tool=OURS,
            component=record.component,
            format=record.format,
            precision=record.precision,
            engine=_ENGINES[record.format],
            baseline=False,
            path=bundle.path / record.file,
        )
        for record in bundle.manifest.artifacts
    )


def size_of(path: Path) -> int:
    """Give the bytes of a file, or of all files of a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
