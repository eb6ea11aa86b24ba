"""Words from deep inside a step, to whoever listens."""

from __future__ import annotations

import pytest

from exporters.progress import listening, tell


def test_only_a_listener_hears():
    heard: list[str] = []
    tell("before")
    with listening(heard.append):
        tell("one")
        with listening(lambda what: heard.append(what.upper())):
            tell("two")
        tell("three")
    tell("after")
    assert heard == ["one", "TWO", "three"]


def test_what_a_listener_raises_ends_the_step():
    def interrupted(what: str) -> None:
        raise KeyboardInterrupt(what)

    with pytest.raises(KeyboardInterrupt), listening(interrupted):
        tell("now")
    tell("nobody listens any more")
