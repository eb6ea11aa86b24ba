"""Manifests that were damaged, or made to mislead."""

from __future__ import annotations

import json

import pytest

from vae_edge.bundle import Bundle
from vae_edge.errors import BundleError


@pytest.fixture
def refused(tiny_bundle):
    """The message with which a bundle is refused whose manifest is this text."""

    def open_with(text):
        content = text if isinstance(text, bytes) else text.encode()
        (tiny_bundle / "manifest.json").write_bytes(content)
        with pytest.raises(BundleError) as caught:
            Bundle.open(tiny_bundle)
        message = str(caught.value)
        assert "manifest.json" in message
        assert "\n" not in message
        assert len(message) < 600
        return message

    return open_with


@pytest.fixture
def refused_change(tiny_bundle, refused):
    """The message with which a bundle is refused whose manifest was changed so."""

    def open_changed(change):
        document = json.loads((tiny_bundle / "manifest.json").read_text())
        change(document)
        return refused(json.dumps(document))

    return open_changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(url="http://x"), "unknown key 'url'"),
        (lambda d: d["model"].update(url="x"), "unknown key 'model.url'"),
        (lambda d: d["artifacts"][1].update(url="x"), "unknown key 'artifacts[1].url'"),
        (lambda d: d["artifacts"][0]["inputs"][0].update(x=1), "'artifacts[0].inputs[0].x'"),
        (lambda d: d.pop("tools"), "missing key 'tools'"),
        (lambda d: d["golden"].pop("sha256"), "missing key 'golden.sha256'"),
        (lambda d: d["artifacts"][0].pop("latency"), "missing key 'artifacts[0].latency'"),
        (lambda d: d.update(artifacts=[]), "a bundle holds at least one"),
        (lambda d: d.update(artifacts={}), "'artifacts' must be an array"),
        (lambda d: d.update(golden=None), "'golden' must be an object"),
        (lambda d: d["model"].update(name=["a"]), "'model.name' must be a string"),
        (lambda d: d["model"].update(latent_dim=2.0), "'model.latent_dim' must be an integer"),
        (lambda d: d["model"].update(latent_dim=True), "'model.latent_dim' must be an integer"),
        (lambda d: d["model"].update(latent_dim=-2), "must be positive"),
        (lambda d: d["model"].update(image_shape=[]), "must be positive"),
        (lambda d: d["model"].update(image_shape=[4, -4, 1]), "must be positive"),
        (lambda d: d["artifacts"][0].update(format="exe"), "must be one of 'tflite', 'onnx'"),
        (lambda d: d["artifacts"][0].update(size_bytes=-1), "size_bytes must not be negative"),
        (lambda d: d["artifacts"][0].update(sha256="0" * 63), "sha256 must be 64 lower-case"),
        (lambda d: d["artifacts"][0]["inputs"][0].update(scale=0.5), "scale and zero_point belong"),
        (lambda d: d["artifacts"][0]["operators"].update(Gemm="2"), "operators.Gemm' must be an"),
        (lambda d: d["artifacts"].append(d["artifacts"][0]), "a file is named twice"),
    ],
)
def test_document_that_is_not_exactly_a_manifest_is_refused(refused_change, change, message):
    assert message in refused_change(change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("null", "schema_version must be 4; received None"),
        ("[]", "schema_version must be 4; received None"),
        ("3", "schema_version must be 4; received None"),
        ("{}", "schema_version must be 4; received None"),
        ('{"schema_version": 0}', "schema_version must be 4; received 0"),
        ('{"schema_version": "1"}', "schema_version must be 4; received '1'"),
        ('{"schema_version": true}', "schema_version must be 4; received True"),
        ('{"schema_version": 1e999}', "schema_version must be 4; received inf"),
        ('{"schema_version": 4.0}', "missing key"),
        ('{"schema_version": 4, "schema_version": 4}', "key 'schema_version' stands twice"),
        ('{"schema_version": NaN}', "'NaN' is not a JSON number"),
        ('{"schema_version": 1', "not valid JSON"),
        ('{"schema_version": ' + "9" * 5000 + "}", "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"schema_version": "' + "A" * 100_000 + '"}', "schema_version must be 4; received"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (b"\0" * 100, "not valid JSON"),
    ],
)
def test_text_that_is_no_manifest_is_refused(refused, text, message):
    assert message in refused(text)


