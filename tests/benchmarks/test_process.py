"""The parent's handle, against worker processes that misbehave in every way they can."""

from __future__ import annotations

import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.process import WorkerProcess
from benchmarks.protocol import GroupTask
from benchmarks.report import Part
from vae_edge.errors import ArtifactError, RuntimeMissingError
from vae_edge.terms import Format, Precision

TASK = GroupTask(
    name="int8 tflite",
    source="nowhere",
    format=Format.TFLITE,
    precision=Precision.INT8,
    parts=(Part.ENCODER,),
    threads=3,
    batches=(1,),
    alone=False,
    seed=0,
)
# Runs the real worker over a session that `BODY` fills in.
SCRIPT = """
import os, signal, sys, time
import benchmarks.worker
from benchmarks.protocol import Loaded, Sampled

class Session:
    def __init__(self, task):
        self.task = task

    def answer(self, request):
        if request.operation == "prepare":
            return Loaded(workloads=())
{body}

benchmarks.worker.Session = Session
main = benchmarks.worker.main
"""
Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.syspath_prepend(str(tmp_path))
    started: list[WorkerProcess] = []

    def begin(body: str, *, timeout_s: float = 60.0, verbose: bool = False) -> WorkerProcess:
        text = SCRIPT.format(body=textwrap.indent(textwrap.dedent(body), " " * 8))
        (tmp_path / "scripted_worker.py").write_text(text)
        worker = WorkerProcess(TASK, verbose=verbose, timeout_s=timeout_s, module="scripted_worker")
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        worker.close()


def pid_of(worker: WorkerProcess) -> int:
    return worker._process.pid


def test_a_sample_is_given_per_inference(start: Start) -> None:
    worker = start("return Sampled(sample_ns=request.loops * 100 + request.settle * 1000)")
    worker.wait_prepared()
    assert worker.sample(0, loops=4, settle=2) == 600.0


def test_what_libraries_print_does_not_disturb_the_answers(start: Start) -> None:
    worker = start(
        """
        print("hello from Python", flush=True)
        os.system("echo hello from C")
        return Sampled(sample_ns=7)
        """
    )
    worker.wait_prepared()
    assert worker.sample(0, loops=1, settle=0) == 7.0


def test_what_lies_in_the_working_directory_is_not_imported(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "project" / "benchmarks"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(decoy.parent)
    worker = start("return Sampled(sample_ns=7)")
    worker.wait_prepared()
    assert worker.sample(0, loops=1, settle=0) == 7.0


def test_a_crash_names_the_artifacts_the_signal_and_the_last_words(start: Start) -> None:
    worker = start(
        """
        print("about to fall", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        """
    )
    worker.wait_prepared()
    with pytest.raises(ArtifactError) as caught:
        worker.sample(0, loops=1, settle=0)
    text = str(caught.value)
    assert text.startswith("int8 tflite: its benchmark process ended with signal 11 (Seg")
    assert "while measuring" in text
    assert "It printed last: about to fall." in text
    assert "--precision" in text


def test_an_early_exit_is_reported_too(start: Start) -> None:
    worker = start("sys.exit(3)")
    worker.wait_prepared()
    with pytest.raises(ArtifactError, match=r"ended with exit code 3 while loading"):
        worker.load()


def test_a_worker_that_cannot_start_is_reported() -> None:
    worker = WorkerProcess(TASK, verbose=False, timeout_s=60, module="no_such_module_anywhere")
    try:
        with pytest.raises(
            ArtifactError, match=r"exit code 1 .*No module named 'no_such_module_any"
        ):
            worker.wait_prepared()
    finally:
        worker.close()


def test_a_hang_ends_after_the_timeout(start: Start) -> None:
    worker = start("time.sleep(600)", timeout_s=20)
    worker.wait_prepared()
    worker._timeout_s = 0.2
    with pytest.raises(ArtifactError, match=r"int8 tflite: gave no answer for 0\.2 s while cal"):
        worker.calibrate(0, 1000)
    worker.close()
    assert worker._process.returncode == -9


def test_our_own_errors_arrive_as_they_were(start: Start) -> None:
    worker = start(
        """
        from vae_edge.errors import RuntimeMissingError
        raise RuntimeMissingError("decoder.int8.tflite: needs LiteRT")
        """
    )
    worker.wait_prepared()
    with pytest.raises(RuntimeMissingError, match=r"^decoder\.int8\.tflite: needs LiteRT$"):
        worker.load()


def test_other_errors_name_artifacts_kind_and_message(start: Start) -> None:
    worker = start("raise OSError('disk on fire')")
    worker.wait_prepared()
    with pytest.raises(ArtifactError, match=r"^int8 tflite: OSError while loading: disk on fire\."):
        worker.load()


def test_noise_is_shown_when_verbose_only(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    noisy = "print('chatter', file=sys.stderr, flush=True)\nreturn Sampled(sample_ns=1)"
    for verbose in (False, True):
        worker = start(noisy, verbose=verbose)
        worker.wait_prepared()
        worker.sample(0, loops=1, settle=0)
        assert ("chatter" in capfd.readouterr().err) is verbose


def test_more_noise_than_a_pipe_holds_does_not_block(start: Start) -> None:
    worker = start(
        """
        print("x" * 1_000_000, "\\nthe end", file=sys.stderr, flush=True)
        if request.operation == "load":
            sys.exit(3)
        return Sampled(sample_ns=5)
        """
    )
    worker.wait_prepared()
    assert worker.sample(0, loops=1, settle=0) == 5.0
    with pytest.raises(ArtifactError, match=r"xxx \| the end\.") as caught:
        worker.load()
    assert len(str(caught.value)) < 100_000


def test_no_directory_for_temporary_files_is_needed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a device whose file systems are all full, or read-only."""

    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    worker = start("print('about to fall', file=sys.stderr, flush=True)\nos._exit(3)")
    worker.wait_prepared()
    with pytest.raises(ArtifactError, match=r"It printed last: about to fall\."):
        worker.load()


def test_a_worker_is_held_to_its_threads(start: Start) -> None:
    worker = start("return Sampled(sample_ns=int(os.environ['OMP_NUM_THREADS']))")
    worker.wait_prepared()
    assert worker.sample(0, loops=1, settle=0) == 3.0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_stands_still_between_requests(start: Start) -> None:
    worker = start("return Sampled(sample_ns=1)")
    worker.wait_prepared()
    for _ in range(2):
        assert _state_settles_at(pid_of(worker), "T")
        worker.sample(0, loops=1, settle=0)


def test_closing_ends_a_worker_that_stands_still(start: Start) -> None:
    worker = start("return Sampled(sample_ns=1)")
    worker.wait_prepared()
    worker.close()
    assert worker._process.returncode == -9
    worker.close()  # twice is harmless


def _state_settles_at(pid: int, wanted: str) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat").read_text()
        if stat.rpartition(")")[2].split()[0] == wanted:
            return True
        time.sleep(0.01)
    return False
