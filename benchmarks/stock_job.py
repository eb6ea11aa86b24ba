"""What a stock export is made of, and from where: jobs, tools, and building all of them."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import Contestant, Engine
from vae_edge.errors import DataError, ExportError
from vae_edge.keras_vae import KerasVAE, open_keras_runner
from vae_edge.runners.batching import run_batched
from vae_edge.terms import Component, FloatArray, Format, Precision

__all__ = ["Build", "Failure", "StockJob", "StockTool", "build_stock", "one_line", "stock_jobs"]

_CALIBRATION_IMAGES = 512
_MAX_REASON = 200


@dataclass(frozen=True, kw_only=True)
class StockJob:
    """One half of a VAE to export.

    Attributes:
        component: which half.
        model: its Keras model.
        rows: float32 (count, ...) inputs to calibrate on.
        directory: where exports go, and where quantizers find the float32 ones.
    """

    component: Component
    model: Any
    rows: FloatArray
    directory: Path

    def float32(self, format: Format) -> Path:
        """Give the standard converter's float32 export, which quantizers and runtimes start from.

        Raises:
            ExportError: it was not made, because the converter failed.
        """
        path = self.directory / f"{self.component}.float32.{format}"
        if not path.is_file():
            raise ExportError(f"needs the stock float32 {format}, which was not made")
        return path


Build = Callable[[StockJob, Path], None]


@dataclass(frozen=True, kw_only=True)
class StockTool:
    """A tool at one setting; `build` writes the export of a job to a path.

    The other attributes are those of `Contestant`; `suffix` ends the name of the file, and tells
    the files of two tools apart.
    """

    tool: str
    format: Format | None
    precision: Precision
    suffix: str
    build: Build
    engine: Engine
    baseline: bool = False

    def contestant(self, job: StockJob) -> Contestant:
        """Name what it makes of a job."""
        return Contestant(
            tool=self.tool,
            component=job.component,
            format=self.format,
            precision=self.precision,
            engine=self.engine,
            baseline=self.baseline,
            path=job.directory / f"{job.component}.{self.suffix}",
        )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An export that could not be made or measured, and the reason on one line."""

    name: str
    reason: str


def stock_jobs(
    vae: KerasVAE, train_images: FloatArray, directory: Path, *, seed: int
) -> tuple[StockJob, ...]:
    """Choose what to calibrate on: for the decoder half posterior samples, half the prior's.

    That is what docs/calibration.md recommends to anybody, so that no tool is handicapped by it.

    Args:
        vae: the Keras model.
        train_images: float32 (count, height, width, channels) in [0, 1]; 512 of them are drawn.
        directory: where exports go.
        seed: of what is drawn.

    Raises:
        DataError: the images do not have the model's shape, or there are none.
    """
    if train_images.shape[1:] != vae.image_shape or not len(train_images):
        raise DataError(
            f"the data set has {len(train_images)} training images of {train_images.shape[1:]}; "
            f"the model takes {vae.image_shape}. Choose another --dataset."
        )
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(train_images))[:_CALIBRATION_IMAGES])
    images = np.ascontiguousarray(train_images[chosen], np.float32)
    with open_keras_runner(vae, Component.ENCODER) as encoder:
        posterior = run_batched(encoder, images)
    z = rng.standard_normal((len(images), vae.latent_dim), np.float32)
    half = len(z) // 2
    spread = np.exp(posterior["z_log_var"][:half] / 2)
    z[:half] = posterior["z_mean"][:half] + spread * z[:half]
    rows = {Component.ENCODER: images, Component.DECODER: z}
    return tuple(
        StockJob(component=c, model=vae.component(c), rows=rows[c], directory=directory)
        for c in Component
    )


def build_stock(
    jobs: Sequence[StockJob],
    tools: Sequence[StockTool],
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[tuple[Contestant, ...], tuple[Failure, ...]]:
    """Let every tool export every job; one that fails is recorded, and the others go on.

    Args:
        jobs: the halves of a VAE.
        tools: in an order in which none needs what a later one makes.
        on_step: called with the name of each export before it starts.

    Returns:
        What was exported, and what was not with the reason.
    """
    made, failures = [], []
    for job in jobs:
        job.directory.mkdir(parents=True, exist_ok=True)
        for tool in tools:
            contestant = tool.contestant(job)
            on_step(contestant.name)
            _remove(contestant.path)
            try:
                # What the tools print is no result of ours.
                with contextlib.redirect_stdout(io.StringIO()):
                    tool.build(job, contestant.path)
            except Exception as error:  # noqa: BLE001  whatever other people's tools raise
                failures.append(Failure(name=contestant.name, reason=one_line(error)))
            else:
                made.append(contestant)
    return tuple(made), tuple(failures)


def _remove(path: Path) -> None:
    """Leave nothing of an earlier run that could be taken for this one's."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def one_line(error: BaseException) -> str:
    """Give what an exception says, on one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 3] + "..."
