"""What artifacts are compared with: golden vectors, a live model, or a live model on own images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vae_edge.bundle import Bundle
from vae_edge.comparison import Reference
from vae_edge.errors import ParityError
from vae_edge.golden import NO_LABEL, GoldenVectors, sample_posterior
from vae_edge.runners.base import Runner
from vae_edge.runners.batching import run_batched
from vae_edge.terms import DataKind, FloatArray

__all__ = ["data_reference", "golden_reference", "live_reference"]


def golden_reference(bundle: Bundle) -> Reference:
    """Give the golden vectors of a bundle as the reference.

    Raises:
        BundleError: the golden file is damaged or does not fit the manifest's model.
        ParityError: it holds vectors of another model's shape.
    """
    record = bundle.manifest.golden
    golden = GoldenVectors.from_bytes(bundle.read(record), str(bundle.path / record.file))
    model = bundle.manifest.model
    if (
        golden.image.shape[1:] != model.image_shape
        or golden.z.shape[1] != model.latent_dim
        or len(golden.image) != record.images
        or len(golden.z) != record.latents
    ):
        raise ParityError(
            f"{bundle.path / record.file}: holds vectors of another model than the manifest "
            "describes. Export the bundle again."
        )
    if golden.model_sha256 != model.source_sha256:
        raise ParityError(
            f"{bundle.path / record.file}: was made by another model file than the bundle was "
            f"exported from (SHA-256 {golden.model_sha256[:12]}... and "
            f"{model.source_sha256[:12]}...). Export the bundle again."
        )
    # Levels where the model takes pictures, and nowhere else.
    if (golden.image.dtype == np.uint8) is not (model.preprocessing.kind is DataKind.PICTURE):
        raise ParityError(
            f"{bundle.path / record.file}: holds {golden.image.dtype} inputs, and the manifest "
            f"says that the model takes a {model.preprocessing.kind}. Export the bundle again."
        )
    return Reference(
        source=f"golden vectors ({record.source})",
        preprocessing=model.preprocessing,
        images=golden.images(model.preprocessing),
        labels=golden.labels,
        epsilon=golden.epsilon,
        z=golden.z,
        outputs={
            "z_mean": golden.z_mean,
            "z_log_var": golden.z_log_var,
            "reconstruction": golden.reconstruction,
        },
        edge_images=golden.edge_images(model.preprocessing),
        edge_z=golden.edge_z,
        edge_outputs={
            "z_mean": golden.edge_z_mean,
            "z_log_var": golden.edge_z_log_var,
            "reconstruction": golden.edge_reconstruction,
        },
    )


def live_reference(bundle: Bundle, encoder: Runner, decoder: Runner) -> Reference:
    """Give a live model's outputs on the golden inputs as the reference.

    The golden z stay as they are, so that the decoder is judged apart from the encoder.
    """
    golden = golden_reference(bundle)
    posterior = run_batched(encoder, golden.images)
    source = f"live model: {encoder.name}, {decoder.name}"
    return _reran(golden, posterior, golden.z, encoder, decoder, source)


def data_reference(
    bundle: Bundle, images: FloatArray, encoder: Runner, decoder: Runner, source: str
) -> Reference:
    """Give a live model's outputs on a user's own images as the reference.

    Args:
        bundle: whose prior samples and edge cases are taken.
        images: float32 (count, ...) as the encoder takes them, at least two.
        encoder: the Keras encoder.
        decoder: the Keras decoder.
        source: what the images are.

    Raises:
        ParityError: images of another shape than the model's, or fewer than two.
    """
    golden = golden_reference(bundle)
    expected = bundle.manifest.model.image_shape
    if images.shape[1:] != expected or len(images) < 2:
        raise ParityError(
            f"{source}: holds {len(images)} images of {images.shape[1:]}; expected two or more of "
            f"{expected}."
        )
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(((len(images) + 1) // 2, golden.z.shape[1]), np.float32)
    posterior = run_batched(encoder, images)
    sample = sample_posterior(posterior["z_mean"], posterior["z_log_var"], noise)
    z = np.concatenate([posterior["z_mean"], sample, golden.z[golden.prior]])
    labels = np.full(len(images), NO_LABEL, np.int16)
    own = replace(golden, images=images, labels=labels, epsilon=noise)
    where = f"{encoder.name} and {decoder.name} on {source}"
    return _reran(own, posterior, z, encoder, decoder, where)


def _reran(
    golden: Reference,
    posterior: Mapping[str, FloatArray],
    z: FloatArray,
    encoder: Runner,
    decoder: Runner,
    source: str,
) -> Reference:
    edges = run_batched(encoder, golden.edge_images)
    return replace(
        golden,
        source=source,
        z=z,
        outputs={**posterior, **run_batched(decoder, z)},
        edge_outputs={**edges, **run_batched(decoder, golden.edge_z)},
    )
