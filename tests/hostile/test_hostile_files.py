"""Files in the place of a bundle's that are not what its manifest says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from vae_edge.bundle import Bundle, manifest_of
from vae_edge.errors import ArtifactError, BundleError

FILES = ("manifest.json", "encoder.float32.onnx", "decoder.float32.onnx", "golden.npz")
ARTIFACT = "decoder.float32.onnx"


@pytest.fixture
def refused(tiny_bundle):
    def open_(message):
        with pytest.raises(BundleError, match=message) as caught:
            Bundle.open(tiny_bundle)
        assert "\n" not in str(caught.value)

    return open_


@pytest.mark.parametrize("file", FILES)
def test_symbolic_link_is_refused_even_to_the_right_content(tiny_bundle, tmp_path, refused, file):
    outside = tmp_path / "outside"
    shutil.move(tiny_bundle / file, outside)
    (tiny_bundle / file).symlink_to(outside)

    refused(rf"{file}: is a symbolic link; a bundle holds plain files only")


@pytest.mark.parametrize("file", FILES)
def test_dangling_symbolic_link_is_refused(tiny_bundle, refused, file):
    (tiny_bundle / file).unlink()
    (tiny_bundle / file).symlink_to("nowhere")

    refused(rf"{file}: is a symbolic link")


@pytest.mark.parametrize("file", FILES)
def test_directory_in_the_place_of_a_file_is_refused(tiny_bundle, refused, file):
    (tiny_bundle / file).unlink()
    (tiny_bundle / file).mkdir()

    refused(rf"{file}: is not a plain file")


@pytest.mark.parametrize("file", FILES)
def test_pipe_in_the_place_of_a_file_is_refused_without_waiting_for_it(tiny_bundle, refused, file):
    (tiny_bundle / file).unlink()
    os.mkfifo(tiny_bundle / file)

    refused(rf"{file}: is not a plain file")


@pytest.mark.parametrize("file", FILES[1:])
def test_missing_file_is_refused(tiny_bundle, refused, file):
    (tiny_bundle / file).unlink()

    refused(rf"{file}: is missing\. Copy or export the bundle again")


@pytest.mark.parametrize("file", FILES[1:])
def test_truncated_file_is_refused(tiny_bundle, refused, file):
    content = (tiny_bundle / file).read_bytes()
    (tiny_bundle / file).write_bytes(content[:-1])

    refused(rf"{file}: has {len(content) - 1:,} bytes; the manifest says {len(content):,}")


@pytest.mark.parametrize("file", FILES[1:])
def test_longer_file_is_refused(tiny_bundle, refused, file):
    content = (tiny_bundle / file).read_bytes()
    (tiny_bundle / file).write_bytes(content + b"\0")

    refused(rf"{file}: has {len(content) + 1:,} bytes; expected at most {len(content):,}")


@pytest.mark.parametrize("file", FILES[1:])
def test_one_flipped_bit_is_refused(tiny_bundle, refused, file):
    content = bytearray((tiny_bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tiny_bundle / file).write_bytes(content)

    refused(rf"{file}: sha256 differs from the manifest")


def test_wrong_size_in_the_manifest_is_refused(tiny_bundle, edit_manifest, refused):
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][1].update(size_bytes=10**12))

    refused(r"bytes; the manifest says 1,000,000,000,000")


def test_wrong_hash_in_the_manifest_is_refused(tiny_bundle, edit_manifest, refused):
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][1].update(sha256="0" * 64))

    refused("sha256 differs")


def test_swapped_artifacts_are_refused(tiny_bundle, refused):
    encoder, decoder = tiny_bundle / FILES[1], tiny_bundle / FILES[2]
    spare = encoder.read_bytes()
    encoder.write_bytes(decoder.read_bytes())
    decoder.write_bytes(spare)

    refused(r"bytes; |sha256 differs")


def test_artifact_of_the_other_component_is_refused(tiny_bundle, plant):
    """Size and hash agree, but the boundary is the encoder's."""
    plant(tiny_bundle, ARTIFACT, (tiny_bundle / FILES[1]).read_bytes())
    bundle = Bundle.open(tiny_bundle)

    with pytest.raises(BundleError, match="its inputs or outputs are not those in the manifest"):
        bundle.open_runner(bundle.manifest.artifacts[1])


def test_golden_file_in_the_place_of_an_artifact_does_not_load(tiny_bundle, plant):
    plant(tiny_bundle, ARTIFACT, (tiny_bundle / "golden.npz").read_bytes())
    bundle = Bundle.open(tiny_bundle)

    with pytest.raises(ArtifactError, match="cannot load it"):
        bundle.open_runner(bundle.manifest.artifacts[1])


def test_files_that_the_manifest_does_not_name_are_not_looked_at(tiny_bundle):
    (tiny_bundle / "extra").symlink_to("/etc/passwd")
    os.mkfifo(tiny_bundle / "pipe")

    assert Bundle.open(tiny_bundle).manifest == manifest_of(tiny_bundle)


def test_unreadable_file_is_refused(refused, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)

    refused(r"manifest\.json: cannot be read: Permission denied")
