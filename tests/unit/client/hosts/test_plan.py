"""From an entry to what would be saved: values, secrets, mounts, and who has to do what."""

import json

import pytest

from doogie_client.commands.command import MASK
from doogie_client.hosts.entry import ReasonKind
from doogie_client.hosts.plan import Plan, Verdict
from doogie_contract.models import MAX_NAMED, StartRequest
from doogie_proxy.admission import Admitted, admit
from tests.unit.client.hosts.documents import FILESYSTEM, mcp_servers, planned, policy_with

GITHUB = json.dumps(
    {
        "inputs": [{"type": "promptString", "id": "github_token", "description": "A token", "password": True}],
        "servers": {
            "github": {
                "command": "docker",
                "args": ["run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"],
                "env": {"GITHUB_TOKEN": "${input:github_token}"},
            }
        },
    }
)
FILES = mcp_servers(
    files={
        "command": "npx",
        "args": ["-y", "@modelcontextprotocol/server-filesystem", "/Users/me/Desktop", "/path/to/other"],
    }
)


EVERYTHING = ["-y", "@modelcontextprotocol/server-everything"]


def npx(*args: str, **env: str) -> str:
    return mcp_servers(s={"command": "npx", "args": [*EVERYTHING, *args], "env": env})


def docker(*args: str, **env: str) -> str:
    return mcp_servers(s={"command": "docker", "args": ["run", "-i", "--rm", *args], "env": env})


def messages(made: Plan, kind: ReasonKind) -> list[str]:
    return [f"{reason.loc}: {reason.msg}" for reason in made.reasons if reason.kind is kind]


# --- values -------------------------------------------------------------------------------------------------------


def test_a_value_is_asked_for_then_used_and_never_shown() -> None:
    asked = planned(GITHUB)
    assert asked.verdict is Verdict.NEEDS_INPUT
    assert asked.request is None
    [needed] = asked.inputs
    assert (needed.input.id, needed.input.description, needed.input.secret) == ("github_token", "A token", True)
    assert (needed.missing, needed.used) == (True, ("servers.github.env.GITHUB_TOKEN",))

    given = planned(GITHUB, values={"github_token": "s3cret"})
    assert given.verdict is Verdict.READY
    assert given.request == StartRequest(
        image="ghcr.io/github/github-mcp-server", env={"GITHUB_TOKEN": "s3cret"}, args=[]
    )
    assert given.shown is not None
    assert given.shown.env == {"GITHUB_TOKEN": "<github_token>"}
    assert "s3cret" not in repr(given)


def test_this_processs_own_environment_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "of this process")
    monkeypatch.setenv("HOME", "/home/of-this-process")
    for made in (planned(npx("${TOKEN}", A="${env:TOKEN}", B="$TOKEN")), planned("npx -y x $TOKEN ~/x $HOME/y")):
        assert [needed.input.id for needed in made.inputs if needed.missing] == ["TOKEN"]
        assert "of this process" not in str(made.shown)
        assert "of-this-process" not in str(made)


def test_a_default_is_used_and_told_of_where_no_value_is_given() -> None:
    made = planned(npx("--level=${LEVEL:-info}", API_KEY="${API_KEY:-s3cret}"))
    assert made.request is not None
    assert made.request.args == ["--level=info"]
    assert made.request.env == {"API_KEY": "s3cret"}
    assert "LEVEL: no value was given, so its default 'info' is used" in made.notes
    assert "API_KEY: no value was given, so its default is used" in made.notes
    given = planned(npx("--level=${LEVEL:-info}"), values={"LEVEL": "debug"})
    assert given.request is not None
    assert given.request.args == ["--level=debug"]


def test_each_place_has_a_default_of_its_own() -> None:
    made = planned(npx("${A:-1}", "${A:-2}"))
    assert made.request is not None
    assert made.request.args == ["1", "2"]
    assert planned(npx("${A:-1}", "${A}")).verdict is Verdict.NEEDS_INPUT


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 40000, ["a", "b"], [], MASK])
def test_a_value_that_cannot_be_one_is_refused_without_being_repeated(value: str | list[str]) -> None:
    made = planned(npx(A="${A}"), values={"A": value})
    assert made.verdict is Verdict.NEEDS_INPUT
    assert made.request is None
    [reason] = made.reasons
    assert reason.kind is ReasonKind.INPUT
    assert "x" * 50 not in reason.msg


def test_a_choice_is_one_of_the_choices() -> None:
    text = json.dumps(
        {
            "inputs": [{"type": "pickString", "id": "mode", "options": ["read", "write"]}],
            "servers": {"s": {"command": "uvx", "args": ["mcp-server-time", "--mode", "${input:mode}"]}},
        }
    )
    assert planned(text, values={"mode": "read"}).verdict is Verdict.READY
    assert messages(planned(text, values={"mode": "run"}), ReasonKind.INPUT) == [
        "values.mode: must be one of read, write"
    ]


