"""What is compared of an artifact, and on which rows. Limits are put to it in `vae_edge.parity`.

Outputs, as reports and tolerances name them:

    z_mean, z_log_var   on held-out images; errors in shares of the span of the reference's values
    posterior           the two together, in the posterior's own units
    reconstruction      decoded latents of held-out images; errors in grey levels from 0 to 1, and
                        in shares of the span of the reference's values where no range is known
    generation          decoded samples of the prior
    elbo                what it means for the model's own objective
    edge_...            the same outputs on inputs that no data set holds
    repeatability       the artifact against itself: run again, with two threads, in a batch of 32
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vae_edge.errors import ParityError
from vae_edge.golden import NO_LABEL
from vae_edge.metrics import IMAGE_METRICS, METRICS, Metric, check_comparable
from vae_edge.model_scale import ELBO_METRICS, ModelScale
from vae_edge.preprocessing import Preprocessing
from vae_edge.terms import FloatArray, Likelihood
from vae_edge.vae_metrics import (
    VAE_METRICS,
    Posterior,
    kl_between,
    kl_to_prior,
    mean_shift_sigmas,
    neighbour_agreement,
    reconstruction_loss,
)

__all__ = [
    "ALL_METRICS",
    "METRICS_OF",
    "Figure",
    "Reference",
    "compare_decoder",
    "compare_encoder",
    "compare_pair",
    "compare_runs",
]

REPEAT_METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="again_error", meaning="largest difference between two runs of one artifact"),
        Metric(name="threads_error", meaning="the same between one thread and two"),
        Metric(name="batch_error", meaning="the same between rows one by one and 32 at once"),
    )
}
ALL_METRICS: Mapping[str, Metric] = {**IMAGE_METRICS, **VAE_METRICS, **REPEAT_METRICS}
_ON_EDGES = ("max_abs_error", "rmse")
_POSTERIOR = (
    "mean_shift_sigmas",
    "max_shift_sigmas",
    "mean_kl_nats",
    "max_kl_nats",
    "neighbour_agreement",
    "kl_term_change_nats",
)
METRICS_OF: Mapping[str, tuple[str, ...]] = {
    "z_mean": tuple(METRICS),
    "z_log_var": tuple(METRICS),
    "posterior": _POSTERIOR,
    "reconstruction": tuple(IMAGE_METRICS),
    "generation": tuple(IMAGE_METRICS),
    "elbo": ELBO_METRICS,
    "edge_z_mean": _ON_EDGES,
    "edge_z_log_var": _ON_EDGES,
    "edge_reconstruction": _ON_EDGES,
    "repeatability": tuple(REPEAT_METRICS),
}
Outputs = Mapping[str, FloatArray]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured difference: of which output, by which metric, and how large."""

    output: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the Keras model makes of the inputs that artifacts are compared on.

    Attributes:
        source: where the reference outputs come from.
        preprocessing: what the values of images and reconstructions mean.
        images: float32 (images, height, width, channels), the encoder's input.
        labels: int16 (images,), -1 where the class is not known.
        epsilon: float32 (sampled, latent_dim), noise of the first images' posterior samples.
        z: float32 (latents, latent_dim), the decoder's input: z_mean of every image, then samples
            of the first images' posteriors, then samples of the prior.
        outputs: by output name; `reconstruction` belongs to z.
        edge_images: float32, inputs that no data set holds.
        edge_z: float32, latents in the prior's tails and far outside.
        edge_outputs: by output name, of the two.
    """

    source: str
    preprocessing: Preprocessing
    images: FloatArray
    labels: npt.NDArray[np.int16]
    epsilon: FloatArray
    z: FloatArray
    outputs: Outputs
    edge_images: FloatArray
    edge_z: FloatArray
    edge_outputs: Outputs

    @property
    def posterior(self) -> Posterior:
        """The reference's posteriors of the images."""
        return Posterior(z_mean=self.outputs["z_mean"], z_log_var=self.outputs["z_log_var"])

    @property
    def sampled(self) -> slice:
        """Where the samples of the posteriors stand among the latents."""
        return slice(len(self.images), len(self.images) + len(self.epsilon))

    @property
    def prior(self) -> slice:
        """Where the samples of the prior stand among the latents."""
        return slice(self.sampled.stop, len(self.z))

    def loss(self, reconstruction: FloatArray) -> float:
        """Give the mean reconstruction loss of decoded posterior samples, nats per image."""
        target = self.preprocessing.target(self.images[: len(self.epsilon)])
        binary = self.preprocessing.likelihood is Likelihood.BERNOULLI
        return float(reconstruction_loss(target, reconstruction, binary=binary).mean())

    @cached_property
    def scale(self) -> ModelScale:
        """How large the model is in what limits count."""
        wanted, output = self.outputs["reconstruction"], self.preprocessing.output
        span = self._output_span if output is None else output.high - output.low
        binary = self.preprocessing.likelihood is Likelihood.BERNOULLI
        return ModelScale(
            latents=self.z.shape[1],
            kl_nats=float(kl_to_prior(self.posterior).mean()),
            loss_nats=self.loss(wanted[self.sampled]),
            gaussian_values=0.0 if binary else math.prod(wanted.shape[1:]) * span**2,
        )

    def unit(self, reconstruction: FloatArray) -> FloatArray:
        """Give reconstructions so that the span of their values is 1."""
        if self.preprocessing.output is not None:
            return self.preprocessing.unit_output(reconstruction)
        return np.asarray(reconstruction / np.float32(self._output_span), np.float32)

    @cached_property
    def _output_span(self) -> float:
        return _span(self.outputs["reconstruction"])


