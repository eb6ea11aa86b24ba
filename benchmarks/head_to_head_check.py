"""A head to head against `benchmarks.targets`: what is reached, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.head_to_head_report import HeadToHead, Row
from benchmarks.report import Speedup
from benchmarks.targets import NOT_SLOWER, TARGETS, Figure, Target

__all__ = ["Verdict", "check_targets", "passed", "verdict_table"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and what was measured; None where it was not."""

    target: Target
    measured: float | None

    @property
    def reached(self) -> bool:
        """Whether the requirement is met; what was not measured is not."""
        return self._meets(self.target.required)

    @property
    def reached_aim(self) -> bool:
        """Whether the aim is met as well."""
        return self._meets(self.target.aim)

    def _meets(self, limit: float) -> bool:
        if self.measured is None:
            return False
        if self.target.figure.higher_is_better:
            return self.measured >= limit
        return self.measured <= limit


def check_targets(report: HeadToHead, targets: Iterable[Target] = TARGETS) -> tuple[Verdict, ...]:
    """Judge every target, and that no other artifact of ours is slower than its stock export.

    Ratios count by the median of the run, not by the better end of their interval.

    Args:
        report: the run.
        targets: what to reach.
    """
    given = tuple(targets)
    named = {(t.component, t.format, t.precision) for t in given if t.figure is Figure.TIMES_STOCK}
    others = tuple(
        Target(
            component=row.component,
            format=row.format,
            precision=row.precision,
            figure=Figure.TIMES_STOCK,
            required=NOT_SLOWER,
            aim=1.0,
        )
        for row in report.rows
        if row.ours
        and row.format is not None
        and row.times_stock is not None
        and (row.component, row.format, row.precision) not in named
    )
    ours = tuple(row for row in report.rows if row.ours)
    return tuple(Verdict(target=t, measured=_measured(t, ours)) for t in (*given, *others))


def passed(verdicts: Iterable[Verdict]) -> bool:
    """Tell whether every requirement is met."""
    return all(verdict.reached for verdict in verdicts)


def _measured(target: Target, ours: Iterable[Row]) -> float | None:
    values = [
        value
        for row in ours
        if row.format is target.format
        and target.component in (None, row.component)
        and target.precision in (None, row.precision)
        and (value := _figure(target.figure, row)) is not None
    ]
    return median(values) if values else None


def _figure(figure: Figure, row: Row) -> float | None:
    encoder = row.quality.encoder if row.quality else None
    decoder = row.quality.decoder if row.quality else None
    share = _value(row.times_float32)
    figures = {
        Figure.TIMES_STOCK: _value(row.times_stock),
        Figure.TIMES_FLOAT32: share,
        Figure.SHARE_OF_FLOAT32: None if share is None else 1 / share,
        Figure.PSNR_DB: decoder.psnr_db if decoder else None,
        Figure.ELBO_CHANGE: abs(row.quality.elbo_change) if row.quality else None,
        Figure.Z_MEAN_ERROR: encoder.z_mean_mean if encoder else None,
        Figure.Z_LOG_VAR_ERROR: encoder.z_log_var_mean if encoder else None,
        Figure.SIZE_BYTES: float(row.size_bytes),
        Figure.RUNNER_OVERHEAD_US: row.runner_overhead_us,
    }
    return figures[figure]


def _value(speedup: Speedup | None) -> float | None:
    return None if speedup is None else speedup.interval.value


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """Give the verdicts as a Markdown table."""
    lines = ["| what | required | aim | measured | reached |", "|" + " --- |" * 5]
    for verdict in verdicts:
        target = verdict.target
        parts = (target.component or "all", target.precision, target.format)
        what = " ".join(str(part) for part in parts if part)
        sign = "≥" if target.figure.higher_is_better else "≤"
        measured = "not measured" if verdict.measured is None else _number(verdict.measured)
        said = ("aim" if verdict.reached_aim else "yes") if verdict.reached else "**no**"
        lines.append(
            f"| {what}: {target.figure} | {sign} {_number(target.required)} | "
            f"{_number(target.aim)} | {measured} | {said} |"
        )
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
