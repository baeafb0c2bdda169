"""``docker run``: image, arguments and environment come out exactly; every option is answered for."""

import pytest

from tests.unit.client.commands.reading import faults, kinds, translated

IMAGE = "registry.example:5000/mcp/time:1.0@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("words", "args", "env"),
    [
        (["run", IMAGE], [], {}),
        (["container", "run", "-i", IMAGE, "--x"], ["--x"], {}),
        (["run", "-it", "--rm", IMAGE, "-e", "A=1", "--", "-i"], ["-e", "A=1", "--", "-i"], {}),
        (
            ["run", "-e", "A=1", "--env", "B=2", "--env=C=3=4", "-eD=5", "-e=E=6", IMAGE],
            [],
            dict(zip("ABCDE", ["1", "2", "3=4", "5", "6"], strict=True)),
        ),
        (["run", "-ieA=1", "-iteB", "-ite", "C=", IMAGE], [], {"A": "1", "B": "b", "C": ""}),
        (["run", "-i=true", "--rm=1", "--tty=false", "-d=F", "--privileged=false", IMAGE], [], {}),
        (["run", "--", IMAGE, "--", "a"], ["--", "a"], {}),
        (["run", "--name", "--rm", "-i", IMAGE], [], {}),
        (["run", "-a", "stdin", "--attach=STDOUT", "-astderr", IMAGE, ""], [""], {}),
        (["run", "-e", "A=x y\n'\"z", IMAGE, "a b", "'c'"], ["a b", "'c'"], {"A": "x y\n'\"z"}),
        (["run", "-e", "A", "-e", "A=1", "-e", "A=1", IMAGE], [], {"A": "1"}),
    ],
)
def test_options_are_read_as_docker_reads_them(words: list[str], args: list[str], env: dict[str, str]) -> None:
    given = {"B": "b"} if "-iteB" in words else {}
    request = translated(["docker", *words], env=given).request
    assert (request.image, request.args, request.env) == (IMAGE, args, env)


@pytest.mark.parametrize(
    "program", ["docker", "podman", "/usr/local/bin/docker", "docker.exe", r"C:\Program Files\Docker\docker.exe"]
)
def test_podman_paths_and_windows_names_mean_the_same(program: str) -> None:
    assert translated([program, "run", "-i", "mcp/time"]).request.image == "mcp/time"


def test_what_is_always_so_is_told_in_words() -> None:
    hardened = "--init --read-only --tmpfs /tmp --cap-drop ALL --network none --security-opt no-new-privileges"
    notes = translated(f"docker run -i --rm {hardened} --pull=always mcp/x").notes
    named = [note.partition(":")[0] for note in notes]
    assert named == [
        "-i",
        "--rm",
        "--init",
        "--read-only",
        "--tmpfs",
        "--cap-drop",
        "--network",
        "--security-opt",
        "--pull",
    ]
    assert "--cap-drop: all capabilities are dropped" in notes


