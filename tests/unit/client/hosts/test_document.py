"""Which documents there are, and what is said of one that is wrong in part or as a whole."""

import json
from typing import Any

import pytest

from doogie_client.hosts.document import MAX_SERVERS, read_document
from doogie_client.hosts.entry import HostEntry, ReasonKind
from doogie_client.hosts.jsonc import DocumentError
from tests.unit.client.hosts.documents import entry_of, mcp_servers, planned

SERVER = {"command": "uvx", "args": ["mcp-server-time"]}


def words(entry: HostEntry) -> list[str]:
    return [word.text.fill({}) for word in entry.words]


@pytest.mark.parametrize(
    ("document", "loc", "name"),
    [
        ({"mcpServers": {"time": SERVER}}, "mcpServers.time", "time"),
        ({"mcpServers": [{"name": "time", **SERVER}]}, "mcpServers.0", "time"),
        ({"servers": {"time": SERVER}}, "servers.time", "time"),
        ({"mcp": {"servers": {"time": SERVER}}, "editor.fontSize": 12}, "mcp.servers.time", "time"),
        ({"mcp": {"time": {"type": "local", "command": ["uvx", "mcp-server-time"]}}}, "mcp.time", "time"),
        ({"context_servers": {"time": SERVER}, "theme": "One"}, "context_servers.time", "time"),
        ({"context_servers": {"time": {"command": {"path": "uvx", "args": ["mcp-server-time"]}}}}, None, "time"),
        ({"time": SERVER}, "time", "time"),
        (SERVER, "", None),
        ({"command": "uvx mcp-server-time"}, "", None),
        ({"name": "time", **SERVER}, "", "time"),
    ],
)
def test_each_hosts_document_is_read(document: object, loc: str | None, name: str | None) -> None:
    entry = entry_of(json.dumps(document))
    assert (words(entry), entry.name, entry.reasons) == (["uvx", "mcp-server-time"], name, ())
    assert loc is None or entry.loc == loc


def test_a_document_of_bytes_with_a_byte_order_mark_is_read() -> None:
    assert len(read_document(b"\xef\xbb\xbf" + mcp_servers(time=SERVER).encode())) == 1


def test_a_part_of_a_document_is_read_as_readmes_print_it() -> None:
    assert words(entry_of('"mcpServers": {"time": {"command": "uvx", "args": ["mcp-server-time"]}},')) == [
        "uvx",
        "mcp-server-time",
    ]


def test_a_page_of_the_registrys_api_is_read() -> None:
    package = {"registryType": "pypi", "identifier": "x", "version": "1.0"}
    server = {"name": "com.example/x", "packages": [package]}
    for document in (server, {"server": server}, [server], {"servers": [{"server": server, "_meta": {}}, server]}):
        for [entry] in read_document(json.dumps(document)):
            assert (words(entry), entry.name) == (["uvx", "x==1.0"], "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the document is empty"),
        (" \n", "the document is empty"),
        (b"\xff", "not UTF-8: byte 0 is none of a character"),
        ("{}", "this is none of the documents that are read"),
        ('{"a": 1}', "this is none of the documents that are read"),
        ('{"a": {"command": "x"}, "b": 1}', "this is none of the documents that are read"),
        ("[1]", None),
        ('{"mcpServers": 1}', "mcpServers: must be an object of servers"),
        ('{"servers": "x"}', "servers: must be an object of servers"),
        ('{"servers": {}, "inputs": {}}', "inputs: must be a list of inputs"),
        ('{"servers": {}, "inputs": [{}]}', "inputs.0: must be an object with an id"),
        ('{"servers": {}, "inputs": [{"id": "a", "password": 1}]}', "inputs.0.password: must be true or false"),
        ('{"servers": {}, "inputs": [{"id": "a", "default": 1}]}', "inputs.0.default: must be a text"),
        ('{"servers": {}, "inputs": [{"id": "a", "options": 1}]}', "inputs.0.options: must be a list of texts"),
        (
            '{"servers": {}, "inputs": [{"id": "a"}, {"id": "a"}]}',
            "inputs.1.id: 'a' is the id of another input as well",
        ),
        ('{"name": "a/b", "packages": 1}', "packages: must be a list of objects"),
        ('{"name": "a/b", "packages": [1]}', "packages.0: must be an object"),
        ('{"name": "a/b", "packages": []}', "server.json: has neither packages nor remotes"),
        ('docker run "x', "line: a double quote is not closed"),
        ("docker run x | cat", "line: '|' needs a shell"),
        ("A=1", "line: has no command"),
        ("npx \ue000", "line: has characters of Unicode's private use area"),
        ("claude mcp add --mystery x -- npx y", "line: '--mystery' is not an option of claude mcp add"),
        ("claude mcp add x -e A -- npx y", "line: -e must be followed by NAME=value"),
    ],
)
def test_what_is_no_such_document_is_refused_with_its_place(text: str | bytes, message: str | None) -> None:
    if message is None:
        [[entry]] = read_document(text)
        assert [reason.kind for reason in entry.reasons] == [ReasonKind.MALFORMED]
        return
    with pytest.raises(DocumentError) as caught:
        read_document(text)
    assert str(caught.value).startswith(message)


