"""Frozen dataclasses to JSON and back, strictly, and their JSON Schema.

One description of a document (its dataclasses) gives the writer, the reader that refuses what it
does not know, and the published schema. Only what our documents use is supported: nested
dataclasses, enums, tuples of one type, string-keyed mappings, optionals, and JSON scalars.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["DecodeError", "decode", "encode", "loads", "schema", "shown"]

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_EXPECTED = {str: "a string", bool: "a boolean", int: "an integer", float: "a number"}
_SCALARS: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


class DecodeError(ValueError):
    """A document that does not fit; the message names the place and what was expected."""


def encode(value: Any) -> Any:
    """Turn a dataclass tree into plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def loads(text: str) -> Any:
    """Parse JSON, refusing duplicate keys and the non-standard NaN and Infinity.

    Raises:
        DecodeError: not JSON, a key stands twice in one object, or a number is not finite.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise DecodeError(f"key {shown(key)} stands twice in one object")
            seen[key] = value
        return seen

    def refuse(token: str) -> Any:
        raise DecodeError(f"'{token}' is not a JSON number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except DecodeError:
        raise
    except ValueError as error:  # also an integer of more digits than Python converts
        raise DecodeError(f"not valid JSON: {error}") from error
    except RecursionError as error:
        raise DecodeError("nested too deeply") from error


def decode(kind: type[T], value: Any, where: str = "") -> T:
    """Build `kind` from plain JSON values; nothing missing, nothing unknown, no type guessed.

    Raises:
        DecodeError: the place, what was expected and what was received.
    """
    return cast(T, _decode(kind, value, where))


def _decode(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(cast(type, kind), value, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is tuple:
        _expect(isinstance(value, list), where, "an array", value)
        return tuple(_decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), where, "an object", value)
        keys = [_decode(args[0], key, f"a key of {where}") for key in value]
        return {key: _decode(args[1], value[key], f"{where}.{key}") for key in keys}
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = ", ".join(repr(member.value) for member in kind)
        try:
            return kind(value)
        except ValueError:
            # Also an unhashable value.
            _expect(False, where, f"one of {choices}", value)
    return _decode_scalar(kind, value, where)


def _decode_scalar(kind: Any, value: Any, where: str) -> Any:
    accepted = (int, float) if kind is float else (kind,)
    # bool is an int to Python, but not in a document
    fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    _expect(fits, where, _EXPECTED[kind], value)
    if kind is str:
        # A terminal would obey them when the text is shown.
        _expect(not _CONTROL.search(value), where, "text without control characters", value)
    if kind is not float:
        return value
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    _expect(math.isfinite(number), where, "a finite number", value)
    return number


def _decode_dataclass(kind: type, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, "an object", value)
    hints = get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in names:
            raise DecodeError(f"unknown key {shown(prefix + key)}; known here: {', '.join(names)}")
    for name in names:
        if name not in value:
            raise DecodeError(f"missing key '{prefix}{name}'")
    return kind(**{name: _decode(hints[name], value[name], f"{prefix}{name}") for name in names})


def _expect(condition: bool, where: str, expected: str, received: Any) -> None:
    if not condition:
        raise DecodeError(f"'{where or 'document'}' must be {expected}; received {shown(received)}")


def shown(value: Any) -> str:
    """Give a value as it may stand in a message: on one line and short."""
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."


def schema(kind: type, *, title: str) -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of the documents that `decode(kind, ...)` accepts."""
    definitions: dict[str, Any] = {}
    root = _schema(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        name = cast(type, kind).__name__
        if name not in definitions:
            definitions[name] = {}
            hints = get_type_hints(kind)
            names = [f.name for f in dataclasses.fields(kind)]
            definitions[name] = {
                "type": "object",
                "properties": {n: _schema(hints[n], definitions) for n in names},
                "required": names,
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (inner,) = (arg for arg in args if arg is not type(None))
        return {"anyOf": [_schema(inner, definitions), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        # One that looks further than its members, for what packages add, is open.
        if "_missing_" in vars(kind):
            return {"type": "string", "examples": [member.value for member in kind]}
        return {"enum": [member.value for member in kind]}
    return {"type": _SCALARS[kind]}
