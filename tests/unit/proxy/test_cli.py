"""The operator's commands that need no engine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from doogie_proxy.auth import hash_token
from doogie_proxy.cli import app
from doogie_proxy.identity import Keyring
from doogie_proxy.policy import Policy

DIGEST = "sha256:" + "c" * 64
POLICY = f"""\
version: 1
clients:
  chat: {{token_sha256: [{"a" * 64}], rules: [time, files]}}
  idle: {{token_sha256: [{"b" * 64}], rules: []}}
rules:
  - name: time
    images: ["mcp/time@{DIGEST}"]
    args: {{patterns: ["--tz=[A-Z]+"]}}
  - name: files
    images: ["mcp/files@{DIGEST}"]
    args: {{prefix: [/tmp]}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


def run(*args: object, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, list(map(str, args)), input=stdin, env=env)


def request_file(tmp_path: Path, document: Any) -> Path:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(document))
    return file


# ── check ────────────────────────────────────────────────────────────────────────────────────────


def test_check_says_what_a_valid_policy_holds(policy: Path) -> None:
    result = run("check", policy)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "client chat: rules time, files",
        "client idle: rules none",
        f"{policy}: valid, 2 rules",
    ]


def test_check_says_where_an_invalid_policy_is_wrong(policy: Path) -> None:
    policy.write_text(POLICY + "    privileged: true\n    network: host\n")
    result = run("check", policy)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert [line.partition(": rules")[0] for line in result.stderr.splitlines()] == [
        f"doogie-proxy: {policy}:13",
        f"doogie-proxy: {policy}:12",
    ]


def test_check_of_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    result = run("check", tmp_path / "absent.yaml")
    assert result.exit_code == 1
    assert "absent.yaml: cannot be read" in result.stderr


# ── explain ──────────────────────────────────────────────────────────────────────────────────────


def test_explain_names_the_rule_that_admits(policy: Path, tmp_path: Path) -> None:
    result = run("explain", "--client=chat", f"--policy={policy}", request_file(tmp_path, {"image": "mcp/files"}))
    assert result.exit_code == 0
    assert result.stdout == f"admitted by rule files: runs mcp/files@{DIGEST} with arguments ['/tmp']\n"


def test_explain_says_rule_by_rule_what_stands_in_the_way(policy: Path, tmp_path: Path) -> None:
    wanted = {"image": "mcp/time", "args": ["--tz=utc"], "env": {"TZ": "UTC"}}
    result = run("explain", "--client=chat", f"--policy={policy}", request_file(tmp_path, wanted))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "denied: no rule of client chat admits it",
        "  rules.time: argument 0 ('--tz=utc') matches none of '--tz=[A-Z]+'",
        "  rules.time: environment variable TZ is not allowed (allowed: none)",
        f"  rules.files: image 'mcp/time' is not one of mcp/files@{DIGEST}",
    ]


def test_explain_reads_a_request_from_standard_input(policy: Path) -> None:
    result = run("explain", "--client=chat", f"--policy={policy}", "-", stdin='{"image": "mcp/time"}')
    assert result.exit_code == 0
    assert result.stdout.startswith("admitted by rule time:")


def test_explain_takes_the_policy_that_the_proxy_would_take(policy: Path) -> None:
    env = {"DOOGIE_PROXY_POLICY": str(policy)}
    result = run("explain", "--client=chat", "-", stdin='{"image": "mcp/time"}', env=env)
    assert result.exit_code == 0


def test_explain_to_an_unknown_client_names_the_known_ones(policy: Path) -> None:
    result = run("explain", "--client=caht", f"--policy={policy}", "-", stdin="{}")
    assert result.exit_code == 1
    assert result.stderr == "doogie-proxy: the policy has no client 'caht'; it has chat, idle\n"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "Expecting value"),
        (b'{"image":"a","image":"b"}', "given twice"),
        (b'{"image":"a","privileged":true}', "privileged"),
        (b'{"image":5}', "image"),
        (b"[" * 100_000, "recursion"),
        (b'{"image":"\xff"}', "decode"),
    ],
)
def test_explain_is_as_strict_as_the_api(policy: Path, body: bytes, error: str) -> None:
    result = run("explain", "--client=chat", f"--policy={policy}", "-", stdin=body)
    assert result.exit_code == 1
    assert result.stderr.startswith("doogie-proxy: -: not a StartRequest: ")
    assert error in result.stderr


