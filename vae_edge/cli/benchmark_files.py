"""The files that `vae-edge benchmark` can leave behind: JSON, CSV and a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vae_edge.errors import UsageError
from vae_edge.files import replaced_file

if TYPE_CHECKING:
    from benchmarks.report import BenchmarkReport

__all__ = ["Files"]

_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Files:
    """What to write; None for what was not asked for.

    Attributes:
        out: the report as JSON.
        csv: a row per candidate.
        plot: a picture.
    """

    out: Path | None
    csv: Path | None
    plot: Path | None

    def check(self) -> None:
        """Refuse before the run, not after it, a file that cannot be written.

        Raises:
            UsageError: no such directory, not writable, or a suffix that is no picture's.
            RuntimeMissingError: a picture is wanted, and matplotlib is not installed.
        """
        for option, path in (("--out", self.out), ("--csv", self.csv), ("--plot", self.plot)):
            if path is not None:
                _check_writable(option, path)
        if self.plot is None:
            return
        if self.plot.suffix.lower() not in _PICTURES:
            raise UsageError(
                f"--plot {self.plot}: expected a file that ends in {', '.join(_PICTURES)}."
            )
        from benchmarks.report_plot import require_matplotlib

        require_matplotlib()

    def write(self, report: BenchmarkReport) -> None:
        """Write them; the JSON first, which holds what the others are made of.

        Raises:
            UsageError: one cannot be written, for want of space say; names it.
        """
        try:
            self._write(report)
        except OSError as error:
            where = error.filename or self.out or self.csv or self.plot
            raise UsageError(
                f"{where}: cannot be written: {error.strerror or error}. What was printed above "
                "stands. For the raw samples, make space or name a file elsewhere, and run it "
                "again; --json prints all of it."
            ) from error

    def _write(self, report: BenchmarkReport) -> None:
        from benchmarks.report import write_report
        from benchmarks.report_csv import report_csv
        from benchmarks.report_plot import write_plot

        if self.out is not None:
            with replaced_file(self.out) as part:
                part.write_text(write_report(report), encoding="utf-8")
        if self.csv is not None:
            with replaced_file(self.csv) as part:
                # CSV has ends of lines of its own
                part.write_bytes(report_csv(report).encode())
        if self.plot is not None:
            write_plot(report, self.plot)


def _check_writable(option: str, path: Path) -> None:
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"{option} {path}: expected a file in a directory that exists and is writable. "
            "Make the directory, or choose another file."
        )
