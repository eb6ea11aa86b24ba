"""`vae-edge benchmark --sustained`: how long, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vae_edge.cli.benchmark_conditions import change
from vae_edge.cli.console import results
from vae_edge.cli.tables import new_table
from vae_edge.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.report import SustainedRecord

__all__ = ["parse_duration", "print_sustained"]

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([smh])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_S = 24 * 3600


def parse_duration(text: str) -> float:
    """Read `90s`, `10m` or `1.5h` as seconds.

    Raises:
        UsageError: something else, less than a second, or more than a day.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 1 <= seconds <= _LONGEST_S:
        raise UsageError(f"--sustained {text}: expected 1s to 24h, such as 90s, 10m or 1h.")
    return seconds


def print_sustained(records: Sequence[SustainedRecord], *, emulated: bool = False) -> None:
    """Print the first minute beside the last of every artifact that went on running.

    Args:
        records: one per artifact.
        emulated: say above the figures that they are not a device's.
    """
    if not records:
        return
    window = f"{records[0].window_s:g} s"
    table = new_table(
        f"Sustained for {records[0].duration_s:g} s{' under emulation' if emulated else ''}: the "
        f"first {window} beside the last",
        "artifact",
        "first us",
        "last us",
        "last/first",
        "interval",
        "MHz",
        "deg C",
        right_from=1,
    )
    for record in records:
        ratio = record.last_over_first
        before, after = record.before, record.after
        table.add_row(
            record.file,
            f"{record.first_ms * 1000:,.1f}",
            f"{record.last_ms * 1000:,.1f}",
            f"{ratio.value:.3f}",
            f"{ratio.low:.3f}-{ratio.high:.3f}",
            change(before.clock_mhz, after.clock_mhz, 0),
            change(before.temperature_c, after.temperature_c, 1),
        )
    out = results()
    out.print()
    out.print(table)
    for record in records:
        if record.after.throttled:
            flags = ", ".join(record.after.throttled)
            out.print(f"{record.file}: the firmware reports {flags}.", soft_wrap=True)
