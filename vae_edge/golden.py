"""Golden vectors: inputs, and what the Keras model makes of them, kept beside the artifacts.

They let a device prove an artifact without TensorFlow. Pictures are stored as 8-bit levels (rounded
before the Keras model saw them), everything else as float32, so that nothing is lost.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_edge.errors import BundleError
from vae_edge.preprocessing import Preprocessing, Scaling
from vae_edge.terms import DataKind, FloatArray

__all__ = [
    "NO_LABEL",
    "GoldenVectors",
    "edge_latents",
    "edge_levels",
    "make_vectors",
    "sample_posterior",
]

# Far above any real file; keeps a forged header from asking for all of a device's memory.
_MAX_BYTES = 1 << 28
NO_LABEL = -1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHADES = 255

Images = npt.NDArray[np.uint8] | FloatArray
Run = Callable[[FloatArray], Mapping[str, FloatArray]]


@dataclass(frozen=True, kw_only=True)
class GoldenVectors:
    """Inputs and reference outputs.

    Attributes:
        model_sha256: of the Keras file that made them.
        image: (images, height, width, channels): pictures as uint8 levels, which the manifest's
            preprocessing turns into the encoder's input; other rows as float32, as they are.
        labels: int16, (images,), classes of the images; -1 where they are not known.
        z_mean: float32, (images, latent_dim), the encoder's output for each image.
        z_log_var: float32, (images, latent_dim), natural logarithm of the variance.
        epsilon: float32, (sampled, latent_dim), noise that the first images' posteriors are sampled
            with; every candidate gets the same.
        z: float32, (latents, latent_dim). The first rows are z_mean of every image, in order, then
            come z_mean + exp(z_log_var / 2) * epsilon of the first images; the rest are samples of
            the prior N(0, I).
        reconstruction: float32, (latents, height, width, channels), the decoder's output for z.
        edge_image: as image: inputs that no data set holds, see `edge_levels`.
        edge_z_mean: float32, the encoder's output for each of them.
        edge_z_log_var: float32, the same.
        edge_z: float32, (edges, latent_dim): latents that nothing was calibrated on, see
            `edge_latents`.
        edge_reconstruction: float32, the decoder's output for them.
    """

    model_sha256: str
    image: Images
    labels: npt.NDArray[np.int16]
    z_mean: FloatArray
    z_log_var: FloatArray
    epsilon: FloatArray
    z: FloatArray
    reconstruction: FloatArray
    edge_image: Images
    edge_z_mean: FloatArray
    edge_z_log_var: FloatArray
    edge_z: FloatArray
    edge_reconstruction: FloatArray

    def __post_init__(self) -> None:
        images, sampled, latents = len(self.image), len(self.epsilon), len(self.z)
        floats = [getattr(self, name) for name in _FLOATS]
        consistent = (
            isinstance(self.model_sha256, str)
            and _SHA256.fullmatch(self.model_sha256) is not None
            and self.image.dtype == self.edge_image.dtype
            and self.image.dtype in (np.uint8, np.float32)
            and np.isfinite(self.image).all()
            and np.isfinite(self.edge_image).all()
            and all(each.dtype == np.float32 and np.isfinite(each).all() for each in floats)
            and self.labels.dtype == np.int16
            and self.labels.shape == (images,)
            and self.z_mean.ndim == 2
            and self.z_mean.shape == self.z_log_var.shape
            and self.z_mean.shape[0] == images > 0
            and self.epsilon.shape[1:] == self.z_mean.shape[1:]
            and 0 < sampled <= images
            and latents > images + sampled
            and self.z.shape[1:] == self.z_mean.shape[1:]
            and len(self.reconstruction) == latents
            and self.reconstruction.shape[1:] == self.image.shape[1:]
            and np.array_equal(self.z[:images], self.z_mean)
            # Processors differ in the last bit of an exponential.
            and np.allclose(self.z[images : images + sampled], self.sample(), rtol=1e-4, atol=1e-4)
            and self.edge_image.shape[1:] == self.image.shape[1:]
            and self.edge_z_mean.shape == self.edge_z_log_var.shape
            and self.edge_z_mean.shape == (len(self.edge_image), *self.z_mean.shape[1:])
            and self.edge_z.shape[1:] == self.z_mean.shape[1:]
            and self.edge_reconstruction.shape == (len(self.edge_z), *self.image.shape[1:])
            and len(self.edge_z) > 0
            and len(self.edge_image) > 0
        )
        if not consistent:
            raise BundleError(
                "golden vectors do not fit together (dtypes, shapes, or values that are not "
                "finite). Export the bundle again."
            )

    def sample(self) -> FloatArray:
        """Draw from the posteriors of the first images: z_mean + exp(z_log_var / 2) * epsilon."""
        return sample_posterior(self.z_mean, self.z_log_var, self.epsilon)

    def images(self, preprocessing: Preprocessing) -> FloatArray:
        """Give the images as the encoder takes them: float32."""
        return _inputs(self.image, preprocessing)

    def edge_images(self, preprocessing: Preprocessing) -> FloatArray:
        """Give the edge cases as the encoder takes them: float32."""
        return _inputs(self.edge_image, preprocessing)

    def to_bytes(self) -> bytes:
        """Give the content of `golden.npz`."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> GoldenVectors:
        """Read the content of `golden.npz`; never unpickles.

        Raises:
            BundleError: not such a file, or its arrays do not fit together.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                    raise ValueError("it unpacks to more than 256 MB")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                if set(arrays.files) != set(_ARRAYS):
                    raise ValueError(f"it holds the arrays {', '.join(arrays.files)}")
                found = {name: arrays[name] for name in _ARRAYS}
                return cls(**{**found, "model_sha256": str(found["model_sha256"])})
        except BundleError:
            raise
        except Exception as error:  # zipfile, zlib and numpy have a dozen for forged files
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BundleError(
                f"{where}: not a file of golden vectors: {reason}. Copy or export the bundle again."
            ) from error


def _inputs(images: Images, preprocessing: Preprocessing) -> FloatArray:
    if images.dtype == np.uint8:
        return preprocessing.from_levels(images.astype(np.uint8, copy=False))
    return images.astype(np.float32, copy=False)


_ARRAYS = tuple(field.name for field in fields(GoldenVectors))
_FLOATS = (
    "z_mean",
    "z_log_var",
    "epsilon",
    "z",
    "reconstruction",
    "edge_z_mean",
    "edge_z_log_var",
    "edge_z",
    "edge_reconstruction",
)


def sample_posterior(z_mean: FloatArray, z_log_var: FloatArray, epsilon: FloatArray) -> FloatArray:
    """Give z_mean + exp(z_log_var / 2) * epsilon of as many rows as there is noise for, float32."""
    count = len(epsilon)
    return np.asarray(z_mean[:count] + np.exp(z_log_var[:count] / 2) * epsilon, np.float32)


def edge_levels(image_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Give images that no data set holds and that a camera may: uint8, (8, *image_shape).

    Black, white, middle grey, one white pixel on black, one black pixel on white, noise, a
    checkerboard, and noise that is saturated either way. Where a shape has fewer than two rows or
    columns some of them are alike.
    """
    rng = np.random.default_rng(0)
    zero, one = np.zeros(image_shape, np.uint8), np.full(image_shape, _SHADES, np.uint8)
    middle = tuple(n // 2 for n in image_shape[:-1])
    dot, hole = zero.copy(), one.copy()
    dot[middle], hole[middle] = _SHADES, 0
    board = np.indices(image_shape[:-1]).sum(axis=0)[..., np.newaxis] % 2 * _SHADES
    noise = rng.integers(0, _SHADES + 1, image_shape)
    extremes = rng.integers(0, 2, image_shape) * _SHADES
    board = np.broadcast_to(board, image_shape)
    images = (zero, one, one // 2, dot, hole, noise, board, extremes)
    return np.stack([np.asarray(image, np.uint8) for image in images])


def edge_latents(latent_dim: int) -> FloatArray:
    """Give latents at the origin, in the prior's tails and far outside: float32, (8, latent_dim).

    Zero; 3 and -3 in every direction; 4 and -4 in turn; 6 along the first axis alone; 10 and -10 in
    every direction; and 30 along the first axis.
    """
    ones = np.ones(latent_dim)
    turn = np.where(np.arange(latent_dim) % 2, -1.0, 1.0)
    first = np.eye(latent_dim)[0]
    rows = (0 * ones, 3 * ones, -3 * ones, 4 * turn, 6 * first, 10 * ones, -10 * ones, 30 * first)
    return np.asarray(rows, np.float32)


def make_vectors(
    encode: Run,
    decode: Run,
    images: FloatArray,
    labels: npt.NDArray[np.int16] | None,
    *,
    preprocessing: Preprocessing,
    latent_dim: int,
    prior: int,
    model_sha256: str,
    rng: np.random.Generator,
) -> GoldenVectors:
    """Run a model on images, on their latents, on samples of the prior and on edge cases.

    Args:
        encode: images to `z_mean` and `z_log_var`.
        decode: latents to `reconstruction`.
        images: float32, (count, ...), as the encoder takes them, held out from training and
            calibration; pictures are rounded to 8-bit levels first.
        labels: their classes; None where they are not known.
        preprocessing: what the images' values mean.
        latent_dim: size of z.
        prior: how many samples of N(0, I).
        model_sha256: of the model's file.
        rng: noise comes from here.
    """
    image, edges = _stored(images, preprocessing)
    posterior, at_edges = (encode(_inputs(rows, preprocessing)) for rows in (image, edges))
    z_mean, z_log_var = posterior["z_mean"], posterior["z_log_var"]
    # Half of the images: what the ELBO is judged on.
    epsilon = rng.standard_normal(((len(images) + 1) // 2, latent_dim), np.float32)
    samples = rng.standard_normal((prior, latent_dim), np.float32)
    z = np.concatenate([z_mean, sample_posterior(z_mean, z_log_var, epsilon), samples])
    far = edge_latents(latent_dim)
    return GoldenVectors(
        model_sha256=model_sha256,
        image=image,
        labels=np.full(len(images), NO_LABEL, np.int16) if labels is None else labels,
        z_mean=z_mean,
        z_log_var=z_log_var,
        epsilon=epsilon,
        z=z,
        reconstruction=decode(z)["reconstruction"],
        edge_image=edges,
        edge_z_mean=at_edges["z_mean"],
        edge_z_log_var=at_edges["z_log_var"],
        edge_z=far,
        edge_reconstruction=decode(far)["reconstruction"],
    )


def _stored(images: FloatArray, preprocessing: Preprocessing) -> tuple[Images, Images]:
    """Give images and edge cases as a golden file keeps them."""
    edges = edge_levels(images.shape[1:])
    if preprocessing.kind is DataKind.PICTURE:
        return preprocessing.input_levels(images), edges
    # Where no range is stated, that of the images at hand.
    low, high = float(images.min()), float(images.max())
    scaling = preprocessing.input or Scaling.between(low, high if high > low else low + 1)
    return images, scaling.apply(edges.astype(np.float32) / np.float32(_SHADES))
