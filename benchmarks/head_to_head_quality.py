"""How good a contestant is: its half in place of Keras's, on the test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.bare import Bare, run_rows
from benchmarks.component_quality import (
    Reference,
    Run,
    decoder_errors,
    encoder_errors,
    pair_elbo,
)
from benchmarks.head_to_head_report import Quality
from vae_edge.keras_vae import KerasVAE
from vae_edge.terms import Component

__all__ = ["Subject", "judge"]

# What takes longer than this per image is judged on the first images only: 17 ms times 22,000
# inferences would be six minutes, for figures that a few hundred give nearly as well.
_SLOW_US = 1000.0
_SLOW_IMAGES = 500


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the contestants are exports of, and what they are judged by.

    Attributes:
        vae: the Keras model.
        reference: what it makes of the test images.
        keras_decode: its decoder.
        dataset: what the images are.
    """

    vae: KerasVAE
    reference: Reference
    keras_decode: Run
    dataset: str


def judge(
    bare: Bare, component: Component, subject: Subject, *, batch: int, median_us: float
) -> Quality:
    """Compare a component with Keras's on the test images, the other half being Keras's.

    Args:
        bare: the component, loaded.
        component: which half it is.
        subject: images, and what Keras makes of them.
        batch: rows per call.
        median_us: microseconds per call; one of more than 1,000 per row gets 500 images.

    Raises:
        ParityError: outputs of another shape, or that are not finite.
    """
    reference = subject.reference
    if median_us / batch > _SLOW_US:
        reference = reference.first(_SLOW_IMAGES)
    run = partial(run_rows, bare, component, batch=batch)
    if component is Component.ENCODER:
        posterior = run(reference.images)
        of_encoder, of_decoder = encoder_errors(reference, posterior), None
        elbo = pair_elbo(reference, posterior, subject.keras_decode)
    else:
        of_encoder, of_decoder = None, decoder_errors(reference, run)
        elbo = pair_elbo(reference, reference.posterior, run)
    return Quality(
        images=len(reference.images),
        encoder=of_encoder,
        decoder=of_decoder,
        elbo_change=elbo.elbo - reference.elbo.elbo,
    )
