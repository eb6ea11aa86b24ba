"""Freed blocks go back to the system, although another one lies behind them."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_HELD_MEGABYTES = """
import sys
from vae_edge.allocator import give_memory_back, keep_little

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

if "keep" in sys.argv:
    keep_little()
def block():
    return bytearray(b"x") * 2**21
first = block()
del first  # from here on glibc would take such blocks from the heap
before = resident()
blocks = [block() for _ in range(100)]
last = blocks.pop()
blocks.clear()
if "trim" in sys.argv:
    give_memory_back()
print(resident() - before)
"""


def held_megabytes(*arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _HELD_MEGABYTES, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return float(done.stdout)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="another C library's allocator",
)
def test_freed_blocks_are_not_kept():
    assert held_megabytes() > 100
    assert held_megabytes("keep") < 10
    assert held_megabytes("trim") < 10
