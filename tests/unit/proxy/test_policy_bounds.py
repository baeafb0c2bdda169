"""Every bound of a policy from both sides: what is still accepted, and what no longer is."""

from typing import Any

import pytest
from pydantic import ValidationError

from doogie_proxy.policy import DANGEROUS_ENV, MAX_LEASE_S, Client, Mount, Policy, Rule

DIGEST = "@sha256:" + "c" * 64


def rule(**fields: Any) -> Rule:
    return Rule.model_validate({"name": "r", "images": [f"time{DIGEST}"], **fields})


def client(**fields: Any) -> Client:
    return Client.model_validate({"token_sha256": ["a" * 64], "rules": [], **fields})


def policy(**fields: Any) -> Policy:
    return Policy.model_validate({"version": 1, "clients": {}, "rules": [], **fields})


def accepts(model: Any, **fields: Any) -> bool:
    try:
        model(**fields)
    except ValidationError:
        return False
    return True


def nested(where: str, value: object) -> dict[str, Any]:
    """``{"a": {"b": value}}`` for ``a.b``."""
    for key in reversed(where.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "where", "least", "most"),
    [
        (rule, "resources.memory", 6 * 2**20, 2**50),
        (rule, "resources.pids", 1, 2**20),
        (rule, "resources.tmp", 2**12, 2**50),
        (rule, "resources.shm", 2**12, 2**50),
        (rule, "resources.nofile", 16, 2**20),
        (rule, "stdio.buffer", 16 * 2**20, 2**50),
        (rule, "stdio.max_message", 2**10, 16 * 2**20),
        (rule, "lifetime.detached_ttl_s", 1, 10**9),
        (rule, "lifetime.max_age_s", 1, 10**9),
        (rule, "lifetime.keep_exited_s", 0, 10**9),
        (rule, "lifetime.stop_grace_s", 0, 300),
        (rule, "args.max", 0, 128),
        (rule, "tmpfs./data", 2**12, 2**50),
        (rule, "max_running", 1, None),
        (client, "max_running", 1, None),
        (client, "starts_per_minute", 1, None),
        (client, "peer_uid", 0, None),
    ],
)
def test_a_number_is_within_its_bounds(model: Any, where: str, least: int, most: int | None) -> None:
    assert accepts(model, **nested(where, least))
    assert not accepts(model, **nested(where, least - 1))
    assert accepts(model, **nested(where, 10**6 if most is None else most))
    assert most is None or not accepts(model, **nested(where, most + 1))
    for value in (float(least), str(least), True, [least]):
        assert not accepts(model, **nested(where, value))


def test_cpus_are_a_hundredth_to_1024() -> None:
    for cpus in (0.01, 1, 1024.0):
        assert rule(resources={"cpus": cpus}).resources.cpus == cpus
    for refused in (0.0099999, 1024.0001, float("nan"), float("inf"), "1", True):
        assert not accepts(rule, resources={"cpus": refused})


def test_a_buffer_of_exactly_one_message_is_enough() -> None:
    for size in (2**10, 2**20):
        assert rule(stdio={"buffer": size, "max_message": size}).stdio.buffer == size
        assert not accepts(rule, stdio={"buffer": size, "max_message": size + 1})
    assert not accepts(rule, stdio={"buffer": 2**10 - 1, "max_message": 2**10 - 1})


def test_the_longest_lease_added_to_now_is_a_date() -> None:
    assert MAX_LEASE_S == 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [("999999999999B", 999_999_999_999), ("4096B", 4096), ("4KiB", 2**12), ("1048576GiB", 2**50), ("04KiB", 4096)],
)
def test_a_size_has_up_to_twelve_digits_and_a_unit(text: str, size: int) -> None:
    assert rule(resources={"tmp": text}).resources.tmp == size


@pytest.mark.parametrize("text", ["0000000004096B", "KiB", "1048577GiB", "4097", "4096b", "4096BB", "4096kiB", "9XiB"])
def test_a_size_with_more_or_without_either_is_refused(text: str) -> None:
    assert not accepts(rule, resources={"tmp": text})


