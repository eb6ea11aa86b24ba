"""A worker process: a session behind a pipe.

A process of its own keeps the runtimes' thread pools apart, TensorFlow out of everybody else's
memory, and a crash where it happened. Run by `benchmarks.process`; requests come on stdin, answers
go to what was stdout, and everything that libraries print goes to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys

from benchmarks.protocol import Failure, GroupTask, Request
from benchmarks.session import Session
from vae_edge import codec

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read a task and then requests until stdin ends; answer each with one line."""
    # Ctrl-C reaches the whole process group; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        # A worker that is stopped would not notice that a killed parent is gone (Linux only).
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    session = Session(codec.decode(GroupTask, json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        try:
            answer = session.answer(codec.decode(Request, json.loads(line)))
        except Exception as error:  # noqa: BLE001  the parent decides what to make of it
            answer = Failure(kind=type(error).__name__, message=" ".join(str(error).split()))
        kind = "failure" if isinstance(answer, Failure) else "answer"
        answers.write(json.dumps({kind: codec.encode(answer)}) + "\n")
        answers.flush()