@pytest.mark.parametrize("depth", range(700, 1001, 25))
def test_nesting_just_short_of_the_parsers_limit_is_refused(refused, depth):
    """What the parser still takes, the error message may not be able to show."""
    assert refused('{"schema_version": ' + "[" * depth + "]" * depth + "}")


@pytest.mark.parametrize("version", [5, 10**30, 10**4000])
def test_newer_version_asks_for_an_upgrade(refused, version):
    message = refused(f'{{"schema_version": {version}, "unheard_of": 1}}')

    assert f"schema_version {str(version)[:57]}" in message
    assert "is newer than supported (4)" in message
    assert "pip install -U vae-edge" in message


def test_older_version_asks_for_another_export(refused):
    message = refused('{"schema_version": 1, "model": {}}')

    assert "schema_version 1 is of an earlier vae-edge; this one reads 4." in message
    assert "Export the bundle again from its model: vae-edge export MODEL." in message


def test_nan_as_a_metrics_value_is_refused(refused_change):
    def poison(document):
        document["artifacts"][0]["parity"]["metrics"][0]["value"] = float("nan")

    assert "'NaN' is not a JSON number" in refused_change(poison)


def test_number_that_overflows_is_refused(tiny_bundle, refused):
    text = (tiny_bundle / "manifest.json").read_text()
    assert '"p95_ms": 0.02' in text

    message = refused(text.replace('"p95_ms": 0.02', '"p95_ms": 1e999', 1))

    assert "'artifacts[0].latency.p95_ms' must be a finite number" in message


def test_duplicate_key_deep_inside_is_refused(tiny_bundle, refused):
    text = (tiny_bundle / "manifest.json").read_text()

    assert "key 'file' stands twice" in refused(
        text.replace('"file": "golden.npz"', '"file": "golden.npz", "file": "golden.npz"')
    )


def test_huge_manifest_is_refused_unread(tiny_bundle, refused):
    text = (tiny_bundle / "manifest.json").read_text()

    assert "expected at most 1,048,576" in refused(text + " " * (1 << 20))


def test_manifest_of_the_largest_size_is_read(tiny_bundle):
    path = tiny_bundle / "manifest.json"
    path.write_text(path.read_text().ljust(1 << 20))

    Bundle.open(tiny_bundle)


@pytest.mark.parametrize("record", ["artifact", "golden"])
@pytest.mark.parametrize(
    "file",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../tiny/golden.npz",
        "sub/file.onnx",
        "sub\\file.onnx",
        "..\\file.onnx",
        "C:file.onnx",
        ".hidden.onnx",
        "-rf",
        "~",
        "a b.onnx",
        "a\nb.onnx",
        "a.onnx\n",
        "a\0.onnx",
        "ä.onnx",
        "\u202ea.onnx",
        "\ud800.onnx",
        "$HOME",
        "x" * 129,
    ],
)
def test_file_name_that_is_not_plain_is_refused(refused_change, record, file):
    def rename(document):
        target = document["golden"] if record == "golden" else document["artifacts"][1]
        target["file"] = file

    message = refused_change(rename)
    assert (
        "must be a plain name inside the bundle" in message
        or "must be text without control characters" in message
    )


@pytest.mark.parametrize("file", ["manifest.json", "MANIFEST.json"])
def test_manifest_may_not_vouch_for_itself(refused_change, file):
    assert "file must not be the manifest itself" in refused_change(
        lambda d: d["golden"].update(file=file)
    )


def test_names_that_collide_where_case_is_ignored_are_refused(refused_change):
    message = refused_change(lambda d: d["artifacts"][1].update(file="Encoder.Float32.onnx"))

    assert "a file is named twice" in message
