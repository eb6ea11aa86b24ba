"""A parity report as JUnit XML, which continuous integration shows test by test.

One `testsuite` per artifact or pair, one `testcase` per judged check. A value beyond its limit is a
`failure`; a subject that could not be compared is an `error`; an artifact that was not run, because
its runtime is not installed, is `skipped`. What was reported without being judged, and what was
compared with what, are properties of the suite.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from vae_edge.parity_checks import ParityCheck, checks_of, figure, subject_name
from vae_edge.parity_report import NotRun, ParityReport, SubjectParity

__all__ = ["write_junit"]

# What XML 1.0 cannot hold, not even escaped (https://www.w3.org/TR/xml/#charsets).
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: ParityReport) -> str:
    """Give a report as JUnit XML, to be written in UTF-8.

    Characters that XML forbids are dropped. No time is stated: parity measures none, and 0 is what
    readers that insist on one get.
    """
    root = ET.Element("testsuites", {"name": "vae-edge parity"})
    every: list[ParityCheck] = []
    for subject in report.all_subjects:
        checks = checks_of(subject)
        every += checks
        suite = ET.SubElement(root, "testsuite", _attributes({"name": subject_name(subject)}))
        _count(suite, checks)
        properties = ET.SubElement(suite, "properties")
        for name, value in _properties(report, subject):
            ET.SubElement(properties, "property", _attributes({"name": name, "value": value}))
        for check in checks:
            _add_case(suite, check)
    _count(root, every)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _count(element: ET.Element, checks: tuple[ParityCheck, ...] | list[ParityCheck]) -> None:
    skipped = [check for check in checks if check.skipped]
    failed = [check for check in checks if not check.passed and not check.skipped]
    element.set("tests", str(len(checks)))
    element.set("failures", str(sum(check.compared for check in failed)))
    element.set("errors", str(sum(not check.compared for check in failed)))
    element.set("skipped", str(len(skipped)))
    element.set("time", "0")


def _properties(report: ParityReport, subject: SubjectParity | NotRun) -> Iterator[tuple[str, str]]:
    yield "model", report.model
    yield "source_sha256", report.source_sha256
    yield "reference", report.reference
    if subject.file is not None:
        yield "file", subject.file
    if isinstance(subject, NotRun):
        return
    yield "samples", str(subject.samples)
    yield "runtime", subject.runtime
    for metric in subject.metrics:
        if metric.limit is None:
            yield f"{metric.output}.{metric.metric}", figure(metric.value)


def _add_case(suite: ET.Element, check: ParityCheck) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        _attributes({"classname": check.subject, "name": check.name, "time": "0"}),
    )
    if check.skipped:
        ET.SubElement(case, "skipped", _attributes({"message": check.message}))
    elif not check.passed:
        kind = "failure" if check.compared else "error"
        verdict = ET.SubElement(case, kind, _attributes({"message": check.message, "type": kind}))
        verdict.text = _clean(f"{check.subject}: {check.message}")
    elif check.message:
        ET.SubElement(case, "system-out").text = _clean(check.message)


def _attributes(given: dict[str, str]) -> dict[str, str]:
    return {name: _clean(value) for name, value in given.items()}


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", text)
