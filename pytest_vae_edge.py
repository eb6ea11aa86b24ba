"""The pytest plugin of vae-edge: options for `pytest --pyargs vae_edge.parity_suite`.

pytest imports this in every project of an environment that vae-edge is installed in. It stands
outside the package because importing that imports numpy, and it does nothing unless the suite is
among the arguments.

`--vae-edge-bundle` and the like are always there. The short `--bundle` is a name that others may
want: it is added only for the suite, and only if it is still free once every other plugin and
conftest.py had its turn.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Generator, Iterable
from typing import Any

import pytest

_SUITE = "parity_suite"
# Name that is always there, short name, and what argparse is told.
_OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "--vae-edge-bundle",
        "--bundle",
        {
            "dest": "vae_edge_bundle",
            "action": "append",
            "metavar": "DIR",
            "help": "bundle for vae_edge.parity_suite; repeatable (short: --bundle)",
        },
    ),
    (
        "--vae-edge-tolerances",
        "--parity-tolerances",
        {
            "dest": "vae_edge_tolerances",
            "metavar": "FILE",
            "help": "TOML file with limits that replace the built-in ones "
            "(short: --parity-tolerances)",
        },
    ),
    (
        "--vae-edge-reference",
        "--parity-reference",
        {
            "dest": "vae_edge_reference",
            "metavar": "MODEL",
            "help": "compare with this .keras model, run now, instead of the golden vectors "
            "(short: --parity-reference)",
        },
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the names that nobody else has."""
    group = parser.getgroup("vae-edge", "vae-edge parity suite")
    for name, _, attributes in _OPTIONS:
        group.addoption(name, **attributes)


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, Any, None]:
    """Add the short names as the last one, and keep pytest from taking bundles for tests."""
    asked = _asked(args)
    free = [option for option in _OPTIONS if asked and _is_free(parser, option[1])]
    if free:
        # The names are unknown so far, so that `--bundle DIR` looks like a directory of tests,
        # whose conftest.py would be run: a bundle is data, perhaps somebody else's.
        known = early_config.known_args_namespace
        values = {
            value
            for name, value in itertools.pairwise(args)
            if name in [short for _, short, _ in free]
        }
        known.file_or_dir = [each for each in known.file_or_dir if each not in values]
    yield
    group = parser.getgroup("vae-edge", "vae-edge parity suite")
    added = [option for option in free if _is_free(parser, option[1])]
    for _, short, attributes in added:
        group.addoption(short, **attributes)
    early_config.option.vae_edge_short = [short for _, short, _ in added]


def pytest_configure(config: pytest.Config) -> None:
    """Bring the suite in where it is among the arguments."""
    if not _asked(config.args):
        return
    from vae_edge.parity_suite.suite import ParityOptions, ParitySuite

    bundles = tuple(config.getoption("vae_edge_bundle") or ())
    options = ParityOptions(
        bundles=bundles,
        option=_bundle_option(config),
        tolerances=config.getoption("vae_edge_tolerances"),
        model=config.getoption("vae_edge_reference"),
        directory=config.invocation_params.dir,
    )
    for given in bundles:
        if config.rootpath == options.path(given).resolve():
            raise pytest.UsageError(
                f"pytest takes the bundle {given} for its root directory, and would write into it. "
                f"Write {options.option}={given}, in one word, or add --rootdir=DIR."
            )
    config.pluginmanager.register(ParitySuite(options), "vae_edge_parity_suite")


def _asked(args: Iterable[object]) -> bool:
    return any(_SUITE in str(each) for each in args)


def _bundle_option(config: pytest.Config) -> str:
    """Give the name that a bundle goes by here, for messages."""
    name, short, _ = _OPTIONS[0]
    return short if short in config.getoption("vae_edge_short", ()) else name


def _is_free(parser: pytest.Parser, name: str) -> bool:
    """Whether no plugin has this option: then pytest does not know it."""
    try:
        _, unknown = parser.parse_known_and_unknown_args([f"{name}=value"])
    except (argparse.ArgumentError, pytest.UsageError, SystemExit):
        return False
    return any(each.startswith(name) for each in unknown)
