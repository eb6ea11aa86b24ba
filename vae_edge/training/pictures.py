"""Pictures of what a VAE has learned, from any pair of encode and decode functions."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_edge.errors import RuntimeMissingError
from vae_edge.files import replaced_file
from vae_edge.latents import manifold_latents
from vae_edge.terms import FloatArray
from vae_edge.training.arrays import LabelArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PICTURES",
    "draw_generated",
    "draw_latents",
    "draw_manifold",
    "draw_pictures",
    "draw_reconstructions",
    "require_matplotlib",
]

PICTURES = ("reconstructions.png", "generated.png", "manifold.png", "latents.png")

Encode = Callable[[FloatArray], FloatArray]
"""Images (count, height, width, channels) to `z_mean` (count, latent_dim)."""
Decode = Callable[[FloatArray], FloatArray]
"""`z` (count, latent_dim) to images (count, height, width, channels) in [0, 1]."""

_MANIFOLD_SIDE = 20
# More at a time is slower: the activations leave the cache.
_BATCH = 500
# More classes than this would fill the picture with their legend.
_MOST_NAMED = 20


def require_matplotlib() -> None:
    """Refuse early when pictures could not be drawn later.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeMissingError(
            "pictures need matplotlib, which is not installed: pip install 'vae-edge[host]'"
        )


def draw_pictures(
    folder: Path,
    *,
    encode: Encode,
    decode: Decode,
    images: FloatArray,
    labels: LabelArray | None,
    latent_dim: int,
    seed: int = 0,
) -> tuple[Path, ...]:
    """Draw every picture that can be drawn, and give their paths.

    The latent plane is drawn only when `z` has two dimensions: with more, a plane through them
    shows little of what the model knows.

    Args:
        folder: where to write the PNG files.
        encode: images to `z_mean`.
        decode: `z` to images.
        images: held-out images.
        labels: their classes, or None.
        latent_dim: size of `z`.
        seed: of the new images.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    paths = [
        draw_reconstructions(folder, encode=encode, decode=decode, images=images),
        draw_generated(folder, decode=decode, latent_dim=latent_dim, seed=seed),
    ]
    if latent_dim == 2:
        paths.append(draw_manifold(folder, decode=decode))
    if latent_dim >= 2:
        paths.append(draw_latents(folder, encode=encode, images=images, labels=labels))
    return tuple(paths)


def draw_reconstructions(
    folder: Path, *, encode: Encode, decode: Decode, images: FloatArray, count: int = 16
) -> Path:
    """Draw `reconstructions.png`: originals, each above the decoded mean of its posterior."""
    chosen = images[:count]
    rows = np.concatenate([chosen, decode(encode(chosen))])
    return _save_tiles(folder / "reconstructions.png", rows, columns=len(chosen))


def draw_generated(
    folder: Path, *, decode: Decode, latent_dim: int, seed: int = 0, side: int = 10
) -> Path:
    """Draw `generated.png`: new images, decoded from `z ~ N(0, I)`."""
    z = np.random.default_rng(seed).standard_normal((side * side, latent_dim), dtype=np.float32)
    return _save_tiles(folder / "generated.png", decode(z), columns=side)


def draw_manifold(folder: Path, *, decode: Decode, side: int = _MANIFOLD_SIDE) -> Path:
    """Draw `manifold.png`: the latent plane, decoded on a grid of equal probability.

    Grid lines stand at the quantiles of N(0, 1), so each tile stands for an equal part of the
    prior; the first dimension runs to the right, the second upwards.
    """
    z = manifold_latents(side, 2)
    return _save_tiles(folder / "manifold.png", decode(z), columns=side)


def draw_latents(
    folder: Path, *, encode: Encode, images: FloatArray, labels: LabelArray | None
) -> Path:
    """Draw `latents.png`: the first two dimensions of `z_mean`, coloured by class where known."""
    batches = range(0, len(images), _BATCH)
    z_mean = np.concatenate([encode(images[start : start + _BATCH]) for start in batches])
    figure = _figure(7, 6)
    axes = figure.add_subplot()
    colours: Any = "tab:blue"
    if labels is not None:
        names, classes = np.unique(labels, return_inverse=True)
        table = _colours(len(names))
        # In random order, so that no class lies over all others.
        order = np.random.default_rng(0).permutation(len(z_mean))
        z_mean, colours = z_mean[order], table[classes[order]]
        if len(names) <= _MOST_NAMED:
            for name, colour in zip(names, table, strict=True):
                axes.scatter([], [], color=colour, label=name)
            axes.legend(loc="upper right", fontsize="small", title="class")
    axes.scatter(z_mean[:, 0], z_mean[:, 1], s=4, linewidths=0, c=colours)
    axes.set_xlabel("z_mean[0]")
    axes.set_ylabel("z_mean[1]")
    axes.set_title(f"Posterior means of {len(images)} held-out images")
    axes.set_aspect("equal", adjustable="datalim")
    return _save(figure, folder / "latents.png")


def _colours(count: int) -> FloatArray:
    """Give RGBA colours, as different as so many can be, shape (count, 4)."""
    import matplotlib as mpl

    table = mpl.colormaps["tab10" if count <= 10 else "turbo"]
    chosen = [table(i if count <= 10 else i / (count - 1)) for i in range(count)]
    return np.array(chosen, np.float32)


def _figure(width: float, height: float) -> Figure:
    """Make a figure that belongs to no window system, whatever backend the user has chosen."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    with replaced_file(path) as part:
        # No metadata: the same model draws the same file.
        figure.savefig(part, metadata={"Software": None})
    return path


def _save_tiles(path: Path, images: FloatArray, *, columns: int) -> Path:
    """Draw images of equal size edge to edge, `columns` in a row, each pixel at least twofold."""
    from PIL import Image

    rows, (height, width, channels) = len(images) // columns, images.shape[1:]
    sheet = images[: rows * columns].reshape(rows, columns, height, width, channels)
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    pixels = np.round(np.clip(sheet, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    factor = max(1, 56 // height)
    size = (picture.width * factor, picture.height * factor)
    with replaced_file(path) as part:
        picture.resize(size, Image.Resampling.NEAREST).save(part)
    return path
