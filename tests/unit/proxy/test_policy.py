"""The policy file: what is refused, where the error points, and what defaults do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from doogie_proxy.admission import plan_hash
from doogie_proxy.policy import Lifetime, Policy, Resources, Rule, Stdio, within
from doogie_proxy.policy_file import ConfigurationError, load, parse

TOKEN = "a" * 64
OTHER_TOKEN = "b" * 64
DIGEST = "sha256:" + "c" * 64

HEAD = f"""\
version: 1
clients:
  chat: {{token_sha256: [{TOKEN}], rules: [time]}}
rules:
  - name: time
    images: ["mcp/time@{DIGEST}"]
"""
"""A valid policy of six lines; tests append to its one rule."""


def refusal(text: str) -> list[str]:
    """The lines of the error that the text of a policy file ends in."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "policy.yaml")
    assert str(caught.value).splitlines() == "\n".join(caught.value.lines).splitlines()
    return caught.value.lines


def rule(**fields: Any) -> Rule:
    return Rule.model_validate({"name": "time", "images": [f"mcp/time@{DIGEST}"], **fields})


def document(**fields: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "clients": {"chat": {"token_sha256": [TOKEN], "rules": ["time"]}},
        "rules": [{"name": "time", "images": [f"mcp/time@{DIGEST}"]}],
        **fields,
    }


def test_the_least_policy_is_valid_and_everything_else_has_its_default() -> None:
    policy = parse(HEAD)
    assert policy.rules_of("chat") == [rule()]
    assert rule().model_dump(exclude={"name", "images"}) == {
        "allow_tags": False,
        "pull": "never",
        "image_patterns": [],
        "args": {"prefix": [], "max": 32, "patterns": [], "any": False, "audit": "shown"},
        "env": {"allow": [], "patterns": [], "fixed": {}},
        "entrypoint": "keep",
        "workdir": "keep",
        "tmpfs": {},
        "secrets": {},
        "mounts": {},
        "network": "none",
        "user": "65532:65532",
        "runtime": "runc",
        "max_running": None,
        "resources": {
            "memory": 256 * 2**20,
            "cpus": 0.5,
            "pids": 64,
            "tmp": 16 * 2**20,
            "shm": 16 * 2**20,
            "nofile": 256,
        },
        "stdio": {"max_message": 16 * 2**20, "buffer": 16 * 2**20, "replay": "engine-log"},
        "lifetime": {"detached_ttl_s": 900, "max_age_s": 604800, "stop_grace_s": 5, "keep_exited_s": 300},
    }


# ── what is no policy at all ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "- version: 1", "version", "5"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert refusal(text) == ["policy.yaml:1: a policy is a mapping that begins with version: 1"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("version: 1\nclients: a: b", "policy.yaml:2: mapping values are not allowed here"),
        ("version: 1\n\tclients: {}", "policy.yaml:2: found character '\\t' that cannot start any token"),
        ("version: 1\nrules: [", "policy.yaml:2: expected the node content, but found '<stream end>'"),
        ("version: 1\nrules: *all", "policy.yaml:2: found undefined alias 'all'"),
        (HEAD + "---\nversion: 1\n", "policy.yaml:7: but found another document"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str, error: str) -> None:
    assert refusal(text) == [error]


def test_a_control_character_is_refused() -> None:
    assert refusal("version: \x001")[0].startswith("policy.yaml: not YAML: unacceptable character #x0000")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml: cannot be read: .*No such file"):
        load(tmp_path / "absent.yaml")


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(HEAD.encode() + b"# caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin\.yaml: cannot be read: .*utf-8"):
        load(tmp_path / "latin.yaml")


