"""Patterns of a policy: Rust's ``regex`` syntax, matched as a whole and in linear time. Pure.

Python's ``re`` backtracks: an attacker would freeze the proxy with one argument.
"""

import functools

from pydantic_core import SchemaError, SchemaValidator, core_schema

MAX_PATTERN_CHARS = 512


@functools.lru_cache(maxsize=4096)
def _compile(pattern: str) -> SchemaValidator:
    """A validator that accepts strings which ``pattern`` matches as a whole.

    The Rust engine of pydantic-core searches, so the pattern is wrapped; it is compiled alone first, so that an
    unbalanced one cannot break out of the wrapping.
    """
    for text in (pattern, rf"\A(?:{pattern})\z"):
        compiled = SchemaValidator(core_schema.str_schema(strict=True, pattern=text, regex_engine="rust-regex"))
    return compiled


def full_match(pattern: str, text: str) -> bool:
    """Whether ``pattern`` matches all of ``text``; linear in ``text``."""
    return _compile(pattern).isinstance_python(text)


def check_pattern(pattern: str) -> str:
    """``pattern`` itself.

    Raises:
        ValueError: it is not one, or is too large to compile.
    """
    try:
        _compile(pattern)
    except SchemaError as exc:
        raise ValueError(f"{pattern!r} is not a pattern this engine can match in linear time: {exc}") from None
    return pattern