def compare_encoder(reference: Reference, outputs: Outputs, edges: Outputs) -> Iterator[Figure]:
    """Compare an encoder's outputs for the images and for the edge cases.

    Raises:
        ParityError: a shape differs, or a value is not finite.
    """
    for name in ("z_mean", "z_log_var"):
        wanted = reference.outputs[name]
        yield from _arrays(name, wanted, outputs[name], METRICS, _span(wanted))
        # What no data set holds may lie far from everything else: its errors are judged by that.
        at_edges = reference.edge_outputs[name]
        span = _span(np.concatenate([wanted, at_edges]))
        yield from _edges(name, at_edges, edges[name], span)
    yield from _posterior(reference, Posterior(**{k: outputs[k] for k in ("z_mean", "z_log_var")}))


def _posterior(reference: Reference, candidate: Posterior) -> Iterator[Figure]:
    ours = reference.posterior
    shift, kl = mean_shift_sigmas(ours, candidate), kl_between(ours, candidate)
    figures = {
        "mean_shift_sigmas": shift.mean(),
        "max_shift_sigmas": shift.max(),
        "mean_kl_nats": kl.mean(),
        "max_kl_nats": kl.max(),
        "kl_term_change_nats": (kl_to_prior(candidate) - kl_to_prior(ours)).mean(),
    }
    known = reference.labels != NO_LABEL
    if known.sum() > 1:
        figures["neighbour_agreement"] = neighbour_agreement(
            ours.z_mean[known], candidate.z_mean[known], reference.labels[known]
        )
    for metric, value in figures.items():
        yield Figure(output="posterior", metric=metric, value=float(value))


def compare_decoder(reference: Reference, outputs: Outputs, edges: Outputs) -> Iterator[Figure]:
    """Compare a decoder's images of the latents and of the edge cases.

    Raises:
        ParityError: a shape differs, or a value is not finite.
    """
    name = "reconstruction"
    wanted, given = reference.outputs[name], outputs[name]
    check_comparable(wanted, given, f"'{name}'")
    for output, rows in (
        (name, slice(0, reference.prior.start)),
        ("generation", reference.prior),
    ):
        yield from _images(reference, output, wanted[rows], given[rows])
    sampled = reference.sampled
    change = reference.loss(given[sampled]) - reference.loss(wanted[sampled])
    yield Figure(output="elbo", metric="loss_change_nats", value=change)
    at_edges = reference.unit(reference.edge_outputs[name])
    # As above: without a bound, latents far outside are decoded to values far outside.
    span = max(1.0, _span(np.concatenate([reference.unit(wanted), at_edges])))
    yield from _edges(name, at_edges, reference.unit(edges[name]), span)


def compare_pair(
    reference: Reference, posterior: Posterior, of_mean: FloatArray, of_sample: FloatArray
) -> Iterator[Figure]:
    """Compare an encoder and a decoder in a row.

    Args:
        reference: what they are compared with.
        posterior: what the encoder made of the images.
        of_mean: what the decoder made of its z_mean.
        of_sample: what it made of samples of its posteriors, drawn with the reference's noise.

    Raises:
        ParityError: a shape differs, or a value is not finite.
    """
    wanted = reference.outputs["reconstruction"]
    yield from _images(reference, "reconstruction", wanted[: len(reference.images)], of_mean)
    check_comparable(wanted[reference.sampled], of_sample, "'reconstruction' of posterior samples")
    loss = reference.loss(of_sample) - reference.loss(wanted[reference.sampled])
    kl = float((kl_to_prior(posterior) - kl_to_prior(reference.posterior)).mean())
    for metric, value in (
        ("loss_change_nats", loss),
        ("kl_term_change_nats", kl),
        ("elbo_change_nats", -loss - kl),
    ):
        yield Figure(output="elbo", metric=metric, value=value)


def compare_runs(metric: str, once: Outputs, again: Outputs) -> Figure:
    """Compare an artifact with itself: the largest difference of any output, in its own units.

    Raises:
        ParityError: a shape differs.
    """
    worst = 0.0
    for name, values in once.items():
        if values.shape != again[name].shape:
            raise ParityError(
                f"'{name}' run again: the shape is {again[name].shape}; before it was "
                f"{values.shape}."
            )
        # A value that is not finite gives NaN here, which passes no limit.
        with np.errstate(invalid="ignore"):
            difference = np.abs(again[name].astype(np.float64) - values).max(initial=0.0)
        worst = float(np.maximum(worst, difference))
    return Figure(output="repeatability", metric=metric, value=worst)


def _arrays(
    output: str,
    reference: FloatArray,
    candidate: FloatArray,
    metrics: Mapping[str, Metric],
    peak: float,
) -> Iterator[Figure]:
    check_comparable(reference, candidate, f"'{output}'")
    for name, metric in metrics.items():
        if metric.function is not None:
            value = metric.function(reference, candidate, peak)
            yield Figure(output=output, metric=name, value=value)


def _edges(
    output: str, reference: FloatArray, candidate: FloatArray, peak: float
) -> Iterator[Figure]:
    metrics = {name: METRICS[name] for name in _ON_EDGES}
    yield from _arrays(f"edge_{output}", reference, candidate, metrics, peak)


def _images(
    reference: Reference, output: str, wanted: FloatArray, given: FloatArray
) -> Iterator[Figure]:
    # A window needs an image.
    metrics = IMAGE_METRICS if wanted.ndim == 4 else METRICS
    check_comparable(wanted, given, f"'{output}'")
    yield from _arrays(output, reference.unit(wanted), reference.unit(given), metrics, 1.0)


def _span(values: FloatArray) -> float:
    return float(np.ptp(values)) or 1.0 if values.size else 1.0