def test_errors_name_the_file_they_are_in(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(HEAD + "    sudo: true\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert caught.value.lines == [f"{file}:7: rules.0.sudo: unknown key"]


@given(st.text())
def test_any_text_is_a_policy_or_refused_as_none(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse(text)


# ── duplicate and unknown keys ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (HEAD + "version: 1\n", 7, "version"),
        (HEAD + "    name: other\n", 7, "name"),
        (HEAD.replace("rules: [time]}", "rules: [time], rules: []}"), 3, "rules"),
        (HEAD + "    env: {fixed: {A: x, A: y}}\n", 7, "A"),
        (HEAD + "    resources:\n      pids: 1\n      'pids': 2\n", 9, "pids"),
    ],
)
def test_a_duplicate_key_is_refused_at_its_second_place(text: str, line: int, key: str) -> None:
    [error] = refusal(text)
    assert error.startswith(f'policy.yaml:{line}: found duplicate key "{key}"')


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (HEAD + "privileged: true\n", "policy.yaml:7: privileged: unknown key"),
        (HEAD + "    privileged: true\n", "policy.yaml:7: rules.0.privileged: unknown key"),
        (HEAD + "    Network: none\n", "policy.yaml:7: rules.0.Network: unknown key"),
        (HEAD + "    args: {pattern: [a]}\n", "policy.yaml:7: rules.0.args.pattern: unknown key"),
        (HEAD + "    env: {allowed: [A]}\n", "policy.yaml:7: rules.0.env.allowed: unknown key"),
        (HEAD + "    resources: {swap: 1GiB}\n", "policy.yaml:7: rules.0.resources.swap: unknown key"),
        (HEAD + "    stdio: {tty: true}\n", "policy.yaml:7: rules.0.stdio.tty: unknown key"),
        (HEAD + "    lifetime: {restart: always}\n", "policy.yaml:7: rules.0.lifetime.restart: unknown key"),
        (HEAD + "defaults:\n  name: x\n", "policy.yaml:8: defaults.name: unknown key"),
        (
            HEAD.replace("rules: [time]}", "rules: [time], admin: true}"),
            "policy.yaml:3: clients.chat.admin: unknown key",
        ),
    ],
)
def test_an_unknown_key_is_refused_where_it_stands(text: str, error: str) -> None:
    assert error in refusal(text)


def test_what_a_later_version_brings_is_unknown_to_this_one() -> None:
    assert refusal(HEAD + "    metrics: x\n") == ["policy.yaml:7: rules.0.metrics: unknown key"]


def test_an_image_is_pulled_never_or_when_it_is_missing_and_that_outdates_nothing() -> None:
    assert refusal(HEAD + "    pull: always\n") == ["policy.yaml:7: rules.0.pull: Input should be 'never' or 'missing'"]
    never, missing = (parse(HEAD + f"    pull: {pull}\n").rules[0] for pull in ("never", "missing"))
    image = never.listed_images[0]
    assert plan_hash(never, image) == plan_hash(missing, image)


def test_every_fault_is_told_at_once() -> None:
    text = HEAD + "    user: root\n    network: host\n    resources: {pids: 0, memory: 1MiB}\n"
    assert [line.partition(": ")[0] for line in refusal(text)] == ["policy.yaml:8", "policy.yaml:7"] + [
        "policy.yaml:9"
    ] * 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{}", "policy.yaml:1: version: Field required"),
        (HEAD.replace("version: 1", "version: 2"), "policy.yaml:1: version: Input should be 1"),
        (HEAD.replace("version: 1", "version: '1'"), "policy.yaml:1: version: Input should be 1"),
        (HEAD + "1: x\n", "policy.yaml:7: 1: Keys should be strings"),
        (HEAD.replace("name: time\n    images", "images"), "policy.yaml:5: rules.0.name: Field required"),
        ("version: 1\nclients: {}\nrules: {}\n", "policy.yaml:3: rules: Input should be a valid list"),
        ("version: 1\nclients: []\nrules: []\n", "policy.yaml:2: clients: Input should be a valid dictionary"),
        (
            "version: 1\nclients: {}\nrules: [5]\n",
            "policy.yaml:3: rules.0: Input should be a valid dictionary or instance of Rule",
        ),
        (
            "version: 1\nclients: {}\nrules: []\ndefaults: 5\n",
            "policy.yaml:4: defaults: Input should be a valid dictionary or instance of Defaults",
        ),
    ],
)
def test_a_wrong_shape_is_refused_with_its_line(text: str, error: str) -> None:
    assert error in refusal(text)


# ── clients ──────────────────────────────────────────────────────────────────────────────────────


def with_client(name: str, value: str) -> str:
    return HEAD.replace("rules:\n  - name", f"  {name}: {value}\nrules:\n  - name")


