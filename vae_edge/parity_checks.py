"""A parity report as single checks with names, for what reports tests: JUnit XML and pytest."""

from __future__ import annotations

from dataclasses import dataclass

from vae_edge.manifest import MetricRecord
from vae_edge.parity_report import NotRun, ParityReport, SubjectParity

__all__ = ["COMPARISON", "ParityCheck", "all_checks", "checks_of", "figure", "subject_name"]

# The check that stands for a subject as a whole, where its metrics do not tell all.
COMPARISON = "comparison"


@dataclass(frozen=True, kw_only=True)
class ParityCheck:
    """One thing that was judged.

    Attributes:
        subject: whose, e.g. `encoder.int8.tflite`.
        name: what, e.g. `z_mean.rmse`, or `comparison`.
        passed: the verdict.
        compared: False where there was nothing to judge: an error rather than a failure.
        message: what was found, on one line.
        skipped: it could not be run here; neither passed nor failed.
    """

    subject: str
    name: str
    passed: bool
    compared: bool
    message: str
    skipped: bool = False


def subject_name(subject: SubjectParity | NotRun) -> str:
    """Name a subject: `encoder.int8.tflite`, or `encoder+decoder.dynamic+int8.onnx` of a pair."""
    precisions = subject.precision if isinstance(subject, NotRun) else subject.precisions
    return f"{subject.subject}.{precisions}.{subject.format}"


def all_checks(report: ParityReport) -> tuple[ParityCheck, ...]:
    """Give the checks of every subject, and those of what was not run."""
    return tuple(check for subject in report.all_subjects for check in checks_of(subject))


def checks_of(subject: SubjectParity | NotRun) -> tuple[ParityCheck, ...]:
    """Give the checks of a subject; all of them pass exactly if the subject did.

    Metrics without a limit are none. A subject that could not be compared, that was not run, or of
    which nothing was judged, has the check `comparison`, so that none is without.
    """
    name = subject_name(subject)
    if isinstance(subject, NotRun):
        return (
            ParityCheck(
                subject=name,
                name=COMPARISON,
                passed=False,
                compared=False,
                message=f"not run: {subject.reason}",
                skipped=True,
            ),
        )
    checks = [
        ParityCheck(
            subject=name,
            name=f"{metric.output}.{metric.metric}",
            passed=metric.passed,
            compared=True,
            message=_found(metric),
        )
        for metric in subject.metrics
        if metric.limit is not None
    ]
    told = bool(checks) and subject.passed == all(check.passed for check in checks)
    if subject.failure is not None or not told:
        checks.append(
            ParityCheck(
                subject=name,
                name=COMPARISON,
                passed=subject.passed and subject.failure is None,
                compared=False,
                message=subject.failure or "no metric was judged",
            )
        )
    return tuple(checks)


def figure(value: float | None) -> str:
    """Write a metric's value; the manifest and reports have None for an infinite one."""
    return "infinite" if value is None else f"{value:.6g}"


def _found(metric: MetricRecord) -> str:
    found = f"{metric.output} {metric.metric} is {figure(metric.value)}, the limit {metric.limit!r}"
    if metric.passed or metric.tightest is None:
        return found
    return f"{found}; the tightest limit that would have passed is {metric.tightest!r}"
