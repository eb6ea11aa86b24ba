from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from vae_edge.bundle import Bundle
from vae_edge.codec import encode
from vae_edge.parity import REPORT_SCHEMA_VERSION, check_parity, golden_reference
from vae_edge.parity_schema import parity_schema

SCHEMA = Path(str(resources.files("vae_edge"))) / "parity.schema.json"


@pytest.fixture
def document(tiny_bundle):
    """What `vae-edge parity --json` prints."""
    bundle = Bundle.open(tiny_bundle)
    return json.loads(json.dumps(encode(check_parity(bundle, golden_reference(bundle)))))


def test_published_schema_is_the_generated_one():
    assert SCHEMA.read_text(encoding="utf-8") == json.dumps(parity_schema(), indent=2) + "\n"


def test_published_schema_names_the_version_of_the_report(document):
    title = json.loads(SCHEMA.read_text(encoding="utf-8"))["title"]

    assert title == f"vae-edge parity report, version {REPORT_SCHEMA_VERSION}"
    assert document["schema_version"] == REPORT_SCHEMA_VERSION


def test_published_schema_validates_a_real_report(document):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)


def test_report_that_the_command_prints_is_valid(run_cli, tiny_bundle):
    printed = json.loads(run_cli("parity", tiny_bundle, "--json").out)

    jsonschema.validate(printed, parity_schema())


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(speed=1),
        lambda d: d.pop("passed"),
        lambda d: d["subjects"][0].update(precision="int7"),
        lambda d: d["subjects"][0]["metrics"][0].update(value="small"),
        lambda d: d["subjects"][0]["metrics"][0].pop("limit"),
    ],
)
def test_published_schema_refuses_what_is_no_report(document, damage):
    damage(document)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