def test_a_document_has_a_greatest_number_of_servers() -> None:
    most = {f"s{number}": SERVER for number in range(MAX_SERVERS)}
    assert len(read_document(mcp_servers(**most))) == MAX_SERVERS
    with pytest.raises(DocumentError, match=f"more than {MAX_SERVERS} servers"):
        read_document(mcp_servers(**most, one_more=SERVER))


@pytest.mark.parametrize(
    ("server", "reasons"),
    [
        (1, {"": "must be an object with a command"}),
        ({}, {"": "has no command"}),
        ({"command": 1.5}, {".command": "must be a text"}),
        ({"command": []}, {".command": "is empty"}),
        ({"command": {"args": []}}, {".command.path": "must be a text"}),
        ({"command": "npx 'x"}, {".command": "a single quote is not closed"}),
        ({**SERVER, "args": "x"}, {".args": "must be a list of texts"}),
        ({**SERVER, "args": [None, {}]}, {".args.0": "must be a text", ".args.1": "must be a text"}),
        ({**SERVER, "env": []}, {".env": "must be an object of texts"}),
        ({**SERVER, "env": {"A": True, "B": {}}}, {".env.A": 'must be a text: "true"', ".env.B": "must be a text"}),
        ({**SERVER, "env": {"A": "1"}, "environment": {"A": "1"}}, {".environment.A": "this variable is given twice"}),
        ({**SERVER, "type": "carrier-pigeon"}, {".type": "must be stdio"}),
        ({**SERVER, "url": "https://x.example"}, {".url": "has a command as well"}),
        ({**SERVER, "disabled": "no"}, {".disabled": "must be true or false"}),
        ({**SERVER, "description": 1.5}, {".description": "must be a text"}),
        ({**SERVER, "envFile": []}, {".envFile": "must be a text"}),
        ({**SERVER, "doogie": 1}, {".doogie": "must be an object"}),
        ({**SERVER, "doogie": {"mounts": "x"}}, {".doogie.mounts": "must be a list of names"}),
        ({**SERVER, "doogie": {"secrets": [None]}}, {".doogie.secrets.0": "must be a text"}),
    ],
)
def test_what_is_wrong_with_one_server_is_said_of_it_alone(server: Any, reasons: dict[str, str]) -> None:
    [[broken], [good]] = read_document(mcp_servers(broken=server, good=SERVER))
    assert good.reasons == ()
    found = {reason.loc: reason.msg for reason in broken.reasons}
    assert found.keys() == {f"mcpServers.broken{loc}" for loc in reasons}
    for loc, message in reasons.items():
        assert found[f"mcpServers.broken{loc}"].startswith(message)