# ── names and texts ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a", "0", "a_b", "a" * 32, "z9_"])
def test_a_client_has_a_name_that_fits_into_container_names(name: str) -> None:
    assert accepts(policy, clients={name: client().model_dump()})


@pytest.mark.parametrize("name", ["", "a-b", "A", "_a", "a" * 33, "a.b", "a\n", "\na", "ä", "a b"])
def test_a_client_with_another_name_is_refused(name: str) -> None:
    assert not accepts(policy, clients={name: client().model_dump()})


@pytest.mark.parametrize("name", ["a", "0", "a-b_c.d", "a" * 63])
def test_a_rule_a_secret_and_a_mount_have_names_of_up_to_63_characters(name: str) -> None:
    assert accepts(rule, name=name)
    assert accepts(client, rules=[name])
    assert accepts(rule, secrets={name: {"file": "/run/a", "env": "A"}}, mounts={name: {"target": "/a", "volume": "a"}})


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "A", "a" * 64, "a/b", "a\n", "\na", "ä"])
def test_a_rule_a_secret_and_a_mount_with_another_name_are_refused(name: str) -> None:
    assert not accepts(rule, name=name)
    assert not accepts(client, rules=[name])
    assert not accepts(rule, secrets={name: {"file": "/run/a", "env": "A"}})
    assert not accepts(rule, mounts={name: {"target": "/a", "volume": "a"}})


@pytest.mark.parametrize("name", ["a", "0", "Z", "a-b_c.D", "a" * 128])
def test_a_network_a_volume_and_a_runtime_have_names_as_the_engine_gives_them(name: str) -> None:
    assert accepts(rule, network=name, runtime=name, mounts={"m": {"target": "/a", "volume": name}})


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a" * 129, "a/b", "a\n", "\na", "ä", "a:b", "/a"])
def test_a_network_a_volume_and_a_runtime_with_another_name_are_refused(name: str) -> None:
    assert not accepts(rule, network=name)
    assert not accepts(rule, runtime=name)
    assert not accepts(rule, mounts={"m": {"target": "/a", "volume": name}})


