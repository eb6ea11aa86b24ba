"""Golden vectors: inputs, and what the Keras model makes of them, kept beside the artifacts.

They let a device prove an artifact without TensorFlow. Images are stored as 8-bit (k / 255 exactly,
rounded before the Keras model saw them), everything else as float32, so that nothing is lost.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_edge.errors import BundleError
from vae_edge.terms import FloatArray

__all__ = ["GoldenVectors"]

_ARRAYS = ("image_u8", "z_mean", "z_log_var", "z", "reconstruction")
# Far above any real file; keeps a forged header from asking for all of a device's memory.
_MAX_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class GoldenVectors:
    """Inputs and reference outputs.

    Attributes:
        image_u8: uint8, (images, height, width, channels): image * 255.
        z_mean: float32, (images, latent_dim), the encoder's output for each image.
        z_log_var: float32, (images, latent_dim), natural logarithm of the variance.
        z: float32, (latents, latent_dim). The first rows are z_mean of every image, in order; the
            rest are samples of the prior N(0, I).
        reconstruction: float32, (latents, height, width, channels), the decoder's output for z.
    """

    image_u8: npt.NDArray[np.uint8]
    z_mean: FloatArray
    z_log_var: FloatArray
    z: FloatArray
    reconstruction: FloatArray

    def __post_init__(self) -> None:
        images, latents = len(self.image_u8), len(self.z)
        consistent = (
            self.image_u8.dtype == np.uint8
            and all(
                getattr(self, name).dtype == np.float32 and np.isfinite(getattr(self, name)).all()
                for name in _ARRAYS[1:]
            )
            and self.z_mean.ndim == 2
            and self.z_mean.shape == self.z_log_var.shape
            and self.z_mean.shape[0] == images > 0
            and latents > images
            and self.z.shape[1:] == self.z_mean.shape[1:]
            and len(self.reconstruction) == latents
            and self.reconstruction.shape[1:] == self.image_u8.shape[1:]
            and np.array_equal(self.z[:images], self.z_mean)
        )
        if not consistent:
            raise BundleError(
                "golden vectors do not fit together (dtypes, shapes, or values that are not "
                "finite). Export the bundle again."
            )

    @property
    def images(self) -> FloatArray:
        """Images as the encoder takes them: float32 in [0, 1]."""
        return self.image_u8.astype(np.float32) / np.float32(255)

    def to_bytes(self) -> bytes:
        """Give the content of `golden.npz`."""
        stream = io.BytesIO()
        np.savez_compressed(stream, **{name: getattr(self, name) for name in _ARRAYS})
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
                return cls(**{name: arrays[name] for name in _ARRAYS})
        except BundleError:
            raise
        except Exception as error:  # zipfile, zlib and numpy have a dozen for forged files
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BundleError(
                f"{where}: not a file of golden vectors: {reason}. Copy or export the bundle again."
            ) from error