@pytest.mark.parametrize("name", ["Chat", "a-b", "a.b", "_a", "''", "ä", "a" * 33, "'a\\n'", "'a b'"])
def test_a_client_may_not_be_called(name: str) -> None:
    [error] = refusal(with_client(name, f"{{token_sha256: [{OTHER_TOKEN}], rules: []}}"))
    assert error.startswith("policy.yaml:4: clients.")
    assert "String should match pattern" in error


@pytest.mark.parametrize("token", ["a" * 63, "a" * 65, "A" * 64, "g" * 64, "TOKEN_SHA256", "''"])
def test_a_token_hash_must_be_64_lower_case_hex_digits(token: str) -> None:
    [error] = refusal(with_client("other", f"{{token_sha256: [{token}], rules: []}}"))
    assert error.startswith("policy.yaml:4: clients.other.token_sha256.0: String should match pattern")


def test_a_client_needs_a_token() -> None:
    [error] = refusal(with_client("other", "{token_sha256: [], rules: []}"))
    assert error.startswith("policy.yaml:4: clients.other.token_sha256: List should have at least 1 item")


def test_a_client_may_have_several_tokens_while_rotating() -> None:
    policy = parse(with_client("other", f"{{token_sha256: [{OTHER_TOKEN}, {'c' * 64}], rules: []}}"))
    assert len(policy.clients["other"].token_sha256) == 2


def test_two_clients_may_not_share_a_token() -> None:
    [error] = refusal(with_client("other", f"{{token_sha256: [{OTHER_TOKEN}, {TOKEN}], rules: []}}"))
    assert error.endswith("clients chat and other share a token; each needs its own")


def test_a_client_may_only_name_rules_that_are_there() -> None:
    [error] = refusal(HEAD.replace("rules: [time]", "rules: [time, tmie, file]"))
    assert error.endswith("clients.chat.rules: no rule is named tmie, file")


def test_rules_are_tried_in_the_order_of_the_client_not_of_the_file() -> None:
    rules = [{"name": name, "images": [f"mcp/{name}@{DIGEST}"]} for name in ("a", "b", "c")]
    clients = {"chat": {"token_sha256": [TOKEN], "rules": ["c", "a"]}}
    policy = Policy.model_validate(document(clients=clients, rules=rules))
    assert [rule.name for rule in policy.rules_of("chat")] == ["c", "a"]


def test_a_rule_may_not_be_defined_twice() -> None:
    text = HEAD + f'  - name: time\n    images: ["mcp/other@{DIGEST}"]\n'
    [error] = refusal(text)
    assert error.endswith("rules: time defined twice; a rule's name must be unique")


# ── images ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("mcp/time", "'mcp/time' is not pinned: add @sha256:<digest>, or a tag and allow_tags: true"),
        ("mcp/time:1", "'mcp/time:1' has a tag but no digest: pin it, or set allow_tags: true"),
        ("mcp/time@sha256:abc", "is not an image reference: use repo, repo:tag or repo@sha256:<64 hex digits>"),
        ("MCP/time:1", "is not an image reference"),
    ],
)
def test_an_image_that_is_not_pinned_is_refused(image: str, error: str) -> None:
    [found] = refusal(HEAD.replace(f'"mcp/time@{DIGEST}"', f'"{image}"'))
    assert found.startswith("policy.yaml:")
    assert error in found


@pytest.mark.parametrize("image", ["5", "{a: b}", "null", "[a]"])
def test_an_image_that_is_no_text_is_refused_with_its_line(image: str) -> None:
    text = HEAD.replace(f'"mcp/time@{DIGEST}"', image)
    assert refusal(text) == ["policy.yaml:6: rules.0.images.0: Input should be a valid string"]


def test_a_rule_needs_an_image() -> None:
    [error] = refusal(HEAD.replace(f'["mcp/time@{DIGEST}"]', "[]"))
    assert error == "policy.yaml:5: rules.0: a rule needs images or image_patterns"
    parse(HEAD.replace(f'images: ["mcp/time@{DIGEST}"]', 'image_patterns: ["mcp/[a-z]+@sha256:[0-9a-f]+"]'))


