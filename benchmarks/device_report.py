"""What the proof on an emulated device found: its records, and the tables that it prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.device_machine import Package
from benchmarks.emulation import Cpu
from vae_edge.parity import PAIR, ParityReport, SubjectParity

__all__ = [
    "MEANING",
    "SCHEMA_VERSION",
    "DeviceProof",
    "Figure",
    "Step",
    "figures_of",
    "markdown",
]

SCHEMA_VERSION = 1
MEANING = (
    "Programs of an arm64 system ran on an emulated processor: what they compute is proven, and "
    "how long they take is not. No Raspberry Pi took part."
)
# What is enough to read; the JSON holds all.
_SHOWN = (
    ("z_mean", "max_abs_error"),
    ("z_log_var", "max_abs_error"),
    ("reconstruction", "max_abs_error"),
    ("reconstruction", "psnr_db"),
)
_SHOWN_OF_PAIRS = (("elbo", "elbo_change_nats"),)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that had to hold.

    Attributes:
        name: what was done.
        cpu: on which emulated processor; None for what was done once.
        passed: whether it held.
        detail: what was seen, or why it did not hold.
        seconds: how long it took, emulation included.
    """

    name: str
    cpu: Cpu | None
    passed: bool
    detail: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A difference from the Keras model, on the host and on emulated devices.

    Attributes:
        artifact: a file, or encoder and decoder in a row.
        output: what was compared.
        metric: by which measure.
        host: value here; None where it is infinite, or was not found.
        device: value on each emulated processor; None likewise.
        limit: of the same check on both; None where it is not judged.
        passed: within the limit on every device.
    """

    artifact: str
    output: str
    metric: str
    host: float | None
    device: Mapping[str, float | None]
    limit: float | None
    passed: bool


@dataclass(frozen=True, kw_only=True)
class DeviceProof:
    """Everything that the proof found.

    Attributes:
        schema_version: of this document.
        meaning: what these figures are, and what they are not.
        emulated: always true.
        passed: every step held.
        emulator: name and version.
        host: architecture of the machine that emulated, and compared.
        wheel: file name of what was installed.
        bundle: directory that was proven.
        golden_images: golden images that parity ran on.
        packages: all that is installed on the device.
        steps: what had to hold.
        figures: differences from the Keras model.
        benchmark: what the benchmark printed on each processor.
    """

    schema_version: int
    meaning: str
    emulated: bool
    passed: bool
    emulator: str
    host: str
    wheel: str
    bundle: str
    golden_images: int
    packages: tuple[Package, ...]
    steps: tuple[Step, ...]
    figures: tuple[Figure, ...]
    benchmark: Mapping[str, str]


def figures_of(
    host: ParityReport, devices: Mapping[Cpu, Sequence[SubjectParity]]
) -> tuple[Figure, ...]:
    """Put the errors of devices beside those of the host.

    Args:
        host: verdict on the bundle here.
        devices: verdicts on the same bundle, by emulated processor.
    """
    found: dict[tuple[str, str, str], Figure] = {}
    for subject in host.subjects:
        for metric in subject.metrics:
            key = (_name(subject), metric.output, metric.metric)
            found[key] = Figure(
                artifact=key[0],
                output=metric.output,
                metric=metric.metric,
                host=metric.value,
                device={},
                limit=metric.limit,
                passed=True,
            )
    for cpu, subjects in devices.items():
        for subject in subjects:
            for metric in subject.metrics:
                key = (_name(subject), metric.output, metric.metric)
                known = found.get(key)
                found[key] = Figure(
                    artifact=key[0],
                    output=metric.output,
                    metric=metric.metric,
                    host=known.host if known else None,
                    device={**(known.device if known else {}), str(cpu): metric.value},
                    limit=metric.limit,
                    passed=metric.passed and (known is None or known.passed),
                )
    return tuple(found.values())


def markdown(proof: DeviceProof) -> str:
    """Give the errors as a Markdown table, and the steps as another."""
    return "\n".join((*_error_table(proof), "", *_step_table(proof)))


def _error_table(proof: DeviceProof) -> Iterator[str]:
    shown = [
        figure
        for figure in proof.figures
        if (figure.output, figure.metric)
        in (_SHOWN_OF_PAIRS if figure.artifact.startswith(PAIR) else _SHOWN)
    ]
    cpus = [cpu for cpu in Cpu if any(str(cpu) in figure.device for figure in shown)]
    heads = (
        *("artifact", "output", "metric", proof.host),
        *(f"arm64, emulated {cpu.label}" for cpu in cpus),
        *("limit", ""),
    )
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for figure in shown:
        cells = (
            *(figure.artifact, figure.output, figure.metric, _number(figure.host)),
            *(_number(figure.device.get(str(cpu))) for cpu in cpus),
            _number(figure.limit),
            "passed" if figure.passed else "FAILED",
        )
        yield f"| {' | '.join(cells)} |"


def _step_table(proof: DeviceProof) -> Iterator[str]:
    yield "| step | on | | seen |"
    yield "| --- | --- | --- | --- |"
    for step in proof.steps:
        where = f"emulated {step.cpu.label}" if step.cpu else "once"
        verdict = "passed" if step.passed else "FAILED"
        detail = step.detail.replace("|", "/")
        yield f"| {step.name} | {where} | {verdict} | {detail} |"
    yield ""
    yield (
        f"{proof.meaning} {proof.wheel}, {proof.emulator}, on {proof.host}; parity on "
        f"{proof.golden_images} golden images."
    )


def _name(subject: SubjectParity) -> str:
    return subject.file or f"{subject.subject} {subject.precisions} {subject.format}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
