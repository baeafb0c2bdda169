"""What is typed on the command line, parsed. Pure but for the environment and files it is given."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environment(pairs: Sequence[str], files: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> dict[str, str]:
    """Variables from ``-e`` options and env files, as ``docker run`` reads them; options win over files.

    Args:
        pairs: ``NAME=VALUE``; or ``NAME``, taken from ``environ``, and left out if it is not there.
        files: (file name, content): one such pair per line; empty lines and lines starting with ``#`` are skipped.
        environ: the command's own environment.

    Raises:
        ValueError: something else, with the place where it stands. It never repeats a value.
    """
    result: dict[str, str] = {}
    for where, pair in (*_file_pairs(files), *(("-e", pair) for pair in pairs)):
        name, given, value = pair.partition("=")
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{where}: expected NAME=VALUE or NAME, where NAME has only letters, digits and _")
        if given:
            result[name] = value
        elif name in environ:
            result[name] = environ[name]
    return result


def _file_pairs(files: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for file_name, content in files:
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip() and not line.startswith("#"):
                yield f"{file_name}:{number}", line


def tool_arguments(pairs: Sequence[str], text: str | None, schema: Mapping[str, object]) -> dict[str, JsonValue]:
    """A tool's arguments: those of the JSON object ``text``, then each ``NAME=VALUE`` as the tool's schema types it.

    A value is JSON where the schema (JSON Schema, ``properties.NAME.type``, ``anyOf`` and ``oneOf`` included) wants a
    number, boolean, object, array or null, and itself where it wants a string. Without a type: JSON if it is JSON.

    Raises:
        ValueError: what is wrong and what would be right.
    """
    result: dict[str, JsonValue] = {}
    if text is not None:
        given = _json(text)
        if not isinstance(given, dict):
            raise ValueError("the arguments must be one JSON object")
        result.update(given)
    properties = schema.get("properties")
    known: Mapping[str, object] = properties if isinstance(properties, Mapping) else {}
    for pair in pairs:
        name, sep, value = pair.partition("=")
        if not sep:
            raise ValueError(f"--arg {pair}: expected NAME=VALUE")
        if name not in known and schema.get("additionalProperties") is False:
            raise ValueError(f"--arg {name}: the tool has no such argument; it has {', '.join(known) or 'none'}")
        result[name] = _typed(name, value, _types(known.get(name)))
    return result


def _typed(name: str, text: str, types: set[str]) -> JsonValue:
    """``text`` as the first of: JSON of one of ``types``; a string, where that is allowed."""
    if types == {"string"}:
        return text
    try:
        value = _json(text)
    except ValueError:
        value = text
    if not types or _is_one_of(value, types):
        return value
    if "string" in types:
        return text
    raise ValueError(f"--arg {name}: {text!r} is not of type {' or '.join(sorted(types))}")


def _types(schema: object) -> set[str]:
    """The JSON types a property's schema allows; empty: it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    own = schema.get("type", [])
    types = {own} if isinstance(own, str) else {name for name in own if isinstance(name, str)}
    for keyword in ("anyOf", "oneOf"):
        for alternative in schema.get(keyword, []):
            types |= _types(alternative)
    return types


def _is_one_of(value: JsonValue, types: set[str]) -> bool:
    match value:
        case None:
            return "null" in types
        case bool():
            return "boolean" in types
        case int():
            return bool(types & {"integer", "number"})
        case float():
            return "number" in types
        case str():
            return False  # a quoted string: where strings are allowed, the text itself is meant, quotes and all
        case list():
            return "array" in types
        case dict():
            return "object" in types


def _json(text: str) -> JsonValue:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    value: JsonValue = json.loads(text, parse_constant=refuse)
    return value
