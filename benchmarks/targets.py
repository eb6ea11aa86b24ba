"""What a head to head must reach and what it aims at: data only.

Ratios are of medians of one run at batch 1 and one thread, on an x86-64 CPU with AVX-512.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vae_edge.terms import Component, Format, Precision

__all__ = ["NOT_SLOWER", "TARGETS", "Figure", "Target"]


class Figure(str, Enum):
    """What is measured of our artifacts."""

    TIMES_STOCK = "times faster than stock"
    TIMES_FLOAT32 = "times faster than our float32"
    SHARE_OF_FLOAT32 = "share of our float32's time"
    PSNR_DB = "PSNR, dB"
    ELBO_CHANGE = "change of ELBO, nats, either way"
    Z_MEAN_ERROR = "mean error of z_mean"
    Z_LOG_VAR_ERROR = "mean error of z_log_var"
    SIZE_BYTES = "bytes"
    RUNNER_OVERHEAD_US = "runner overhead, µs"

    def __str__(self) -> str:
        return str(self.value)

    @property
    def higher_is_better(self) -> bool:
        """Whether a requirement is a floor (else a ceiling)."""
        return self in (Figure.TIMES_STOCK, Figure.TIMES_FLOAT32, Figure.PSNR_DB)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure of one artifact.

    Attributes:
        component: None for the median over all artifacts of the format.
        format: of the artifact.
        precision: None for the median over all artifacts of the format.
        figure: what is measured.
        required: what it must reach.
        aim: what to strive for.
    """

    component: Component | None
    format: Format
    precision: Precision | None
    figure: Figure
    required: float
    aim: float


# A ratio of two equally fast artifacts scatters by some percent from run to run.
NOT_SLOWER = 0.97

_ENCODER, _DECODER = Component.ENCODER, Component.DECODER
_TFLITE, _ONNX = Format.TFLITE, Format.ONNX
_FLOAT32, _INT8 = Precision.FLOAT32, Precision.INT8
_DYNAMIC, _FLOAT16 = Precision.DYNAMIC, Precision.FLOAT16


def _target(
    component: Component | None,
    format: Format,
    precision: Precision | None,
    figure: Figure,
    figures: tuple[float, float],
) -> Target:
    required, aim = figures
    return Target(
        component=component,
        format=format,
        precision=precision,
        figure=figure,
        required=required,
        aim=aim,
    )


TARGETS: tuple[Target, ...] = (
    _target(_DECODER, _TFLITE, _FLOAT32, Figure.TIMES_STOCK, (4.5, 5.5)),
    _target(_DECODER, _TFLITE, _FLOAT16, Figure.TIMES_STOCK, (4.5, 5.5)),
    _target(_DECODER, _TFLITE, _DYNAMIC, Figure.TIMES_STOCK, (400, 400)),
    _target(_DECODER, _TFLITE, _DYNAMIC, Figure.SHARE_OF_FLOAT32, (0.65, 0.65)),
    _target(_DECODER, _TFLITE, _INT8, Figure.TIMES_STOCK, (4.5, 6)),
    _target(_DECODER, _TFLITE, _INT8, Figure.PSNR_DB, (44, 44)),
    _target(_DECODER, _TFLITE, _INT8, Figure.ELBO_CHANGE, (0.05, 0.05)),
    _target(_DECODER, _ONNX, _FLOAT32, Figure.TIMES_STOCK, (1.3, 1.5)),
    _target(_DECODER, _ONNX, _INT8, Figure.TIMES_STOCK, (4, 5)),
    _target(_DECODER, _ONNX, _INT8, Figure.TIMES_FLOAT32, (2, 2)),
    _target(_ENCODER, _ONNX, _INT8, Figure.TIMES_STOCK, (9, 10)),
    _target(_ENCODER, _ONNX, _INT8, Figure.TIMES_FLOAT32, (1.3, 1.3)),
    *(
        target
        for format in Format
        for target in (
            _target(_ENCODER, format, _INT8, Figure.Z_MEAN_ERROR, (0.005, 0.003)),
            _target(_ENCODER, format, _INT8, Figure.Z_LOG_VAR_ERROR, (0.013, 0.006)),
            _target(_ENCODER, format, _INT8, Figure.SIZE_BYTES, (76_000, 74_000)),
            _target(_DECODER, format, _INT8, Figure.SIZE_BYTES, (120_000, 100_000)),
            _target(None, format, None, Figure.RUNNER_OVERHEAD_US, (3, 1)),
        )
    ),
)
