"""What a command does when its output does not fit: it says so, and the old output is still there.

A limit on the size of files stands for the full disk: up to it a write succeeds, perhaps by half.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vae_edge

resource = pytest.importorskip("resource", reason="limits of a process are POSIX")

ROOT = Path(vae_edge.__file__).parents[1]
OLD = "old"
# Less than any file below has: the header of a .npy alone takes 128 bytes.
LIMIT = 60
COMMANDS = (
    ("generate", "BUNDLE", "--out", "sheet.png"),
    ("generate", "BUNDLE", "--out", "images.npy"),
    ("generate", "BUNDLE", "--out", "new-folder"),
    ("generate", "BUNDLE", "-n", "2", "--out", "folder"),
    ("encode", "BUNDLE", "IMAGES", "--out", "latents.npz"),
    ("encode", "BUNDLE", "IMAGES", "--out", "latents.npy"),
    ("encode", "BUNDLE", "IMAGES", "--out", "latents.csv"),
    ("decode", "BUNDLE", "LATENTS", "--out", "decoded.npy"),
    ("reconstruct", "BUNDLE", "IMAGES", "--out", "copies.npy"),
    ("interpolate", "BUNDLE", "LATENT", "LATENT", "--out", "way.png"),
    ("manifold", "BUNDLE", "--out", "plane.png"),
    ("parity", "BUNDLE", "--junit", "parity.xml"),
)
RUN = """
import contextlib, io, json, resource, sys
limit, *commands = json.loads(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from vae_edge.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
ran = []
for command in commands:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        try:
            main(command)
        except SystemExit as left:
            ran.append((left.code, err.getvalue()))
print(json.dumps(ran))
"""


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_nothing_is_half_written_and_nothing_is_lost(tiny_bundle, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    np.save(given / "images.npy", np.zeros((3, 4, 4), np.uint8))
    np.save(given / "latents.npy", np.zeros((3, 2), np.float32))
    np.save(given / "latent.npy", np.zeros(2, np.float32))
    names = {
        "BUNDLE": str(tiny_bundle),
        "IMAGES": str(given / "images.npy"),
        "LATENTS": str(given / "latents.npy"),
        "LATENT": str(given / "latent.npy"),
    }
    work = tmp_path / "work"
    (work / "folder").mkdir(parents=True)
    (work / "folder" / "00000.png").write_text(OLD)
    for *_, out in COMMANDS:
        if "folder" not in out:
            (work / out).write_text(OLD)
    before = contents(work)
    commands = [[names.get(word, word) for word in command] for command in COMMANDS]

    ran = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([LIMIT, *commands]), str(ROOT)],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    for (*_, out), (code, error) in zip(COMMANDS, results, strict=True):
        said = error.splitlines()[-1]
        assert code == 2, (out, error)
        option = "--junit " if out.endswith(".xml") else ""
        assert said.startswith(f"error: {option}{out}: cannot be written"), said
        assert "File too large" in said
        assert "Traceback" not in error
        assert ".tmp" not in said
    assert contents(work) == before
    assert sorted(path.name for path in work.iterdir()) == sorted(
        out for *_, out in COMMANDS if out != "new-folder"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_result_of_which_half_fits_is_no_success(tiny_bundle, tmp_path, unbuffered):
    """Python without a buffer, as in many containers, takes the half for the whole."""
    limit = 1000

    def lower_the_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    with (tmp_path / "manifest.json").open("wb") as file:
        ran = subprocess.run(
            [sys.executable, "-m", "vae_edge", "inspect", str(tiny_bundle), "--json"],
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lower_the_limit,
            timeout=300,
        )

    assert (tmp_path / "manifest.json").stat().st_size == limit
    assert ran.returncode == 2
    assert "File too large" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
