"""Assembles the commands, and turns every error into one paragraph and an exit code.

Exit codes: 0 done or passed, 1 a check failed (parity, speed), 2 could not run, 130 interrupted.
Command modules import typer and the shared terms only; what a command needs it imports in its body,
so that `--help` is quick and a device never meets a host package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vae_edge.cli import (
    benchmark,
    compare,
    decode,
    doctor,
    encode,
    explain,
    export,
    generate,
    inspect,
    interpolate,
    manifold,
    parity,
    quickstart,
    reconstruct,
    train,
)
from vae_edge.cli.console import drop_unwritable_results, print_error, write_whole_results
from vae_edge.errors import VaeEdgeError

__all__ = ["app", "main"]

EXIT_COULD_NOT_RUN = 2

app = typer.Typer(
    name="vae-edge",
    help="Export a Keras VAE to a small device, prove the export, and measure it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    quickstart.quickstart,
    train.train,
    export.export,
    parity.parity,
    explain.explain,
    benchmark.benchmark,
    compare.compare,
    inspect.inspect,
    generate.generate,
    reconstruct.reconstruct,
    encode.encode,
    decode.decode,
    interpolate.interpolate,
    manifold.manifold,
    doctor.doctor,
):
    app.command(no_args_is_help=False)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from vae_edge._version import __version__

        typer.echo(f"vae-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Export a Keras VAE to a small device, prove the export, and measure it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Args:
        argv: arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    write_whole_results()
    try:
        app(args=arguments)
    except VaeEdgeError as error:
        print_error(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print_error(
            f"{where}{error.strerror or error}. Check that the path exists, is writable and has "
            "space left, then run the command again."
        )
    except Exception as error:  # noqa: BLE001  the last stop before the user's screen
        if "--verbose" in arguments or os.environ.get("VAE_EDGE_DEBUG"):
            import traceback

            traceback.print_exc()
        text = " ".join(str(error).split())[:400]
        print_error(
            f"Unexpected {type(error).__name__}: {text or 'no message'}. This is a fault of "
            "vae-edge or of a library below it: run the same command with --verbose (or with "
            "VAE_EDGE_DEBUG=1 in the environment) and report what it prints."
        )
    drop_unwritable_results()
    sys.exit(EXIT_COULD_NOT_RUN)