@pytest.mark.parametrize(
    ("option", "kind", "ask"),
    [
        (["-m", "512m"], "policy", "resources: {memory: 512MiB}"),
        (["--memory=2g"], "policy", "resources: {memory: 2GiB}"),
        (["--memory", "1000"], "policy", "resources: {memory: 1000}"),
        (["--memory", "lots"], "policy", "resources: {memory: SIZE}"),
        (["--cpus=1.5"], "policy", "resources: {cpus: 1.5}"),
        (["--cpu-quota", "50000"], "policy", "resources: {cpus: CORES}"),
        (["--pids-limit", "-1"], "policy", "resources: {pids: NUMBER}"),
        (["--shm-size", "64mb"], "policy", "resources: {shm: 64MiB}"),
        (["--ulimit", "nofile=1024:2048"], "policy", "resources: {nofile: 1024}"),
        (["--ulimit", "core=0"], "unsupported", None),
        (["-u", "1000:1000"], "policy", 'user: "1000:1000"'),
        (["--user", "root"], "policy", "user: UID:GID"),
        (["-w", "/app/"], "policy", "workdir: /app"),
        (["--entrypoint", "node"], "policy", "entrypoint: [node]"),
        (["--network", "tools"], "policy", "network: tools"),
        (["--net=name=tools,alias=x"], "policy", "network: tools"),
        (["--network", "host"], "policy", "network: NETWORK"),
        (["--network=container:db"], "policy", "network: NETWORK"),
        (["--add-host", "host.docker.internal:host-gateway"], "policy", "network: NETWORK"),
        (["--runtime", "runsc"], "policy", "runtime: runsc"),
        (["--stop-timeout", "30"], "policy", "lifetime: {stop_grace_s: 30}"),
        (["--rm=false"], "policy", "lifetime: {keep_exited_s: SECONDS}"),
        (["--read-only=false"], "policy", "tmpfs: {PATH: 64MiB}"),
        (["--tmpfs", "/work:rw,size=32m"], "policy", "tmpfs: {/work: 32MiB}"),
        (["--tmpfs", "/tmp:size=64m"], "policy", "resources: {tmp: 64MiB}"),
        (["-v", "cache:/tmp"], "policy", "mounts: {tmp: {volume: cache, target: /mnt/tmp, read_only: false}}"),
        (["--log-driver", "none"], "policy", "stdio: {replay: none}"),
        (["--log-driver", "syslog"], "unsupported", None),
        (["--platform", "linux/amd64"], "policy", 'images: ["REPOSITORY@sha256:DIGEST"]'),
        (["-v", "/srv/docs:/data:ro"], "policy", "mounts: {data: {host: /srv/docs, target: /data}}"),
        (["-v", "/srv/docs/:/data"], "policy", "mounts: {data: {host: /srv/docs, target: /data, read_only: false}}"),
        (
            ["-v", "/srv/my docs:/My Docs"],
            "policy",
            'mounts: {my-docs: {host: "/srv/my docs", target: "/My Docs", read_only: false}}',
        ),
        (
            ["-v", "cache:/var/cache/x"],
            "policy",
            "mounts: {x: {volume: cache, target: /var/cache/x, read_only: false}}",
        ),
        (["-v", "/var/cache/x"], "policy", "tmpfs: {/var/cache/x: 64MiB}"),
        (["-v", "~/.aws:/root/.aws:ro"], "policy", "mounts: {aws: {host: /srv/mcp/aws, target: /root/.aws}}"),
        (
            ["-v", r"C:\Users\me\docs:/data"],
            "policy",
            "mounts: {data: {host: /srv/mcp/data, target: /data, read_only: false}}",
        ),
        (["-v", "./docs:/data:z,ro"], "policy", "mounts: {data: {host: /srv/mcp/data, target: /data}}"),
        (["-v", "/:/host"], "policy", "mounts: {host: {host: /srv/mcp/host, target: /host, read_only: false}}"),
        (
            ["-v", "/etc/../etc/ssl:/ssl"],
            "policy",
            "mounts: {ssl: {host: /srv/mcp/ssl, target: /ssl, read_only: false}}",
        ),
        (["--mount", "type=bind,src=/srv/a,dst=/b,ro"], "policy", "mounts: {b: {host: /srv/a, target: /b}}"),
        (
            ["--mount", "type=volume,source=v,target=/b"],
            "policy",
            "mounts: {b: {volume: v, target: /b, read_only: false}}",
        ),
        (["--mount", "type=tmpfs,destination=/b,tmpfs-size=1m"], "policy", "tmpfs: {/b: 1MiB}"),
        (["-v", "/var/run/docker.sock:/var/run/docker.sock"], "unsupported", None),
        (["--mount", "type=bind,src=/run/podman/podman.sock,dst=/s"], "unsupported", None),
        (["--privileged"], "unsupported", None),
        (["--cap-add", "SYS_ADMIN"], "unsupported", None),
        (["--security-opt", "seccomp=unconfined"], "unsupported", None),
        (["--security-opt", "no-new-privileges:false"], "unsupported", None),
        (["--pid", "host"], "unsupported", None),
        (["--device", "/dev/kvm"], "unsupported", None),
        (["-p", "8000:8000"], "unsupported", None),
        (["-d"], "unsupported", None),
        (["--env-file", ".env"], "unsupported", None),
        (["--restart", "always"], "unsupported", None),
        (["-i=false"], "unsupported", None),
        (["--label", "a=b"], "unsupported", None),
        (["-a", "everything"], "malformed", None),
        (["--rm=maybe"], "malformed", None),
        (["--frobnicate"], "unknown", None),
        (["--frobnicate=1"], "unknown", None),
        (["-X"], "unknown", None),
        (["---i"], "unknown", None),
    ],
)
def test_an_option_is_refused_with_what_mends_it(option: list[str], kind: str, ask: str | None) -> None:
    words = ["docker", "run", *option, "-i", "mcp/x"]
    (fault,) = faults(words)
    assert (fault.kind, fault.loc, fault.ask) == (kind, "args.1", ask)
    assert fault.msg.startswith((option[0].partition("=")[0], f"'{option[0].partition('=')[0]}"))


def test_an_unknown_option_is_not_guessed_to_take_a_value_or_not() -> None:
    assert kinds(["docker", "run", "--frobnicate", "mcp/x", "arg"]) == [("unknown", "args.1")]
    assert "was not read" in faults(["docker", "run", "--frobnicate", "mcp/x", "arg"])[0].msg
    assert kinds(["docker", "run", "--frobnicate", "-m", "1g", "mcp/x"]) == [
        ("unknown", "args.1"),
        ("policy", "args.2"),
    ]
    assert kinds(["docker", "run", "--frobnicate=1", "-m", "1g"]) == [("unknown", "args.1"), ("policy", "args.2")]


