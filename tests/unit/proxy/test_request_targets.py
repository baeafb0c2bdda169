"""Names in paths, and the hosts that a TCP listener answers to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_contract.models import SERVER_NAME_PATTERN
from doogie_proxy.http import _PLAIN_PATH, _SERVER_NAME, _name_of
from doogie_proxy.settings import Settings


@given(st.from_regex(re.compile(SERVER_NAME_PATTERN, re.ASCII)) | st.text())
def test_a_name_in_a_path_is_what_the_contract_says(name: str) -> None:
    promised = re.match(SERVER_NAME_PATTERN.replace("$", r"\Z"), name, re.ASCII) is not None
    assert (_SERVER_NAME.fullmatch(name) is not None) is promised


@pytest.mark.parametrize("name", ["", "-a", "a\n", "A", "..", "a" * 64, "a/b", "a%2e"])
def test_a_name_in_a_path_is_not(name: str) -> None:
    assert not _SERVER_NAME.fullmatch(name)


@pytest.mark.parametrize("path", ["/", "/v1/servers", "/v1/servers/a.b_c-d/stdio", "/~"])
def test_a_target_is_a_plain_path(path: str) -> None:
    assert _PLAIN_PATH.fullmatch(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "v1",
        "http://proxy/v1",
        "/v1%2Fservers",
        "/%2e%2e",
        "/a;b",
        "/a b",
        "/a\n",
        "/a\0",
        "/ä",
        "/a\\b",
        "/a:b",
    ],
)
def test_a_target_is_not_anything_that_another_parser_might_normalise(path: str) -> None:
    assert not _PLAIN_PATH.fullmatch(path)


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:80", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:80"],
)
def test_a_tcp_listener_answers_to(host: str) -> None:
    assert _name_of(host) in Settings().allowed_host_names


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost.",
        "evil.example:80",
        "10.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "[::]",
        "[::1",
        "::1",
        "127.1",
        "127.9.9.9",
        "2130706433",
        "0x7f.0.0.1",
        "localhost@evil.example",
        "127.0.0.1:80@evil.example",
    ],
)
def test_a_tcp_listener_does_not_answer_to(host: str) -> None:
    assert _name_of(host) not in Settings().allowed_host_names
