"""How much each precision may differ from the Keras model, and the reason for every number.

The limits rest on the spread over seven MNIST and digits VAEs (docs/parity.md has the table and the
command that repeats it) and on what somebody would notice. `python -m benchmarks.sabotage` shows
which damage they catch (docs/sabotage.md).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vae_edge.comparison import METRICS_OF
from vae_edge.errors import UsageError
from vae_edge.model_scale import USUAL, ModelScale
from vae_edge.terms import Precision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["TOLERANCES", "Override", "limits_for", "parse_override", "read_overrides"]

Limits = Mapping[str, float]
_ANY = "any"


def _table(
    *,
    z_mean: Limits,
    z_log_var: Limits,
    posterior: Limits,
    images: Limits,
    generation: Limits | None = None,
    elbo: Limits,
    edge_latents: Limits,
    edge_images: Limits,
    repeatability: Limits,
) -> Mapping[str, Limits]:
    """Give the limits of one precision, by output."""
    return MappingProxyType(
        {
            "z_mean": z_mean,
            "z_log_var": z_log_var,
            "posterior": posterior,
            "reconstruction": images,
            "generation": generation or images,
            "elbo": elbo,
            "edge_z_mean": edge_latents,
            "edge_z_log_var": edge_latents,
            "edge_reconstruction": edge_images,
            "repeatability": repeatability,
        }
    )


# float32 differs by the order of summation only: 3e-6 of the span at worst, in a model whose
# z_log_var hardly varies. Ten times the worst and more is allowed, so that deeper models, which sum
# more, pass. Nobody could see or use the difference.
_EXACT: Limits = {
    "max_abs_error": 1e-4,
    "rmse": 1e-5,
    "cosine_similarity": 0.999999,
    "psnr_db": 100,
}
_FLOAT32 = _table(
    z_mean=_EXACT,
    z_log_var={**_EXACT, "rmse": 3e-5, "psnr_db": 90},
    posterior={"max_shift_sigmas": 0.005, "max_kl_nats": 1e-5, "kl_term_change_nats": 0.001},
    # Reconstructions of an encoder and a decoder in a row, whose edges make much of little.
    images={"max_abs_error": 1e-4, "rmse": 1e-5, "psnr_db": 100, "ssim": 0.99999},
    generation={"max_abs_error": 1e-5, "rmse": 2e-6, "psnr_db": 114, "ssim": 0.99999},
    elbo=dict.fromkeys(METRICS_OF["elbo"], 0.001),
    edge_latents={"max_abs_error": 2e-4, "rmse": 5e-5},
    edge_images={"max_abs_error": 1e-3, "rmse": 5e-5},
    repeatability={"again_error": 0, "threads_error": 1e-4, "batch_error": 1e-4},
)
# float16 weights have 11 significant bits: relative errors of 2^-11 each, partly averaged out. Four
# to eight times the worst that was seen. A twentieth of a sigma is drowned by the sampling noise
# that the decoder was trained with, and the image's largest error is two of 255 grey levels.
_FLOAT16 = _table(
    z_mean={"max_abs_error": 0.002, "rmse": 0.0005, "cosine_similarity": 0.9999, "psnr_db": 66},
    z_log_var={"max_abs_error": 0.002, "rmse": 0.001, "cosine_similarity": 0.9999, "psnr_db": 60},
    posterior={
        "mean_shift_sigmas": 0.01,
        "max_shift_sigmas": 0.06,
        "mean_kl_nats": 0.0002,
        "max_kl_nats": 0.002,
        "neighbour_agreement": 0.97,
        "kl_term_change_nats": 0.006,
    },
    images={"max_abs_error": 0.008, "rmse": 0.0005, "psnr_db": 66, "ssim": 0.9999},
    elbo=dict.fromkeys(METRICS_OF["elbo"], 0.015),
    edge_latents={"max_abs_error": 0.004, "rmse": 0.002},
    edge_images={"max_abs_error": 0.02, "rmse": 0.001},
    repeatability={"again_error": 0, "threads_error": 1e-4, "batch_error": 1e-4},
)
# int8 weights: a layer's largest weight sets the step of all of them. About twice the worst. A
# quarter of a sigma on average is well inside the noise of sampling. z_log_var is judged by its
# span, which is small in a briefly trained model. Where a decoder has steep edges in its latent
# plane single pixels move much further than the image as a whole, whose typical error of 0.012 is 3
# of 255 grey levels: not to be seen without the original beside it. 0.4 nats are 0.3 % of the
# shipped model's ELBO.
_DYNAMIC = _table(
    z_mean={"max_abs_error": 0.03, "rmse": 0.008, "cosine_similarity": 0.9995, "psnr_db": 42},
    z_log_var={"max_abs_error": 0.09, "rmse": 0.035, "cosine_similarity": 0.999, "psnr_db": 29},
    posterior={
        "mean_shift_sigmas": 0.25,
        "max_shift_sigmas": 1.5,
        "mean_kl_nats": 0.05,
        "max_kl_nats": 0.6,
        # Near ties between neighbours of two classes flip at a touch; unrelated latents give 0.1.
        "neighbour_agreement": 0.75,
        "kl_term_change_nats": 0.08,
    },
    images={"max_abs_error": 0.25, "rmse": 0.012, "psnr_db": 38, "ssim": 0.995},
    elbo=dict.fromkeys(METRICS_OF["elbo"], 0.4),
    edge_latents={"max_abs_error": 0.08, "rmse": 0.04},
    edge_images={"max_abs_error": 0.4, "rmse": 0.03},
    repeatability={"again_error": 0, "threads_error": 0.02, "batch_error": 0.02},
)
# Activations in 8 bits too, and distilled: the typical image is closer than with int8 weights
# alone, the worst pixel is not. Beyond the calibrated range they saturate: an input that is unlike
# all data is encoded to something less far away, and latents far outside are decoded to something
# else (a pixel may flip), of which no more is asked than that it is no nonsense as a whole.
_INT8 = _table(
    z_mean=_DYNAMIC["z_mean"],
    z_log_var=_DYNAMIC["z_log_var"],
    posterior=_DYNAMIC["posterior"],
    images={**_DYNAMIC["reconstruction"], "max_abs_error": 0.4},
    elbo=_DYNAMIC["elbo"],
    edge_latents={"max_abs_error": 0.5, "rmse": 0.2},
    edge_images={"rmse": 0.25},
    repeatability=_DYNAMIC["repeatability"],
)

# Inputs, heads and the sigmoid in 8 bits too (`--io int8`), for chips that have nothing else:
# latents come in 256 steps of their whole span, and a probability of less than half a step is 0,
# whose logarithm costs nats wherever the pixel was not quite black. What is left is a model to look
# at, with an rmse of 8 grey levels, and no longer one to measure with.
_INTEGER_IO = _table(
    z_mean={"max_abs_error": 0.2, "rmse": 0.06, "cosine_similarity": 0.99, "psnr_db": 24},
    z_log_var={"max_abs_error": 0.2, "rmse": 0.06, "cosine_similarity": 0.99, "psnr_db": 24},
    posterior={"mean_shift_sigmas": 2.0, "mean_kl_nats": 5.0, "neighbour_agreement": 0.5},
    images={"max_abs_error": 0.9, "rmse": 0.03, "psnr_db": 30, "ssim": 0.97},
    elbo=dict.fromkeys(METRICS_OF["elbo"], 15.0),
    edge_latents={"max_abs_error": 0.5, "rmse": 0.25},
    edge_images={"rmse": 0.35},
    repeatability=_INT8["repeatability"],
)

TOLERANCES: Mapping[Precision, Mapping[str, Limits]] = MappingProxyType(
    {
        Precision.FLOAT32: _FLOAT32,
        Precision.FLOAT16: _FLOAT16,
        Precision.DYNAMIC: _DYNAMIC,
        Precision.INT8: _INT8,
        # Not exported here; for artifacts that others made.
        Precision.INT16X8: _INT8,
        Precision.INT4: _INT8,
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
    return _override(f"tolerance '{text}'", scope, output, metric, limit)


def read_overrides(path: Path) -> tuple[Override, ...]:
    """Read a TOML file of limits, one table per precision (or `any`) and output.

        [int8.z_mean]
        max_abs_error = 0.1
        [any.reconstruction]
        psnr_db = 40

    Raises:
        UsageError: no such file, not TOML, or an unknown precision, output or metric.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}.") from error
    overrides = []
    for scope, outputs in document.items():
        for output, metrics in _pairs(outputs, f"{path}: [{scope}]"):
            for metric, limit in _pairs(metrics, f"{path}: [{scope}.{output}]"):
                where = f"{path}: {scope}.{output}.{metric}"
                number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
                if not number or not math.isfinite(limit):
                    raise UsageError(f"{where}: expected a number; received {limit!r}.")
                precision = "" if scope == _ANY else scope
                overrides.append(_override(where, precision, output, metric, float(limit)))
    return tuple(overrides)