@pytest.mark.parametrize("digest", ["a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "\n" + "a" * 64, "", 5])
def test_a_token_hash_is_64_lower_case_hex_digits(digest: object) -> None:
    assert accepts(client, token_sha256=["0123456789abcdef" * 4])
    assert not accepts(client, token_sha256=[digest])


def test_a_client_has_a_token() -> None:
    assert not accepts(client, token_sha256=[])


@pytest.mark.parametrize(
    "user",
    ["1:1\n", "\n1:1", "x1:1", "1:1x", "1234567890:1", "1:1234567890", "0:1", "1:0", "01:1", "1:01", "11", "a:a"],
)
def test_a_user_is_no_root_from_any_side(user: str) -> None:
    assert accepts(rule, user="123456789:987654321")
    assert not accepts(rule, user=user)


def test_an_argument_of_the_operators_has_up_to_8192_characters_and_no_nul() -> None:
    for where in ("prefix", "entrypoint", "fixed"):

        def fields(text: str, where: str = where) -> dict[str, Any]:
            match where:
                case "prefix":
                    return {"args": {"prefix": [text]}}
                case "entrypoint":
                    return {"entrypoint": [text]}
            return {"env": {"fixed": {"A": text}}}

        for accepted in ("", "x" * 8192, "a\nb", "ä"):
            assert accepts(rule, **fields(accepted))
        for refused in ("x" * 8193, "\0", "a\0", "\0a", "a\0b"):
            assert not accepts(rule, **fields(refused))


def test_a_path_has_up_to_4096_characters() -> None:
    longest = "/" + "a" * 4095
    assert accepts(rule, workdir=longest, tmpfs={longest: 4096})
    assert not accepts(rule, workdir=longest + "a")
    assert not accepts(rule, tmpfs={longest + "a": 4096})
    assert not accepts(rule, secrets={"s": {"file": longest + "a", "env": "A"}})
    assert not accepts(policy, mount_roots=[longest + "a"])


@pytest.mark.parametrize("path", ["a", "", "./a", "/a/", "/a/../b", "/a//b", "//a", "/a/.", "/a\0", 5, None])
def test_a_path_is_absolute_normal_and_without_nul_wherever_there_is_one(path: object) -> None:
    assert not accepts(rule, workdir=path)
    assert not accepts(rule, secrets={"s": {"file": path, "env": "A"}})
    assert not accepts(rule, mounts={"m": {"volume": "a", "target": path}})
    assert not accepts(rule, mounts={"m": {"host": path, "target": "/a"}})
    assert not accepts(policy, mount_roots=[path])


@pytest.mark.parametrize("field", ["args", "env", "images"])
def test_a_pattern_has_up_to_512_characters_and_is_one(field: str) -> None:
    def fields(pattern: str) -> dict[str, Any]:
        return {"image_patterns": [pattern]} if field == "images" else {field: {"patterns": [pattern]}}

    assert accepts(rule, **fields("a" * 512))
    assert not accepts(rule, **fields("a" * 513))
    assert not accepts(rule, **fields("("))


def test_an_image_has_up_to_512_characters() -> None:
    longest = "a" * (512 - len(DIGEST)) + DIGEST
    assert accepts(rule, images=[longest])
    assert not accepts(rule, images=["a" + longest])


# ── what is never mounted ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        *("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys"),
        *("/var/lib/containerd", "/var/lib/docker", "/var/run"),
        *("/", "/var", "/var/lib"),
    ],
)
def test_what_owns_the_host_is_never_mounted_nor_what_holds_it_or_is_in_it(path: str) -> None:
    inside = path.rstrip("/") + ("/etc/x" if path == "/" else "/run" if path == "/var" else "/docker/x")
    for hostile in (path, inside):
        assert not accepts(Mount, host=hostile, target="/a")
        assert not accepts(policy, mount_roots=[hostile])


@pytest.mark.parametrize(
    "path", ["/etcetera", "/runner", "/var/lib/app", "/var/libs", "/home/x/etc", "/devices", "/srv"]
)
def test_what_only_sounds_like_it_may_be_mounted(path: str) -> None:
    assert accepts(Mount, host=path, target="/a")
    assert accepts(policy, mount_roots=[path])


@pytest.mark.parametrize("target", ["/", "/proc", "/sys", "/dev", "/proc/x", "/sys/x", "/dev/shm"])
def test_what_the_engine_puts_there_is_never_mounted_over(target: str) -> None:
    assert not accepts(Mount, volume="a", target=target)
    assert not accepts(rule, tmpfs={target: 4096})


@pytest.mark.parametrize("target", ["/processes", "/system", "/devices", "/a/proc", "/etc", "/run"])
def test_other_places_of_a_container_may_be_mounted_over(target: str) -> None:
    assert accepts(Mount, volume="a", target=target)
    assert accepts(rule, tmpfs={target: 4096})


