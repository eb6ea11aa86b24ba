"""Tables that several commands show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from vae_edge.manifest import ArtifactRecord, Manifest

__all__ = ["bundle_table", "format_latency", "format_size", "format_times", "new_table", "plural"]


def new_table(title: str, *columns: str, right_from: int) -> Table:
    """Give an empty table; columns from `right_from` on hold figures and are set to the right."""
    from rich import box
    from rich.table import Table

    # One blank between columns: the tables of a bundle have to fit 80 characters.
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=0)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index >= right_from else "left", no_wrap=True)
    return table


def format_size(size_bytes: int) -> str:
    """Give a size for people: `264.1 KB` (1 KB = 1,000 bytes)."""
    return f"{size_bytes / 1000:,.1f} KB" if size_bytes < 1e6 else f"{size_bytes / 1e6:,.1f} MB"


def format_times(times: float | None) -> str:
    """Give a ratio for people: `8.3x`, or a dash where there is none."""
    if times is None:
        return "-"
    return f"{times:.2f}x" if times < 10 else f"{times:,.0f}x"


def format_latency(median_ms: float | None) -> str:
    """Give a latency for people, in microseconds, or a dash where there is none."""
    return "-" if median_ms is None else f"{median_ms * 1000:,.1f} us"


def plural(count: int, thing: str) -> str:
    """Give a count for people: `1 artifact`, `2 artifacts`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def bundle_table(manifest: Manifest) -> Table:
    """Give what a manifest says of every artifact: size, parity, latency, what it is worth."""
    table = new_table(
        f"{manifest.model.name}: {plural(len(manifest.artifacts), 'artifact')}",
        "component",
        "format",
        "precision",
        "parity",
        "size",
        "PSNR",
        "latency",
        "vs Keras",
        "vs f32",
        right_from=4,
    )
    for record in manifest.artifacts:
        table.add_row(*_row(record))
    if any(record.latency for record in manifest.artifacts):
        latency = next(record.latency for record in manifest.artifacts if record.latency)
        table.caption = (
            f"latency: median of one inference, {plural(latency.threads, 'thread')}, on "
            f"{latency.machine}; "
            "vs Keras: times faster than the fastest way of calling the Keras model; "
            "vs f32: times faster than float32 of the same format"
        )
        table.caption_justify = "left"
    return table


def _row(record: ArtifactRecord) -> tuple[str, ...]:
    latency = record.latency
    return (
        str(record.component),
        str(record.format),
        str(record.precision),
        "-" if record.parity is None else "passed" if record.parity.passed else "FAILED",
        format_size(record.size_bytes),
        _worst_psnr(record),
        format_latency(latency.median_ms if latency else None),
        format_times(latency.times_faster_than_keras) if latency else "-",
        format_times(latency.times_faster_than_float32) if latency else "-",
    )


def _worst_psnr(record: ArtifactRecord) -> str:
    psnr = record.parity.worst("psnr_db") if record.parity else None
    if psnr is None:
        return "-"
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "exact"
