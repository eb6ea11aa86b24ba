"""Opening a bundle, and believing nothing in it that the manifest does not vouch for."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vae_edge.errors import BundleError, LoadingError
from vae_edge.manifest import (
    MANIFEST_NAME,
    ArtifactRecord,
    GoldenRecord,
    Manifest,
    RuntimeRequirement,
    read_manifest,
)
from vae_edge.runners.base import Runner
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Component, Format, Precision

__all__ = ["Bundle", "manifest_of", "sha256_of"]

# A real manifest has some 20 KB. A device with little memory must not be made to parse a large one.
_MAX_MANIFEST_BYTES = 1 << 20
_COPY_AGAIN = "Copy or export the bundle again."


def sha256_of(content: bytes | Path) -> str:
    """Give the SHA-256 of bytes or of a file's content, as 64 lower-case hexadecimal digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A directory of artifacts whose sizes and hashes were found to be as its manifest says."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read and verify a bundle.

        Raises:
            BundleError: no bundle there, a manifest that is not valid, or a file that is missing,
                a symbolic link, or differs in size or SHA-256.
        """
        path = Path(path)
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise BundleError(
                f"{path}: {what}; expected a bundle directory. "
                "Make one with: vae-edge export --format tflite --out DIR."
            )
        bundle = cls(path=path, manifest=manifest_of(path))
        for record in bundle.manifest.artifacts:
            bundle.read(record)
        bundle.read(bundle.manifest.golden)
        return bundle

    def read(self, record: ArtifactRecord | GoldenRecord) -> bytes:
        """Give a file's content after comparing its size and hash with the manifest.

        Raises:
            BundleError: it is missing, a symbolic link, or differs from the manifest.
        """
        path = self.path / record.file
        content = _read(path, record.size_bytes)
        if len(content) != record.size_bytes:
            raise BundleError(
                f"{path}: has {len(content):,} bytes; the manifest says {record.size_bytes:,}. "
                f"{_COPY_AGAIN}"
            )
        if sha256_of(content) != record.sha256:
            raise BundleError(f"{path}: sha256 differs from the manifest. {_COPY_AGAIN}")
        return content

    def find(
        self,
        component: Component,
        format: Format,
        precision: Precision,
    ) -> ArtifactRecord:
        """Give the record of one artifact.

        Raises:
            BundleError: the bundle does not hold it; the message lists what it holds.
        """
        for record in self.manifest.artifacts:
            if (record.component, record.format, record.precision) == (
                component,
                format,
                precision,
            ):
                return record
        held = ", ".join(record.label for record in self.manifest.artifacts)
        raise BundleError(
            f"{self.path}: holds no {component} {precision} {format}. It holds: {held}. "
            "Choose one of those, or export the bundle with the one you need."
        )

    def select(
        self,
        *,
        components: tuple[Component, ...] = tuple(Component),
        formats: tuple[Format, ...] | None = None,
        precisions: tuple[Precision, ...] = tuple(Precision),
    ) -> Iterator[ArtifactRecord]:
        """Give the records that match, in the manifest's order; by default of all formats."""
        for record in self.manifest.artifacts:
            if (
                record.component in components
                and (formats is None or record.format in formats)
                and record.precision in precisions
            ):
                yield record

    def open_runner(self, record: ArtifactRecord, threads: int = 1) -> Runner:
        """Load an artifact and compare its boundary with the manifest.

        Raises:
            BundleError: the file, or its inputs and outputs, differ from the manifest.
            LoadingError: the runtime cannot load it; names the oldest one that should.
            ArtifactError: it does not look like an artifact of vae-edge.
            RuntimeMissingError: no runtime for its format is installed.
        """
        content = self.read(record)
        try:
            runner = open_artifact_bytes(content, record.format, name=record.file, threads=threads)
        except LoadingError as error:
            raise LoadingError(f"{error} {_oldest(record.oldest_runtime)}".strip()) from error
        if _boundary(runner.inputs) != _boundary(record.inputs) or _boundary(
            runner.outputs
        ) != _boundary(record.outputs):
            runner.close()
            raise BundleError(
                f"{self.path / record.file}: its inputs or outputs are not those in the manifest. "
                f"{_COPY_AGAIN}"
            )
        return runner


def manifest_of(directory: Path) -> Manifest:
    """Read a bundle's manifest without looking at the files that it names.

    Raises:
        BundleError: there is none, or it is not valid.
    """
    path = directory / MANIFEST_NAME
    if not path.exists() and not path.is_symlink():
        raise BundleError(
            f"{directory}: has no {MANIFEST_NAME}, so it is not a bundle. "
            "Make one with: vae-edge export --format tflite --out DIR."
        )
    try:
        text = _read(path, _MAX_MANIFEST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: is not UTF-8 text. {_COPY_AGAIN}") from error
    return read_manifest(text, str(path))


def _oldest(runtime: RuntimeRequirement) -> str:
    """Say which runtime an artifact needs, as far as its manifest does."""
    if runtime.version == "unknown":
        return ""
    from vae_edge.installing import install_command, obtainable
    from vae_edge.machine import this_machine

    machine, name, others = this_machine(imports=False), runtime.name, ""
    # What the last tflite-runtime can run, every LiteRT can, and only LiteRT is still released.
    if name == "tflite-runtime":
        others = ", or any ai-edge-litert"
        name = "ai-edge-litert" if obtainable(machine, "ai-edge-litert") else name
    remedy = install_command(machine, obtainable(machine, name) or name, upgrade=True)
    return f"By the manifest it needs {runtime.name} {runtime.version} or newer{others}: {remedy}."


def _boundary(specs: tuple[object, ...]) -> list[str]:
    return sorted(str(spec) for spec in specs)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise BundleError(
                f"{path}: is a symbolic link; a bundle holds plain files only. {_COPY_AGAIN}"
            )
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: is not a plain file. {_COPY_AGAIN}")
        if status.st_size > max_bytes:
            raise BundleError(
                f"{path}: has {status.st_size:,} bytes; expected at most {max_bytes:,}. "
                f"{_COPY_AGAIN}"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path}: is missing. {_COPY_AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}.") from error