def test_a_value_cannot_make_another_command_of_it() -> None:
    text = docker("${INPUT}", "mcp/time")
    assert planned(text, values={"INPUT": "--privileged"}).verdict is Verdict.REFUSED
    secret = docker("${API_TOKEN}", "mcp/time")
    made = planned(secret, values={"API_TOKEN": "--privileged"})
    assert made.request is None
    assert made.verdict is not Verdict.READY
    npx_secret = mcp_servers(s={"command": "npx", "args": ["-y", "${API_TOKEN}"]})
    assert planned(npx_secret, values={"API_TOKEN": "@modelcontextprotocol/server-everything"}).request is None


def test_no_message_holds_a_secret_value() -> None:
    options = ["--label", "x=${API_TOKEN}", "--volume-driver=${API_TOKEN}", "-v", "${API_TOKEN}:/x"]
    made = planned(docker(*options, "${API_TOKEN}/x y"), values={"API_TOKEN": "s3cret"})
    assert made.reasons
    assert "s3cret" not in str(made)
    literal = planned(npx("--api-key", "s3cret", "--token=s3cret", "postgresql://u:s3cret@h/db", DB_PASSWORD="s3cret"))
    assert literal.request is not None
    assert literal.request.args == ["--api-key", "s3cret", "--token=s3cret", "postgresql://u:s3cret@h/db"]
    assert "s3cret" not in str(literal)


def test_the_variables_of_an_env_file_are_asked_for_as_a_whole() -> None:
    server = {"command": "npx", "args": EVERYTHING, "envFile": "${workspaceFolder}/.env", "env": {"A": "own"}}
    text = json.dumps({"mcpServers": {"s": server}})
    asked = planned(text)
    assert [(needed.input.id, needed.input.secret, needed.used) for needed in asked.inputs] == [
        ("${workspaceFolder}/.env", True, ("mcpServers.s.envFile",))
    ]
    content = '# a comment\n\nexport A=1\nB = \'x # y\'\nC="a\\nb\\"" # c\nD=plain # d\nE=\n'
    given = planned(text, values={"${workspaceFolder}/.env": content})
    assert given.request is not None
    assert given.request.env == {"A": "own", "B": "x # y", "C": 'a\nb"', "D": "plain", "E": ""}
    assert given.shown is not None
    assert given.shown.env == {"A": "own", **dict.fromkeys("BCDE", MASK)}
    [message] = messages(planned(text, values={"${workspaceFolder}/.env": "A=1\ns3cret"}), ReasonKind.INPUT)
    assert message == "values.${workspaceFolder}/.env, line 2: must be NAME=value"


# --- secrets of the rule ------------------------------------------------------------------------------------------


def test_a_secret_of_the_rule_takes_the_place_of_a_value() -> None:
    made = planned(GITHUB, secrets={"github_token": "github"})
    assert made.verdict is Verdict.READY
    assert made.request == StartRequest(image="ghcr.io/github/github-mcp-server", secrets=["github"])
    assert made.rule is not None
    assert made.rule.secrets == {"github": "GITHUB_TOKEN"}
    assert isinstance(admit(policy_with([made.rule]), "chat", made.request), Admitted)


def test_a_secret_of_the_rule_sets_one_variable() -> None:
    made = planned(npx(A_KEY="${A_KEY}", B_KEY="${B_KEY}"), secrets={"A_KEY": "github", "B_KEY": "github"})
    assert messages(made, ReasonKind.INPUT) == [
        "mcpServers.s.env.B_KEY: the secret 'github' sets one variable, A_KEY; give the value of this one"
    ]


def test_a_secret_of_the_rule_also_sets_what_may_be_left_out() -> None:
    package = {
        "registryType": "oci",
        "identifier": "example/x:1",
        "environmentVariables": [{"name": "A_KEY", "isSecret": True}, {"name": "B"}],
    }
    made = planned(json.dumps({"name": "a/x", "packages": [package]}), secrets={"A_KEY": "github"})
    assert made.request == StartRequest(image="example/x:1", secrets=["github"])


def test_a_secret_of_the_rule_is_all_of_a_variable() -> None:
    made = planned(npx("--token=${T}", A="Bearer ${T}", B="${T}"), secrets={"T": "github"})
    assert messages(made, ReasonKind.INPUT) == [
        f"mcpServers.s.{place}: T: a secret of the rule can only be all of a variable's value; give the value itself"
        for place in ("args.2", "env.A")
    ]


# --- docker's variables -------------------------------------------------------------------------------------------


