"""How much each precision may differ from the Keras model, and the reason for every number.

The limits rest on the spread measured on seven MNIST and digits VAEs (docs/parity.md has the table
and the command that repeats it). For the integers they are about half again to twice the worst
figure seen, for the floats far above it, so that deeper models pass; a broken export (a flipped
kernel, a lost bias, swapped outputs) is off by a tenth of the span and more on average, which no
rmse allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vae_edge.errors import UsageError
from vae_edge.metrics import METRICS
from vae_edge.terms import Precision

__all__ = ["OUTPUTS", "TOLERANCES", "Limits", "Override", "limits_for", "parse_override"]

OUTPUTS = ("z_mean", "z_log_var", "reconstruction")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on one output: ceilings on errors, floors on similarities."""

    max_abs_error: float
    rmse: float
    cosine_similarity: float
    psnr_db: float

    def items(self) -> Iterable[tuple[str, float]]:
        """Give the metrics and their limits."""
        return ((name, float(getattr(self, name))) for name in METRICS)


# float32 differs by the order of summation only: 1e-6 of the span measured, 1e-4 allowed so that
# deeper models, which sum more, pass.
_EXACT = Limits(max_abs_error=1e-4, rmse=1e-5, cosine_similarity=0.999999, psnr_db=100)
# float16 weights have 11 significant bits: relative errors of 2^-11 each, partly averaged out.
_HALF = Limits(max_abs_error=0.005, rmse=0.001, cosine_similarity=0.9999, psnr_db=60)
# Weights in 8 bits alone: a layer's largest weight sets the step of all of them. Where a decoder
# has steep edges in its latent plane, single pixels move much further than the image as a whole.
_DYNAMIC_LATENT = Limits(max_abs_error=0.15, rmse=0.05, cosine_similarity=0.995, psnr_db=26)
_DYNAMIC_IMAGE = Limits(max_abs_error=0.25, rmse=0.015, cosine_similarity=0.999, psnr_db=36)
# Activations in 8 bits too. Latents lose most on outliers beyond the calibrated range, where int8
# saturates, so the typical error is held tighter than the largest; and most in shares of the span
# where that is small, as that of z_log_var is in a briefly trained model. An rmse of 0.03 in an
# image is 8 of 255 grey levels: to be seen beside the original, hardly without it.
_INT8_LATENT = Limits(max_abs_error=0.20, rmse=0.06, cosine_similarity=0.995, psnr_db=24)
_INT8_IMAGE = Limits(max_abs_error=0.40, rmse=0.03, cosine_similarity=0.995, psnr_db=30)

TOLERANCES: Mapping[Precision, Mapping[str, Limits]] = MappingProxyType(
    {
        Precision.FLOAT32: dict.fromkeys(OUTPUTS, _EXACT),
        Precision.FLOAT16: dict.fromkeys(OUTPUTS, _HALF),
        Precision.DYNAMIC: {
            "z_mean": _DYNAMIC_LATENT,
            "z_log_var": _DYNAMIC_LATENT,
            "reconstruction": _DYNAMIC_IMAGE,
        },
        Precision.INT8: {
            "z_mean": _INT8_LATENT,
            "z_log_var": _INT8_LATENT,
            "reconstruction": _INT8_IMAGE,
        },
        Precision.INT16X8: {
            "z_mean": _INT8_LATENT,
            "z_log_var": _DYNAMIC_LATENT,
            "reconstruction": _DYNAMIC_IMAGE,
        },
        # Not exported here; for artifacts that others made.
        Precision.INT4: {
            "z_mean": _INT8_LATENT,
            "z_log_var": _INT8_LATENT,
            "reconstruction": _INT8_IMAGE,
        },
    }
)


@dataclass(frozen=True, kw_only=True)
class Override:
    """A limit that the user set instead of ours.

    Attributes:
        precision: only there; None for every precision.
        output: e.g. `z_mean`.
        metric: e.g. `max_abs_error`.
        limit: ceiling or floor.
    """

    precision: Precision | None
    output: str
    metric: str
    limit: float


def parse_override(text: str) -> Override:
    """Read `[PRECISION:]OUTPUT.METRIC=LIMIT`, e.g. `int8:z_mean.max_abs_error=0.1`.

    Raises:
        UsageError: not of that form, or an unknown precision, output or metric.
    """
    form = "expected [PRECISION:]OUTPUT.METRIC=LIMIT, e.g. int8:z_mean.max_abs_error=0.1"
    target, separator, number = text.partition("=")
    scope, _, name = target.rpartition(":")
    output, dot, metric = name.partition(".")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    # An infinite limit could not be reported as JSON.
    if not separator or not dot or not math.isfinite(limit):
        raise UsageError(f"tolerance '{text}': {form}.")
    if output not in OUTPUTS or metric not in METRICS:
        raise UsageError(
            f"tolerance '{text}': unknown output or metric. Outputs: {', '.join(OUTPUTS)}. "
            f"Metrics: {', '.join(METRICS)}."
        )
    if scope and scope not in [str(p) for p in Precision]:
        raise UsageError(
            f"tolerance '{text}': unknown precision '{scope}'. "
            f"Precisions: {', '.join(map(str, Precision))}."
        )
    return Override(
        precision=Precision(scope) if scope else None, output=output, metric=metric, limit=limit
    )


def limits_for(
    precision: Precision, output: str, overrides: Iterable[Override] = ()
) -> dict[str, float]:
    """Give the limit of every metric for one output; later overrides win."""
    limits = dict(TOLERANCES[precision][output].items())
    for override in overrides:
        if override.output == output and override.precision in (None, precision):
            limits[override.metric] = override.limit
    return limits
