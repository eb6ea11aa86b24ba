"""Writing a bundle whole or not at all, without losing the one that was there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from vae_edge.bundle import Bundle, manifest_of
from vae_edge.errors import BundleError
from vae_edge.manifest import MANIFEST_NAME, Manifest, write_manifest

__all__ = ["BundleWriter", "check_destination", "check_replacement", "check_reselection"]


class BundleWriter:
    """A bundle under construction, in a temporary directory beside its destination.

    Use as a context manager: `add` files, then `stage` the manifest (the staged directory can be
    opened as a bundle, to verify and to measure it), then `publish`. Leaving the block without
    publishing removes everything that was written and leaves the destination as it was.
    """

    def __init__(self, destination: str | Path) -> None:
        """Take the directory that the bundle shall become; nothing is touched yet."""
        self._destination = Path(destination).absolute()
        self._staging: Path | None = None

    def __enter__(self) -> BundleWriter:
        """Check that the destination can be written, and make the temporary directory.

        Raises:
            BundleError: the destination is not writable, or holds something other than a bundle.
        """
        check_destination(self._destination)
        parent = self._destination.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(parent, self._destination.name)
            self._staging = Path(
                tempfile.mkdtemp(prefix=f".{self._destination.name}.{os.getpid()}.", dir=parent)
            )
        except OSError as error:
            raise _cannot_write(self._destination, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove whatever was not published."""
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _cannot_write(self._destination, error) from error

    @property
    def staging(self) -> Path:
        """Directory that files are being written to."""
        if self._staging is None:
            raise BundleError("the bundle writer is not open; use it in a `with` block.")
        return self._staging

    def add(self, file: str, content: bytes) -> None:
        """Write one file of the bundle.

        Raises:
            BundleError: it cannot be written, e.g. because the disk is full.
        """
        self._write(file, content)

    def drop(self, file: str) -> None:
        """Take back a file that was added; the next staged manifest must not name it."""
        (self.staging / file).unlink()

    def stage(self, manifest: Manifest) -> Bundle:
        """Write the manifest and open the result, verified, where it is staged."""
        self._write(MANIFEST_NAME, write_manifest(manifest).encode())
        return Bundle.open(self.staging)

    def publish(self) -> Bundle:
        """Put the staged bundle in its place and give it.

        An existing bundle is moved aside first and removed last, so that at every moment one of
        the two is whole on disk.

        Raises:
            BundleError: the destination changed meanwhile, or cannot be written.
        """
        staging = self.staging
        Bundle.open(staging)
        check_destination(self._destination)
        aside = staging.with_name(staging.name + ".old")
        try:
            staging.chmod(0o755)
            if self._destination.exists():
                self._destination.rename(aside)
            try:
                staging.rename(self._destination)
            except OSError:
                if aside.exists():
                    aside.rename(self._destination)
                raise
        except OSError as error:
            raise _cannot_write(self._destination, error) from error
        self._staging = None
        shutil.rmtree(aside, ignore_errors=True)
        return Bundle.open(self._destination)

    def _write(self, file: str, content: bytes) -> None:
        path = self.staging / file
        try:
            with path.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _cannot_write(self._destination, error) from error


def check_destination(destination: Path) -> None:
    """Refuse a destination that is not free, an empty directory, or a bundle and nothing else.

    Raises:
        BundleError: what stands there, and what to do.
    """
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise BundleError(
            f"{destination}: is a file or a symbolic link; a bundle is a directory. "
            "Choose another --out."
        )
    try:
        names = {entry.name for entry in destination.iterdir()} if destination.exists() else set()
    except OSError as error:
        raise _cannot_write(destination, error) from error
    if not names:
        _check_writable(destination)
        return
    foreign = names
    if MANIFEST_NAME in names:
        manifest = _existing_manifest(destination)
        foreign = names - {
            MANIFEST_NAME,
            manifest.golden.file,
            *(a.file for a in manifest.artifacts),
        }
    if foreign:
        shown = ", ".join(sorted(foreign)[:3]) + (", ..." if len(foreign) > 3 else "")
        raise BundleError(
            f"{destination}: holds files that are not part of a bundle ({shown}); they would be "
            "lost. Choose another --out, or move them away."
        )
    _check_writable(destination)


def _check_writable(destination: Path) -> None:
    """Try, where a bundle will be staged, whether anything can be written at all.

    Permission bits alone do not tell: the superuser ignores them, some file systems do too.
    """
    parent = destination.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=parent)).rmdir()
    except OSError as error:
        raise _cannot_write(destination, error) from error


def check_replacement(destination: Path, files: set[str], replace: bool) -> None:
    """Refuse to replace a bundle by one that lacks some of its artifacts, unless told to.

    Raises:
        BundleError: which artifacts would be lost, and how to say that this is meant.
    """
    if replace or not (destination / MANIFEST_NAME).exists():
        return
    lost = sorted({a.file for a in _existing_manifest(destination).artifacts} - files)
    if lost:
        raise BundleError(
            f"{destination}: holds a bundle with artifacts that this export does not make "
            f"({', '.join(lost)}); they would be lost. Choose another --out, name those formats "
            "and precisions too, or give --replace."
        )


def check_reselection(destination: Path, replace: bool) -> None:
    """Refuse to replace artifacts that a user asked for by those that will be chosen, unless told.

    Which ones will be left out is not known before they are measured. Where the bundle holds what
    was chosen earlier, it is meant to be chosen anew.

    Raises:
        BundleError: what stands there, and how to say that this is meant.
    """
    if replace or not (destination / MANIFEST_NAME).exists():
        return
    manifest = _existing_manifest(destination)
    if manifest.selection is None:
        raise BundleError(
            f"{destination}: holds a bundle of {len(manifest.artifacts)} artifacts, of which "
            "--precision auto would keep those that it chooses. Choose another --out, or give "
            "--replace."
        )


def _existing_manifest(destination: Path) -> Manifest:
    try:
        return manifest_of(destination)
    except BundleError as error:
        raise BundleError(
            f"{destination}: something stands there that cannot be read as a bundle, so it is left "
            f"alone ({error}) Choose another --out, or remove it yourself."
        ) from error


def _remove_abandoned(parent: Path, name: str) -> None:
    """Remove what exports that were killed left behind; a live process's directory stays."""
    # Exactly what mkdtemp makes above, so that `.NAME.5.PID.RANDOM` of an export to `NAME.5`, or a
    # directory of the user's, is not taken for one. An old bundle moved aside (`.old`) stays too.
    pattern = re.compile(rf"\.{re.escape(name)}\.([1-9][0-9]{{0,8}})\.[a-z0-9_]{{8}}")
    for path in parent.iterdir():
        found = pattern.fullmatch(path.name)
        if found and not _alive(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _cannot_write(destination: Path, error: OSError) -> BundleError:
    remedy = (
        "Free some space, or choose an --out on another disk."
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "Choose an --out that you may write to."
    )
    return BundleError(f"{destination}: cannot be written: {error.strerror}. {remedy}")
