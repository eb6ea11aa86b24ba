from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from vae_edge.codec import DecodeError, encode
from vae_edge.errors import BundleError
from vae_edge.manifest import (
    SCHEMA_VERSION,
    CandidateRecord,
    MetricRecord,
    ModelRecord,
    ParityRecord,
    QualityBudget,
    SelectionRecord,
    manifest_schema,
    read_manifest,
    write_manifest,
)
from vae_edge.preprocessing import PLAIN_PICTURES

SCHEMA = Path(str(resources.files("vae_edge"))) / "manifest.schema.json"


@pytest.fixture
def manifest(make_manifest):
    return make_manifest(
        {"encoder.float32.onnx": b"e", "decoder.float32.onnx": b"d", "decoder.int8.tflite": b"q"},
        b"golden",
    )


def test_manifest_survives_the_way_through_json(manifest):
    assert read_manifest(write_manifest(manifest), "manifest.json") == manifest


def test_written_manifest_is_readable_by_people(manifest):
    text = write_manifest(manifest)

    assert text.startswith(f'{{\n  "schema_version": {SCHEMA_VERSION},\n  "model": {{\n')
    assert text.endswith("}\n")


def test_optional_records_may_be_null(manifest):
    bare = replace(
        manifest,
        calibration=None,
        artifacts=tuple(replace(a, parity=None, latency=None) for a in manifest.artifacts),
    )

    assert read_manifest(write_manifest(bare), "x") == bare


def test_label_names_component_precision_and_format(manifest):
    assert manifest.artifacts[2].label == "decoder int8 tflite"


def test_published_schema_is_the_generated_one():
    assert SCHEMA.read_text(encoding="utf-8") == json.dumps(manifest_schema(), indent=2) + "\n"


def test_published_schema_validates_a_real_manifest(manifest, tiny_bundle):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(write_manifest(manifest)), schema)
    jsonschema.validate(json.loads((tiny_bundle / "manifest.json").read_text()), schema)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(extra=1),
        lambda d: d.pop("golden"),
        lambda d: d["model"].update(latent_dim="2"),
        lambda d: d["artifacts"][0].update(precision="int3"),
        lambda d: d["artifacts"][0]["inputs"][0].update(shape="1, 28"),
        lambda d: d["artifacts"][1]["parity"]["metrics"][0].pop("limit"),
    ],
)
def test_published_schema_and_reader_refuse_the_same_damage(manifest, damage):
    document = encode(manifest)
    damage(document)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    with pytest.raises(BundleError):
        read_manifest(json.dumps(document), "x")


def test_model_must_have_a_sha256():
    with pytest.raises(DecodeError, match="source_sha256 must be 64 lower-case"):
        ModelRecord(
            name="m",
            source_sha256="AB" * 32,
            latent_dim=2,
            image_shape=(4, 4, 1),
            preprocessing=PLAIN_PICTURES,
        )


@pytest.mark.parametrize(
    ("latent_dim", "image_shape"), [(0, (4, 4, 1)), (2, ()), (2, (4, 0, 1)), (-1, (4, 4, 1))]
)
def test_model_must_have_positive_sizes(latent_dim, image_shape):
    with pytest.raises(DecodeError, match="latent_dim and image_shape must be positive"):
        ModelRecord(
            name="m",
            source_sha256="ab" * 32,
            latent_dim=latent_dim,
            image_shape=image_shape,
            preprocessing=PLAIN_PICTURES,
        )


def test_manifest_must_hold_an_artifact(manifest):
    with pytest.raises(DecodeError, match="a bundle holds at least one"):
        replace(manifest, artifacts=())


def test_component_must_not_stand_twice_in_one_format_and_precision(manifest):
    twin = replace(manifest.artifacts[0], file="other.onnx")

    with pytest.raises(DecodeError, match="a component stands twice in one format and precision"):
        replace(manifest, artifacts=(*manifest.artifacts, twin))


@pytest.mark.parametrize("file", ["encoder.float32.onnx", "ENCODER.float32.onnx", "golden.npz"])
def test_file_must_not_be_named_twice(manifest, file):
    artifacts = (*manifest.artifacts[:2], replace(manifest.artifacts[2], file=file))

    with pytest.raises(DecodeError, match="a file is named twice"):
        replace(manifest, artifacts=artifacts)


def test_size_must_not_be_negative(manifest):
    with pytest.raises(
        DecodeError, match="artifact encoder float32 onnx: size_bytes must not be negative"
    ):
        replace(manifest.artifacts[0], size_bytes=-1)


@pytest.mark.parametrize("sha256", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_sha256_must_be_one(manifest, sha256):
    with pytest.raises(DecodeError, match="golden: sha256 must be 64 lower-case"):
        replace(manifest.golden, sha256=sha256)


def candidate(file: str, *, chosen: bool) -> CandidateRecord:
    return CandidateRecord(
        file=file,
        size_bytes=10,
        median_ms=0.5,
        psnr_db=None,
        rmse=0.0,
        eligible=True,
        chosen=chosen,
        reason="fastest" if chosen else "1.50x slower",
    )


def selection_of(*candidates: CandidateRecord) -> SelectionRecord:
    return SelectionRecord(
        budget=QualityBudget(min_psnr_db=40.0, max_error=0.01), candidates=candidates
    )


def test_selection_survives_the_way_through_json(manifest):
    kept = [candidate(record.file, chosen=True) for record in manifest.artifacts]
    selected = replace(
        manifest, selection=selection_of(candidate("gone.onnx", chosen=False), *kept)
    )

    text = write_manifest(selected)

    assert read_manifest(text, "x") == selected
    jsonschema.validate(json.loads(text), json.loads(SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "chosen",
    [
        (),
        ("encoder.float32.onnx", "decoder.float32.onnx"),
        ("encoder.float32.onnx", "decoder.float32.onnx", "decoder.int8.tflite", "gone.onnx"),
    ],
)
def test_selection_must_have_chosen_what_the_bundle_holds(manifest, chosen):
    record = selection_of(*(candidate(file, chosen=True) for file in chosen))

    with pytest.raises(DecodeError, match="what it chose must be what the bundle holds"):
        replace(manifest, selection=record)


@pytest.mark.parametrize(
    ("metric", "values", "worst"),
    [
        ("psnr_db", (31.5, 40.0, None), 31.5),
        ("psnr_db", (None, None), math.inf),
        ("psnr_db", (), None),
        ("rmse", (0.0, 0.02, 0.01), 0.02),
        ("cosine_similarity", (0.99, 1.0), 0.99),
    ],
)
def test_worst_figure_is_the_lowest_or_the_highest_as_the_metric_has_it(metric, values, worst):
    records = [
        MetricRecord(output=f"o{i}", metric=metric, value=value, limit=1.0, passed=True)
        for i, value in enumerate(values)
    ]
    other = MetricRecord(output="o", metric="max_abs_error", value=9.0, limit=1.0, passed=True)
    parity = ParityRecord(passed=True, samples=1, runtime="r", metrics=(*records, other))

    assert parity.worst(metric) == worst
