from __future__ import annotations

import io
import os
import sys

import pytest
import typer
from rich.console import Console

from vae_edge.cli.console import (
    counting,
    interruptible,
    note,
    print_error,
    progress,
    quiet,
    results,
)


def test_results_go_to_stdout_and_notes_to_stderr(capfd):
    results().print("result")
    note("note [red]not markup[/red]")
    print_error("wrong")

    captured = capfd.readouterr()
    assert captured.out == "result\n"
    assert captured.err == "note [red]not markup[/red]\nerror: wrong\n"


def test_long_notes_stay_on_one_line(capfd):
    note("word " * 100)

    assert capfd.readouterr().err.count("\n") == 1


def test_quiet_hides_what_libraries_write_and_keeps_our_notes(capfd):
    with quiet():
        os.write(2, b"noise from C++\n")
        print("noise from Python", file=sys.__stderr__)
        note("ours")
        with quiet():  # a second time within is harmless
            os.write(2, b"more noise\n")
            note("ours too")
    os.write(2, b"after\n")

    assert capfd.readouterr().err == "ours\nours too\nafter\n"


def test_quiet_leaves_stdout_alone(capfd):
    with quiet():
        os.write(1, b"result\n")

    assert capfd.readouterr().out == "result\n"


def test_quiet_gives_stderr_back_after_an_error(capfd):
    def fail():
        with quiet():
            os.write(2, b"noise\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    os.write(2, b"after\n")
    note("ours")

    assert capfd.readouterr().err == "after\nours\n"


def test_verbose_shows_everything(capfd):
    with quiet(verbose=True):
        os.write(2, b"noise\n")

    assert capfd.readouterr().err == "noise\n"


def test_interrupt_says_what_it_left_behind(capfd):
    def interrupted():
        with interruptible("Nothing was lost."):
            raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as caught:
        interrupted()

    assert caught.value.exit_code == 130
    assert capfd.readouterr().err == "\nInterrupted. Nothing was lost.\n"


def test_other_errors_pass_through():
    def fail():
        with interruptible("x"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_progress_is_shown_on_a_terminal_only(capfd, monkeypatch):
    def work():
        with progress() as display:
            display.update(display.add_task("working", total=2), advance=2)

    work()
    assert capfd.readouterr() == ("", "")

    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=80)
    monkeypatch.setattr("vae_edge.cli.console.stderr_console", lambda: terminal)
    work()
    assert "working" in file.getvalue()
    assert "2/2" in file.getvalue()


def test_counting_passes_chunks_on_and_is_silent_where_nobody_looks(capfd):
    with counting("images", 5) as counted:
        assert list(counted(["abc", "de"])) == ["abc", "de"]

    assert capfd.readouterr() == ("", "")


def test_counting_shows_how_many_have_gone_through_on_a_terminal(monkeypatch):
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=80)
    monkeypatch.setattr("vae_edge.cli.console.stderr_console", lambda: terminal)

    with counting("images", 5) as counted:
        for _ in counted(["abc", "de"]):
            pass

    assert "images" in file.getvalue()
    assert "5/5" in file.getvalue()