def test_explain_of_a_request_that_is_not_there_says_so(policy: Path, tmp_path: Path) -> None:
    result = run("explain", "--client=chat", f"--policy={policy}", tmp_path / "absent.json")
    assert result.exit_code == 1
    assert "No such file" in result.stderr


# ── hash-token, policy-schema ────────────────────────────────────────────────────────────────────


def test_hash_token_hashes_the_line_on_standard_input() -> None:
    for stdin in ("a-token", "a-token\n", "  a-token \nsecond line\n"):
        assert run("hash-token", stdin=stdin).stdout == hash_token("a-token") + "\n"


def test_hash_token_makes_a_new_token_and_prints_it_before_its_hash() -> None:
    token, digest = run("hash-token", "--new").stdout.split()
    assert digest == hash_token(token)


@pytest.mark.parametrize("stdin", ["", "\n", "   \n"])
def test_hash_token_refuses_an_empty_token(stdin: str) -> None:
    result = run("hash-token", stdin=stdin)
    assert result.exit_code == 1
    assert result.stderr == "doogie-proxy: give the token on standard input, or --new\n"


def test_policy_schema_prints_the_schema_of_the_code() -> None:
    assert json.loads(run("policy-schema").stdout) == Policy.model_json_schema()


# ── what cannot be served ────────────────────────────────────────────────────────────────────────


def served(tmp_path: Path, policy: Path, **env: str) -> Result:
    """What ``serve`` says; each test breaks something, so that it ends at once."""
    key = tmp_path / "signing.key"
    if not key.exists():
        key.write_text(Keyring.new_key())
    settings = {
        "POLICY": str(policy),
        "SIGNING_KEY_FILE": str(key),
        "LISTEN": f"unix://{tmp_path}/proxy.sock",
        "STATE_DIR": f"{tmp_path}/state",
        **env,
    }
    return run("serve", env={f"DOOGIE_PROXY_{name}": value for name, value in settings.items()})


def test_serve_refuses_an_invalid_policy_with_its_line(tmp_path: Path, policy: Path) -> None:
    policy.write_text(POLICY.replace("version: 1", "version: 2"))
    result = served(tmp_path, policy)
    assert result.exit_code == 1
    assert result.stderr == f"doogie-proxy: {policy}:1: version: Input should be 1\n"


def test_serve_refuses_a_listener_that_the_network_reaches(tmp_path: Path, policy: Path) -> None:
    result = served(tmp_path, policy, LISTEN="tcp://0.0.0.0:80")
    assert result.exit_code == 1
    assert result.stderr.startswith("doogie-proxy: Value error, DOOGIE_PROXY_LISTEN: ")
    assert "0.0.0.0 is not loopback, and needs TLS client certificates" in result.stderr


def test_serve_refuses_a_setting_it_does_not_know(tmp_path: Path, policy: Path) -> None:
    result = served(tmp_path, policy, LISTNE="x")
    assert result.exit_code == 1
    assert "unknown setting DOOGIE_PROXY_LISTNE" in result.stderr


def test_serve_refuses_a_key_that_is_none_and_does_not_print_it(tmp_path: Path, policy: Path) -> None:
    (tmp_path / "signing.key").write_text("not-a-key")
    result = served(tmp_path, policy)
    assert result.exit_code == 1
    assert result.stderr.startswith("doogie-proxy: signing key: ")
    assert "not-a-key" not in result.stderr


def test_init_refuses_to_give_both_sides_one_uid(tmp_path: Path) -> None:
    where = [f"--config-dir={tmp_path}/c", f"--token-file={tmp_path}/t/token", f"--socket-dir={tmp_path}/s"]
    result = run("init", *where, "--proxy-uid=10000", "--chat-uid=10000", "--gid=10002")
    assert result.exit_code == 1
    assert "--proxy-uid and --chat-uid must differ" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_health_says_when_nothing_listens(tmp_path: Path) -> None:
    result = run("health", env={"DOOGIE_PROXY_LISTEN": f"unix://{tmp_path}/proxy.sock"})
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_without_a_command_the_help_is_shown() -> None:
    for command in ("serve", "init", "check", "explain", "hash-token", "policy-schema", "health", "reap"):
        assert command in run().output
