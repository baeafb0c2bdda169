"""Patterns for arguments: matched as a whole, in linear time, bounded when the policy loads."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_proxy.admission import MAX_PATTERN_ARG_BYTES
from doogie_proxy.patterns import MAX_PATTERN_CHARS, _compile, check_pattern, full_match
from doogie_proxy.policy import Args
from tests.unit.proxy.strategies import PATTERNS, arguments, texts

TOKENS_WITHOUT_Z = [
    "a",
    "b",
    "(",
    ")",
    "|",
    "*",
    "+",
    "?",
    "^",
    "$",
    "#",
    "\n",
    " ",
    "{1,2}",
    "(?:",
    "\\A",
    "\\z",
    "\\b",
]
TOKENS_WITHOUT_Z += ["(?x)", "(?m)", "(?s)", "(?i)", "(?x:", "(?P<n>", "\\", "[ab", "]", "&&"]
"""What patterns are made of, and what might break out of the wrapping, but nothing that can match a Z."""


def refused(pattern: str) -> bool:
    try:
        Args(patterns=[pattern])
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", ""),
        ("a", "a"),
        ("a|bc", "bc"),
        ("a|ab", "ab"),
        ("a??b?", "ab"),
        ("(?i)utc", "UtC"),
        ("(?s).*", "a\nb"),
        ("(?m)^a$", "a"),
        ("(?x) a b  # spaces do not count\n", "ab"),
        ("\\Aa\\z", "a"),
        ("[/-]+", "-/"),
        ("\\p{Greek}", "λ"),
        ("ä", "ä"),
    ],
)
def test_a_pattern_matches(pattern: str, text: str) -> None:
    assert not refused(pattern)
    assert full_match(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a", "ab"),
        ("a", "ba"),
        ("a", "a\n"),
        ("a", "\na"),
        ("a$", "a\n"),
        ("^a", "ba"),
        ("a|b", "ab"),
        ("a|b", "xb"),
        ("a|", "ax"),
        ("(?m)^a$", "x\na"),
        ("(?m)^a$", "a\nx"),
        ("(?m)a$|^b", "a\nb"),
        ("a.*", "a\nb"),
        (".*", "a\0\n"),
        ("(?s-u:a)|b", "bb"),
        ("(?x)a#\n|b", "cb"),
        ("(?i)k", "kk"),
        ("\\Aa|b\\z", "ab"),
        ("--tz=[A-Za-z_/]+", "--tz=UTC --privileged"),
        ("--tz=[A-Za-z_/]+", "-v\n--tz=UTC"),
        ("[^-].*", "--privileged"),
        ("", "a"),
    ],
)
def test_a_pattern_matches_only_the_whole(pattern: str, text: str) -> None:
    assert not refused(pattern)
    assert not full_match(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("(", id="unbalanced"),
        pytest.param(")", id="unbalanced close"),
        pytest.param("a)|(?:b", id="balanced only inside the wrapping"),
        pytest.param("a)\\z|(?:.*", id="an end of its own inside the wrapping"),
        pytest.param("(?x)a #", id="a comment that would swallow the end of the wrapping"),
        pytest.param("(?x)a|b # )", id="a comment that hides a parenthesis"),
        pytest.param("a\\", id="a backslash that would escape the wrapping"),
        pytest.param("[a", id="a class that would swallow the wrapping"),
        pytest.param("(?=a)", id="look-ahead: not linear"),
        pytest.param("(?<!a)b", id="look-behind: not linear"),
        pytest.param("(a)\\1", id="back-reference: not linear"),
        pytest.param("(?-u:\\xff)", id="matches what is not UTF-8"),
        pytest.param("a{1000}{1000}", id="compiles to too much"),
        pytest.param("\\w{1000}", id="compiles to too much, in Unicode"),
        pytest.param("(" * 256 + ")" * 256, id="nested too deep"),
        pytest.param("a" * (MAX_PATTERN_CHARS + 1), id="too long"),
    ],
)
@pytest.mark.timeout(30)
def test_a_pattern_is_refused_when_the_policy_loads(pattern: str) -> None:
    assert refused(pattern)


def test_what_is_no_pattern_is_told_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"(?s)'\(' is not a pattern this engine can match in linear time: .*unclosed"):
        check_pattern("(")


def test_a_pattern_that_was_checked_is_still_the_pattern() -> None:
    assert check_pattern("a+") == "a+"


def test_a_pattern_is_compiled_once() -> None:
    assert _compile("compiled once") is _compile("compiled once")


def test_what_is_no_text_matches_nothing() -> None:
    assert not full_match(".*", b"a")  # type: ignore[arg-type]  # that is the point


def test_the_longest_pattern_is_accepted() -> None:
    assert MAX_PATTERN_CHARS == 512
    assert full_match("a" * MAX_PATTERN_CHARS, "a" * MAX_PATTERN_CHARS)
    assert not refused("a" * MAX_PATTERN_CHARS)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*b",
        "((a+)+)+b",
        "(a|a)*b",
        "(a|aa)+b",
        "(.*a){20}",
        "(.*)*(.*)*(.*)*b",
        "(a?){200}a{200}b",
        "([a-z]+)*[0-9]",
        "[ab]*a[ab]{400}c",
        "(?s)^(.*?,){11}P",
        "(x+x+)+y",
        "(?i)(?:a|A|ä)*!?b",
    ],
)
@pytest.mark.timeout(30)
def test_catastrophic_patterns_decide_on_the_longest_argument_in_no_time(pattern: str) -> None:
    assert not refused(pattern)
    hostile = [
        "a" * (MAX_PATTERN_ARG_BYTES - 1) + "!",
        "ab" * (MAX_PATTERN_ARG_BYTES // 2),
        "x" * MAX_PATTERN_ARG_BYTES,
    ]
    begun = time.perf_counter()
    for text in hostile:
        full_match(pattern, text)
    assert time.perf_counter() - begun < 2  # a backtracking engine would not end in this universe's time


@given(pattern=st.sampled_from(PATTERNS), text=arguments | texts)
def test_simple_patterns_mean_what_they_mean_to_python(pattern: str, text: str) -> None:
    assert full_match(pattern, text) == (re.fullmatch(pattern, text, re.ASCII) is not None)


@given(pattern=st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused_as_none(pattern: str) -> None:
    if not refused(pattern):
        full_match(pattern, pattern)


@given(
    pattern=st.lists(st.sampled_from(TOKENS_WITHOUT_Z), max_size=10).map("".join),
    before=st.text("ab\n", max_size=4),
    after=st.text("ab\n", max_size=4),
)
def test_no_pattern_matches_a_character_it_cannot_name(pattern: str, before: str, after: str) -> None:
    assert refused(pattern) or not full_match(pattern, f"{before}Z{after}")