def test_all_faults_come_at_once_in_the_order_of_the_command() -> None:
    words = [
        "docker",
        "run",
        "-v",
        "/a:/b",
        "-e",
        "A",
        "--privileged",
        "-e",
        "1B=2",
        "--foo=1",
        "-e",
        "C=1",
        "IMAGE",
        "${X}",
    ]
    assert kinds(words, env={"C": "2", "D": "${D}"}) == [
        ("policy", "args.1"),
        ("malformed", "args.3"),
        ("unsupported", "args.5"),
        ("malformed", "args.6"),
        ("unknown", "args.8"),
        ("malformed", "args.9"),
        ("malformed", "args.11"),
        ("malformed", "args.12"),
        ("malformed", "env.D"),
    ]


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("docker", "malformed", "docker run IMAGE"),
        ("docker run", "malformed", "name of an image is missing"),
        ("docker run -i", "malformed", "name of an image is missing"),
        ("docker run -e", "malformed", "-e needs a value: NAME[=VALUE]"),
        ("docker run -ie", "malformed", "-e needs a value"),
        ("docker run --name", "malformed", "--name needs a value: NAME"),
        ("docker run Mcp/Time", "malformed", "'Mcp/Time' is not the name of an image"),
        ("docker run mcp/time:", "malformed", "is not the name of an image"),
        ("docker run 'mcp/time '", "malformed", "is not the name of an image"),
        ("docker run ''", "malformed", "is not the name of an image"),
        ("docker run -", "malformed", "is not the name of an image"),
        ("docker run mcp/time@sha256:12", "malformed", "is not the name of an image"),
        ("docker --context far run mcp/x", "unsupported", "the engine is the proxy's"),
        ("docker -H tcp://far:2375 run mcp/x", "unsupported", "the engine is the proxy's"),
        ("docker compose run web", "unsupported", "compose file"),
        ("docker exec -i x y", "unsupported", "something else made"),
        ("docker mcp gateway run", "unsupported", "its servers one by one"),
        ("docker build .", "unknown", "starts no server"),
        ("docker container ls", "unknown", "starts no server"),
    ],
)
def test_what_runs_no_image_is_refused(line: str, kind: str, said: str) -> None:
    (fault,) = faults(line)
    assert fault.kind == kind
    assert said in fault.msg


def test_a_variable_without_a_value_takes_the_configurations() -> None:
    found = translated("docker run -e A -e B=2 mcp/x", env={"A": "1", "C": "3"})
    assert found.request.env == {"A": "1", "B": "2", "C": "3"}


def test_a_variable_without_any_value_is_a_fault_unless_a_secret_can_set_it() -> None:
    (fault,) = faults(["docker", "run", "-e", "TOKEN", "mcp/x"])
    assert (fault.kind, fault.loc) == ("malformed", "args.1")
    assert "TOKEN" in fault.msg
    assert "secrets" in fault.msg
    found = translated(["docker", "run", "-e", "TOKEN", "mcp/x"], secrets=["github"])
    assert found.request.env == {}
    assert found.request.secrets == ["github"]
    assert found.notes == ("TOKEN: one of the secrets has to set it: github",)


def test_a_variable_with_two_values_is_a_fault_and_neither_is_shown() -> None:
    for words, env in (
        (["-e", "A=first-value", "-e", "A=second-value"], {}),
        (["-e", "A=first-value"], {"A": "second-value"}),
    ):
        (fault,) = faults(["docker", "run", *words, "mcp/x"], env=env)
        assert (fault.kind, fault.loc) == ("malformed", f"args.{len(words) - 1}")
        assert "value" not in fault.msg.replace("different values", "")
    assert translated("docker run -e A=1 mcp/x", env={"A": "1"}).request.env == {"A": "1"}


def test_secrets_and_mounts_pass_by_name() -> None:
    request = translated("docker run -i mcp/x", secrets=["a", "b"], mounts=["docs"]).request
    assert (request.secrets, request.mounts) == (["a", "b"], ["docs"])


def test_limits_of_the_contract_are_faults_with_places() -> None:
    long = ["docker", "run", "-e", "A=" + "x" * 32769, "-e", "foo.bar=1", "mcp/x", "ok", "y" * 8193, "\0"]
    assert kinds(long, secrets=["a", "a"]) == [
        ("malformed", "args.1"),
        ("malformed", "args.3"),
        ("malformed", "args.7"),
        ("malformed", "args.8"),
        ("malformed", "secrets"),
    ]
    assert kinds(["docker", "run", "mcp/x", *("a" for _ in range(129))]) == [("malformed", "args")]
    assert kinds(["docker", "run", "a" * 513]) == [("malformed", "args.1")]
    assert kinds(["docker", "run", "mcp/x", "\ud800"]) == [("malformed", "args.2")]


def test_a_translation_does_not_show_its_environment() -> None:
    assert "planted-value" not in repr(translated("docker run -i mcp/x", env={"TOKEN": "planted-value"}))
