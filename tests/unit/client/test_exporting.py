"""Exports: for desktop hosts, through ``doogie stdio``; and the commands themselves, which come back as they were."""

import json
from datetime import UTC, datetime

from hypothesis import assume, given
from hypothesis import strategies as st

from doogie_client.commands import CommandRefused, ServerCommand, translate
from doogie_client.hosts.document import read_document
from doogie_client.hosts.draft import Answers
from doogie_client.hosts.entry import ReasonKind
from doogie_client.hosts.plan import plan
from doogie_client.service.exporting import export_commands, export_mcp_servers
from doogie_client.service.records import ConfigRecord, ServerConfig
from tests.unit.client.hosts.documents import CATALOGUE, planned


def record(name: str, server_name: str, **config: object) -> ConfigRecord:
    now = datetime.now(UTC)
    whole = ServerConfig.model_validate({"command": "mcp/time", **config})
    return ConfigRecord(
        id="1", name=name, server_name=server_name, user_id="alice", config=whole, created_at=now, updated_at=now
    )


RECORDS = [
    record("My time", "my-time", env={"API_TOKEN": "s3cret"}, args=["--x"]),
    record("Files", "files", mounts=["docs"], secrets=["github"]),
]


def test_a_desktop_host_is_given_doogie_stdio_and_nothing_of_the_configuration() -> None:
    assert export_mcp_servers(RECORDS) == {
        "mcpServers": {
            "My time": {"command": "doogie", "args": ["stdio", "my-time"]},
            "Files": {"command": "doogie", "args": ["stdio", "files"]},
        }
    }


def test_what_is_disabled_is_not_exported_for_a_desktop_host() -> None:
    assert export_mcp_servers([record("off", "off", enabled=False)]) == {"mcpServers": {}}


def test_vs_code_has_a_form_of_its_own() -> None:
    assert export_mcp_servers(RECORDS[:1], form="servers") == {
        "servers": {"My time": {"type": "stdio", "command": "doogie", "args": ["stdio", "my-time"]}}
    }


def test_the_command_may_be_another_and_have_settings() -> None:
    command = ["docker", "compose", "exec", "-T", "chat", "doogie", "stdio"]
    settings = {"DOOGIE_PROXY_URL": "unix:///run/doogie/proxy.sock"}
    assert export_mcp_servers(RECORDS[:1], command=command, env=settings) == {
        "mcpServers": {"My time": {"command": "docker", "args": [*command[1:], "my-time"], "env": settings}}
    }


def test_no_export_has_a_value_of_an_environment() -> None:
    for document in (export_mcp_servers(RECORDS), export_commands(RECORDS)):
        assert "s3cret" not in json.dumps(document)


def test_an_export_for_a_desktop_host_is_not_imported_again() -> None:
    for [entry] in read_document(json.dumps(export_mcp_servers(RECORDS))):
        assert [reason.kind for reason in plan(entry, Answers(), CATALOGUE).reasons] == [ReasonKind.REMOTE]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
hostile = st.sampled_from(
    ["/Users/me/x", "~/x", ".", "<token>", "your-key", "$TOKEN", "--key", "***", "-v", "a b", "'"]
)
names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
commands = st.builds(
    ServerCommand,
    command=st.sampled_from(["mcp/time", "docker run -i mcp/time", "docker", "npx", "uvx mcp-server-time"]),
    args=st.lists(texts | hostile, max_size=4).flatmap(
        lambda args: st.sampled_from(
            [args, ["run", "-i", "mcp/time", *args], ["-y", "@modelcontextprotocol/server-filesystem", *args]]
        )
    ),
    env=st.dictionaries(names, texts | hostile, max_size=3),
    secrets=st.lists(st.sampled_from(["github", "db"]), unique=True),
    mounts=st.lists(st.sampled_from(["docs", "work"]), unique=True),
)


@given(commands)
def test_an_exported_command_comes_back_as_it_was(command: ServerCommand) -> None:
    try:
        request = translate(command, CATALOGUE).request
    except CommandRefused:
        assume(False)
        raise
    assume("***" not in command.env.values())  # stands for a stored value, so no configuration has it
    text = json.dumps(export_commands([record("x", "x", **command.model_dump())]))
    made = planned(text, values=command.env)
    assert made.reasons == ()
    assert made.command == command
    assert made.request == request
