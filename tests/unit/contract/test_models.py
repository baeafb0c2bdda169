"""The wire models: what requests refuse and responses bear."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from doogie_contract.models import (
    MAX_ARG_CHARS,
    MAX_ARGS,
    MAX_ENV,
    MAX_ENV_VALUE_CHARS,
    SERVER_NAME_PATTERN,
    EnvName,
    ServerName,
    ServerState,
    ServerStatus,
    StartRequest,
    StopRequest,
)

server_name: TypeAdapter[str] = TypeAdapter(ServerName)
env_name: TypeAdapter[str] = TypeAdapter(EnvName)

encodable_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


def refusals(document: dict[str, Any]) -> list[str]:
    """Where a strict StartRequest finds fault, as dotted paths; empty when it is accepted."""
    try:
        StartRequest.model_validate(document, strict=True)
    except ValidationError as exc:
        return [".".join(map(str, error["loc"])) for error in exc.errors()]
    return []


def accepts(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


# ── names ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a", "0", "time", "a.b_c-d", "a" * 63, "0-", "a..b"])
def test_a_server_may_be_called(name: str) -> None:
    assert accepts(server_name, name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "-a",
        ".a",
        "_a",
        "a" * 64,
        "a b",
        "a/b",
        "a\n",
        "\na",
        "a\0",
        "ä",
        "a;b",
        "%61",
        "\N{FULLWIDTH LATIN SMALL LETTER A}",
        "\N{KELVIN SIGN}",
        "a\ud800",
    ],
)
def test_a_server_may_not_be_called(name: str) -> None:
    assert not accepts(server_name, name)


@given(st.from_regex(re.compile(SERVER_NAME_PATTERN.removesuffix("$"), re.ASCII), fullmatch=True))
def test_every_name_of_the_pattern_is_accepted(name: str) -> None:
    assert accepts(server_name, name)


@given(st.text())
def test_a_name_that_is_accepted_is_plain_and_short(name: str) -> None:
    if accepts(server_name, name):
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
        assert 1 <= len(name) <= 63


@pytest.mark.parametrize("name", ["A", "_", "TZ", "lower", "A1_"])
def test_an_environment_variable_may_be_called(name: str) -> None:
    assert accepts(env_name, name)


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "A B", "A\n", "A\0", "Ä", "A" * 257])
def test_an_environment_variable_may_not_be_called(name: str) -> None:
    assert not accepts(env_name, name)


# ── StartRequest ─────────────────────────────────────────────────────────────────────────────────


def test_a_start_needs_only_an_image() -> None:
    assert StartRequest(image="mcp/time").model_dump() == {
        "image": "mcp/time",
        "args": [],
        "env": {},
        "secrets": [],
        "mounts": [],
    }


@given(args=st.lists(encodable_text, max_size=8), value=encodable_text)
def test_any_text_without_nul_is_an_argument_and_a_value(args: list[str], value: str) -> None:
    request = StartRequest.model_validate({"image": "a", "args": args, "env": {"A": value}}, strict=True)
    assert (request.args, request.env) == (args, {"A": value})


@pytest.mark.parametrize(
    ("document", "where"),
    [
        pytest.param({}, "image", id="no image"),
        pytest.param({"image": ""}, "image", id="empty image"),
        pytest.param({"image": "a b"}, "image", id="space in image"),
        pytest.param({"image": "a\n"}, "image", id="newline in image"),
        pytest.param({"image": "é"}, "image", id="image beyond ASCII"),
        pytest.param({"image": "a" * 513}, "image", id="long image"),
        pytest.param({"image": 5}, "image", id="image that is a number"),
        pytest.param({"image": "a", "args": "x"}, "args", id="args that are a string"),
        pytest.param({"image": "a", "args": None}, "args", id="args that are null"),
        pytest.param({"image": "a", "args": [1]}, "args.0", id="argument that is a number"),
        pytest.param({"image": "a", "args": ["ok", "a\0b"]}, "args.1", id="NUL in an argument"),
        pytest.param({"image": "a", "args": ["\ud800"]}, "args.0", id="lone surrogate in an argument"),
        pytest.param({"image": "a", "args": ["x" * (MAX_ARG_CHARS + 1)]}, "args.0", id="long argument"),
        pytest.param({"image": "a", "args": ["x"] * (MAX_ARGS + 1)}, "args", id="many arguments"),
        pytest.param({"image": "a", "env": ["A=b"]}, "env", id="env that is a list"),
        pytest.param({"image": "a", "env": {"A": 1}}, "env.A", id="value that is a number"),
        pytest.param({"image": "a", "env": {"A": None}}, "env.A", id="value that is null"),
        pytest.param({"image": "a", "env": {"A": "b\0"}}, "env.A", id="NUL in a value"),
        pytest.param({"image": "a", "env": {"A": "\udfff"}}, "env.A", id="lone surrogate in a value"),
        pytest.param({"image": "a", "env": {"A": "x" * (MAX_ENV_VALUE_CHARS + 1)}}, "env.A", id="long value"),
        pytest.param({"image": "a", "env": {"A=B": "c"}}, "env.A=B.[key]", id="= in a name"),
        pytest.param({"image": "a", "env": {"": "c"}}, "env..[key]", id="empty name"),
        pytest.param({"image": "a", "env": {f"A{n}": "" for n in range(MAX_ENV + 1)}}, "env", id="many variables"),
    ],
)
def test_a_start_is_refused_with_the_place_of_the_fault(document: dict[str, Any], where: str) -> None:
    assert refusals(document) == [where]


@pytest.mark.parametrize(
    "key",
    [
        "Privileged",
        "HostConfig",
        "hostconfig",
        "Binds",
        "Image",
        "IMAGE",
        "imagé",
        "\N{LATIN SMALL LETTER DOTLESS I}mage",
        "arg\N{LATIN SMALL LETTER LONG S}secrets",
        "mounts",
        "",
        "image\0",
    ],
)
def test_a_start_refuses_a_key_it_does_not_know(key: str) -> None:
    assert refusals({"image": "a", key: "x"}) == [key]


def test_a_start_refuses_a_key_that_is_no_text() -> None:
    assert refusals({"image": "a", "\ud800": 1})


def test_the_longest_of_everything_is_accepted() -> None:
    env = {f"A{n}": "x" * MAX_ENV_VALUE_CHARS for n in range(MAX_ENV)}
    assert refusals({"image": "a" * 512, "args": ["x" * MAX_ARG_CHARS] * MAX_ARGS, "env": env}) == []


def test_a_request_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        StartRequest(image="a").image = "b"  # type: ignore[misc]  # the type checker knows it as well


# ── StopRequest, responses ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("grace", [None, 0, 300])
def test_a_stop_takes_a_grace_of_up_to_five_minutes(grace: int | None) -> None:
    assert StopRequest.model_validate({"grace_s": grace}, strict=True).grace_s == grace


@pytest.mark.parametrize("grace", [-1, 301, 1.5, "5", True, float("inf"), 10**400])
def test_a_stop_refuses_a_grace_of(grace: object) -> None:
    with pytest.raises(ValidationError):
        StopRequest.model_validate({"grace_s": grace}, strict=True)


def test_an_older_client_reads_the_answers_of_a_newer_proxy() -> None:
    status = ServerStatus.model_validate_json('{"name":"a","state":"running","since_version_9":{"x":1}}')
    assert (status.state, status.exit) == (ServerState.RUNNING, None)
