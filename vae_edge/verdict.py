"""Did it pay? What an artifact gives and costs against float32 of the same format.

Fewer bits are a means: they pay where they make a component faster, or smaller without making it
slower. Whether they do depends on the processor and on the runtime's kernels, so a verdict rests on
a ratio that was measured, and says what stands in the way where it is not what was hoped for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from vae_edge.manifest import ArtifactRecord, Manifest
from vae_edge.terms import Format, Precision

__all__ = [
    "ALIKE",
    "Ratio",
    "Speed",
    "Verdict",
    "counted",
    "decibels",
    "finite",
    "judge",
    "size_words",
    "times",
    "verdicts",
]

# Medians of one run differ by up to this where two artifacts take the same time: each runs in a
# process of its own, and where its memory happens to lie no confidence interval knows.
ALIKE = 0.03

# Why an operator computes in float although its artifact is quantized, where that is known of the
# runtime: there is no kernel for it, so the runtime converts to float and back around it.
_NO_KERNEL: Mapping[tuple[Format, Precision, str], str] = MappingProxyType(
    {
        (Format.ONNX, Precision.INT8, "ConvTranspose"): (
            "ONNX Runtime has no integer ConvTranspose"
        ),
        (Format.ONNX, Precision.DYNAMIC, "ConvTranspose"): (
            "ONNX Runtime has no integer ConvTranspose"
        ),
        (Format.TFLITE, Precision.DYNAMIC, "TRANSPOSE_CONV"): (
            "LiteRT widens the int8 weights of TRANSPOSE_CONV"
        ),
    }
)
# What makes a whole precision slow, whatever its operators.
_OFF_FAST_PATH: Mapping[tuple[Format, Precision], str] = MappingProxyType(
    {
        (Format.TFLITE, Precision.INT16X8): "XNNPACK, LiteRT's fast path, has no int16 kernels",
        (Format.ONNX, Precision.DYNAMIC): "ranges are searched for in every inference",
    }
)
_FLOAT16 = "float16 weights are widened when it loads, so it computes as float32 does"


class Speed(str, Enum):
    """How long an artifact takes, beside float32 of the same format on the same machine."""

    FASTER = "faster"
    AS_FAST = "as fast"
    SLOWER = "slower"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster than float32 an artifact was measured to be.

    Attributes:
        value: duration of float32 over the artifact's.
        low: lower end of the confidence interval; None where there is none.
        high: upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high belong together")

    @property
    def speed(self) -> Speed:
        """As fast within 3 %, or where the interval holds 1; else what the ratio says."""
        low, high = self.low, self.high
        unsure = low is not None and high is not None and low <= 1 <= high
        if unsure or abs(self.value - 1) <= ALIKE:
            return Speed.AS_FAST
        return Speed.FASTER if self.value > 1 else Speed.SLOWER


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an artifact was worth making, for one machine.

    Attributes:
        file: the artifact.
        speed: beside float32; None where that was not measured.
        times_faster: than float32, as measured; None where it was not.
        low: lower end of its confidence interval; None where there is none.
        high: upper end.
        times_smaller: size of float32's file over its own; None without float32.
        psnr_db: the lowest of its outputs against the Keras model; None where they are identical
            or were not compared.
        max_abs_error: the largest of its outputs, images in grey levels from 0 to 1 and latents in
            shares of their span; None where they were not compared.
        paid: faster, or smaller and not slower, and still the same model; None where that cannot be
            told.
        reasons: where it is not faster, why.
        sentence: all of that, for people.
    """

    file: str
    speed: Speed | None
    times_faster: float | None
    low: float | None
    high: float | None
    times_smaller: float | None
    psnr_db: float | None
    max_abs_error: float | None
    paid: bool | None
    reasons: tuple[str, ...]
    sentence: str


def judge(record: ArtifactRecord, float32: ArtifactRecord | None, ratio: Ratio | None) -> Verdict:
    """Give the verdict on an artifact.

    Args:
        record: the artifact.
        float32: the float32 artifact of the same component and format; None where there is none.
        ratio: how many times faster than that it was measured to be; None where it was not.
    """
    speed = ratio.speed if ratio else None
    smaller = float32.size_bytes / record.size_bytes if float32 and record.size_bytes else None
    psnr = record.parity.worst("psnr_db") if record.parity else None
    failed = record.parity is not None and not record.parity.passed
    paid = _paid(speed, smaller, failed)
    reasons = tuple(_reasons(record, speed))
    facts = ", ".join(filter(None, (_gains(speed, ratio, smaller), decibels(psnr))))
    conclusion = _conclusion(record, speed, smaller, failed)
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return Verdict(
        file=record.file,
        speed=speed,
        times_faster=ratio.value if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        times_smaller=smaller,
        psnr_db=finite(psnr),
        max_abs_error=finite(record.parity.worst("max_abs_error") if record.parity else None),
        paid=paid,
        reasons=reasons,
        sentence=f"{record.file}: {facts}: {conclusion}{why}.",
    )