def _pairs(table: object, where: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(table, dict):
        raise UsageError(
            f"{where}: expected a table such as [int8.z_mean] with lines such as "
            f"max_abs_error = 0.1; received {table!r}."
        )
    return table.items()


def _override(where: str, scope: str, output: str, metric: str, limit: float) -> Override:
    if output not in METRICS_OF:
        raise UsageError(f"{where}: unknown output '{output}'. Outputs: {', '.join(METRICS_OF)}.")
    if metric not in METRICS_OF[output]:
        raise UsageError(
            f"{where}: '{output}' has no metric '{metric}'. "
            f"Its metrics: {', '.join(METRICS_OF[output])}."
        )
    if scope and scope not in [str(p) for p in Precision]:
        raise UsageError(
            f"{where}: unknown precision '{scope}'. Precisions: {', '.join(map(str, Precision))}."
        )
    return Override(
        precision=Precision(scope) if scope else None, output=output, metric=metric, limit=limit
    )


def limits_for(
    precision: Precision,
    output: str,
    overrides: Iterable[Override] = (),
    *,
    integer_io: bool = False,
    scale: ModelScale = USUAL,
) -> dict[str, float]:
    """Give the limits on one output by metric; later overrides win.

    A metric that has none is reported and not judged.

    Args:
        precision: of the artifact; of a pair the looser one.
        output: as `vae_edge.comparison` names it.
        overrides: limits that replace the built-in ones.
        integer_io: inputs and outputs are integers too.
        scale: of the model, which limits in nats grow with.
    """
    table = _INTEGER_IO if integer_io else TOLERANCES[precision]
    rmse = table["reconstruction"]["rmse"]
    limits = {metric: scale.allowed(metric, limit, rmse) for metric, limit in table[output].items()}
    for override in overrides:
        if override.output == output and override.precision in (None, precision):
            limits[override.metric] = override.limit
    return limits
