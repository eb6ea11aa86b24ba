"""Running bundles for the suite, and naming its tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from vae_edge.bundle import Bundle
from vae_edge.errors import ParityError
from vae_edge.keras_vae import load_keras_vae, open_keras_runner
from vae_edge.parity import Reference, check_parity, golden_reference, live_reference
from vae_edge.parity_checks import ParityCheck, all_checks
from vae_edge.terms import Component
from vae_edge.tolerances import Override, read_overrides

__all__ = ["judge_bundle", "named"]


def judge_bundle(
    path: Path, *, tolerances: Path | None = None, model: Path | None = None
) -> tuple[ParityCheck, ...]:
    """Run a bundle and give every check of it, of which there is at least one.

    An artifact whose runtime is not installed, where another one's is, gives a check to be skipped.

    Args:
        path: the bundle.
        tolerances: TOML file with limits that replace the built-in ones.
        model: Keras model to compare with, run now, instead of the golden vectors.

    Raises:
        VaeEdgeError: the bundle, the tolerances or the model cannot be used, or there is nothing
            to compare.
    """
    overrides: tuple[Override, ...] = () if tolerances is None else read_overrides(tolerances)
    bundle = Bundle.open(path)
    reference = golden_reference(bundle) if model is None else _live(bundle, model)
    report = check_parity(bundle, reference, overrides=overrides, partial=True)
    checks = all_checks(report)
    if not checks or report.passed != all(check.passed for check in checks):
        raise ParityError(f"{path}: nothing was compared, so nothing is known of it.")
    return checks


def named(judged: Mapping[str, tuple[ParityCheck, ...]]) -> Iterator[tuple[str, ParityCheck]]:
    """Name the checks of bundles, given as they were typed; of several, the names say which."""
    for bundle, checks in judged.items():
        prefix = f"{bundle}-" if len(judged) > 1 else ""
        for check in checks:
            yield f"{prefix}{check.subject}-{check.name}", check


def _live(bundle: Bundle, path: Path) -> Reference:
    vae = load_keras_vae(path)
    model = bundle.manifest.model
    if (vae.image_shape, vae.latent_dim) != (model.image_shape, model.latent_dim):
        raise ParityError(
            f"{path}: takes images of {vae.image_shape} and has latent_dim {vae.latent_dim}; "
            f"{bundle.path} was exported from a model with {model.image_shape} and "
            f"{model.latent_dim}. Give the model that the bundle was exported from."
        )
    if vae.source_sha256 != model.source_sha256:
        warnings.warn(
            f"{path} is not the file that {bundle.path} was exported from (their SHA-256 differ), "
            "so differences may be the model's and not the export's.",
            stacklevel=2,
        )
    return live_reference(
        bundle,
        open_keras_runner(vae, Component.ENCODER),
        open_keras_runner(vae, Component.DECODER),
    )