def test_a_bare_tag_needs_consent_even_beside_a_pinned_image() -> None:
    text = HEAD.replace(f'["mcp/time@{DIGEST}"]', f'["mcp/time@{DIGEST}", "mcp/time:1"]')
    assert "has a tag but no digest" in refusal(text)[0]
    assert len(parse(text + "    allow_tags: true\n").rules[0].images) == 2


def test_consent_to_tags_is_no_consent_to_unpinned_images() -> None:
    [error] = refusal(HEAD.replace(f"mcp/time@{DIGEST}", "mcp/time") + "    allow_tags: true\n")
    assert "is not pinned" in error


def test_an_image_is_at_most_512_characters() -> None:
    [error] = refusal(HEAD.replace("mcp/time@", "m" * 450 + "@"))
    assert error.startswith("policy.yaml:6: rules.0.images.0: String should have at most 512 characters")


# ── user, network ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("user", ["1:1", "1000:1000", "65532:65532", "999999999:999999999"])
def test_a_user_is_a_numeric_uid_and_gid(user: str) -> None:
    assert parse(HEAD + f'    user: "{user}"\n').rules[0].user == user


@pytest.mark.parametrize(
    "user",
    [
        *("0", "0:0", "0:1", "1:0", "00:1", "01:1", "1", "root", "nobody:nogroup", "1:", ":1", "1:1:1", "-1:1", "+1:1"),
        *("1 :1", "1:1 ", "1:1\\n", "\N{FULLWIDTH DIGIT FOUR}:1", "1000000000:1", "4294967296:1", ""),
    ],
)
def test_a_user_that_is_or_may_be_root_is_refused(user: str) -> None:
    [error] = refusal(HEAD + f'    user: "{user}"\n')
    assert error.startswith("policy.yaml:7: rules.0.user: String should match pattern")


@pytest.mark.parametrize("network", ["host", "bridge", "default"])
def test_the_engines_own_networks_are_refused(network: str) -> None:
    [error] = refusal(HEAD + f"    network: {network}\n")
    assert error.startswith(f"policy.yaml:7: rules.0.network: {network!r} is the engine's own network: use none, or ")


@pytest.mark.parametrize("network", ["container:abc", "ns:/proc/1/ns/net", "a b", "a/b", "", "-a", "a\\n", "a" * 129])
def test_a_network_that_is_no_name_is_refused(network: str) -> None:
    [error] = refusal(HEAD + f'    network: "{network}"\n')
    assert error.startswith("policy.yaml:7: rules.0.network: String should match pattern")


@pytest.mark.parametrize("network", ["none", "mcp", "mcp_net-1.internal"])
def test_a_network_is_none_or_one_the_operator_made(network: str) -> None:
    assert parse(HEAD + f"    network: {network}\n").rules[0].network == network


# ── sizes and numbers ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8388608", 2**23),
        ("8388608B", 2**23),
        ("8192KiB", 2**23),
        ("8MiB", 2**23),
        ("1GiB", 2**30),
        ("0x800000", 2**23),
    ],
)
def test_a_size_is_bytes_or_has_a_binary_unit(text: str, size: int) -> None:
    assert parse(HEAD + f"    resources: {{memory: {text}}}\n").rules[0].resources.memory == size


@pytest.mark.parametrize(
    "size",
    ["8MB", "8M", "8 MiB", "8mib", "8TiB", "1.5MiB", "-8MiB", "MiB", "\N{FULLWIDTH DIGIT EIGHT}MiB", "8MiB\\n", ""],
)
def test_a_size_with_another_unit_is_refused(size: str) -> None:
    [error] = refusal(HEAD + f'    resources: {{memory: "{size}"}}\n')
    assert error.startswith("policy.yaml:7: rules.0.resources.memory: ")
    assert error.endswith("is not a size: write bytes as a number, or 64KiB, 256MiB, 1GiB")