def verdicts(manifest: Manifest, ratios: Mapping[str, Ratio] | None = None) -> tuple[Verdict, ...]:
    """Give the verdict on every artifact of a bundle that is not float32 itself.

    Args:
        manifest: of the bundle.
        ratios: what was measured, by file; by default what the manifest recorded at export, which
            holds for the machine that exported.
    """
    float32 = {
        (record.component, record.format): record
        for record in manifest.artifacts
        if record.precision is Precision.FLOAT32
    }
    return tuple(
        judge(
            record,
            float32.get((record.component, record.format)),
            _recorded(record) if ratios is None else ratios.get(record.file),
        )
        for record in manifest.artifacts
        if record.precision is not Precision.FLOAT32
    )


def _recorded(record: ArtifactRecord) -> Ratio | None:
    times_faster = record.latency.times_faster_than_float32 if record.latency else None
    return None if times_faster is None else Ratio(value=times_faster)


def finite(value: float | None) -> float | None:
    """Give a figure as JSON can hold it: None where it is infinite."""
    return value if value is not None and math.isfinite(value) else None


def counted(operators: Mapping[str, int]) -> str:
    """Give operators for people: `CONV_2D x2, LOGISTIC`."""
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in operators.items())


def times(ratio: float) -> str:
    """Give a ratio with as many digits as anyone reads: `0.97x`, `2.4x`, `15x`."""
    digits = 2 if ratio < 2 else 1 if ratio < 10 else 0
    return f"{ratio:,.{digits}f}x"


def size_words(times_smaller: float) -> str:
    """Give a ratio of sizes for people: `2.4x smaller`, `no smaller`, `1.10x larger`."""
    if times_smaller > 1 + ALIKE:
        return f"{times(times_smaller)} smaller"
    if 1 / times_smaller > 1 + ALIKE:
        return f"{times(1 / times_smaller)} larger"
    return "no smaller"


def decibels(psnr: float | None) -> str:
    """Give a PSNR for people: `44.3 dB`, or what there is instead of one."""
    if psnr is None:
        return "not compared with the Keras model"
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "identical to the Keras model"


def _paid(speed: Speed | None, smaller: float | None, failed: bool) -> bool | None:
    if failed or speed is Speed.SLOWER:
        return False
    if speed is Speed.FASTER:
        return True
    if smaller is None:
        return None
    if smaller <= 1 + ALIKE:
        # Without a gain in size it would have to be faster, and that may not be known.
        return False if speed is Speed.AS_FAST else None
    return True if speed is Speed.AS_FAST else None


def _gains(speed: Speed | None, ratio: Ratio | None, smaller: float | None) -> str:
    """What it gives and costs beside float32, in one phrase; empty where nothing is known."""
    than = times(ratio.value) if ratio else ""
    quicker = {
        None: "",
        Speed.FASTER: f"{than} faster than float32",
        Speed.AS_FAST: "as fast as float32",
        Speed.SLOWER: f"slower than float32 ({than})",
    }[speed]
    if smaller is None:
        return quicker
    size = size_words(smaller)
    if not quicker:
        return f"{size} than float32"
    but = (speed is Speed.FASTER) != (smaller > 1 + ALIKE) and speed is not Speed.AS_FAST
    return f"{quicker} {'but' if but else 'and'} {size}"


def _conclusion(
    record: ArtifactRecord, speed: Speed | None, smaller: float | None, failed: bool
) -> str:
    paid = _paid(speed, smaller, failed)
    if failed:
        return "fails parity, so it does not pay"
    if paid:
        return "pays" if speed is Speed.FASTER else "pays in size"
    if paid is False:
        gained = smaller is not None and smaller > 1 + ALIKE
        return "does not pay in speed" if gained else "does not pay"
    if smaller is None:
        return f"there is no float32 {record.format} to compare it with"
    return "its speed beside float32 was not measured"


def _reasons(record: ArtifactRecord, speed: Speed | None) -> Iterator[str]:
    """Why an artifact is not faster than float32, as far as that can be known."""
    format, precision = record.format, record.precision
    if speed in (None, Speed.FASTER) or precision is Precision.FLOAT32:
        return
    if precision is Precision.FLOAT16:
        # As fast is all that it is meant to be.
        if speed is Speed.SLOWER:
            yield _FLOAT16
        return
    if record.float_operators:
        one = sum(record.float_operators.values()) == 1
        yield f"{counted(record.float_operators)} {'computes' if one else 'compute'} in float"
    for name in record.operators:
        if (format, precision, name) in _NO_KERNEL:
            yield _NO_KERNEL[format, precision, name]
    if (format, precision) in _OFF_FAST_PATH:
        yield _OFF_FAST_PATH[format, precision]
