"""Collecting and running the suite. What is collected stands for this file.

These are items of their own and not test functions, so that no project's settings (names of test
files and functions, fixtures for every test) decide whether they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vae_edge.errors import VaeEdgeError
from vae_edge.parity_checks import ParityCheck
from vae_edge.parity_suite.judging import judge_bundle, named

__all__ = ["ParityFile", "ParityItem", "ParityOptions", "ParitySuite"]

_HERE = Path(__file__)


@dataclass(frozen=True, kw_only=True)
class ParityOptions:
    """What the command line asked for.

    Attributes:
        bundles: as typed, in order.
        option: how a bundle is given here, for messages.
        tolerances: TOML file, or None.
        model: Keras model to compare with, or None for the golden vectors.
        directory: what relative paths are relative to.
    """

    bundles: tuple[str, ...]
    option: str
    tolerances: str | None
    model: str | None
    directory: Path

    def path(self, given: str) -> Path:
        """Give the path that was typed."""
        return self.directory / given


class ParitySuite:
    """A plugin for one session: gives this directory's tests, and runs each bundle once."""

    def __init__(self, options: ParityOptions) -> None:
        self._options = options
        self._judged: dict[Path, tuple[ParityCheck, ...] | str] = {}

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        """Collect this file where it or its directory was asked for, and in no other run."""
        asked = parent.session.isinitpath
        if file_path != _HERE or not (asked(_HERE) or asked(_HERE.parent)):
            return None
        collected: pytest.Collector = ParityFile.from_parent(parent, path=file_path, suite=self)
        return collected

    def checks(self) -> Iterator[tuple[str, ParityCheck]]:
        """Give every test's name and what it found.

        Raises:
            CollectError: no bundle was given, or one could not be compared; says which and why.
        """
        options = self._options
        if not options.bundles:
            raise pytest.Collector.CollectError(
                f"vae_edge.parity_suite: no bundle was given. Add {options.option}=DIR; repeat it "
                "for several."
            )
        bundles: dict[Path, str] = {}  # the same one given twice is one
        for given in options.bundles:
            bundles.setdefault(options.path(given).resolve(), given)
        judged: dict[str, tuple[ParityCheck, ...]] = {}
        broken: list[str] = []
        for path, given in bundles.items():
            found = self._judge(path)
            if isinstance(found, str):
                broken.append(f"vae_edge.parity_suite: {found}")
            else:
                judged[given] = found
        if broken:
            raise pytest.Collector.CollectError("\n".join(broken))
        yield from named(judged)

    def _judge(self, path: Path) -> tuple[ParityCheck, ...] | str:
        options = self._options
        if path not in self._judged:
            try:
                self._judged[path] = judge_bundle(
                    path,
                    tolerances=None if not options.tolerances else options.path(options.tolerances),
                    model=None if not options.model else options.path(options.model),
                )
            except VaeEdgeError as error:
                self._judged[path] = str(error)
        return self._judged[path]


class ParityFile(pytest.File):
    """The suite, as a file of tests."""

    def __init__(self, *, suite: ParitySuite, **options: Any) -> None:
        super().__init__(**options)
        self._suite = suite

    def collect(self) -> Iterator[pytest.Item]:
        """Run the bundles, and give one test per check: their names depend on what was judged."""
        for name, check in self._suite.checks():
            yield ParityItem.from_parent(self, name=f"test_parity[{name}]", check=check)


class ParityItem(pytest.Item):
    """One check, already made."""

    def __init__(self, *, check: ParityCheck, **options: Any) -> None:
        super().__init__(**options)
        self._check = check
        self.user_properties.append(("found", check.message))

    def runtest(self) -> None:
        """Fail with what was found where that is not within its limit; skip what did not run."""
        if self._check.skipped:
            pytest.skip(f"{self._check.subject}: {self._check.message}")
        if not self._check.passed:
            pytest.fail(f"{self._check.subject}: {self._check.message}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Say which test this is; it has no line."""
        return self.path, None, self.name