@given(number=st.integers(0, 10**12 - 1), unit=st.sampled_from(["B", "KiB", "MiB", "GiB"]))
def test_a_size_is_its_number_times_its_unit_within_bounds(number: int, unit: str) -> None:
    size = number * {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    fields: Mapping[str, object] = {"resources": {"tmp": f"{number}{unit}"}}
    if 2**12 <= size <= 2**50:
        assert rule(**fields).resources.tmp == size
    else:
        with pytest.raises(ValueError, match=r"resources\.tmp"):
            rule(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        "resources: {memory: 5MiB}",
        "resources: {memory: 999999999999GiB}",
        "resources: {memory: 8388608.0}",
        "resources: {memory: true}",
        "resources: {memory: -1}",
        "resources: {memory: null}",
        "resources: {memory: [8MiB]}",
        "resources: {cpus: 0}",
        "resources: {cpus: 0.009}",
        "resources: {cpus: 1.0e-12}",
        "resources: {cpus: -1}",
        "resources: {cpus: 1025}",
        "resources: {cpus: .nan}",
        "resources: {cpus: .inf}",
        "resources: {cpus: true}",
        "resources: {cpus: '0.5'}",
        "resources: {pids: 0}",
        "resources: {pids: -1}",
        "resources: {pids: 1.5}",
        "resources: {pids: true}",
        "resources: {pids: 1048577}",
        "resources: {tmp: 0}",
        "resources: {shm: 4095}",
        "resources: {nofile: 15}",
        "stdio: {max_message: 0}",
        "stdio: {buffer: 1023}",
        "stdio: {replay: always}",
        "lifetime: {detached_ttl_s: 0}",
        "lifetime: {max_age_s: -1}",
        "lifetime: {max_age_s: 1.5}",
        "lifetime: {detached_ttl_s: 1000000001}",
        "lifetime: {max_age_s: 1000000001}",
        "lifetime: {keep_exited_s: 1000000001}",
        "lifetime: {stop_grace_s: 301}",
        "lifetime: {keep_exited_s: -1}",
        "args: {max: 129}",
        "args: {max: -1}",
        "args: {prefix: [5]}",
        "args: {prefix: [--zone: UTC]}",
        "args: {prefix: ['\\0']}".replace("'", '"'),
        "args: {patterns: [5]}",
        "args: {patterns: [--zone: UTC]}",
        "args: {any: 'yes'}",
        "args: {any: yes}",  # YAML 1.2: a string
        "env: {allow: [A-B]}",
        "env: {allow: ['A=B']}",
        "env: {fixed: {A: 5}}",
        "env: {fixed: {A: null}}",
        "env: {fixed: {1A: x}}",
        "allow_tags: 1",
        "network: {a: b}",
        "user: 1000",
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_its_line(fields: str) -> None:
    lines = refusal(HEAD + f"    {fields}\n")
    assert all(line.startswith("policy.yaml:7: rules.0.") for line in lines), lines


def test_the_buffer_must_hold_a_message() -> None:
    [error] = refusal(HEAD + "    stdio: {max_message: 2MiB, buffer: 1MiB}\n")
    assert error == "policy.yaml:7: rules.0.stdio: buffer (1048576) must be at least max_message (2097152)"


def test_a_variable_is_either_allowed_or_fixed() -> None:
    [error] = refusal(HEAD + "    env: {allow: [A, B], fixed: {B: x}}\n")
    assert error == "policy.yaml:5: rules.0: B: either allowed to the client, or fixed, or a secret's; each once"
    [error] = refusal(HEAD + "    env: {fixed: {T: x}}\n    secrets: {a: {file: /t, env: T}, b: {file: /u, env: T}}\n")
    assert error.startswith("policy.yaml:5: rules.0: T: either")


# ── mounts ───────────────────────────────────────────────────────────────────────────────────────


def mounting(*mounts: str, roots: str = "[/srv/mcp]", more: str = "") -> str:
    lines = "".join(f"      m{number}: {{{mount}}}\n" for number, mount in enumerate(mounts))
    return f"mount_roots: {roots}\n{HEAD}{more}    mounts:\n{lines}"


def test_a_mount_has_one_source_and_is_read_only_unless_it_says_otherwise() -> None:
    text = mounting("host: /srv/mcp/docs, target: /data", "volume: cache, target: /c", "tmpfs: 1MiB, target: /t")
    docs, cache, scratch = parse(text).rules[0].mounts.values()
    assert (docs.host, docs.target, docs.read_only) == ("/srv/mcp/docs", "/data", True)
    assert (cache.volume, cache.read_only) == ("cache", True)
    assert scratch.tmpfs == 2**20
    for mount in ("target: /x", "host: /srv/mcp/a, volume: b, target: /x", "volume: a, tmpfs: 1MiB, target: /x"):
        assert refusal(mounting(mount)) == [
            "policy.yaml:9: rules.0.mounts.m0: give exactly one of host, volume and tmpfs"
        ]
    [error] = refusal(mounting("tmpfs: 1MiB, target: /x, read_only: true"))
    assert error.endswith("a tmpfs is always writable: leave read_only out")


@pytest.mark.parametrize(
    "target", ["/", "/proc", "/proc/1", "/sys/fs", "/dev/shm", "data", "/a/../proc", "//data", "/a/"]
)
def test_nothing_is_mounted_over_what_the_engine_puts_there(target: str) -> None:
    for text in (mounting(f"volume: a, target: {target}"), HEAD + f"    tmpfs: {{{target}: 1MiB}}\n"):
        assert len(refusal(text)) == 1


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/etc/ssl", "/var", "/var/run", "/run/docker.sock", "/proc/1", "/dev/sda"]
)
def test_what_gives_the_host_away_is_no_mount_and_no_root(path: str) -> None:
    assert "which gives the host away" in refusal(mounting(f"host: {path}, target: /x"))[0]
    assert "which gives the host away" in refusal(mounting("volume: a, target: /x", roots=f"[{path}]"))[0]


@pytest.mark.parametrize("path", ["srv", "/srv/../etc", "/srv/./a", "/srv//a", "//srv", "/srv/", "", "/srv/a\\0"])
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    assert len(refusal(mounting(f'host: "{path}", target: /x'))) == 1


def test_what_is_no_path_and_no_place_says_what_would_be_right() -> None:
    wanted = "is not an absolute path without . and .. and doubled or trailing slashes"
    assert refusal(mounting("host: srv, target: /x"))[0].endswith(f"'srv' {wanted}")
    [error] = refusal(mounting("volume: a, target: /proc"))
    assert error.endswith("'/proc' cannot be mounted over: use a directory of the container's own, such as /data")


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        ("/srv/X", "/srv/X", True),
        ("/srv/X/a", "/srv/X", True),
        ("/srv/Xa", "/srv/X", False),
        ("/srv", "/srv/X", False),
        ("/srv", "/", True),
        ("/", "/", True),
    ],
)
def test_a_path_is_within_a_directory_part_by_part(path: str, directory: str, expected: bool) -> None:
    assert within(path, directory) is expected