def test_a_variable_that_docker_would_take_from_its_environment_is_asked_for() -> None:
    text = docker("-e", "API_TOKEN", "-eTZ", "mcp/time", "-e", "OTHER")
    made = planned(text)
    assert [(needed.input.id, needed.used) for needed in made.inputs] == [
        ("API_TOKEN", ("mcpServers.s.args.3",)),
        ("TZ", ("mcpServers.s.args.5",)),
    ]
    given = planned(text, values={"API_TOKEN": "s3cret", "TZ": "UTC"})
    assert given.request == StartRequest(
        image="mcp/time", args=["-e", "OTHER"], env={"API_TOKEN": "s3cret", "TZ": "UTC"}
    )


@pytest.mark.parametrize(
    "option", [["-e", "T=${X}"], ["--env", "T=${X}"], ["--env=T=${X}"], ["-eT=${X}"], ["-ieT=${X}"]]
)
def test_a_value_that_is_asked_for_is_kept_in_the_environment_and_not_in_the_arguments(option: list[str]) -> None:
    made = planned(docker(*option, "mcp/time", "-e", "T=${Y:-y}"), values={"X": "value"})
    assert made.request == StartRequest(image="mcp/time", args=["-e", "T=y"], env={"T": "value"})
    if option != ["-ieT=${X}"]:
        assert made.command is not None
        assert "value" not in " ".join(made.command.args)


def test_a_variable_before_the_program_is_one_of_the_environment() -> None:
    text = mcp_servers(s={"command": "env", "args": ["T=${X}", "docker", "run", "mcp/time"]})
    made = planned(text, values={"X": "value"})
    assert made.request == StartRequest(image="mcp/time", env={"T": "value"})
    assert made.command is not None
    assert made.command.args == ["docker", "run", "mcp/time"]


# --- mounts -------------------------------------------------------------------------------------------------------


def test_the_filesystem_server_gets_mounts_and_their_paths() -> None:
    waiting = planned(FILES)
    assert waiting.verdict is Verdict.NEEDS_OPERATOR
    assert [(reason.loc, reason.ask) for reason in waiting.reasons] == [
        ("mcpServers.files.args.2", "mounts: {desktop: {host: /srv/mcp/desktop, target: /data/desktop}}"),
        ("mcpServers.files.args.3", "mounts: {other: {host: /srv/mcp/other, target: /data/other}}"),
    ]
    assert planned(FILES, granted=["desktop"]).verdict is Verdict.NEEDS_OPERATOR
    for granted in (["other", "desktop"], None):
        made = planned(FILES, granted=granted)
        assert made.verdict is Verdict.READY
        assert made.request == StartRequest(
            image=FILESYSTEM, args=["/data/desktop", "/data/other"], mounts=["desktop", "other"]
        )
        assert made.command is not None
        assert made.command.mounts == ["desktop", "other"]
        assert made.rule is not None
        assert isinstance(admit(policy_with([made.rule]), "chat", made.request), Admitted)


@pytest.mark.parametrize(
    "options",
    [
        ["-v", "/srv/docs:/docs:ro"],
        ["--volume", "/srv/docs:/docs:ro"],
        ["--volume=/srv/docs:/docs:ro"],
        ["-v/srv/docs:/docs:ro"],
        ["--mount", "type=bind,source=/srv/docs,target=/docs,readonly"],
        ["--mount=type=bind,dst=/docs,src=/srv/docs,ro"],
        ["-tv", "/srv/docs:/docs:ro"],
    ],
)
def test_a_volume_of_docker_becomes_a_mount(options: list[str]) -> None:
    made = planned(docker(*options, "mcp/files", "/docs/a", "/other"), granted=["docs"])
    assert made.verdict is Verdict.READY
    assert made.request == StartRequest(image="mcp/files", args=["/docs/a", "/other"], mounts=["docs"])
    assert made.rule is not None
    assert made.rule.mounts == {"docs": {"host": "/srv/docs", "target": "/docs"}}
    assert made.rule.sources == {"docs": "/srv/docs"}
    assert isinstance(admit(policy_with([made.rule]), "chat", made.request), Admitted)


def test_a_path_in_a_line_that_is_one_argument_is_not_passed_on_as_it_is() -> None:
    def cmd(line: str) -> Plan:
        return planned(mcp_servers(s={"command": "cmd", "args": ["/c", line]}), granted=None)

    made = cmd("npx -y @modelcontextprotocol/server-filesystem data --x")
    assert made.request == StartRequest(image=FILESYSTEM, args=["data", "--x"])
    assert made.rule is not None
    assert made.rule.args == ["data", "--x"]
    assert messages(cmd("npx -y @modelcontextprotocol/server-filesystem ./data"), ReasonKind.MALFORMED) == [
        "mcpServers.s.args.1: a path in a line that is one argument; write each word of the command by itself"
    ]


