"""The parent's handle on a worker process.

Between two requests a worker is stopped (SIGSTOP): thread pools go on spinning for tens of
milliseconds after an inference (ONNX Runtime at two threads: 15 to 30 ms measured), which would
be taken from whatever is measured next.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from benchmarks.protocol import Failure, GroupTask, Loaded, Memory, Request, Sampled
from benchmarks.timer import Calibration
from vae_edge import codec, errors
from vae_edge.errors import ArtifactError, VaeEdgeError

__all__ = ["Worker", "WorkerProcess"]

T = TypeVar("T")
_LAST_LINES = 5
_LAST_BYTES = 1 << 16
# `python -m` would look in the working directory first, where a user may have a `benchmarks` too.
_BOOT = """
import sys
sys.path[:] = sys.argv[2:]
from importlib import import_module
import_module(sys.argv[1]).main()
"""
_ALONE = "To measure the rest without it, choose others with --format and --precision."


class Worker(Protocol):
    """What the suite needs of a worker: a process, or a fake in tests."""

    @property
    def task(self) -> GroupTask:
        """What it measures."""

    def wait_prepared(self) -> None:
        """Wait until the runtime is imported and the files were read once."""

    def load(self) -> Loaded:
        """Open everything and run each once."""

    def calibrate(self, workload: int, min_sample_ns: int) -> Calibration:
        """Find the loops that make a sample last at least `min_sample_ns`."""

    def sample(self, workload: int, loops: int, settle: int) -> float:
        """Give nanoseconds per inference, over `loops` of them after `settle` untimed ones."""

    def memory(self) -> Memory:
        """Give the resident memory it has had."""

    def close(self) -> None:
        """End it."""


class WorkerProcess:
    """A worker in a process of its own, which starts to prepare at once."""

    def __init__(
        self, task: GroupTask, *, verbose: bool, timeout_s: float, module: str = "benchmarks.worker"
    ) -> None:
        """Start it.

        Args:
            task: what it shall measure.
            verbose: let what it prints through to stderr instead of keeping it for an error.
            timeout_s: how long it may take to answer one request.
            module: whose `main` to run, for tests.
        """
        self._task, self._timeout_s = task, timeout_s
        self._received, self._noise = b"", b""
        self._process = subprocess.Popen(  # noqa: S603  our own module, our own interpreter
            [sys.executable, "-c", _BOOT, module, *_import_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # No file: a device may have no directory that one could be made in.
            stderr=None if verbose else subprocess.PIPE,
            env=_environment(task),
        )
        if self._process.stderr is not None:
            os.set_blocking(self._process.stderr.fileno(), False)
        self._send(json.dumps(codec.encode(task)))
        self._send(json.dumps(codec.encode(Request(operation="prepare"))))

    @property
    def task(self) -> GroupTask:
        """What it measures."""
        return self._task

    def wait_prepared(self) -> None:
        """Wait until the runtime is imported and the files were read once."""
        self._receive("importing its runtime", Loaded)

    def load(self) -> Loaded:
        """Open everything and run each once."""
        return self._ask(Request(operation="load"), "loading", Loaded)

    def calibrate(self, workload: int, min_sample_ns: int) -> Calibration:
        """Find the loops that make a sample last at least `min_sample_ns`."""
        request = Request(operation="calibrate", workload=workload, min_sample_ns=min_sample_ns)
        return self._ask(request, "calibrating", Calibration)

    def sample(self, workload: int, loops: int, settle: int) -> float:
        """Give nanoseconds per inference, over `loops` of them after `settle` untimed ones."""
        request = Request(operation="sample", workload=workload, loops=loops, settle=settle)
        return self._ask(request, "measuring", Sampled).sample_ns / loops

    def memory(self) -> Memory:
        """Give the resident memory it has had."""
        return self._ask(Request(operation="memory"), "reading its memory", Memory)

    def close(self) -> None:
        """Kill it: nothing that it holds is worth keeping, and it may be hanging."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                _close(stream)

    def _ask(self, request: Request, doing: str, kind: type[T]) -> T:
        self._signal(signal.SIGCONT)
        self._send(json.dumps(codec.encode(request)))
        return self._receive(doing, kind)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _send(self, line: str) -> None:
        stream = self._process.stdin
        assert stream is not None  # noqa: S101  asked for with PIPE; tells the type checker
        # a worker that died is found out, with the reason, by _receive
        with contextlib.suppress(BrokenPipeError):
            stream.write(line.encode() + b"\n")
            stream.flush()

    def _receive(self, doing: str, kind: type[T]) -> T:
        message: dict[str, Any] = json.loads(self._read_line(doing))
        self._signal(signal.SIGSTOP)
        if "failure" in message:
            failure = codec.decode(Failure, message["failure"])
            raise self._translate(failure, doing)
        return codec.decode(kind, message["answer"])

    def _read_line(self, doing: str) -> bytes:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101  asked for with PIPE; tells the type checker
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._received:
            if not self._wait_for_answer(stream, deadline):
                raise ArtifactError(
                    f"{self._task.name}: gave no answer for {self._timeout_s:g} s while {doing}, "
                    f"and was stopped.{self._last_words()} {_ALONE}"
                )
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                raise self._died(doing)
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _wait_for_answer(self, stream: IO[bytes], deadline: float) -> bool:
        """Wait for something to read, and keep what is printed meanwhile: a full pipe blocks."""
        streams = [stream] if self._process.stderr is None else [stream, self._process.stderr]
        while (left := deadline - time.monotonic()) > 0:
            ready = select.select(streams, [], [], left)[0]
            if self._process.stderr in ready and not self._take_noise():
                streams.remove(ready[-1])
            if stream in ready:
                return True
        return False

    def _take_noise(self) -> bool:
        """Keep the end of what was printed so far; False at the end of it."""
        assert self._process.stderr is not None  # noqa: S101  only called where it is piped
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._process.stderr.fileno(), 1 << 16):
                self._noise = (self._noise + chunk)[-_LAST_BYTES:]
            return False
        return True

    def _died(self, doing: str) -> ArtifactError:
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {-code} ({signal.strsignal(-code) or 'unknown'})"
        return ArtifactError(
            f"{self._task.name}: its benchmark process ended with {how} while {doing}."
            f"{self._last_words()} {_ALONE}"
        )

    def _translate(self, failure: Failure, doing: str) -> VaeEdgeError:
        kind = getattr(errors, failure.kind, None)
        if isinstance(kind, type) and issubclass(kind, VaeEdgeError):
            return kind(failure.message)
        return ArtifactError(
            f"{self._task.name}: {failure.kind} while {doing}: {failure.message or 'no message'}."
            f"{self._last_words()} {_ALONE}"
        )

    def _last_words(self) -> str:
        if self._process.stderr is not None:
            self._take_noise()
        text = self._noise.decode("utf-8", "replace")
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        return f" It printed last: {' | '.join(lines[-_LAST_LINES:])}." if lines else ""


def _close(stream: Any) -> None:
    # what was left to send to a dead process no longer matters
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def _import_path() -> list[str]:
    return [str(Path(entry).absolute()) for entry in sys.path]


def _environment(task: GroupTask) -> dict[str, str]:
    """Hold every library to the threads it is given, and TensorFlow to the CPU."""
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(task.threads),
        "OPENBLAS_NUM_THREADS": str(task.threads),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
