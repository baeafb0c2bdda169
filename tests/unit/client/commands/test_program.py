"""Which program a command starts: past what stands before it, and what is no program that is known."""

import pytest

from tests.unit.client.commands.reading import SHIPPED, faults, kinds, translated


@pytest.mark.parametrize(
    ("line", "env"),
    [
        ("A=1 B='2 3' docker run mcp/x", {"A": "1", "B": "2 3"}),
        ("env A=1 B= docker run mcp/x", {"A": "1", "B": ""}),
        ("/usr/bin/env A=1 docker run -e A mcp/x", {"A": "1"}),
        ("A=1 env B=2 sudo C=3 docker run mcp/x", {"A": "1", "B": "2", "C": "3"}),
        ("sudo docker run mcp/x", {}),
        ("wsl docker run mcp/x", {}),
        ("A=b=c mcp/x:1", {"A": "b=c"}),
    ],
)
def test_variables_before_a_program_are_the_servers(line: str, env: dict[str, str]) -> None:
    assert translated(line).request.env == env


def test_what_stands_before_a_program_can_be_arguments_too() -> None:
    request = translated(["cmd", "/c", "env", "A=1", "docker", "run", "mcp/x"]).request
    assert (request.image, request.env) == ("mcp/x", {"A": "1"})


@pytest.mark.parametrize("image", ["mcp/time", "time:1.0", "ghcr.io/a/b", "localhost:5000/x", f"x@sha256:{'0' * 64}"])
def test_the_name_of_an_image_is_a_command(image: str) -> None:
    request = translated([image, "--local-timezone=UTC", "-e"], env={"A": "1"}, mounts=["m"]).request
    assert (request.image, request.args, request.env) == (image, ["--local-timezone=UTC", "-e"], {"A": "1"})
    assert request.mounts == ["m"]
    assert translated(f"{image} --a 'b c'").request.args == ["--a", "b c"]


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("alpine", "unknown", "repository/name or name:tag"),
        ("mcp-server-time --x", "unknown", "docker run, npx"),
        ("frobnicate", "unknown", "'frobnicate' is not a known program"),
        ("x" * 5000, "unknown", "…"),
        ("python -m foo", "unsupported", "machine the command was written for"),
        ("node x.js", "unsupported", "machine the command was written for"),
        ("/opt/foo/bin/server --x", "unsupported", "machine the command was written for"),
        ("./server", "unsupported", "machine the command was written for"),
        ("../bin/python x", "unsupported", "machine the command was written for"),
        (r"C:\x y\server.exe --x", "unsupported", "machine the command was written for"),
        ("bash -c 'npx -y foo'", "unsupported", "bash is a shell"),
        ("powershell.exe -Command npx", "unsupported", "powershell is a shell"),
        ("cmd", "unsupported", "cmd is a shell"),
        ("cmd /k npx foo", "unsupported", "cmd is a shell"),
        ("cmd /c npx foo '%APPDATA%'", "malformed", "%APPDATA% is for a shell to replace"),
        ("sudo -E docker run mcp/x", "unknown", "'-E' of sudo"),
        ("env -i npx foo", "unknown", "'-i' of env"),
        ("A=1", "malformed", "there is no program"),
        ("   ", "malformed", "there is no program"),
        ("''", "unknown", "'' is not a known program"),
        ("docker-compose run x", "unknown", "not a known program"),
        ("HTTP://X/Y", "unknown", "not a known program"),
    ],
)
def test_what_is_no_known_program_is_refused_with_what_is_right(line: str, kind: str, said: str) -> None:
    found = [fault for fault in faults(line) if fault.kind != "unmapped"]
    assert [fault.kind for fault in found] == [kind]
    assert said in found[0].msg


def test_faults_of_the_line_and_of_the_command_come_together() -> None:
    assert kinds("docker run -m $MEM --privileged mcp/x | tee log") == [
        ("malformed", "command"),
        ("malformed", "command"),
        ("policy", "command"),
        ("unsupported", "command"),
    ]


def test_a_quoted_placeholder_of_a_line_is_text_and_one_of_a_file_is_not() -> None:
    assert translated("docker run mcp/x '${NAME}'").request.args == ["${NAME}"]
    assert kinds(["docker", "run", "mcp/x", "a=${NAME:-b c}", "$NAME", "${}", "$(x)", "${input:key}"]) == [
        ("malformed", "args.2"),
        ("malformed", "args.6"),
    ]


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["npx", "-y", "foo", "--key=${KEY:-planted}"], {}),
        (["docker", "run", "-e", "K=${KEY:-planted}", "mcp/x"], {"A": "${B:-planted}"}),
        (["uvx", "--from", "git+https://planted@x/y", "foo"], {}),
        (["npx", "https://planted@x/y"], {}),
        (["docker", "run", "--frobnicate=planted", "-Xplanted", "mcp/x"], {}),
        (["docker", "run", "-e", "K=planted", "mcp/x"], {"K": "planted-too"}),
        (["docker", "run", "-e", "1K=planted", "-e", "L=planted\0", "mcp/x", "planted\0"], {}),
        (["docker", "run", "--label", "planted", "--env-file=planted", "mcp/x"], {}),
        (["npx", "-y", "mcp-remote", "https://planted@x/sse", "--header", "planted"], {}),
        (["python", "planted"], {"K": "planted"}),
    ],
)
def test_no_fault_shows_a_value(words: list[str], env: dict[str, str]) -> None:
    for fault in faults(words, SHIPPED, env=env):
        assert "planted" not in f"{fault}"
