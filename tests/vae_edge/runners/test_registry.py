from __future__ import annotations

import pytest

from vae_edge.errors import ArtifactError
from vae_edge.runners import Runner, open_artifact
from vae_edge.runners.registry import OPENERS, open_artifact_bytes
from vae_edge.terms import Format


def test_every_format_has_an_opener():
    assert set(OPENERS) == set(Format)


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_file_is_opened_by_its_suffix(tmp_path, tiny, format):
    path = tmp_path / f"decoder.{format}"
    path.write_bytes(getattr(tiny, format)("decoder"))

    with open_artifact(str(path)) as runner:
        assert isinstance(runner, Runner)
        assert runner.name == path.name
        assert [spec.name for spec in runner.inputs] == ["z"]


@pytest.mark.parametrize("name", ["model.keras", "model", "model.onnx.gz", ".onnx"])
def test_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")

    with pytest.raises(
        ArtifactError, match=r"not an artifact; expected a file ending in \.tflite, \.onnx"
    ):
        open_artifact(tmp_path / name)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"x\.onnx: cannot be read: No such file"):
        open_artifact(tmp_path / "x.onnx")


def test_directory_is_refused(tmp_path):
    (tmp_path / "x.onnx").mkdir()

    with pytest.raises(ArtifactError, match=r"x\.onnx: cannot be read: Is a directory"):
        open_artifact(tmp_path / "x.onnx")


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(format, threads):
    with pytest.raises(ArtifactError, match=rf"x: threads must be 1 or more; received {threads}\."):
        open_artifact_bytes(b"", format, name="x", threads=threads)
