from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.reference import choose_reference, reference_record
from vae_edge.bundle import Bundle
from vae_edge.errors import ModelError, RuntimeMissingError
from vae_edge.manifest import ArtifactRecord

MakeRecord = Callable[..., ArtifactRecord]
MakeBundle = Callable[..., Bundle]
MODEL = b"a model"
MODEL_SHA256 = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "shipped.keras"
    path.write_bytes(MODEL)
    monkeypatch.setattr("benchmarks.reference.shipped_model_path", lambda: path)
    return path


@pytest.fixture
def bundle(make_bundle: MakeBundle, make_record: MakeRecord) -> Bundle:
    return make_bundle(make_record("encoder", "onnx", "float32"), source_sha256=MODEL_SHA256)


@pytest.fixture
def foreign(make_bundle: MakeBundle, make_record: MakeRecord) -> Bundle:
    return make_bundle(make_record("encoder", "onnx", "float32"))


def test_the_shipped_model_where_the_bundle_came_from_it(bundle: Bundle, shipped: Path) -> None:
    choice = choose_reference(bundle, None, lambda: True)
    assert (choice.path, choice.warning) == (shipped, None)
    assert "ships with vae-edge" in choice.note


@pytest.mark.usefixtures("shipped")
def test_no_reference_without_tensorflow(bundle: Bundle) -> None:
    choice = choose_reference(bundle, None, lambda: False)
    assert (choice.path, choice.note) == (None, "TensorFlow is not installed")


@pytest.mark.usefixtures("shipped")
def test_no_reference_for_another_model_unless_given(foreign: Bundle) -> None:
    choice = choose_reference(foreign, None, lambda: True)
    assert (choice.path, choice.note) == (None, "no --reference MODEL given")


def test_an_installation_without_the_shipped_model(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise ModelError("not there")

    monkeypatch.setattr("benchmarks.reference.shipped_model_path", missing)
    assert choose_reference(bundle, None, lambda: True).path is None


def test_the_model_that_was_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    path.write_bytes(MODEL)
    choice = choose_reference(bundle, path, lambda: True)
    assert (choice.path, choice.note, choice.warning) == (path, str(path), None)


def test_another_model_than_the_bundles_is_warned_of(foreign: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    path.write_bytes(MODEL)
    choice = choose_reference(foreign, path, lambda: True)
    assert choice.path == path
    assert choice.warning is not None
    assert MODEL_SHA256[:12] in choice.warning
    assert "b" * 12 in choice.warning


def test_a_model_that_is_not_there(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.keras: no such model"):
        choose_reference(bundle, tmp_path / "nowhere.keras", lambda: True)


def test_asking_for_a_model_needs_tensorflow(bundle: Bundle, shipped: Path) -> None:
    with pytest.raises(RuntimeMissingError, match=r"pip install 'vae-edge\[host\]'"):
        choose_reference(bundle, shipped, lambda: False)


def test_the_record_of_a_reference(bundle: Bundle, foreign: Bundle, shipped: Path) -> None:
    record = reference_record(bundle, shipped, "note")
    assert (record.measured, record.sha256, record.matches_bundle) == (True, MODEL_SHA256, True)
    assert reference_record(foreign, shipped, "note").matches_bundle is False
    none = reference_record(bundle, None, "why")
    assert (none.measured, none.note, none.sha256, none.matches_bundle) == (
        False,
        "why",
        None,
        None,
    )
