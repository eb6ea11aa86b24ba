"""The C library's allocator, told to give memory back."""

from __future__ import annotations

import ctypes
import os

__all__ = ["give_memory_back", "keep_little"]

# malloc.h of glibc.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE_BYTES = 1 << 20
_ARENAS = 2


def keep_little() -> None:
    """Have every block of a megabyte be the system's again once it is freed.

    glibc raises that limit to 32 MiB as blocks are freed, and has a heap for each thread: weights
    and what is made of them then stay behind in every heap. For a program of its own, before it
    starts threads; nothing happens with other C libraries.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_memory_back() -> None:
    """Give what lies free between blocks in use back to the system, where glibc allocates."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