@pytest.mark.parametrize(
    "server", [{"url": "https://u:p@x.example/mcp?key=s3cret"}, {"type": "http"}, {"type": "sse", "url": 1}]
)
def test_a_remote_server_is_none_of_ours_and_its_url_is_not_shown_whole(server: dict[str, object]) -> None:
    made = planned(json.dumps({"mcpServers": {"far": server}}))
    [reason] = made.reasons
    assert reason.kind is ReasonKind.REMOTE
    assert "it runs elsewhere, so there is nothing to start" in reason.msg
    assert "s3cret" not in reason.msg
    assert "u:p" not in reason.msg


def test_a_server_that_runs_behind_the_proxy_already_is_not_started_again() -> None:
    [reason] = planned(mcp_servers(time={"command": "doogie", "args": ["stdio", "time"]})).reasons
    assert (reason.kind, reason.loc) == (ReasonKind.REMOTE, "mcpServers.time.command")


def test_what_is_not_taken_over_is_told() -> None:
    entry = entry_of(
        mcp_servers(time={**SERVER, "cwd": "/x", "autoApprove": [], "timeout": 60, "env": {"A": None, "B": 8080}})
    )
    assert entry.notes == (
        "mcpServers.time.env.A is null, so the variable is not set",
        "cwd was not taken over: in the container the rule's workdir decides",
        "not taken over, as it has no meaning here: autoApprove, timeout",
    )
    assert {name: variable.text.fill({}) for name, variable in entry.env.items()} == {"B": "8080"}


@pytest.mark.parametrize(
    ("said", "enabled"),
    [({}, None), ({"disabled": True}, False), ({"disabled": False}, True), ({"enabled": False}, False)],
)
def test_whether_a_server_is_enabled_is_taken_over_where_it_is_said(
    said: dict[str, bool], enabled: bool | None
) -> None:
    assert entry_of(mcp_servers(time={**SERVER, **said})).enabled is enabled


def test_vs_codes_inputs_say_what_is_asked_for() -> None:
    inputs = [
        {"type": "promptString", "id": "a", "description": "The A", "password": True, "default": "x"},
        {"type": "pickString", "id": "b", "options": ["1", {"label": "two", "value": "2"}]},
        {"type": "command", "id": "c", "command": "pick"},
    ]
    server = {"command": "npx", "args": ["x", "${input:a}", "${input:b}", "${input:c}", "${input:unknown}"]}
    known = entry_of(json.dumps({"inputs": inputs, "servers": {"s": server}})).inputs
    assert list(known) == ["a", "b", "c", "unknown"]
    assert (known["a"].description, known["a"].secret, known["a"].default) == ("The A", True, "x")
    assert (known["b"].choices, known["b"].secret) == (("1", "2"), False)


@pytest.mark.parametrize(
    ("line", "name", "expected", "env"),
    [
        ("docker run -i mcp/time", None, ["docker", "run", "-i", "mcp/time"], {}),
        ("npx -y x \\\n  --a 'b c'", None, ["npx", "-y", "x", "--a", "b c"], {}),
        ("A=1 B='2 3' uvx x", None, ["uvx", "x"], {"A": "1", "B": "2 3"}),
        ("uvx x --t $T --u \"${U:-u}\" 'a $V'", None, ["uvx", "x", "--t", "<T>", "--u", "u", "a $V"], {}),
        ("docker run -v $(pwd):/x -v ~/y:/y i", None, None, {}),
        ('npx x <TOKEN> "don\'t <this>"', None, ["npx", "x", "<TOKEN>", "don't <this>"], {}),
        ("claude mcp add t -- uvx x -y", "t", ["uvx", "x", "-y"], {}),
        ("claude mcp add -s user --env A=1 t -e B=2 uvx x", "t", ["uvx", "x"], {"A": "1", "B": "2"}),
    ],
)
def test_a_line_is_read_as_a_shell_reads_it(
    line: str, name: str | None, expected: list[str] | None, env: dict[str, str]
) -> None:
    entry = entry_of(line)
    assert entry.name == name
    assert words(entry) == (expected or ["docker", "run", "-v", "$(pwd):/x", "-v", "~/y:/y", "i"])
    assert {key: variable.text.fill({}) for key, variable in entry.env.items()} == env
