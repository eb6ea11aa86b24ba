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
from functools import partial
from pathlib import Path

from benchmarks.component_quality import (
    Elbo,
    Reference,
    decoder_errors,
    elbo_of,
    encoder_errors,
    make_reference,
    pair_elbo,
)
from vae_edge.bundle import Bundle
from vae_edge.codec import encode
from vae_edge.errors import VaeEdgeError
from vae_edge.keras_vae import KerasVAE, load_keras_vae, open_keras_runner
from vae_edge.runners.base import Runner
from vae_edge.runners.batching import run_batched
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["Elbo", "QualityRow", "elbo_of", "keras_reference", "main", "measure_quality"]


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """One bundle's encoder and decoder in one format and precision.

    Attributes:
        bundle: directory.
        calibration: where its activation ranges came from.
        z_mean_max, z_mean_mean: largest and mean absolute error, in units of z.
        z_log_var_max, z_log_var_mean: the same, in nats.
        posterior_psnr_db: of decoded z_mean of every test image; None where identical.
        prior_psnr_db: of decoded samples of N(0, I); None where identical.
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
    posterior_psnr_db: float | None
    prior_psnr_db: float | None
    decoder_max: float
    elbo_change: float


def keras_reference(vae: KerasVAE, images: FloatArray, *, seed: int) -> Reference:
    """Run the Keras model on the images; see `component_quality.make_reference`."""
    with (
        open_keras_runner(vae, Component.ENCODER) as encoder,
        open_keras_runner(vae, Component.DECODER) as decoder,
    ):
        return make_reference(
            partial(run_batched, encoder),
            partial(run_batched, decoder),
            images,
            latent_dim=vae.latent_dim,
            seed=seed,
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
    expected = keras_reference(load_keras_vae(reference), images, seed=seed)
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
    expected: Reference,
) -> QualityRow:
    decode = partial(run_batched, decoder)
    posterior = run_batched(encoder, expected.images)
    of_encoder = encoder_errors(expected, posterior)
    of_decoder = decoder_errors(expected, decode)
    elbo = pair_elbo(expected, posterior, decode)
    calibration = bundle.manifest.calibration
    return QualityRow(
        bundle=str(bundle.path),
        calibration=calibration.source if calibration else "none",
        format=format,
        precision=precision,
        images=len(expected.images),
        z_mean_max=of_encoder.z_mean_max,
        z_mean_mean=of_encoder.z_mean_mean,
        z_log_var_max=of_encoder.z_log_var_max,
        z_log_var_mean=of_encoder.z_log_var_mean,
        posterior_psnr_db=of_decoder.posterior_psnr_db,
        prior_psnr_db=of_decoder.prior_psnr_db,
        decoder_max=of_decoder.max_error,
        elbo_change=elbo.elbo - expected.elbo.elbo,
    )


def _decibels(value: float | None) -> str:
    return "inf" if value is None else f"{value:.1f}"


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
        f"{_decibels(row.posterior_psnr_db)} / {_decibels(row.prior_psnr_db)} dB | "
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
