from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vae_edge.bundle import Bundle, manifest_of, sha256_of
from vae_edge.errors import BundleError, LoadingError
from vae_edge.terms import Component, Format, Precision


def test_sha256_of_bytes_and_of_a_file_agree_with_hashlib(tmp_path):
    content = b"abc" * 1_000_000  # more than one block
    (tmp_path / "file").write_bytes(content)

    expected = hashlib.sha256(content).hexdigest()

    assert sha256_of(content) == sha256_of(tmp_path / "file") == expected
    assert sha256_of(content[:-1]) != expected


def test_open_gives_what_was_written(tiny_bundle):
    bundle = Bundle.open(str(tiny_bundle))

    assert bundle.path == tiny_bundle
    assert bundle.manifest == manifest_of(tiny_bundle)
    assert [a.file for a in bundle.manifest.artifacts] == [
        "encoder.float32.onnx",
        "decoder.float32.onnx",
    ]


def test_open_refuses_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(BundleError, match=r"gone: does not exist.*vae-edge export"):
        Bundle.open(tmp_path / "gone")


def test_open_refuses_a_file(tiny_bundle):
    with pytest.raises(
        BundleError, match=r"manifest\.json: is a file; expected a bundle directory"
    ):
        Bundle.open(tiny_bundle / "manifest.json")


def test_open_refuses_a_directory_without_a_manifest(tmp_path):
    with pytest.raises(BundleError, match=r"has no manifest\.json, so it is not a bundle"):
        Bundle.open(tmp_path)


def test_read_gives_the_content_of_artifacts_and_of_the_golden_file(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)

    for record in (*bundle.manifest.artifacts, bundle.manifest.golden):
        assert bundle.read(record) == (tiny_bundle / record.file).read_bytes()


def test_read_looks_again_at_a_file_that_changed_after_opening(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    record = bundle.manifest.artifacts[0]
    path = tiny_bundle / record.file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(BundleError, match="sha256 differs from the manifest"):
        bundle.read(record)


def test_find_gives_the_one_record(make_tiny_bundle):
    path = make_tiny_bundle(("encoder.float32.onnx", "decoder.float32.onnx", "decoder.int8.onnx"))

    record = Bundle.open(path).find(Component.DECODER, Format.ONNX, Precision.INT8)

    assert record.file == "decoder.int8.onnx"


def test_find_lists_what_there_is_when_it_finds_nothing(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)

    with pytest.raises(
        BundleError,
        match=r"holds no decoder int8 onnx\. It holds: encoder float32 onnx, decoder float32 onnx",
    ):
        bundle.find(Component.DECODER, Format.ONNX, Precision.INT8)


def test_select_filters_by_every_axis_and_keeps_the_order(make_tiny_bundle):
    files = (
        "decoder.int8.onnx",
        "encoder.float32.onnx",
        "decoder.float32.onnx",
        "decoder.float32.tflite",
    )
    bundle = Bundle.open(make_tiny_bundle(files, contents={files[3]: b"x"}))

    def chosen(**kwargs):
        return [record.file for record in bundle.select(**kwargs)]

    assert chosen() == list(files)
    assert chosen(components=(Component.ENCODER,)) == [files[1]]
    assert chosen(formats=(Format.TFLITE,)) == [files[3]]
    assert chosen(precisions=(Precision.FLOAT32,)) == list(files[1:])
    assert chosen(components=(Component.ENCODER,), precisions=(Precision.INT8,)) == []


def test_open_runner_loads_the_artifact(tiny, tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    z = np.array([[0.5, -1.0]], np.float32)

    with bundle.open_runner(bundle.manifest.artifacts[1], threads=2) as runner:
        values = runner.run({"z": z})["reconstruction"]

    np.testing.assert_allclose(values, tiny.decode(z), atol=1e-6)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("change", [{"name": "y"}, {"dtype": "int8"}, {"shape": [None, 2]}])
def test_open_runner_refuses_a_boundary_other_than_the_manifests(
    tiny_bundle, edit_manifest, side, change
):
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][1][side][0].update(change))
    bundle = Bundle.open(tiny_bundle)

    bundle.open_runner(bundle.manifest.artifacts[0]).close()
    with pytest.raises(BundleError, match="its inputs or outputs are not those in the manifest"):
        bundle.open_runner(bundle.manifest.artifacts[1])


def test_open_runner_accepts_outputs_in_another_order(tiny_bundle, edit_manifest):
    edit_manifest(tiny_bundle, lambda document: document["artifacts"][0]["outputs"].reverse())
    bundle = Bundle.open(tiny_bundle)

    bundle.open_runner(bundle.manifest.artifacts[0]).close()


def test_open_runner_passes_on_that_an_artifact_does_not_load(tiny_bundle, plant):
    plant(tiny_bundle, "decoder.float32.onnx", b"not an ONNX file")
    bundle = Bundle.open(tiny_bundle)

    with pytest.raises(LoadingError, match=r"decoder\.float32\.onnx: onnxruntime"):
        bundle.open_runner(bundle.manifest.artifacts[1])


@pytest.mark.parametrize(
    ("name", "version", "told"),
    [
        (
            "onnxruntime",
            "1.19",
            "By the manifest it needs onnxruntime 1.19 or newer: upgrade onnxruntime here.",
        ),
        (
            "ai-edge-litert",
            "1.1.2",
            "ai-edge-litert 1.1.2 or newer: upgrade ai-edge-litert here.",
        ),
        (
            "tflite-runtime",
            "2.14.0",
            "or any ai-edge-litert: upgrade ai-edge-litert here.",
        ),
        ("onnxruntime", "unknown", "newer runtime: pip install -U onnxruntime."),
    ],
)
def test_artifact_that_does_not_load_names_the_oldest_runtime(
    tiny_bundle, plant, edit_manifest, monkeypatch, name, version, told
):
    def command(_machine, package, *, upgrade):
        assert upgrade
        return f"upgrade {package} here"

    monkeypatch.setattr("vae_edge.installing.install_command", command)
    monkeypatch.setattr("vae_edge.installing.obtainable", lambda _, package: package)
    plant(tiny_bundle, "decoder.float32.onnx", b"not an ONNX file")
    oldest = {"name": name, "version": version, "detail": ""}
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][1].update(oldest_runtime=oldest))
    bundle = Bundle.open(tiny_bundle)

    with pytest.raises(LoadingError) as caught:
        bundle.open_runner(bundle.manifest.artifacts[1])

    assert str(caught.value).endswith(told)
