"""`vae-edge benchmark --threads` and `--batch`: one number or several."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vae_edge.errors import UsageError

__all__ = ["parse_counts"]

_COUNT = re.compile(r"\d{1,9}", re.ASCII)


def parse_counts(option: str, texts: Sequence[str] | None, *, most: int) -> tuple[int, ...]:
    """Read `1,2,4`, or the same over several options, as numbers.

    Args:
        option: its name, for messages.
        texts: what was given; None if nothing was.
        most: the largest that is accepted.

    Returns:
        Each once, in the order given; empty if nothing was.

    Raises:
        UsageError: not whole numbers from 1 to `most`.
    """
    counts: dict[int, None] = {}
    for text in texts or ():
        for word in text.split(","):
            count = int(word) if _COUNT.fullmatch(word.strip()) else 0
            if not 1 <= count <= most:
                raise UsageError(
                    f"{option} {text}: expected whole numbers from 1 to {most}, joined by commas, "
                    "such as 1 or 1,2,4."
                )
            counts[count] = None
    return tuple(counts)
