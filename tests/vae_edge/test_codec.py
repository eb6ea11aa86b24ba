from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import jsonschema
import pytest

from vae_edge import codec
from vae_edge.codec import DecodeError


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    ratio: float
    flag: bool
    inner: Inner
    many: tuple[Inner, ...]
    maybe: int | None
    table: Mapping[str, float]


OUTER = Outer(
    name="n",
    ratio=0.1,
    flag=True,
    inner=Inner(count=1, colour=Colour.RED),
    many=(Inner(count=2, colour=Colour.BLUE), Inner(count=-3, colour=Colour.RED)),
    maybe=None,
    table={"a": 1.5},
)
PLAIN = {
    "name": "n",
    "ratio": 0.1,
    "flag": True,
    "inner": {"count": 1, "colour": "red"},
    "many": [{"count": 2, "colour": "blue"}, {"count": -3, "colour": "red"}],
    "maybe": None,
    "table": {"a": 1.5},
}


def changed(path: str, value: object) -> dict:
    document = json.loads(json.dumps(PLAIN))
    *parents, last = path.split(".")
    place = document
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
    return document


def test_encode_gives_plain_json_values():
    plain = codec.encode(OUTER)

    assert plain == PLAIN
    assert type(plain["inner"]["colour"]) is str
    assert json.loads(json.dumps(plain)) == PLAIN


def test_decode_undoes_encode():
    assert codec.decode(Outer, codec.encode(OUTER)) == OUTER


@pytest.mark.parametrize("name", ["", "größe 数字 🙂", "a\u00a0b", "~ [x] %"])
def test_decode_takes_any_printable_text(name):
    assert codec.decode(Outer, changed("name", name)).name == name


def test_decode_makes_a_float_of_an_integer():
    ratio = codec.decode(Outer, changed("ratio", 2)).ratio

    assert ratio == 2.0
    assert type(ratio) is float


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 3, "'name' must be a string; received 3"),
        ("name", None, "'name' must be a string; received None"),
        ("name", "a\x1b[2Jb", "'name' must be text without control characters"),
        ("name", "a\nb", "'name' must be text without control characters"),
        ("name", "a\x9bb", "'name' must be text without control characters"),
        ("table", {"a\x1bb": 1}, "'a key of table' must be text without control characters"),
        ("a\x1bb", 1, r"unknown key 'a\\x1bb'; known here"),
        ("k" * 999, 1, r"unknown key 'k{56}\.\.\.; known here"),
        ("name", "\ud800", "'name' must be text without control characters"),
        ("ratio", "0.1", "'ratio' must be a number; received '0.1'"),
        ("ratio", True, "'ratio' must be a number; received True"),
        ("ratio", float("inf"), "'ratio' must be a finite number; received inf"),
        ("ratio", float("nan"), "'ratio' must be a finite number; received nan"),
        ("ratio", 10**400, "'ratio' must be a finite number; received 1000"),
        ("flag", 1, "'flag' must be a boolean; received 1"),
        ("inner.count", 1.0, r"'inner.count' must be an integer; received 1\.0"),
        ("inner.count", False, "'inner.count' must be an integer; received False"),
        ("inner.colour", "green", "'inner.colour' must be one of 'red', 'blue'; received 'green'"),
        ("inner.colour", ["red"], "'inner.colour' must be one of 'red', 'blue'"),
        ("inner", [], r"'inner' must be an object; received \[\]"),
        ("many", {}, r"'many' must be an array; received \{\}"),
        ("many", "ab", "'many' must be an array; received 'ab'"),
        ("many.1.count", "x", r"'many\[1\].count' must be an integer; received 'x'"),
        ("maybe", "x", "'maybe' must be an integer; received 'x'"),
        ("table", [], "'table' must be an object"),
        ("table.a", "x", "'table.a' must be a number; received 'x'"),
        ("extra", 1, "unknown key 'extra'; known here: name, ratio, flag"),
        ("inner.extra", 1, "unknown key 'inner.extra'; known here: count, colour"),
    ],
)
def test_decode_names_the_place_and_what_was_expected(path, value, message):
    with pytest.raises(DecodeError, match=message):
        codec.decode(Outer, changed(path, value))


@pytest.mark.parametrize("key", PLAIN)
def test_decode_refuses_a_missing_key(key):
    document = {name: value for name, value in PLAIN.items() if name != key}

    with pytest.raises(DecodeError, match=f"missing key '{key}'"):
        codec.decode(Outer, document)


def test_decode_names_a_missing_key_inside():
    with pytest.raises(DecodeError, match=r"missing key 'many\[0\]\.colour'"):
        codec.decode(Outer, changed("many", [{"count": 1}]))


def test_decode_refuses_a_document_that_is_no_object():
    with pytest.raises(DecodeError, match="'document' must be an object; received 3"):
        codec.decode(Outer, 3)


def test_message_shortens_what_was_received():
    with pytest.raises(DecodeError) as caught:
        codec.decode(Outer, changed("ratio", "x" * 10_000))

    assert str(caught.value).endswith("xxx...")
    assert len(str(caught.value)) < 120


def test_loads_reads_json():
    assert codec.loads('{"a": [1, 2.5, "x", null, true]}') == {"a": [1, 2.5, "x", None, True]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON: .*line 1"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"b": [{"a": 1, "c": 0, "a": 1}]}', "key 'a' stands twice"),
        ('{"a": NaN}', "'NaN' is not a JSON number"),
        ("[Infinity]", "'Infinity' is not a JSON number"),
        ("[-Infinity]", "'-Infinity' is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "not valid JSON"),  # Python limits the digits of an integer to 4300
    ],
)
def test_loads_refuses(text, message):
    with pytest.raises(DecodeError, match=message):
        codec.loads(text)


def test_loads_accepts_one_key_in_two_objects():
    assert codec.loads('[{"a": 1}, {"a": 2}]') == [{"a": 1}, {"a": 2}]


def test_schema_accepts_what_decode_accepts():
    jsonschema.validate(PLAIN, codec.schema(Outer, title="outer"))
    jsonschema.validate(changed("maybe", 3), codec.schema(Outer, title="outer"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", 3),
        ("ratio", "0.1"),
        ("flag", 1),
        ("inner.colour", "green"),
        ("inner", []),
        ("many.1.count", "x"),
        ("maybe", "x"),
        ("table.a", "x"),
        ("extra", 1),
        ("inner.extra", 1),
    ],
)
def test_schema_refuses_what_decode_refuses(path, value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), codec.schema(Outer, title="outer"))


def test_schema_is_itself_valid_and_titled():
    schema = codec.schema(Outer, title="outer")

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == "outer"
    assert sorted(schema["$defs"]) == ["Inner", "Outer"]
