"""The bundle that a device is proven with: the user's, quickstart's, or a fresh export."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.device_machine import CHECKOUT, run
from vae_edge.bundle import Bundle, sha256_of
from vae_edge.bundle_writer import BundleWriter
from vae_edge.errors import BundleError, ExportError
from vae_edge.golden import GoldenVectors

__all__ = ["choose_bundle", "thinned"]

_TIMEOUT_S = 3600.0
QUICKSTART = CHECKOUT / "build" / "mnist-vae"


def choose_bundle(named: Path | None, work: Path, quickstart: Path = QUICKSTART) -> Bundle:
    """Open the bundle that was named, or else quickstart's, or export the shipped model.

    Raises:
        BundleError: the one that was named is none.
        ExportError: the shipped model cannot be exported.
    """
    if named is not None:
        return Bundle.open(named)
    try:
        return Bundle.open(quickstart)
    except BundleError:
        # None is there, or one of an earlier version.
        return _exported(work / "bundle")


def thinned(bundle: Bundle, images: int, destination: Path) -> Bundle:
    """Give the bundle with its first golden images alone, as many samples of the prior at most.

    An emulated inference takes tens of milliseconds, and parity runs every vector a dozen times.

    Args:
        bundle: whole.
        images: how many images to keep; where it has no more, it is given back as it is.
        destination: directory for the smaller one.
    """
    record = bundle.manifest.golden
    if record.images <= images:
        return bundle
    golden = GoldenVectors.from_bytes(bundle.read(record), record.file)
    everything, sampled = len(golden.image), len(golden.epsilon)
    kept = min((images + 1) // 2, sampled)
    prior = everything + sampled
    rows = np.r_[0:images, everything : everything + kept, prior : len(golden.z)]
    rows = rows[: images + kept + max(1, min(images, len(golden.z) - prior))]
    smaller = replace(
        golden,
        image=golden.image[:images],
        labels=golden.labels[:images],
        z_mean=golden.z_mean[:images],
        z_log_var=golden.z_log_var[:images],
        epsilon=golden.epsilon[:kept],
        z=golden.z[rows],
        reconstruction=golden.reconstruction[rows],
    )
    content = smaller.to_bytes()
    manifest = replace(
        bundle.manifest,
        golden=replace(
            record,
            size_bytes=len(content),
            sha256=sha256_of(content),
            images=images,
            latents=len(rows),
        ),
    )
    with BundleWriter(destination) as writer:
        for artifact in manifest.artifacts:
            writer.add(artifact.file, bundle.read(artifact))
        writer.add(record.file, content)
        writer.stage(manifest)
        return writer.publish()


def _exported(destination: Path) -> Bundle:
    command = (sys.executable, "-m", "vae_edge", "export", "--no-benchmark")
    formats = ("--format", "tflite", "--format", "onnx")
    precisions = [f"--precision={name}" for name in ("float32", "float16", "dynamic", "int8")]
    done = run(
        [*command, *formats, *precisions, "--out", str(destination)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        cwd=destination.parent,
        timeout_s=_TIMEOUT_S,
    )
    if done.code != 0:
        raise ExportError(
            f"the shipped model cannot be exported: {done.last_words()} Name a bundle instead."
        )
    return Bundle.open(destination)
