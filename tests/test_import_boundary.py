"""What runs on a device imports nothing that only a host has."""

from __future__ import annotations

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
import vae_edge

ROOT = Path(vae_edge.__file__).parents[1]
HOST_PACKAGES = ("tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "matplotlib")
RUNTIMES = ("ai_edge_litert", "tflite_runtime", "onnxruntime")
COMMANDS = (
    "quickstart",
    "train",
    "export",
    "parity",
    "explain",
    "benchmark",
    "compare",
    "inspect",
    "generate",
    "reconstruct",
    "encode",
    "decode",
    "interpolate",
    "manifold",
    "doctor",
)

# Runs first in the child: what is blocked cannot be imported, and asking for it is an error.
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked here")

def loaded():
    return sorted(name for name in sys.modules if name.split(".")[0] in BLOCKED)

sys.meta_path.insert(0, Block())
"""


def run(body: str, *arguments: object, blocked: tuple[str, ...] = HOST_PACKAGES):
    """Run Python in a process of its own; gives what it printed as JSON on its last line."""
    script = f"BLOCKED = {blocked!r}\n{BLOCK}\nsys.path.insert(0, {str(ROOT)!r})\n{body}"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def modules_of(package) -> list[str]:
    return [
        name
        for _, name, _ in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not name.startswith("vae_edge.training.") and not name.endswith("__main__")
    ]


def test_the_block_blocks():
    """Else nothing below could fail."""
    body = """
import json
try:
    import onnx
except ImportError as error:
    print(json.dumps(str(error)))
"""
    assert run(body) == "onnx is blocked here"


def test_a_blocked_module_would_be_reported():
    body = """
import json, types
sys.modules["keras.layers"] = types.ModuleType("keras.layers")
print(json.dumps(loaded()))
"""
    assert run(body) == ["keras.layers"]


def test_every_module_of_vae_edge_and_benchmarks_can_be_imported():
    modules = [*modules_of(vae_edge), *modules_of(benchmarks)]
    assert {"vae_edge.parity", "vae_edge.cli.export", "vae_edge.runners.litert"} <= set(modules)
    body = """
import importlib, json
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(loaded()))
"""
    assert run(body, *modules, blocked=(*HOST_PACKAGES, "exporters")) == []


def test_importing_vae_edge_imports_no_runtime_either():
    body = """
import json
import vae_edge, vae_edge.parity, vae_edge.runners, vae_edge.doctor
print(json.dumps(loaded()))
"""
    assert run(body, blocked=HOST_PACKAGES + RUNTIMES) == []


def test_help_of_every_command_needs_neither_host_packages_nor_runtimes():
    body = """
import contextlib, io, json
from vae_edge.cli import main
codes = []
for command in ([], *([name] for name in sys.argv[1:])):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main([*command, "--help"])
        except SystemExit as left:
            codes.append((left.code, "Usage" in out.getvalue()))
print(json.dumps({"codes": codes, "loaded": loaded()}))
"""
    result = run(body, *COMMANDS, blocked=HOST_PACKAGES + RUNTIMES)

    assert result["loaded"] == []
    assert result["codes"] == [[0, True]] * (len(COMMANDS) + 1)


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_bundle_is_opened_run_and_checked_without_host_packages(make_tiny_bundle, format):
    bundle = make_tiny_bundle((f"encoder.float32.{format}", f"decoder.float32.{format}"))
    body = """
import json
import numpy as np
from vae_edge import EdgeVAE
from vae_edge.bundle import Bundle
from vae_edge.parity import check_parity, golden_reference

bundle = Bundle.open(sys.argv[1])
with EdgeVAE.open(sys.argv[1], threads=1) as vae:
    images = vae.generate(5, seed=0)
    posterior = vae.encode(images)
    z = vae.sample(posterior, seed=0)
    shapes = [images.shape, z.shape, vae.decode(z).shape, vae.reconstruct(images).shape]
report = check_parity(bundle, golden_reference(bundle))
print(json.dumps({"shapes": shapes, "passed": report.passed, "loaded": loaded()}))
"""
    result = run(body, bundle)

    assert result == {
        "shapes": [[5, 4, 4, 1], [5, 2], [5, 4, 4, 1], [5, 4, 4, 1]],
        "passed": True,
        "loaded": [],
    }


@pytest.mark.parametrize(
    ("format", "other"), [("onnx", ("ai_edge_litert", "tflite_runtime")), ("tflite", RUNTIMES[2:])]
)
def test_one_runtime_is_enough(make_tiny_bundle, format, other):
    files = [
        f"{half}.float32.{each}" for each in ("tflite", "onnx") for half in ("encoder", "decoder")
    ]
    body = """
import json
from vae_edge import EdgeVAE
with EdgeVAE.open(sys.argv[1]) as vae:
    vae.generate(1)
    print(json.dumps([vae.decoder.name, loaded()]))
"""
    result = run(body, make_tiny_bundle(files), blocked=HOST_PACKAGES + other)

    assert result == [f"decoder.float32.{format}", []]


def test_commands_of_the_device_run_without_host_packages(tiny_bundle, tmp_path):
    body = """
import contextlib, io, json, os
from vae_edge.cli import main
bundle, work = sys.argv[1:]
os.chdir(work)
codes = {}
for line in (
    ["inspect", bundle],
    ["inspect", bundle + "/decoder.float32.onnx"],
    ["parity", bundle],
    ["generate", bundle, "--out", "a.npy"],
    ["reconstruct", bundle, "a.npy"],
    ["encode", bundle, "a.npy"],
    ["decode", bundle, "latents.npz"],
    ["manifold", bundle],
    ["generate", bundle, "--out", "b", "-n", "2"],
    ["interpolate", bundle, "b/00000.png", "b/00001.png"],
    ["doctor"],
):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main(line)
        except SystemExit as left:
            codes[" ".join(line[:1])] = left.code
print(json.dumps({"codes": codes, "loaded": loaded()}))
"""
    result = run(body, tiny_bundle, tmp_path)

    assert result["loaded"] == []
    assert result["codes"] == dict.fromkeys(
        (
            "inspect",
            "parity",
            "generate",
            "reconstruct",
            "encode",
            "decode",
            "manifold",
            "interpolate",
            "doctor",
        ),
        0,
    )


def test_every_package_is_in_the_wheel():
    """Tests run from the checkout, where a package that is not listed is found all the same."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = \[(\"vae_edge\".*?\"benchmarks\")\]$", text, re.MULTILINE)
    there = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("vae_edge", "exporters", "benchmarks")
        for file in (ROOT / top).rglob("__init__.py")
    }

    assert listed is not None
    assert {name.strip(' "') for name in listed[1].split(",")} == there
