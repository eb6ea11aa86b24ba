"""A training run as the user sees it: a bar with the losses and the time left, a line an epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vae_edge.cli.console import note, stderr_console

if TYPE_CHECKING:
    from vae_edge.training.dataset import Dataset
    from vae_edge.training.fit import TrainResult
    from vae_edge.training.history import EpochRecord
    from vae_edge.training.settings import TrainSettings
    from vae_edge.training.trainer import BatchProgress

__all__ = ["fit_with_progress", "training_display"]


def fit_with_progress(
    settings: TrainSettings,
    dataset: Dataset,
    run_dir: Path,
    *,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainResult:
    """Train as `vae_edge.training.fit.fit` does, and show it on stderr meanwhile.

    Args:
        settings: what to train.
        dataset: what to train on.
        run_dir: where to write.
        resume: go on with the run in `run_dir`.
        on_epoch: called when an epoch is finished and on the disk, before it is shown.

    Raises:
        VaeEdgeError: as `fit` does.
    """
    note("Loading TensorFlow ...")
    from vae_edge.training.fit import fit

    with training_display(settings) as (show_batch, show_epoch):

        def finished(record: EpochRecord) -> None:
            if on_epoch:
                on_epoch(record)
            show_epoch(record)

        return fit(
            settings, dataset, run_dir, resume=resume, on_batch=show_batch, on_epoch=finished
        )


@contextlib.contextmanager
def training_display(
    settings: TrainSettings,
) -> Iterator[tuple[Callable[[BatchProgress], None], Callable[[EpochRecord], None]]]:
    """Show a run on stderr: a bar over all epochs with time left, and a line for each epoch.

    Yields:
        `on_batch` and `on_epoch` for `fit`.
    """
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = stderr_console()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),  # the line must fit 80 columns
        TextColumn("{task.fields[losses]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("preparing", total=None, losses="")
    best = float("inf")

    def on_batch(at: BatchProgress) -> None:
        bar.update(
            task,
            description=f"epoch {at.epoch}/{at.epochs} {at.batch}/{at.batches}",
            completed=(at.epoch - 1) * at.batches + at.batch,
            total=at.epochs * at.batches,
            losses=f"loss {at.loss:.2f} (rec {at.reconstruction:.2f}, KL {at.kl:.2f})",
        )

    def on_epoch(record: EpochRecord) -> None:
        nonlocal best
        mark = "  best so far" if record.validation_loss < best else ""
        best = min(best, record.validation_loss)
        console.print(
            f"epoch {record.epoch}/{settings.epochs}  loss {record.loss:.2f}  validation "
            f"{record.validation_loss:.2f} (reconstruction {record.validation_reconstruction:.2f}, "
            f"KL {record.validation_kl:.2f})  {record.seconds:.0f} s{mark}",
            markup=False,
            soft_wrap=True,
        )

    with bar:
        yield on_batch, on_epoch
