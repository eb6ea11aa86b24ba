"""What the options of `vae-edge export` mean, and which of them exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from vae_edge.errors import UsageError
from vae_edge.terms import Precision

if TYPE_CHECKING:
    from vae_edge.manifest import QualityBudget

__all__ = [
    "AUTO_PRECISION",
    "Io",
    "check_auto",
    "check_integer_io",
    "parse_batch",
    "parse_budget",
    "parse_precisions",
]

AUTO_PRECISION = "auto"


class Io(str, Enum):
    """Types at a graph's boundary."""

    FLOAT32 = "float32"
    INT8 = "int8"


def parse_batch(text: str) -> int | None:
    """Read `--batch`; None for any number of rows.

    Raises:
        UsageError: neither a number of 1 or more nor `dynamic`.
    """
    if text == "dynamic":
        return None
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise UsageError(f"--batch {text}: expected a number of 1 or more, or dynamic.")


def parse_precisions(given: Sequence[str]) -> tuple[Precision, ...] | None:
    """Read `--precision`, in the order given and each once; None for auto.

    Raises:
        UsageError: an unknown one, or auto beside others.
    """
    known = [str(precision) for precision in Precision]
    for text in given:
        if text not in (*known, AUTO_PRECISION):
            raise UsageError(
                f"--precision {text}: expected {', '.join(known)} or {AUTO_PRECISION}."
            )
    if AUTO_PRECISION not in given:
        return tuple(dict.fromkeys(Precision(text) for text in given))
    others = [text for text in given if text != AUTO_PRECISION]
    if others:
        raise UsageError(
            f"--precision auto chooses among all default precisions; received {', '.join(others)} "
            "beside it. Leave one or the other out."
        )
    return None


def parse_budget(
    automatic: bool, min_psnr: float | None, max_error: float | None
) -> QualityBudget | None:
    """Give the budget that precisions are chosen within; None where they are named.

    Raises:
        UsageError: a budget that is impossible, or for precisions that are named.
    """
    if automatic:
        from vae_edge.selection import budget_of

        return budget_of(min_psnr, max_error)
    for option, value in (("--min-psnr", min_psnr), ("--max-error", max_error)):
        if value is not None:
            raise UsageError(
                f"{option} is the budget of --precision auto. Add that, or hold the precisions "
                "that you name to a limit of your own with --tolerance."
            )
    return None


def check_auto(*, benchmark: bool, keep_failing: bool, integer_io: bool) -> None:
    """Refuse what `--precision auto` cannot go with.

    Raises:
        UsageError: which option, and why.
    """
    reasons = {
        "--no-benchmark": (not benchmark, "it chooses by what it measures"),
        "--keep-failing": (keep_failing, "it leaves out what fails parity"),
        "--io int8": (integer_io, "it makes other precisions than int8 too"),
    }
    for option, (given, why) in reasons.items():
        if given:
            raise UsageError(
                f"--precision auto cannot go with {option}, because {why}. Leave one of the two "
                "out."
            )


def check_integer_io(precisions: Sequence[Precision], lowering: bool) -> None:
    """Refuse what `--io int8` cannot go with.

    Raises:
        UsageError: other precisions than int8, or graphs as the converters make them.
    """
    if set(precisions) != {Precision.INT8}:
        received = ", ".join(map(str, precisions)) or "none, which means the default ones"
        raise UsageError(
            f"--io int8 goes with --precision int8 only; received {received}. Export other "
            "precisions to a bundle of their own."
        )
    if not lowering:
        raise UsageError("--io int8 needs the rewritten graph. Leave --no-lowering out.")