def test_a_host_directory_must_be_in_a_root() -> None:
    parse(mounting("host: /srv/mcp, target: /x", "host: /srv/mcp/a/b, target: /y"))
    for path, roots in (("/srv/mcp2", "[/srv/mcp]"), ("/srv", "[/srv/mcp]"), ("/srv/mcp", "[]")):
        [error] = refusal(mounting(f"host: {path}, target: /x", roots=roots))
        assert f"rules.time.mounts.m0: {path} is in none of mount_roots ({roots.strip('[]') or 'none'})" in error


def test_a_writable_directory_must_not_hold_the_source_of_another_mount() -> None:
    inner, outer = "host: /srv/mcp/a/b, target: /x", "host: /srv/mcp/a, target: /y"
    parse(mounting(inner, outer))
    parse(mounting(f"{inner}, read_only: false", outer))
    parse(mounting(f"{outer}, read_only: false", "host: /srv/mcp/a, target: /z"))
    [error] = refusal(mounting(inner, f"{outer}, read_only: false"))
    assert "rules.time.mounts.m1: /srv/mcp/a is writable and holds the source of rules.time.mounts.m0" in error


def test_one_thing_is_mounted_at_each_place() -> None:
    for text in (
        mounting("volume: a, target: /x", "volume: b, target: /x"),
        mounting("volume: a, target: /x", more="    tmpfs: {/x: 1MiB}\n"),
        mounting("volume: a, target: /tmp"),
        HEAD + "    tmpfs: {/tmp: 1MiB}\n",
    ):
        assert "mounted twice" in refusal(text)[0]


# ── entrypoint and working directory ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("field", ["entrypoint: []", "entrypoint: sh", "entrypoint:", "workdir: data", "workdir:"])
def test_a_rule_keeps_or_says_all_of_it(field: str) -> None:
    assert len(refusal(HEAD + f"    {field}\n")) == 1
    assert parse(HEAD + "    entrypoint: keep\n    workdir: keep\n").rules == parse(HEAD).rules