# ── variables that change what runs ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_X", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES", "GCONV_PATH", "MALLOC_ARENA_MAX"),
        *("PYTHON", "PYTHONPATH", "PYTHON_GIL", "NODE_OPTIONS", "NPM_CONFIG_REGISTRY", "npm_config_registry"),
        *("UV_INDEX", "PIP_INDEX_URL", "DENO_DIR", "BUN_INSTALL", "PERL5LIB", "PERLLIB", "RUBYOPT", "RUBYLIB"),
        *("GEM_PATH", "JAVA_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "CLASSPATH"),
        *("BASH_ENV", "BASHOPTS", "ENV", "IFS", "SHELL", "PATH", "HOME", "TMPDIR", "HTTP_PROXY", "https_proxy"),
        *(
            "HOSTALIASES",
            "LOCPATH",
            "NLSPATH",
            "XDG_CONFIG_HOME",
            "PS4",
            "PROMPT_COMMAND",
            "SHELLOPTS",
            "ELECTRON_RUN_AS_NODE",
        ),
        *(
            "LUA_INIT",
            "PHPRC",
            "PHP_INI_SCAN_DIR",
            "R_PROFILE_USER",
            "R_HOME",
            "R_LIBS_USER",
            "ERL_FLAGS",
            "GODEBUG",
            "GOFLAGS",
            "GOPROXY",
            "DOTNET_STARTUP_HOOKS",
        ),
        *("CORECLR_PROFILER", "COR_PROFILER_PATH", "REQUESTS_CA_BUNDLE", "CURL_HOME", "SSLKEYLOGFILE"),
        *("ALL_PROXY", "_PROXY", "SSL_CERT_FILE", "OPENSSL_CONF", "GIT_SSH_COMMAND", "git_dir", "Path"),
    ],
)
def test_a_pattern_admits_no_variable_that_changes_what_runs(name: str) -> None:
    assert not rule(env={"patterns": ["(?s).*"]}).env.admits(name)
    assert rule(env={"allow": [name]}).env.admits(name)
    assert DANGEROUS_ENV.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["TZ", "APP_HOME", "MY_PATH", "ENVIRONMENT", "PROXY", "LD", "GIT", "OLD_PATH", "XLD_X", "JAVA", "HOMEPAGE"]
)
def test_a_pattern_admits_other_variables(name: str) -> None:
    assert rule(env={"patterns": ["(?s).*"]}).env.admits(name)
    assert not rule(env={"patterns": [name[:-1]]}).env.admits(name)
    assert not rule().env.admits(name)


# ── defaults and the schema ──────────────────────────────────────────────────────────────────────


def test_what_a_client_and_a_policy_leave_out_has_its_default() -> None:
    assert client().model_dump(exclude={"token_sha256", "rules"}) == {
        "metrics": False,
        "peer_uid": None,
        "max_running": 20,
        "starts_per_minute": 60,
    }
    found = policy()
    assert (found.mount_roots, found.defaults) == ([], type(found.defaults)())
    assert Mount(target="/a", volume="a").model_dump() == {
        "target": "/a",
        "host": None,
        "volume": "a",
        "tmpfs": None,
        "read_only": True,
    }


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(version: object) -> None:
    assert not accepts(policy, version=version)


@pytest.mark.parametrize(
    "fields",
    [
        {"args": {"audit": "none"}},
        {"args": {"audit": ""}},
        {"stdio": {"replay": "disk"}},
        {"stdio": {"replay": ""}},
        {"args": {"any": 1}},
        {"allow_tags": "true"},
        {"mounts": {"m": {"target": "/a", "volume": "a", "read_only": 0}}},
    ],
)
def test_a_choice_is_one_of_those_there_are(fields: dict[str, Any]) -> None:
    assert not accepts(rule, **fields)


@pytest.mark.parametrize("audit", ["shown", "hashed"])
@pytest.mark.parametrize("replay", ["engine-log", "none"])
def test_every_choice_that_there_is_can_be_made(audit: str, replay: str) -> None:
    found = rule(args={"audit": audit}, stdio={"replay": replay})
    assert (found.args.audit, found.stdio.replay) == (audit, replay)


def test_the_schema_says_of_sizes_entrypoints_and_directories_what_the_code_does() -> None:
    schema = Policy.model_json_schema()["$defs"]
    fields = schema["Rule"]["properties"]
    said = {"description", "default", "title"}
    size = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^([0-9]{1,12})(B|KiB|MiB|GiB)$"}]
    assert schema["Resources"]["properties"]["memory"]["anyOf"] == size
    assert {key: value for key, value in fields["entrypoint"].items() if key not in said} == {
        "anyOf": [{"const": "keep"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    }
    assert {key: value for key, value in fields["workdir"].items() if key not in said} == {
        "anyOf": [{"const": "keep"}, {"type": "string", "pattern": "^/"}]
    }
    assert all(section["additionalProperties"] is False for section in schema.values())
