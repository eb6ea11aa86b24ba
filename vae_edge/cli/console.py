"""Where output goes: results on stdout, notes and progress on stderr, third-party noise nowhere."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from types import FrameType
from typing import IO, TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

__all__ = [
    "counting",
    "drop_unwritable_results",
    "interruptible",
    "note",
    "print_error",
    "progress",
    "quiet",
    "results",
    "stderr_console",
    "write_whole_results",
]

_Chunk = TypeVar("_Chunk", bound=Sized)

_PIPE_WIDTH = 140

# Set while `quiet` has redirected file descriptor 2: a duplicate of the real stderr.
_real_stderr: IO[str] | None = None


def write_whole_results() -> None:
    """Have stdout write all of a text or fail, before anything is written to it.

    Without a buffer (PYTHONUNBUFFERED, as many containers set it) Python takes the half of a text
    that still went onto a full disk for the whole.
    """
    own = sys.__stdout__
    raw = getattr(own, "buffer", None)
    # What somebody has put in its place is theirs.
    if own is None or own is not sys.stdout or not isinstance(raw, io.RawIOBase):
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=own.encoding, errors=own.errors, line_buffering=True
    )


def drop_unwritable_results() -> None:
    """Forget what stdout could not take; Python would try once more at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def results() -> Console:
    """Console for results: tables and paths, on stdout."""
    from rich.console import Console

    # A pipe or a file has no width; rich would take 80 and cut the wider tables.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    # Paths and what a bundle says of itself must not be taken for markup: `[/x]` is an error.
    return Console(width=width, highlight=False, markup=False, emoji=False)


def stderr_console() -> Console:
    """Console for notes and progress, on the real stderr even inside `quiet`."""
    from rich.console import Console

    file = _real_stderr or sys.stderr
    return Console(file=file, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """Say something to the user that is not a result."""
    stderr_console().print(text, soft_wrap=True)


def print_error(text: str) -> None:
    """Say, in one paragraph, why the command could not do what was asked."""
    stderr_console().print(f"error: {text}", style="red", soft_wrap=True)


def progress() -> Progress:
    """Progress display on stderr, on a terminal only: what is done, how far, and for how long."""
    from rich.progress import Progress

    console = stderr_console()
    return Progress(*_columns(), console=console, disable=not console.is_terminal)


def _columns() -> tuple[ProgressColumn, ...]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    return (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
    )


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[Iterable[_Chunk]], Iterator[_Chunk]]]:
    """Give a function that passes chunks on and shows how many of `total` have gone through.

    The bar is on stderr, on a terminal only, and disappears at the end.
    """
    from rich.progress import Progress

    console = stderr_console()
    with Progress(
        *_columns(), console=console, transient=True, disable=not console.is_terminal
    ) as display:
        task = display.add_task(what, total=total)

        def counted(chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
            for chunk in chunks:
                yield chunk
                display.update(task, advance=len(chunk))

        yield counted


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Keep what TensorFlow, the converters and the runtimes print off the user's screen.

    Much of it is written by C++ straight to file descriptor 2, so the descriptor itself is
    redirected. With `verbose`, everything is shown as it comes. Must be entered before TensorFlow
    is first imported, and not from two threads.
    """
    global _real_stderr
    if verbose or _real_stderr is not None:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    with (
        os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace") as real,
        open(os.devnull, "wb") as sink,  # noqa: PTH123  no path: it may be `nul`
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        _real_stderr = real
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            _real_stderr = None


class _Interrupted:
    """Whether Ctrl-C came while a command was in `interruptible`."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        signal.default_int_handler(number, frame)


@contextlib.contextmanager
def interruptible(message: str) -> Iterator[Callable[[], None]]:
    """Say what Ctrl-C left behind, then leave with 130 as shells expect.

    The converters call back into Python from C++, and there a KeyboardInterrupt becomes some other
    error, or none at all. Therefore whatever is raised after Ctrl-C counts as the interruption, and
    the function that this gives is to be called between steps: it raises where nothing else did.
    """
    interrupted = _Interrupted()

    def check() -> None:
        if interrupted.seen:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # Only the main thread may set a handler; and a shell that starts a command in the background
    # has the interrupt ignored on purpose.
    may_set = threading.current_thread() is threading.main_thread() and before != signal.SIG_IGN
    if may_set:
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield check
    except BaseException as error:
        if not interrupted.seen and not isinstance(error, KeyboardInterrupt):
            raise
        note(f"\nInterrupted. {message}")
        raise typer.Exit(130) from None
    finally:
        if may_set:
            signal.signal(signal.SIGINT, before)