def test_a_blank_is_not_keep() -> None:
    assert refusal(HEAD + "    entrypoint:\n") == [
        "policy.yaml:7: rules.0.entrypoint: write keep, or a value of your own"
    ]


# ── defaults ─────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_mapping_is_refused_and_not_merged() -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(["version", 1])
    text = "defaults: {resources: 5}\n" + HEAD + "    resources: {pids: 7}\n"
    assert "policy.yaml:1: defaults.resources: Input should be a valid dictionary or instance of Resources" in refusal(
        text
    )


def test_all_that_is_given_twice_is_told() -> None:
    [error] = refusal(HEAD + "    env: {allow: [A, B, C], fixed: {B: x, A: y}}\n")
    assert "A, B: either" in error


def test_limits_are_inherited_one_by_one() -> None:
    policy = Policy.model_validate(
        document(
            defaults={
                "resources": {"pids": 7, "memory": "64MiB"},
                "stdio": {"buffer": "32MiB"},
                "lifetime": {"stop_grace_s": 1},
            },
            rules=[
                {
                    "name": "time",
                    "images": [f"mcp/time@{DIGEST}"],
                    "resources": {"pids": 9},
                    "stdio": {"replay": "none"},
                    "lifetime": {"keep_exited_s": 2},
                }
            ],
        )
    )
    [found] = policy.rules
    assert found.resources == Resources(pids=9, memory=2**26)
    assert found.stdio == Stdio(buffer=2**25, replay="none")
    assert found.lifetime == Lifetime(stop_grace_s=1, keep_exited_s=2)


def test_what_admits_is_inherited_whole_or_not_at_all() -> None:
    defaults = {"args": {"any": True, "prefix": ["--a"]}, "env": {"allow": ["A"]}}
    rules = [
        {"name": "time", "images": [f"mcp/time@{DIGEST}"]},
        {"name": "b", "images": [f"mcp/b@{DIGEST}"], "args": {"max": 1}, "env": {"fixed": {"B": "x"}}},
    ]
    first, second = Policy.model_validate(document(defaults=defaults, rules=rules)).rules
    assert (first.args.any, first.args.prefix, first.env.allow) == (True, ["--a"], ["A"])
    assert (second.args.any, second.args.prefix, second.env.allow) == (False, [], [])


def test_plain_fields_of_a_rule_win_over_defaults() -> None:
    defaults = {"user": "7:7", "network": "tools", "allow_tags": True}
    rules = [{"name": "time", "images": ["mcp/time:1"], "user": "8:8"}]
    [found] = Policy.model_validate(document(defaults=defaults, rules=rules)).rules
    assert (found.user, found.network, found.allow_tags) == ("8:8", "tools", True)


@pytest.mark.parametrize("rules", ["5", "{a: b}", "text", "null", "[5]", "[null]"])
def test_rules_that_are_none_are_refused_beside_defaults_too(rules: str) -> None:
    text = f"version: 1\nclients: {{}}\ndefaults: {{user: '7:7'}}\nrules: {rules}\n"
    assert [line.partition(":")[0] for line in refusal(text)] == ["policy.yaml"]


def test_an_inherited_fault_is_told_where_the_defaults_spell_it() -> None:
    text = HEAD.replace("rules:\n  - name", "defaults:\n  resources:\n    pids: 0\nrules:\n  - name")
    lines = refusal(text)
    assert [line.partition(": ")[0] for line in lines] == ["policy.yaml:6", "policy.yaml:6"]
    assert {line.split(": ")[1] for line in lines} == {"defaults.resources.pids", "rules.0.resources.pids"}


def test_a_fault_between_a_default_and_a_rule_is_told_at_the_rule() -> None:
    text = HEAD.replace("rules:\n  - name", "defaults: {stdio: {max_message: 4MiB}}\nrules:\n  - name")
    [error] = refusal(text + "    stdio: {buffer: 2MiB}\n")
    assert error.startswith("policy.yaml:8: rules.0.stdio: buffer (2097152)")


def test_a_policy_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(HEAD).rules[0].network = "host"  # type: ignore[misc]  # the type checker knows it as well
