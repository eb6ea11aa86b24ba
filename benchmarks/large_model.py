"""A VAE of 20 million parameters through an export, and the memory and time that it takes.

    python -m benchmarks.large_model                      # every format, the default precisions
    python -m benchmarks.large_model --precision int8

The export runs as the command that a user types, in a process of its own. Its weights are random:
what is measured is the working set, not the quality.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

__all__ = ["build", "main"]

_LATENTS = 512
_SIDE = 64
_MEBIBYTE = 1 << 20


def build() -> Any:
    """Build the model: convolutions, a dense layer of 8 * 8 * 448, 64x64x3 images."""
    keras: Any = importlib.import_module("keras")
    vae: Any = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((_SIDE, _SIDE, 3))
    x = image
    for filters in (32, 64, 128):
        x = vae.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = vae.Dense(512, activation="relu")(vae.Flatten()(x))
    heads = {name: vae.Dense(_LATENTS, name=name)(x) for name in ("z_mean", "z_log_var")}
    encoder = keras.Model(image, heads, name="encoder")
    z = keras.Input((_LATENTS,))
    y = vae.Reshape((8, 8, 448))(vae.Dense(8 * 8 * 448, activation="relu")(z))
    for filters in (192, 96, 48):
        y = vae.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(y)
    y = vae.Conv2D(3, 3, padding="same", activation="sigmoid")(y)
    decoder = keras.Model(z, y, name="decoder")
    return keras.Model(image, decoder(encoder(image)["z_mean"]), name="large")


def _save(path: Path) -> int:
    """Save the model in a process of its own, so that its memory is not counted; parameters."""
    code = (
        "from benchmarks.large_model import build; "
        f"model = build(); model.save({str(path)!r}); print(model.count_params())"
    )
    done = subprocess.run(  # noqa: S603  our own interpreter and code
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        check=True,
    )
    return int(done.stdout.split()[-1])


def main(arguments: list[str] | None = None) -> int:
    """Export the model and print what it took."""
    parser = ArgumentParser(prog="python -m benchmarks.large_model", description=__doc__)
    parser.add_argument("--precision", action="append", default=[])
    parser.add_argument("--format", action="append", default=[])
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vae-edge-large-") as directory:
        model = Path(directory) / "large.keras"
        count = _save(model)
        command = [sys.executable, "-m", "vae_edge", "export", str(model)]
        command += ["--out", str(Path(directory) / "bundle"), "--calibration", "samples"]
        command += ["--no-benchmark", "--keep-failing"]
        command += [f"--precision={each}" for each in asked.precision]
        command += [f"--format={each}" for each in asked.format]
        start = time.perf_counter()
        process = subprocess.Popen(command)  # noqa: S603  our own interpreter and options
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    peak = usage.ru_maxrss * 1024 / _MEBIBYTE
    sys.stdout.write(
        f"parameters   {count / 1e6:.1f} million\n"
        f"exit code    {os.waitstatus_to_exitcode(status)}\n"
        f"time         {seconds:.0f} s; {usage.ru_utime + usage.ru_stime:.0f} s of all cores\n"
        f"peak memory  {peak:.0f} MiB\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
