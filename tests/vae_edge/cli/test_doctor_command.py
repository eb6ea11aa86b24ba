from __future__ import annotations

import json

import pytest

from vae_edge import doctor
from vae_edge.doctor import Finding, Status


def finding(what, status, needed_for, remedy=None):
    return Finding(
        what=what, status=status, detail=f"{what} detail", needed_for=needed_for, remedy=remedy
    )


@pytest.fixture
def findings(monkeypatch):
    """Set what the doctor finds: the status of numpy and of the two runtimes."""

    def found(numpy, litert, onnxruntime):
        monkeypatch.setattr(
            doctor,
            "examine",
            lambda: [
                finding("numpy", numpy, "everything"),
                finding("ai-edge-litert", litert, "running .tflite artifacts", "pip install a[b]"),
                finding("onnxruntime", onnxruntime, "running .onnx artifacts"),
                finding("host packages", Status.OPTIONAL, "train", "pip install 'vae-edge[host]'"),
            ],
        )

    return found


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ((Status.OK, Status.OK, Status.OK), 0),
        ((Status.OK, Status.MISSING, Status.OK), 0),
        ((Status.OK, Status.OPTIONAL, Status.MISSING), 0),
        ((Status.OK, Status.BROKEN, Status.OK), 0),
        ((Status.OK, Status.MISSING, Status.MISSING), 2),
        ((Status.OK, Status.BROKEN, Status.MISSING), 2),
        ((Status.BROKEN, Status.OK, Status.OK), 2),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_exit_code_says_whether_any_bundle_can_run(run_cli, findings, statuses, code, options):
    findings(*statuses)

    assert run_cli("doctor", *options).code == code


def test_remedies_are_printed_word_for_word(run_cli, findings):
    findings(Status.OK, Status.MISSING, Status.OK)

    out = run_cli("doctor").out

    assert "ai-edge-litert: pip install a[b]\n" in out
    assert "host packages: pip install 'vae-edge[host]'\n" in out
    assert "Nothing is missing" not in out


def test_healthy_machine_is_told_so(run_cli, monkeypatch):
    monkeypatch.setattr(
        doctor,
        "examine",
        lambda: [finding("onnxruntime", Status.OK, "running .onnx artifacts")],
    )

    ran = run_cli("doctor")

    assert ran.code == 0
    assert ran.out.endswith("Nothing is missing.\n")


def test_json_lists_every_finding(run_cli, findings):
    findings(Status.OK, Status.MISSING, Status.OK)

    result = json.loads(run_cli("doctor", "--json").out)

    assert result[1] == {
        "what": "ai-edge-litert",
        "status": "missing",
        "detail": "ai-edge-litert detail",
        "needed_for": "running .tflite artifacts",
        "remedy": "pip install a[b]",
    }


def test_this_machine_can_run_bundles(run_cli):
    ran = run_cli("doctor")

    assert ran.code == 0
    for what in ("Python", "processor", "numpy", "onnxruntime", "host packages"):
        assert what in ran.out
