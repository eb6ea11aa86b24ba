from __future__ import annotations

import importlib
import platform
import struct
import sys
import types
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from vae_edge import doctor
from vae_edge.doctor import Status, examine

HOST = ("tensorflow", "keras", "onnx", "tf2onnx", "scikit-learn", "matplotlib")
EVERYTHING = dict.fromkeys((*HOST, "ai-edge-litert", "onnxruntime"), "1.2.3")


@pytest.fixture
def machine(monkeypatch):
    """Set up a machine; gives the findings on it by what was looked at."""

    def examined(
        installed=EVERYTHING,
        *,
        python=(3, 11),
        bits=64,
        numpy="2.4.0",
        cannot_import=(),
    ):
        def version(package):
            if package not in installed:
                raise PackageNotFoundError(package)
            return installed[package]

        def import_module(name):
            package = {"ai_edge_litert.interpreter": "ai-edge-litert"}.get(name, name)
            if package not in installed or package in cannot_import:
                raise ImportError(f"no {name}")
            return types.SimpleNamespace()

        monkeypatch.setattr(doctor, "version", version)
        monkeypatch.setattr(importlib, "import_module", import_module)
        monkeypatch.setattr(sys, "version_info", (*python, 1))
        monkeypatch.setattr(platform, "python_version", lambda: "{}.{}.1".format(*python))
        monkeypatch.setattr(platform, "machine", lambda: "aarch64" if bits == 64 else "armv7l")
        monkeypatch.setattr(struct, "calcsize", lambda _: bits // 8)
        monkeypatch.setattr(np, "__version__", numpy)
        try:
            return {finding.what: finding for finding in examine()}
        finally:
            monkeypatch.undo()

    return examined


def test_whole_machine_lacks_nothing(machine):
    findings = machine()

    assert {f.status for f in findings.values()} == {Status.OK}
    assert [f.remedy for f in findings.values()] == [None] * 6
    assert list(findings) == [
        "Python",
        "processor",
        "numpy",
        "ai-edge-litert",
        "onnxruntime",
        "host packages",
    ]


def test_details_are_the_versions(machine):
    findings = machine({**EVERYTHING, "onnxruntime": "1.19.2"})

    assert findings["Python"].detail == "3.11.1"
    assert findings["numpy"].detail == "2.4.0"
    assert findings["onnxruntime"].detail == "1.19.2"
    assert findings["host packages"].detail.startswith("tensorflow 1.2.3, keras 1.2.3, ")
    assert findings["processor"].detail.startswith("aarch64, 64-bit Python, ")


@pytest.mark.parametrize(
    ("python", "status"),
    [
        ((3, 9), Status.BROKEN),
        ((3, 10), Status.OK),
        ((3, 13), Status.OK),
        ((3, 14), Status.BROKEN),
    ],
)
def test_python_outside_the_supported_range_is_broken(machine, python, status):
    finding = machine(python=python)["Python"]

    assert finding.status is status
    assert (finding.remedy is None) == (status is Status.OK)


def test_32_bit_system_with_old_python_can_use_tflite_runtime(machine):
    finding = machine(bits=32, python=(3, 11))["processor"]

    assert finding.status is Status.OPTIONAL
    assert "no 32-bit wheels" in finding.detail
    assert "pip install tflite-runtime 'numpy<2'" in finding.remedy


def test_32_bit_system_with_new_python_has_no_runtime(machine):
    finding = machine(bits=32, python=(3, 12))["processor"]

    assert finding.status is Status.BROKEN
    assert "use Python 3.10 or 3.11" in finding.remedy


def test_tflite_runtime_with_numpy_2_is_broken(machine):
    finding = machine({"tflite-runtime": "2.14.0"}, numpy="2.0.0")["numpy"]

    assert finding.status is Status.BROKEN
    assert finding.detail == "2.0.0: tflite-runtime was built for numpy 1"
    assert "pip install 'numpy<2'" in finding.remedy


def test_tflite_runtime_with_numpy_2_does_no_harm_beside_litert(machine):
    finding = machine({**EVERYTHING, "tflite-runtime": "2.14.0"}, numpy="2.0.0")["numpy"]
    assert finding.status is Status.OPTIONAL
    assert "pip uninstall tflite-runtime" in finding.remedy


def test_runtimes_without_a_32_bit_wheel_are_not_recommended_there(machine):
    findings = machine({}, bits=32, python=(3, 11))
    assert "pip install ai-edge-litert" not in findings["ai-edge-litert"].remedy
    assert "pip install tflite-runtime 'numpy<2'" in findings["ai-edge-litert"].remedy
    assert findings["onnxruntime"].remedy == "install a 64-bit system"


def test_tflite_runtime_with_numpy_1_is_well(machine):
    finding = machine({**EVERYTHING, "tflite-runtime": "2.14.0"}, numpy="1.26.4")["numpy"]

    assert finding.status is Status.OK
    assert finding.remedy is None


@pytest.mark.parametrize("package", ["ai-edge-litert", "onnxruntime"])
def test_missing_runtime_comes_with_its_command(machine, package):
    finding = machine({k: v for k, v in EVERYTHING.items() if k != package})[package]

    assert finding.status is Status.MISSING
    assert finding.detail == "not installed"
    assert finding.remedy == f"pip install {package}"
    assert finding.needed_for.startswith("running .")


def test_tflite_runtime_serves_in_the_place_of_litert(machine):
    finding = machine({"tflite-runtime": "2.14.0"}, numpy="1.26.4")["ai-edge-litert"]

    assert finding.status is Status.OPTIONAL
    assert "tflite-runtime 2.14.0 serves instead" in finding.detail


def test_tflite_runtime_does_not_serve_for_onnx(machine):
    finding = machine({"tflite-runtime": "2.14.0"}, numpy="1.26.4")["onnxruntime"]

    assert finding.status is Status.MISSING


def test_runtime_that_is_installed_but_does_not_import_is_broken(machine):
    finding = machine(cannot_import=("onnxruntime",))["onnxruntime"]

    assert finding.status is Status.BROKEN
    assert finding.detail == "1.2.3 cannot be imported: no onnxruntime"
    assert finding.remedy == "pip install --force-reinstall onnxruntime"


def test_missing_host_packages_are_optional(machine):
    finding = machine({"onnxruntime": "1", "ai-edge-litert": "1", "onnx": "1.17"})["host packages"]

    assert finding.status is Status.OPTIONAL
    assert finding.detail == (
        "onnx 1.17; not installed: tensorflow, keras, tf2onnx, scikit-learn, matplotlib"
    )
    assert finding.remedy == "pip install 'vae-edge[host]'"


def test_examining_does_not_import_host_packages(monkeypatch):
    asked = []
    real = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: (asked.append(name), real(name))[1]
    )

    examine()

    assert asked == ["ai_edge_litert.interpreter", "onnxruntime"]
