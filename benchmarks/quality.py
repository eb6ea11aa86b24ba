"""What each artifact costs in quality, on a whole test set: `python -m benchmarks.quality`.

Parity decides on some hundred golden vectors; this reports on the 10,000 test images of MNIST,
which no export has seen. It compares every artifact of some bundles with the Keras model that they
came from, and gives errors, PSNR, and the change of the ELBO of encoder and decoder in a row, in
nats.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_edge.bundle import Bundle
from vae_edge.codec import encode
from vae_edge.errors import VaeEdgeError
from vae_edge.keras_vae import KerasVAE, load_keras_vae, open_keras_runner
from vae_edge.metrics import psnr_db
from vae_edge.runners.base import Runner
from vae_edge.runners.batching import run_batched
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["Elbo", "QualityRow", "elbo_of", "main", "measure_quality"]

_PRIOR_LATENTS = 2000
# Keras clips probabilities here; a saturated sigmoid would make the cross-entropy infinite.
_EPSILON = 1e-7


@dataclass(frozen=True, kw_only=True)
class Elbo:
    """Mean per image, in nats; the ELBO is minus their sum."""

    reconstruction: float
    kl: float

    @property
    def elbo(self) -> float:
        """Evidence lower bound, in nats per image."""
        return -self.reconstruction - self.kl


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """One bundle's encoder and decoder in one format and precision.

    Attributes:
        bundle: directory.
        calibration: where its activation ranges came from.
        z_mean_max, z_mean_mean: largest and mean absolute error, in units of z.
        z_log_var_max, z_log_var_mean: the same, in nats.
        posterior_psnr_db: of decoded z_mean of every test image.
        prior_psnr_db: of decoded samples of N(0, I).
        decoder_max: largest error of any pixel on both.
        elbo_change: the pair's ELBO minus the Keras model's, nats per image.
    """

    bundle: str
    calibration: str
    format: Format
    precision: Precision
    images: int
    z_mean_max: float
    z_mean_mean: float
    z_log_var_max: float
    z_log_var_mean: float
    posterior_psnr_db: float
    prior_psnr_db: float
    decoder_max: float
    elbo_change: float


@dataclass(frozen=True, kw_only=True)
class _Reference:
    images: FloatArray
    posterior: dict[str, FloatArray]
    prior: FloatArray
    decoded_posterior: FloatArray
    decoded_prior: FloatArray
    epsilon: FloatArray
    elbo: Elbo


def elbo_of(
    images: FloatArray, reconstruction: FloatArray, z_mean: FloatArray, z_log_var: FloatArray
) -> Elbo:
    """Binary cross-entropy summed over pixels, and KL to N(0, I), averaged over the images.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2013), appendix B and C.1; in float64.
    """
    x = images.astype(np.float64)
    p = np.clip(reconstruction.astype(np.float64), _EPSILON, 1 - _EPSILON)
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log1p(-p)).reshape(len(x), -1).sum(axis=1)
    mean, log_var = z_mean.astype(np.float64), z_log_var.astype(np.float64)
    kl = 0.5 * (np.exp(log_var) + mean**2 - 1 - log_var).sum(axis=1)
    return Elbo(reconstruction=float(cross_entropy.mean()), kl=float(kl.mean()))


def _sample(posterior: dict[str, FloatArray], epsilon: FloatArray) -> FloatArray:
    z = posterior["z_mean"] + np.exp(posterior["z_log_var"] / 2) * epsilon
    return np.asarray(z, np.float32)


def _elbo(
    encoder_output: dict[str, FloatArray], decoder: Runner, images: FloatArray, epsilon: FloatArray
) -> Elbo:
    decoded = run_batched(decoder, _sample(encoder_output, epsilon))["reconstruction"]
    return elbo_of(images, decoded, encoder_output["z_mean"], encoder_output["z_log_var"])


def _reference(vae: KerasVAE, images: FloatArray, seed: int) -> _Reference:
    rng = np.random.default_rng(seed)
    prior = rng.standard_normal((_PRIOR_LATENTS, vae.latent_dim), np.float32)
    epsilon = rng.standard_normal((len(images), vae.latent_dim), np.float32)
    with (
        open_keras_runner(vae, Component.ENCODER) as encoder,
        open_keras_runner(vae, Component.DECODER) as decoder,
    ):
        posterior = run_batched(encoder, images)
        return _Reference(
            images=images,
            posterior=posterior,
            prior=prior,
            decoded_posterior=run_batched(decoder, posterior["z_mean"])["reconstruction"],
            decoded_prior=run_batched(decoder, prior)["reconstruction"],
            epsilon=epsilon,
            elbo=_elbo(posterior, decoder, images, epsilon),
        )


def measure_quality(
    bundles: Iterable[Path], reference: Path, images: FloatArray, *, seed: int = 0
) -> list[QualityRow]:
    """Compare every format and precision of some bundles with the Keras model.

    Args:
        bundles: directories, exported from the reference.
        reference: the `.keras` file.
        images: float32 (count, height, width, channels) in [0, 1].
        seed: of the prior's samples and the posteriors' noise.

    Raises:
        VaeEdgeError: a bundle or the model cannot be used.
    """
    expected = _reference(load_keras_vae(reference), images, seed)
    rows = []
    for path in bundles:
        bundle = Bundle.open(path)
        for format in Format:
            for precision in Precision:
                held = {
                    record.component: record
                    for record in bundle.select(formats=(format,), precisions=(precision,))
                }
                if len(held) == len(Component):
                    with (
                        bundle.open_runner(held[Component.ENCODER]) as encoder,
                        bundle.open_runner(held[Component.DECODER]) as decoder,
                    ):
                        rows.append(_row(bundle, format, precision, encoder, decoder, expected))
    return rows


def _row(
    bundle: Bundle,
    format: Format,
    precision: Precision,
    encoder: Runner,
    decoder: Runner,
    expected: _Reference,
) -> QualityRow:
    posterior = run_batched(encoder, expected.images)
    errors = {name: np.abs(posterior[name] - expected.posterior[name]) for name in posterior}
    on_posterior = run_batched(decoder, expected.posterior["z_mean"])["reconstruction"]
    on_prior = run_batched(decoder, expected.prior)["reconstruction"]
    largest = max(
        float(np.abs(on_posterior - expected.decoded_posterior).max()),
        float(np.abs(on_prior - expected.decoded_prior).max()),
    )
    elbo = _elbo(posterior, decoder, expected.images, expected.epsilon)
    calibration = bundle.manifest.calibration
    return QualityRow(
        bundle=str(bundle.path),
        calibration=calibration.source if calibration else "none",
        format=format,
        precision=precision,
        images=len(expected.images),
        z_mean_max=float(errors["z_mean"].max()),
        z_mean_mean=float(errors["z_mean"].mean(dtype=np.float64)),
        z_log_var_max=float(errors["z_log_var"].max()),
        z_log_var_mean=float(errors["z_log_var"].mean(dtype=np.float64)),
        posterior_psnr_db=psnr_db(expected.decoded_posterior, on_posterior),
        prior_psnr_db=psnr_db(expected.decoded_prior, on_prior),
        decoder_max=largest,
        elbo_change=elbo.elbo - expected.elbo.elbo,
    )


def _markdown(rows: Sequence[QualityRow]) -> str:
    columns = (
        "bundle",
        "format, precision",
        "z_mean max / mean",
        "z_log_var max / mean",
        "decoder PSNR posterior / prior",
        "decoder max",
        "ELBO, nats",
    )
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [
        f"| {Path(row.bundle).name} | {row.format} {row.precision} | "
        f"{row.z_mean_max:.3f} / {row.z_mean_mean:.4f} | "
        f"{row.z_log_var_max:.3f} / {row.z_log_var_mean:.4f} | "
        f"{row.posterior_psnr_db:.1f} / {row.prior_psnr_db:.1f} dB | "
        f"{row.decoder_max:.3f} | {row.elbo_change:+.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program; results on stdout as Markdown or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--reference", type=Path, help="default: the model that ships")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("VAE_EDGE_DATA_DIR"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    from vae_edge.keras_vae import shipped_model_path
    from vae_edge.training.data import load_dataset

    try:
        rows = measure_quality(
            arguments.bundles,
            arguments.reference or shipped_model_path(),
            load_dataset(arguments.dataset, arguments.data_dir).test_images,
        )
    except VaeEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    text = json.dumps([encode(row) for row in rows]) if arguments.json else _markdown(rows)
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
