"""What the service that this replaces did to commands, each fault as a test."""

from tests.unit.client.commands.reading import faults, kinds, translated


def test_a_quoted_argument_stays_one() -> None:
    line = """docker run -i -e "GREETING=hello world" mcp/x --title 'two words' a\\ b"""
    request = translated(line).request
    assert request.env == {"GREETING": "hello world"}
    assert request.args == ["--title", "two words", "a b"]


def test_env_volume_memory_and_user_are_not_dropped_in_silence() -> None:
    assert translated("docker run --env A=1 --env=B=2 mcp/x").request.env == {"A": "1", "B": "2"}
    words = ["docker", "run", "--volume", "/a:/b", "-m", "512m", "-u", "0", "--workdir=/x", "mcp/x"]
    assert [(fault.loc, fault.kind, bool(fault.ask)) for fault in faults(words)] == [
        ("args.1", "policy", True),
        ("args.3", "policy", True),
        ("args.5", "policy", True),
        ("args.7", "policy", True),
    ]


def test_a_boolean_option_does_not_take_the_image_for_its_value() -> None:
    for option in ("--read-only", "--init", "--rm", "-i", "-t", "-it", "--no-healthcheck", "-q", "--sig-proxy"):
        request = translated(["docker", "run", option, "mcp/x", "arg"]).request
        assert (request.image, request.args) == ("mcp/x", ["arg"])


def test_privileged_and_volumes_are_not_honoured() -> None:
    words = ["docker", "run", "--privileged", "-v", "/:/host", "-v", "/var/run/docker.sock:/s", "mcp/x"]
    assert kinds(words) == [("unsupported", "args.1"), ("policy", "args.2"), ("unsupported", "args.4")]
    assert kinds("docker run --privileged=true mcp/x") == [("unsupported", "command")]


def test_nothing_of_this_process_gets_into_the_servers_environment() -> None:
    assert translated("docker run -i mcp/x").request.env == {}
    assert kinds("docker run -e PATH -e HOME mcp/x") == [("malformed", "command"), ("malformed", "command")]


def test_an_environment_can_be_empty() -> None:
    assert translated("docker run -e A= mcp/x", env={}).request.env == {"A": ""}
