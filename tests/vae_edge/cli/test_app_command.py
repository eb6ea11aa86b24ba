from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vae_edge import __version__
from vae_edge.cli import app
from vae_edge.errors import VaeEdgeError

COMMANDS = (
    "quickstart",
    "train",
    "export",
    "parity",
    "benchmark",
    "inspect",
    "generate",
    "reconstruct",
    "doctor",
)


@pytest.fixture
def raising(monkeypatch):
    """Make the command line run into an error."""

    def install(error):
        def fail(**_):
            raise error

        monkeypatch.setattr(sys.modules["vae_edge.cli.app"], "app", fail)

    return install


def test_version_is_printed(run_cli):
    ran = run_cli("--version")

    assert (ran.code, ran.out) == (0, f"vae-edge {__version__}\n")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_command(run_cli, option):
    ran = run_cli(option)

    assert ran.code == 0
    for command in COMMANDS:
        assert command in ran.out


def test_no_command_shows_the_help(run_cli):
    ran = run_cli()

    assert "Usage: " in ran.out + ran.err
    assert "doctor" in ran.out + ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(run_cli, command):
    ran = run_cli(command, "--help")

    assert ran.code == 0
    assert f"vae-edge {command}" in " ".join(ran.out.split())
    assert "Example" in ran.out


@pytest.mark.parametrize("arguments", [("export-all",), ("inspect",), ("inspect", "--no-such")])
def test_usage_error_leaves_with_2(run_cli, arguments):
    ran = run_cli(*arguments)

    assert ran.code == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert "Usage: " in ran.err


def test_expected_error_is_one_paragraph(run_cli, raising):
    raising(VaeEdgeError("a [red]thing[/red] is wrong at [/x]. " + "Do something. " * 30))

    assert run_cli("doctor").error.startswith("a [red]thing[/red] is wrong at [/x]. Do something.")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "out/x"), "out/x: No space left on device. Check"),
        (OSError(5, "Input/output error"), "Input/output error. Check that the path exists"),
        (OSError("odd"), "odd. Check that the path exists"),
    ],
)
def test_system_error_is_one_paragraph(run_cli, raising, error, message):
    raising(error)

    assert run_cli("doctor").error.startswith(message)


def test_unexpected_error_is_one_paragraph_that_names_its_type(run_cli, raising):
    raising(ZeroDivisionError("division\nby zero"))

    error = run_cli("doctor").error

    assert error.startswith("Unexpected ZeroDivisionError: division by zero. This is a fault of")
    assert "--verbose" in error


def test_unexpected_error_without_a_message_is_cut_short_and_named(run_cli, raising):
    raising(RuntimeError())
    assert "Unexpected RuntimeError: no message." in run_cli("doctor").error
    raising(RuntimeError("x" * 10_000))
    assert len(run_cli("doctor").error) < 700


def test_verbose_shows_the_traceback_of_an_unexpected_error(run_cli, raising):
    raising(ZeroDivisionError("division by zero"))

    ran = run_cli("parity", "bundle", "--verbose")

    assert ran.code == 2
    assert "Traceback (most recent call last)" in ran.err
    assert "error: Unexpected ZeroDivisionError" in ran.err


def test_module_runs_as_the_command_does(tiny_bundle):
    ran = subprocess.run(
        [sys.executable, "-m", "vae_edge", "inspect", str(tiny_bundle), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 0
    assert json.loads(ran.stdout)["model"]["name"] == "tiny"


def test_main_and_app_are_the_packages_command_line():
    assert callable(app.main)
