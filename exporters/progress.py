"""Saying what is being done, from deep inside steps that take minutes for a large model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["listening", "tell"]

Listener = Callable[[str], None]
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell(what: str) -> None:
    """Tell whoever listens what is being done now; often, so it has to be cheap to hear.

    What the listener raises is raised here: an interrupted export ends at the next word.
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener(what)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear what is told in this block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
