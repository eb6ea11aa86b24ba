"""Each half alone: errors by hand, and an ELBO that one half only can change."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from benchmarks.component_quality import (
    DecoderErrors,
    Reference,
    decoder_errors,
    encoder_errors,
    make_reference,
    pair_elbo,
)
from vae_edge.errors import ParityError
from vae_edge.terms import FloatArray

Outputs = Mapping[str, FloatArray]


def encode(images: FloatArray) -> Outputs:
    mean = images.reshape(len(images), -1).mean(axis=1, keepdims=True)
    return {"z_mean": mean, "z_log_var": -mean}


def decode(z: FloatArray) -> Outputs:
    pixels = (1 / (1 + np.exp(-z))).astype(np.float32)
    return {"reconstruction": np.broadcast_to(pixels[:, :, None, None], (len(z), 1, 2, 1)).copy()}


def shifted(z: FloatArray) -> Outputs:
    return {"reconstruction": decode(z)["reconstruction"] + np.float32(0.01)}


@pytest.fixture
def reference() -> Reference:
    images = np.random.default_rng(0).random((6, 1, 2, 1), np.float32)
    return make_reference(encode, decode, images, latent_dim=1, seed=3)


def test_encoder_errors_by_hand(reference: Reference) -> None:
    posterior = {name: values.copy() for name, values in reference.posterior.items()}
    posterior["z_mean"][2] += 0.5
    posterior["z_log_var"] -= 0.25
    errors = encoder_errors(reference, posterior)
    assert errors.z_mean_max == pytest.approx(0.5)
    assert errors.z_mean_mean == pytest.approx(0.5 / 6)
    assert errors.z_log_var_max == pytest.approx(0.25)
    assert errors.z_log_var_mean == pytest.approx(0.25)


def test_decoder_errors_by_hand(reference: Reference) -> None:
    errors = decoder_errors(reference, shifted)
    assert errors.max_error == pytest.approx(0.01, abs=1e-6)
    # an error of 0.01 everywhere: -20 log10(0.01)
    assert errors.posterior_psnr_db == pytest.approx(40, abs=1e-3)
    assert errors.prior_psnr_db == pytest.approx(40, abs=1e-3)


def test_the_same_decoder_has_no_error(reference: Reference) -> None:
    errors = decoder_errors(reference, decode)
    assert errors == DecoderErrors(posterior_psnr_db=None, prior_psnr_db=None, max_error=0)
    assert errors.psnr_db == math.inf


def test_the_lower_psnr_counts() -> None:
    assert DecoderErrors(posterior_psnr_db=50, prior_psnr_db=44, max_error=0).psnr_db == 44
    assert DecoderErrors(posterior_psnr_db=50, prior_psnr_db=None, max_error=0).psnr_db == 50


def test_elbo_changes_with_the_half_that_changed(reference: Reference) -> None:
    own = reference.elbo.elbo
    assert pair_elbo(reference, reference.posterior, decode).elbo == pytest.approx(own)
    assert pair_elbo(reference, reference.posterior, shifted).kl == pytest.approx(reference.elbo.kl)
    assert pair_elbo(reference, reference.posterior, shifted).elbo != pytest.approx(own, rel=1e-4)
    off = {**reference.posterior, "z_log_var": reference.posterior["z_log_var"] + 1}
    assert pair_elbo(reference, off, decode).kl != pytest.approx(reference.elbo.kl, rel=1e-3)


def test_the_first_images_only(reference: Reference) -> None:
    few = reference.first(2)
    assert len(few.images) == len(few.epsilon) == len(few.decoded_sample) == 2
    assert few.elbo != reference.elbo
    posterior = {name: values[:2] for name, values in reference.posterior.items()}
    assert pair_elbo(few, posterior, decode) == few.elbo


def test_what_is_not_finite_is_an_error(reference: Reference) -> None:
    posterior = {**reference.posterior, "z_log_var": reference.posterior["z_log_var"] * math.nan}
    with pytest.raises(ParityError, match="z_log_var: 6 of 6 candidate values are not finite"):
        encoder_errors(reference, posterior)
    with pytest.raises(ParityError, match="reconstruction of z_mean"):
        decoder_errors(
            reference, lambda z: {"reconstruction": decode(z)["reconstruction"] * math.nan}
        )


def test_z_is_sampled_with_the_posteriors_own_spread(reference: Reference) -> None:
    # Kingma and Welling: z = z_mean + sigma * epsilon, sigma the root of exp(z_log_var).
    sigma = np.sqrt(np.exp(reference.posterior["z_log_var"]))
    z = reference.posterior["z_mean"] + sigma * reference.epsilon
    np.testing.assert_allclose(reference.decoded_sample, decode(z)["reconstruction"], rtol=1e-5)
