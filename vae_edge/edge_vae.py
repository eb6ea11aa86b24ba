"""The VAE that an application on a device calls: numpy in, numpy out, one runtime behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vae_edge.bundle import Bundle
from vae_edge.errors import ArtifactError, BundleError, DataError, RuntimeMissingError
from vae_edge.latents import interpolate_latents, manifold_latents
from vae_edge.manifest import ArtifactRecord
from vae_edge.preprocessing import PLAIN_PICTURES, Preprocessing
from vae_edge.runners.base import Runner
from vae_edge.runners.batching import regroup, rows_at_once, run_batched
from vae_edge.terms import (
    COMPONENT_OUTPUTS,
    EXACTNESS,
    Component,
    DataKind,
    FloatArray,
    Format,
    Interpolation,
    Precision,
)

__all__ = ["EdgeVAE", "Posterior"]

_T = TypeVar("_T", Format, Precision)


class Posterior(NamedTuple):
    """q(z given x) = N(z_mean, exp(z_log_var)), one row per image.

    Attributes:
        z_mean: float32, (count, latent_dim).
        z_log_var: float32, (count, latent_dim), natural logarithm of the variance.
    """

    z_mean: FloatArray
    z_log_var: FloatArray


class EdgeVAE:
    """A bundle's encoder and decoder, ready to call.

    Images are float32, (count, height, width, channels), in the values that the model was trained
    on: [0, 1] for what `vae-edge train` makes; `preprocessing` says it, and turns them into pixels.
    Of a model of other things, e.g. sensor windows, they are (count, *image_shape). Latents are
    float32, (count, latent_dim). Any count is accepted, also where the artifact's batch is fixed.

    Example:
        with EdgeVAE.open("build/mnist-vae", format="tflite", precision="int8") as vae:
            digits = vae.generate(16, seed=0)
            z_mean, z_log_var = vae.encode(digits)
    """

    def __init__(
        self,
        *,
        latent_dim: int,
        image_shape: tuple[int, ...],
        encoder: Runner | None,
        decoder: Runner | None,
        preprocessing: Preprocessing = PLAIN_PICTURES,
    ) -> None:
        """Take loaded components; `EdgeVAE.open` is the usual way."""
        self.latent_dim = latent_dim
        self.image_shape = image_shape
        self.preprocessing = preprocessing
        self._encoder = encoder
        self._decoder = decoder

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        format: Format | str | None = None,
        precision: Precision | str | None = None,
        threads: int = 1,
    ) -> EdgeVAE:
        """Open a bundle and load its encoder and decoder, as far as it holds them.

        Args:
            bundle: the bundle's directory.
            format: `tflite` or `onnx`; by default the first that the bundle holds and for which a
                runtime is installed.
            precision: by default the most exact that the bundle holds in that format.
            threads: threads the runtime may use.

        Raises:
            BundleError: no valid bundle, or it does not hold what was asked for.
            ArtifactError: an artifact does not load, or lacks an output of its component.
            RuntimeMissingError: the runtime that is needed is not installed.
        """
        opened = Bundle.open(bundle)
        formats = tuple(Format) if format is None else (_term(Format, format),)
        # A caller who asks for nothing gets the model they trained, as nearly as there is one.
        precisions = EXACTNESS if precision is None else (_term(Precision, precision),)
        missing: RuntimeMissingError | None = None
        for each in formats:
            records = _records(opened, each, precisions)
            if not records:
                continue
            try:
                runners = _open_runners(opened, records, threads)
            except RuntimeMissingError as error:
                missing = missing or error
                continue
            return cls(
                latent_dim=opened.manifest.model.latent_dim,
                image_shape=opened.manifest.model.image_shape,
                preprocessing=opened.manifest.model.preprocessing,
                encoder=runners.get(Component.ENCODER),
                decoder=runners.get(Component.DECODER),
            )
        if missing is not None:
            raise missing
        asked = " ".join(str(term) for term in (precision, format) if term is not None)
        held = ", ".join(record.label for record in opened.manifest.artifacts)
        raise BundleError(f"{opened.path}: holds no {asked} artifact. It holds: {held}.")

    @property
    def encoder(self) -> Runner:
        """The loaded encoder.

        Raises:
            BundleError: the bundle holds none in the format and precision chosen.
        """
        return self._component(self._encoder, Component.ENCODER)

    @property
    def decoder(self) -> Runner:
        """The loaded decoder.

        Raises:
            BundleError: the bundle holds none in the format and precision chosen.
        """
        return self._component(self._decoder, Component.DECODER)

    def encode(self, images: npt.ArrayLike) -> Posterior:
        """Give the posterior of each image.

        Args:
            images: (count, *image_shape) or one of image_shape; floats as the model was trained on
                them, or pictures as uint8 levels, channels in the model's order.

        Raises:
            ArtifactError: another shape, values that are not finite, or pictures outside the range.
        """
        outputs = run_batched(self.encoder, self._images(images))
        return Posterior(outputs["z_mean"], outputs["z_log_var"])

    def decode(self, z: npt.ArrayLike) -> FloatArray:
        """Give the image of each latent: float32 (count, height, width, channels).

        Args:
            z: (count, latent_dim) or one (latent_dim,).

        Raises:
            ArtifactError: another shape, or values that are not finite.
        """
        rows = np.asarray(z, np.float32)
        rows = rows[np.newaxis] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != self.latent_dim:
            raise ArtifactError(
                f"z must have the shape (count, {self.latent_dim}); received {np.shape(z)}."
            )
        if not np.isfinite(rows).all():
            raise ArtifactError("z holds values that are not finite (NaN or infinity).")
        return run_batched(self.decoder, rows)["reconstruction"]

    def reconstruct(self, images: npt.ArrayLike) -> FloatArray:
        """Encode each image and decode its z_mean: float32 (count, height, width, channels)."""
        return self.decode(self.encode(images).z_mean)

    def encode_stream(self, images: Iterable[npt.ArrayLike]) -> Iterator[Posterior]:
        """Encode images as they come, holding no more than one chunk of them at a time.

        Args:
            images: single images (height, width, channels), arrays of several (count, height,
                width, channels), or both; a (memory-mapped) array of all of them serves too.

        Yields:
            The posteriors of the next 32 images (a fixed batch: of whole batches), in their order;
            the last time of those that are left.

        Raises:
            ArtifactError: as `encode`, when the image in question is reached.
        """
        axes, size = len(self.image_shape), rows_at_once(self.encoder)
        return (self.encode(chunk) for chunk in regroup(images, axes, size))

    def decode_stream(self, z: Iterable[npt.ArrayLike]) -> Iterator[FloatArray]:
        """Decode latents as they come, holding no more than one chunk of images at a time.

        Args:
            z: rows (latent_dim,), arrays of several (count, latent_dim), or both.

        Yields:
            The next 32 images (a fixed batch: whole batches), float32 (count, height, width,
            channels), in the order of their latents; the last time those that are left.

        Raises:
            ArtifactError: as `decode`, when the row in question is reached.
        """
        size = rows_at_once(self.decoder)
        return (self.decode(chunk) for chunk in regroup(z, 1, size))

    def generate_stream(
        self, count: int, *, seed: int | np.random.Generator | None = None
    ) -> Iterator[FloatArray]:
        """Give the images that `generate` gives, in chunks as `decode_stream` does.

        Raises:
            ArtifactError: count is negative.
        """
        if count < 0:
            raise ArtifactError(f"count must be 0 or more; received {count}.")
        rng, size = np.random.default_rng(seed), rows_at_once(self.decoder)
        # Draws in pieces are the draws of one piece: a row does not depend on the chunk's size.
        return self.decode_stream(
            rng.standard_normal((min(size, count - start), self.latent_dim), dtype=np.float32)
            for start in range(0, count, size)
        )

    def interpolate(
        self,
        start: npt.ArrayLike,
        end: npt.ArrayLike,
        steps: int = 8,
        *,
        method: Interpolation | str = Interpolation.LINEAR,
    ) -> FloatArray:
        """Decode the way from one latent to another (`vae_edge.latents.interpolate_latents`).

        Args:
            start: (latent_dim,), e.g. a row of `encode(...).z_mean`.
            end: the same.
            steps: how many images, the two ends included; 2 or more.
            method: `linear`, or `slerp` along the arc between them.

        Returns:
            float32, (steps, height, width, channels).

        Raises:
            ArtifactError: as `interpolate_latents` and `decode`.
        """
        return self.decode(interpolate_latents(start, end, steps, method=method))

    def manifold(
        self,
        steps: int = 20,
        *,
        span: float | None = None,
        axes: tuple[int, int] | None = None,
    ) -> FloatArray:
        """Decode a grid of equal probability under the prior (`vae_edge.latents.manifold_latents`).

        Args:
            steps: grid lines each way.
            span: outermost grid line in standard deviations, at most 6; by default each image
                stands for an equal part of the whole prior.
            axes: the latents that run to the right and upwards, all others being 0; needed where
                there are more than two.

        Returns:
            float32, (steps * steps, height, width, channels), by rows from the top left.

        Raises:
            ArtifactError: as `manifold_latents`.
        """
        return self.decode(manifold_latents(steps, self.latent_dim, span=span, axes=axes))

    def sample(
        self, posterior: Posterior, *, seed: int | np.random.Generator | None = None
    ) -> FloatArray:
        """Draw one latent per row: z = z_mean + exp(z_log_var / 2) * epsilon, epsilon ~ N(0, I).

        The reparameterization of Kingma and Welling, "Auto-Encoding Variational Bayes" (2013).

        Args:
            posterior: as `encode` gives it.
            seed: seed or generator of epsilon; by default a fresh one each time.
        """
        z_mean, z_log_var = posterior
        epsilon = np.random.default_rng(seed).standard_normal(z_mean.shape, dtype=np.float32)
        return np.asarray(z_mean + np.exp(z_log_var / 2) * epsilon, np.float32)

    def generate(self, count: int, *, seed: int | np.random.Generator | None = None) -> FloatArray:
        """Decode `count` latents drawn from the prior N(0, I).

        Args:
            count: how many images, 0 or more.
            seed: seed or generator of the latents; by default a fresh one each time.

        Raises:
            ArtifactError: count is negative.
        """
        if count < 0:
            raise ArtifactError(f"count must be 0 or more; received {count}.")
        rng = np.random.default_rng(seed)
        return self.decode(rng.standard_normal((count, self.latent_dim), dtype=np.float32))

    def close(self) -> None:
        """Release the runtimes' memory. Closing twice is harmless."""
        for runner in (self._encoder, self._decoder):
            if runner is not None:
                runner.close()

    def __enter__(self) -> EdgeVAE:
        """Give the VAE itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _component(self, runner: Runner | None, component: Component) -> Runner:
        if runner is None:
            raise BundleError(
                f"the bundle was opened without its {component}: it holds none in the format and "
                "precision chosen. Choose others, or export it again without --component."
            )
        return runner

    def _images(self, images: npt.ArrayLike) -> FloatArray:
        given = np.asarray(images)
        pictures = self.preprocessing.kind is DataKind.PICTURE
        if given.dtype.kind not in "fbiu":
            raise ArtifactError(
                f"images must be floats{' or uint8' if pictures else ''}; received {given.dtype}."
            )
        levels = pictures and given.dtype == np.uint8
        convert = self.preprocessing.from_levels if levels else _as_float32
        rows = convert(given)
        rows = rows[np.newaxis] if rows.ndim == len(self.image_shape) else rows
        if rows.shape[1:] != self.image_shape:
            expected = ", ".join(map(str, self.image_shape))
            raise ArtifactError(
                f"images must have the shape (count, {expected}); received {given.shape}. "
                "Resize or reshape them as in training."
            )
        try:
            self.preprocessing.check_values(rows, "images")
        except DataError as error:
            raise ArtifactError(str(error)) from error
        return rows


def _as_float32(values: npt.NDArray[Any]) -> FloatArray:
    return values.astype(np.float32, copy=False)


def _records(
    bundle: Bundle,
    format: Format,
    precisions: tuple[Precision, ...],
) -> dict[Component, ArtifactRecord]:
    """Both halves at the first precision that has both, else each at its own first."""
    wanted = {record.component for record in bundle.manifest.artifacts}
    best: dict[Component, ArtifactRecord] = {}
    for precision in precisions:
        found = {
            record.component: record
            for record in bundle.select(formats=(format,), precisions=(precision,))
        }
        if found.keys() == wanted:
            return found
        best = {**found, **best}
    return best


def _open_runners(
    bundle: Bundle, records: Mapping[Component, ArtifactRecord], threads: int
) -> dict[Component, Runner]:
    """All or none: those that are open are closed again when a later one fails."""
    runners: dict[Component, Runner] = {}
    with contextlib.ExitStack() as stack:
        for component, record in records.items():
            runner = stack.enter_context(bundle.open_runner(record, threads))
            given, expected = [spec.name for spec in runner.outputs], COMPONENT_OUTPUTS[component]
            if not set(expected) <= set(given):
                raise ArtifactError(
                    f"{runner.name}: gives {', '.join(given)}; expected {', '.join(expected)}. "
                    "Export it again with vae-edge."
                )
            runners[component] = runner
        stack.pop_all()
    return runners


def _term(kind: type[_T], value: str) -> _T:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member) for member in kind)
        raise BundleError(
            f"unknown {kind.__name__.lower()} '{value}'. Choose one of: {choices}."
        ) from None
