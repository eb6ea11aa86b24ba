"""`vae-edge doctor`: what is here, what is missing, and the command that fixes it."""

from __future__ import annotations

import json

import typer

from vae_edge.cli.console import results
from vae_edge.cli.options import Json

__all__ = ["doctor"]

EXIT_NO_RUNTIME = 2


def doctor(as_json: Json = False) -> None:
    """Look at Python, the processor, the runtimes and the host packages, and say what to type.

    Exits with 2 where no bundle can be run at all; one of the two runtimes is enough.

    Example: `vae-edge doctor`
    """
    from vae_edge.cli.tables import new_table
    from vae_edge.codec import encode
    from vae_edge.doctor import examine, is_fit

    findings = examine()
    if as_json:
        typer.echo(json.dumps([encode(finding) for finding in findings]))
    else:
        table = new_table("vae-edge doctor", "what", "status", "detail", "needed for", right_from=9)
        table.columns[2].no_wrap = table.columns[3].no_wrap = False
        for finding in findings:
            table.add_row(finding.what, str(finding.status), finding.detail, finding.needed_for)
        out = results()
        out.print(table)
        remedies = [f for f in findings if f.remedy]
        for finding in remedies:
            out.print(f"{finding.what}: {finding.remedy}", markup=False, soft_wrap=True)
        if not remedies:
            out.print("Nothing is missing.")
    if not is_fit(findings):
        raise typer.Exit(EXIT_NO_RUNTIME)
