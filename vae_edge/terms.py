"""The words that every part of vae-edge shares: components, formats, precisions, tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from vae_edge.errors import ArtifactError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "COMPONENT_INPUT",
    "COMPONENT_OUTPUTS",
    "DEFAULT_PRECISIONS",
    "EXACTNESS",
    "ColourOrder",
    "Component",
    "DataKind",
    "Fit",
    "FloatArray",
    "Format",
    "Interpolation",
    "Likelihood",
    "Precision",
    "Target",
    "TensorSpec",
]

if TYPE_CHECKING:
    FloatArray = npt.NDArray[np.float32]
else:

    def __getattr__(name: str) -> object:
        # The command line needs the other words for its `--help`, and numpy takes a second on a Pi.
        if name != "FloatArray":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np
        import numpy.typing as npt

        return npt.NDArray[np.float32]


class _Term(str, Enum):
    """A string enum whose members print as their value (`StrEnum` needs Python 3.11)."""

    def __str__(self) -> str:
        return str(self.value)


class Component(_Term):
    """One half of a VAE. The random sampling between them is in neither."""

    ENCODER = "encoder"
    DECODER = "decoder"


class Format(_Term):
    """The file format of an artifact.

    An installed package adds one by entry points of its name in the groups `vae_edge.exporters` and
    `vae_edge.runners` (docs/api.md). It becomes a member as soon as it is asked for by name.
    """

    TFLITE = "tflite"
    ONNX = "onnx"

    @classmethod
    def _missing_(cls, value: object) -> Format | None:
        # Looked up only for a name that is not built in: reading all packages' metadata takes time.
        from vae_edge.plugins import plugin_formats

        if value not in plugin_formats():
            return None
        name = str(value)
        member = str.__new__(cls, name)
        member._name_, member._value_ = name.upper(), name
        # What Enum keeps of a member, so that it is one and iterating gives it too.
        cls._member_map_[member._name_] = member
        cls._member_names_.append(member._name_)
        cls._value2member_map_[name] = member
        return member


class Precision(_Term):
    """How weights and activations are stored and computed.

    What a precision means exactly in a format (types, granularity, symmetry) is recorded per
    artifact in the manifest.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"
    INT16X8 = "int16x8"
    INT4 = "int4"


# The most exact first.
EXACTNESS = (
    Precision.FLOAT32,
    Precision.FLOAT16,
    Precision.INT16X8,
    Precision.DYNAMIC,
    Precision.INT8,
    Precision.INT4,
)


# What a deployer has a use for on any device. int8 is faster, smaller and closer to the model than
# dynamic, which on a Cortex-A72 takes longer than float32 (docs/performance.md): it is made when
# asked for, or where a device decides.
DEFAULT_PRECISIONS = (Precision.FLOAT32, Precision.FLOAT16, Precision.INT8)


class Target(_Term):
    """The processors that an artifact's graph was chosen for.

    Which form of a layer is fastest differs between them (docs/performance.md); every form runs,
    and computes the same, everywhere.
    """

    ANY = "any"
    X86 = "x86"
    ARM64 = "arm64"


class Fit(_Term):
    """How a picture of another size or kind is made to fit the model."""

    RESIZE = "resize"
    CROP = "crop"
    PAD = "pad"


class DataKind(_Term):
    """What one row of a model's input is.

    PICTURE: (height, width, 1 or 3), which files of pictures and 8-bit arrays can be turned into.
    ARRAY: any numbers, e.g. a window of sensor values (length, channels), as the model takes them.
    """

    PICTURE = "picture"
    ARRAY = "array"


class ColourOrder(_Term):
    """In which order a model takes the channels of a coloured picture."""

    RGB = "rgb"
    BGR = "bgr"


class Likelihood(_Term):
    """What a decoder's output stands for, and so what its reconstruction loss is.

    BERNOULLI: the probability that a value is 1; binary cross-entropy.
    GAUSSIAN: the mean of a Gaussian of variance 1; half the squared error.
    """

    BERNOULLI = "bernoulli"
    GAUSSIAN = "gaussian"


class Interpolation(_Term):
    """The way from one latent to another."""

    LINEAR = "linear"
    SLERP = "slerp"


COMPONENT_INPUT: Mapping[Component, str] = MappingProxyType(
    {Component.ENCODER: "image", Component.DECODER: "z"}
)
COMPONENT_OUTPUTS: Mapping[Component, tuple[str, ...]] = MappingProxyType(
    {Component.ENCODER: ("z_mean", "z_log_var"), Component.DECODER: ("reconstruction",)}
)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One named input or output of an artifact, as stored in its file.

    Attributes:
        name: name at the artifact's boundary, e.g. `z_mean`.
        shape: one entry per axis, the first is the batch; None where any size is accepted.
        dtype: numpy name of the stored type, e.g. `float32` or `int8`.
        scale: real value of one step, per tensor; None for a float tensor.
        zero_point: stored value that stands for 0.0; None for a float tensor.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        if (self.scale is None) != (self.zero_point is None):
            raise ArtifactError(
                f"tensor '{self.name}': scale and zero_point belong together; received "
                f"scale={self.scale}, zero_point={self.zero_point}."
            )

    @property
    def batch(self) -> int | None:
        """Fixed batch size, or None when any batch is accepted."""
        return self.shape[0]

    def __str__(self) -> str:
        axes = ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"{self.name} {self.dtype} ({axes})"