def test_volumes_and_paths_get_different_names_and_keep_their_order() -> None:
    options = ["-v", "/a/data:/x/data", "-v", "cache:/y/data", "--mount", "type=bind,src=C:\\data,dst=/z/data"]
    made = planned(docker(*options, "mcp/files", "/Users/me/data"), granted=None)
    assert made.rule is not None
    assert {name: dict(spec) for name, spec in made.rule.mounts.items()} == {
        "data": {"host": "/a/data", "target": "/x/data", "read_only": False},
        "data-2": {"volume": "cache", "target": "/y/data", "read_only": False},
        "data-3": {"host": "/srv/mcp/data", "target": "/z/data", "read_only": False},
        "data-4": {"host": "/srv/mcp/data-4", "target": "/data/data-4"},
    }
    assert made.request is not None
    assert made.request.mounts == ["data", "data-2", "data-3", "data-4"]
    assert made.request.args == ["/data/data-4"]


@pytest.mark.parametrize(
    "text",
    [
        npx(*(f"/x/{number}" for number in range(MAX_NAMED + 5))),
        npx(",".join(f"/x/{number}" for number in range(MAX_NAMED + 5))),
        docker(*(f"-v/x/{number}:/y/{number}" for number in range(MAX_NAMED + 5)), "mcp/x"),
    ],
)
def test_a_server_has_no_more_mounts_than_a_request(text: str) -> None:
    made = planned(text, granted=None)
    assert made.verdict is Verdict.REFUSED
    assert made.shown is not None
    assert len(made.shown.mounts) == MAX_NAMED + 1


def test_the_engines_socket_is_no_mount() -> None:
    made = planned(docker("-v", "/var/run/docker.sock:/var/run/docker.sock", "mcp/x"), granted=None)
    assert made.verdict is Verdict.REFUSED


def test_what_was_written_for_a_container_stays_as_it_is() -> None:
    server = {
        "command": "npx -y @modelcontextprotocol/server-filesystem",
        "args": ["/data/docs", "<as it is>"],
        "env": {"A": "${A}"},
        "doogie": {"mounts": ["docs"], "secrets": ["github"]},
    }
    made = planned(mcp_servers(s=server), values={"A": "1"})
    assert made.request == StartRequest(
        image=FILESYSTEM, args=["/data/docs", "<as it is>"], env={"A": "1"}, secrets=["github"], mounts=["docs"]
    )
    assert made.command is not None
    assert (made.command.command, made.command.args) == (server["command"], server["args"])


# --- who has to do what -------------------------------------------------------------------------------------------


def test_an_unmapped_package_needs_the_operator_to_build_an_image() -> None:
    made = planned("npx -y @brave/brave-search-mcp-server@2.1.3 --transport stdio")
    assert (made.verdict, made.name) == (Verdict.NEEDS_OPERATOR, "brave-search-mcp-server")
    assert made.build == ("doogie-images build npx:@brave/brave-search-mcp-server@2.1.3",)
    assert made.rule is not None
    assert made.rule.image is None


def test_what_the_policy_decides_is_part_of_the_suggested_rule() -> None:
    made = planned(docker("-m", "512m", "--cpus", "2", "--network", "tools", "-u", "1000:1000", "mcp/x"))
    assert made.verdict is Verdict.NEEDS_OPERATOR
    assert made.rule is not None
    rule = policy_with([made.rule]).rules[0]
    assert (rule.resources.memory, rule.resources.cpus, rule.network, rule.user) == (
        512 * 2**20,
        2,
        "tools",
        "1000:1000",
    )
    assert rule.resources.pids == 64


def test_of_several_ways_to_run_a_server_the_one_that_works_is_taken() -> None:
    packages = [
        {"registryType": "nuget", "identifier": "X", "version": "1"},
        {"registryType": "npm", "identifier": "@example/x", "version": "1.0.0"},
        {"registryType": "oci", "identifier": "docker.io/example/x:1.0.0"},
    ]
    made = planned(json.dumps({"name": "com.example/x", "packages": packages}))
    assert made.request == StartRequest(image="example/x:1.0.0")
    assert made.notes[0] == (
        "packages.2 was taken, of the ways in which the document says it can be run; not packages.0, packages.1"
    )


@pytest.mark.parametrize(
    "server",
    [
        {"command": "docker", "args": ["x"] * 600},
        {"command": "docker", "args": ["run", "mcp/x", "\0"]},
        {"command": "mcp/x", "env": {"NOT-A-NAME": "x"}},
        {"command": "mcp/x", "env": {"A": "x" * 40000}},
        {"command": "mcp/x", "doogie": {"mounts": ["NOT A NAME"]}},
        {"command": ""},
        {"command": "\0"},
    ],
)
def test_what_the_contract_does_not_take_is_refused_with_its_place(server: dict[str, object]) -> None:
    made = planned(json.dumps({"mcpServers": {"s": server}}))
    assert made.verdict is Verdict.REFUSED
    assert all(reason.loc.startswith("mcpServers.s") for reason in made.reasons)
