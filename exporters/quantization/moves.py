"""Operators that give the integers they read, in other places: all their tensors have one range."""

from __future__ import annotations

from exporters.graph import Concat, Pad, Reshape, Slice, Transpose
from exporters.operators import Pool, PoolKind

__all__ = ["is_move"]

_MOVES = (Concat, Pad, Reshape, Slice, Transpose)


def is_move(op: object) -> bool:
    """Tell whether an operator only moves values, or chooses among them."""
    return isinstance(op, _MOVES) or (isinstance(op, Pool) and op.kind is PoolKind.MAX)
