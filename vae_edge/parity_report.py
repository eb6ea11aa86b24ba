"""What a parity check found: the verdict on a bundle, as it is printed, written and returned.

`schema_version` history of the report:
    1  first version.
    2  pairs of an encoder and a decoder that differ in precision.
    3  the model's own units, edge cases, repeatability; margins, and what conversion and
       quantization each contribute.
    4  artifacts that were not run, because their runtime is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass

from vae_edge.manifest import MetricRecord, ParityRecord
from vae_edge.terms import Format, Precision

__all__ = ["PAIR", "REPORT_SCHEMA_VERSION", "NotRun", "ParityReport", "Share", "SubjectParity"]

PAIR = "encoder+decoder"
REPORT_SCHEMA_VERSION = 4


@dataclass(frozen=True, kw_only=True)
class Share:
    """Who owns an artifact's drift: Keras to the float32 artifact, and from there to this one.

    Attributes:
        output: e.g. `reconstruction`.
        conversion_rmse: of the float32 artifact of the same format against the reference.
        precision_rmse: of this artifact against that one. All in the output's own units.
        total_rmse: of this artifact against the reference.
    """

    output: str
    conversion_rmse: float
    precision_rmse: float
    total_rmse: float


@dataclass(frozen=True, kw_only=True)
class SubjectParity:
    """The verdict on one artifact, or on encoder and decoder in a row.

    Attributes:
        subject: `encoder`, `decoder` or `encoder+decoder`.
        precision: of the artifact; of a pair the decoder's.
        encoder_precision: of a pair the encoder's, where that is another one; the looser of the two
            has set the limits. None otherwise.
        file: the artifact's file; None for a pair.
        passed: every metric is within its limit and nothing else was wrong.
        samples: rows compared.
        runtime: name and version of the runtime.
        metrics: value and limit of every metric of every output.
        failure: why no comparison was possible, else None.
        shares: of what the conversion to the float32 artifact of the same format and the
            quantization after it each contribute; see `Share`. Empty for a float32 artifact, a
            pair, and where no float32 artifact is in the bundle.
    """

    subject: str
    format: Format
    precision: Precision
    encoder_precision: Precision | None = None
    file: str | None
    passed: bool
    samples: int
    runtime: str
    metrics: tuple[MetricRecord, ...]
    failure: str | None
    shares: tuple[Share, ...] = ()

    @property
    def precisions(self) -> str:
        """The precision, for people: `int8`, or `dynamic+int8` where a pair has two."""
        encoder = f"{self.encoder_precision}+" if self.encoder_precision else ""
        return f"{encoder}{self.precision}"

    def record(self) -> ParityRecord:
        """Give the form that the manifest keeps."""
        return ParityRecord(
            passed=self.passed, samples=self.samples, runtime=self.runtime, metrics=self.metrics
        )


@dataclass(frozen=True, kw_only=True)
class NotRun:
    """An artifact that could not be judged here, because its runtime is not installed.

    Attributes:
        subject: `encoder` or `decoder`.
        format: of the file.
        precision: of the file.
        file: the artifact's file.
        reason: which runtime it needs, and the command that adds it to this machine.
    """

    subject: str
    format: Format
    precision: Precision
    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """The verdict on a bundle.

    Attributes:
        schema_version: of this form.
        model: its name.
        source_sha256: of the Keras file that the bundle was exported from.
        reference: what was compared with.
        passed: everything that was asked for was run, and every subject passed.
        subjects: what was run, with the verdict on each.
        not_run: what could not be run here. Where some was, nothing is known of it.
    """

    schema_version: int
    model: str
    source_sha256: str
    reference: str
    passed: bool
    subjects: tuple[SubjectParity, ...]
    not_run: tuple[NotRun, ...] = ()

    @property
    def failed(self) -> tuple[SubjectParity, ...]:
        """What was run and did not pass."""
        return tuple(subject for subject in self.subjects if not subject.passed)

    @property
    def all_subjects(self) -> tuple[SubjectParity | NotRun, ...]:
        """What was run, then what was not."""
        return (*self.subjects, *self.not_run)
