"""What is read of the machine that the tests run on, and imports that end their process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from vae_edge import machine as looked_at
from vae_edge.machine import this_machine


def fake_package(folder, name, code):
    """Make a distribution that is installed, with a module of this code."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1", None),
        ("raise ImportError('libgomp.so.1: no')", "ImportError: libgomp.so.1: no"),
        ("import os; os.kill(os.getpid(), 4)", "importing it ended the process (SIGILL)"),
        ("import os; os._exit(3)", "importing it ended with 3"),
    ],
)
def test_import_that_ends_the_process_is_a_finding(tmp_path, monkeypatch, code, reason):
    fake_package(tmp_path, "fragile", code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(looked_at, "DEVICE_PACKAGES", {"fragile": "fragile", "absent": "absent"})

    machine = this_machine()

    assert machine.installed["fragile"] == "9.9"
    assert machine.failures == ({} if reason is None else {"fragile": reason})


def test_nothing_of_what_is_looked_up_is_imported():
    code = """
import json, sys
from vae_edge.doctor import examine
examine()
names = ("tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "numpy")
print(json.dumps([name for name in names if name in sys.modules]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert set(json.loads(ran.stdout)) <= {"numpy"}


def test_facts_are_those_of_this_interpreter():
    machine = this_machine(imports=False)

    assert machine.python == sys.version_info[:3]
    assert machine.architecture == platform.machine()
    assert machine.bits == (64 if sys.maxsize > 2**32 else 32)
    assert machine.installed["numpy"] == version("numpy")
    assert machine.failures == {}
    assert machine.executable == sys.executable
    assert machine.in_environment == (sys.prefix != sys.base_prefix)


@pytest.mark.parametrize(
    ("variable", "file", "expected"),
    [
        (None, None, "tensorflow"),
        ("jax", '{"backend": "torch"}', "jax"),
        (None, '{"backend": "torch"}', "torch"),
        (None, "{", "tensorflow"),
        (None, "[]", "tensorflow"),
    ],
)
def test_keras_backend_is_found_as_keras_finds_it(tmp_path, monkeypatch, variable, file, expected):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if variable:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if file:
        (tmp_path / "keras.json").write_text(file)

    machine = this_machine(imports=False)

    assert machine.keras_backend == expected
    chosen_by = "KERAS_BACKEND" if variable else str(tmp_path / "keras.json")
    assert machine.keras_backend_from == (None if expected == "tensorflow" else chosen_by)


def test_home_that_cannot_be_found_is_no_error(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)

    assert this_machine(imports=False).keras_backend == "tensorflow"
