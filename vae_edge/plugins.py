"""Formats that other installed packages add, found by their entry points."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vae_edge.errors import RuntimeMissingError

__all__ = ["EXPORTERS_GROUP", "RUNNERS_GROUP", "load_plugin", "plugin_formats"]

EXPORTERS_GROUP = "vae_edge.exporters"
RUNNERS_GROUP = "vae_edge.runners"
# It is a file's suffix, and stands in names and reports.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@cache
def _found() -> dict[str, dict[str, EntryPoint]]:
    return {
        group: {each.name: each for each in entry_points(group=group) if _NAME.fullmatch(each.name)}
        for group in (EXPORTERS_GROUP, RUNNERS_GROUP)
    }


def plugin_formats() -> frozenset[str]:
    """Give the names of formats that installed packages can export to, or run."""
    return frozenset(name for group in _found().values() for name in group)


def load_plugin(group: str, name: str) -> Any:
    """Load what a package adds under a format's name.

    Args:
        group: `EXPORTERS_GROUP` or `RUNNERS_GROUP`.
        name: of the format.

    Raises:
        RuntimeMissingError: no installed package adds it, or the one that does cannot be imported.
    """
    entry = _found()[group].get(name)
    if entry is None:
        raise RuntimeMissingError(
            f"no installed package adds the format '{name}' to {group}. Install the one that does."
        )
    try:
        return entry.load()
    except Exception as error:  # a package of somebody else's, and its imports
        package = entry.dist.name if entry.dist else entry.value
        raise RuntimeMissingError(
            f"the format '{name}' is added by {package}, which cannot be imported: "
            f"{type(error).__name__}: {error}. Install it again, or what it needs."
        ) from error
