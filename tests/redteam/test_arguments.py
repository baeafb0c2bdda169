"""F. Arguments and environment: nothing gets past a pattern, or becomes more than the one string that it is."""

# ruff: noqa: RUF001  # look-alikes are part of what is tested here

import json
import time
from pathlib import Path
from typing import Any

import pytest

from doogie_contract.models import StartRequest
from doogie_proxy.admission import Admitted, admit
from doogie_proxy.policy import Policy
from tests.support.harness import TOOLBOX, ProxyUnderTest, policy_document, proxy_under_test, toolbox_rule
from tests.support.invariants import violations

START = "/v1/servers/box/start"

PAST = {
    "--tz=[A-Za-z_/]+": (
        *("--privileged", "-v/:/host", "-v", "--", "-", "--tz=", "--tz=UTC --privileged", " --tz=UTC", "--tz=UTC "),
        *("--tz=UTC\n--privileged", "--privileged\n--tz=UTC", "--tz=UTC\n", "\n--tz=UTC", "--tz=UTC\r", "--tz=UTC\t"),
        *(
            "--tz=UTC\u2028-v",
            "--tz=UTC\x85",
            "--tz=UTC\x0b",
            "--tz=UTC\x1b[0m",
            "--tz=UTC;id",
            "--tz=$(id)",
            "--tz=`id`",
        ),
        *(
            "--TZ=UTC",
            "--tz=ÜTC",
            "--tz=ＵＴＣ",
            "--tz=Europe/Ber\u200blin",
            "-\u200b-tz=UTC",
            "−−tz=UTC",
            "--tz=U\u0301",
        ),
    ),
    "[a-z]+": ("", "a\n", "\na", "a\nb", "-a", "--a", "a-", "a b", "A", "ſ", "K", "a\ufeff", "@a", "/a", "../a", "%61"),
    "^--ok$": ("--ok\n", "\n--ok", "--ok\n--evil", "--evil\n--ok", "--okk", "x--ok"),
    "(?m)^--ok$": ("--ok\n", "\n--ok", "--ok\n--evil", "--evil\n--ok", "--evil\n--ok\n--evil", "--ok\r\n--evil"),
    "(?m)^--ok$|^--fine$": ("--ok\n--evil", "--fine\n--evil", "--evil\n--fine", "--ok\n--fine"),
    "\\A--ok\\z": ("--ok\n", "--ok\n--evil", "--ok--ok"),
    "\\A--ok|--fine\\z": ("--ok\n--evil", "--ok--evil", "--evil--fine", "--evil\n--fine"),
    "--(?:x|y)=.*": ("--x=\n", "--x=a\n--evil", "--z=", "-x=", "--x", "--xy=", "a--x=", "--x=a\n"),
    "--name=.+": ("--name=", "--name=\n", "--name=a\n-v", "--name=a\n"),
    "(?i)--ok": ("--oKk", "--ok\n", "--oҝ"),
    "(?x) --ok  # a comment\n": ("--ok  # a comment", "--ok\n", "--ok#", " --ok"),
    "a|": ("-", "aa", "\n", "a\n", "|"),
    "a|-b\\b|": ("-b\n", "-bc", "a-b", "-b -c"),
    "\\w+": ("-", "a-b", "a b", "", "a\n", "a=b", "a.b"),
}
"""By pattern: what it must not let in."""

WITHIN = [
    ("(?s)--note=.*", "--note=a\n--evil\n-v\t/:/host\r\n"),
    ("--note=[^,]+", "--note=a\n--evil"),
    ("(?m)^--a$\\n^--b$", "--a\n--b"),
    ("[^-].*", "$(id); `id` | tee && rm -rf / 'x' \"y\" \\ * ~ ${HOME} \x1b[31m"),
    (".*", "--privileged=true --volume=/:/host"),
    (".*", "é\u202egnp.exe\U0001f600 ﷽"),
]
"""What a pattern does let in, by the operator's choice: it stays the one argument that it is."""


def args_rule(*patterns: str, **args: Any) -> dict[str, object]:
    return toolbox_rule(args={"prefix": ["print-args"], "patterns": list(patterns), **args})


async def refuses(proxy: ProxyUnderTest, status: int, problem: str, **body: object) -> None:
    answer = await proxy.call("POST", START, {"image": TOOLBOX, **body})
    assert (answer.status, answer.problem) == (status, problem), body


@pytest.mark.redteam(51)
async def test_no_argument_gets_past_a_pattern(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(args_rule())) as proxy:
        for pattern, arguments in PAST.items():
            proxy.reload(policy_document(args_rule(pattern)))
            for argument in arguments:
                await refuses(proxy, 403, "policy-denied", args=[argument])
        proxy.reload(policy_document(args_rule("--tz=[A-Za-z_/]+", "[a-z]+", max=3)))
        for args in (["a", "--evil"], ["--evil", "a"], ["a", ""], ["a", "--tz=UTC", "a\n"], ["a"] * 4, ["a"] * 128):
            await refuses(proxy, 403, "policy-denied", args=args)
        assert proxy.recorder.for_clients() == []
        # All that is wanted does get in, so it is the pattern that refused the rest.
        await proxy.start("box", "--tz=Europe/Berlin", "a")
        assert proxy.recorder.creates()[0].body["Cmd"] == ["print-args", "--tz=Europe/Berlin", "a"]


@pytest.mark.redteam(51)
async def test_what_a_pattern_lets_in_is_one_argument_whatever_is_in_it(engine: str, tmp_path: Path) -> None:
    async with proxy_under_test(tmp_path, policy_document(args_rule())) as proxy:
        for number, (pattern, argument) in enumerate(WITHIN):
            proxy.reload(policy_document(args_rule(pattern)))
            await proxy.start(f"s{number}", argument)
            async with proxy.stdio(f"s{number}", "mcp") as ws:
                assert json.loads((await ws.receive(timeout=30)).data) == [argument]
            body = proxy.recorder.creates()[-1].body
            assert body["Cmd"] == ["print-args", argument]
            assert violations(body) == []
            await proxy.stop(f"s{number}")


@pytest.mark.redteam(51)
async def test_arguments_are_bounded_text_without_nul(engine: str, tmp_path: Path) -> None:
    document = policy_document(args_rule("(?s).*", max=128))
    async with proxy_under_test(tmp_path, document) as proxy:
        for args in (
            ["\0"],
            ["a\0--evil"],
            ["a" * 8193],
            ["é" * 8193],
            ["a"] * 129,
            [""] * 129,
            "a",
            {"0": "a"},
            [None],
        ):
            await refuses(proxy, 422, "invalid-request", args=args)
        for argument in ("a" * 1025, "é" * 513, "\U0001f600" * 257, "a" * 8192, "é" * 8192):
            await refuses(proxy, 403, "policy-denied", args=[argument])
        for raw in (b"\xff", b"\xc3", b"\xe2\x82", b"\xc0\x80", b"\xed\xa0\x80", rb"\ud83d", rb"\udc00\ud83d"):
            answer = await proxy.call("POST", START, data=b'{"image": "x", "args": ["%s"]}' % raw)
            assert (answer.status, answer.problem) == (422, "invalid-request")
        answer = await proxy.call("POST", START, {"image": TOOLBOX, "args": ["a" * 4096] * 64 + ["b"]})
        assert (answer.status, answer.problem) == (413, "body-too-large")
        assert proxy.recorder.for_clients() == []
        # The most that gets in.
        await proxy.start("box", *["é" * 512] * 80)
        assert proxy.recorder.creates()[0].body["Cmd"] == ["print-args", *["é" * 512] * 80]


EXPLODING = ("(a+)+$", "(a*)*b", "((a+)+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*(.*)*(.*)*b", "(x+x+)+y", "(a?){200}a{200}b")


@pytest.mark.redteam(51)
@pytest.mark.timeout(60)
async def test_patterns_that_explode_elsewhere_hold_up_nobody(engine: str, tmp_path: Path) -> None:
    document = policy_document(args_rule(*EXPLODING, max=128))
    async with proxy_under_test(tmp_path, document) as proxy:
        for argument in ("a" * 1023 + "!", "x" * 1024):
            await refuses(proxy, 403, "policy-denied", args=[argument] * 128)
        assert proxy.recorder.for_clients() == []


@pytest.mark.redteam(51)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", EXPLODING)
def test_the_time_for_a_decision_grows_no_faster_than_the_argument(pattern: str) -> None:
    policy = Policy.model_validate(policy_document(args_rule(pattern)))

    def fastest_s(size: int) -> float:
        request = StartRequest(image=TOOLBOX, args=["a" * (size - 1) + "!"])
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            assert not isinstance(admit(policy, "chat", request), Admitted)
            times.append(time.perf_counter() - begun)
        return min(times)

    fastest_s(64)  # compiles the pattern
    # Sixteen times the size, and much more than sixteen times the time allowed: a backtracking engine would not end.
    assert fastest_s(1024) < 200 * max(fastest_s(64), 1e-5)


DANGEROUS = (
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES", "GCONV_PATH"),
    *("NODE_OPTIONS", "NODE_PATH", "NODE_EXTRA_CA_CERTS", "NPM_CONFIG_REGISTRY", "npm_config_registry", "BUN_INSTALL"),
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "PYTHONWARNINGS", "UV_INDEX_URL", "PIP_INDEX_URL"),
    *("PERL5LIB", "PERL5OPT", "RUBYOPT", "RUBYLIB", "GEM_HOME", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"),
    *("JDK_JAVA_OPTIONS", "DENO_DIR", "BASH_ENV", "BASH_FUNC_ls", "ENV", "IFS", "SHELL", "PATH", "HOME", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "Http_Proxy"),
    *(
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "SSL_X",
        "OPENSSL_CONF",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT",
    ),
    *("MALLOC_CONF", "ld_preload", "Path", "pythonpath", "node_options"),
)


@pytest.mark.redteam(52)
async def test_no_pattern_lets_a_dangerous_variable_in(engine: str, tmp_path: Path) -> None:
    rule = toolbox_rule(
        env={"patterns": [".*", "(?i)[a-z_]+", "LD_PRELOAD", "PATH|NODE_OPTIONS"], "allow": ["GREETING"]}
    )
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        for name in DANGEROUS:
            for env in ({name: ""}, {name: "/evil"}, {"GREETING": "a", name: "/evil"}, {name: "/evil", "FINE": "a"}):
                await refuses(proxy, 403, "policy-denied", args=["sleep"], env=env)
        assert proxy.recorder.for_clients() == []
        await proxy.start("box", "sleep", env={"FINE": "LD_PRELOAD=/evil\nPATH=/evil"})
        assert proxy.recorder.creates()[0].body["Env"] == ["FINE=LD_PRELOAD=/evil\nPATH=/evil"]


@pytest.mark.redteam(52)
async def test_no_variable_is_set_by_the_back_door(engine: str, tmp_path: Path) -> None:
    fixed = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_OPTIONS": "", "G_FIXED": "fixed"}
    (tmp_path / "secret").write_text("value")
    rule = toolbox_rule(
        env={"allow": ["GREETING"], "patterns": ["G_.*", "TOKEN"], "fixed": fixed},
        secrets={"token": {"file": str(tmp_path / "secret"), "env": "TOKEN"}},
    )
    async with proxy_under_test(tmp_path, policy_document(rule)) as proxy:
        for name in (
            *("", "=", "GREETING=", "GREETING=a", "LD_PRELOAD=/evil", " GREETING", "GREETING ", "GREETING\n", "G\0"),
            *("GREETING\nLD_PRELOAD", "1A", "A-B", "A.B", "GRÉETING", "ＧＲＥＥＴＩＮＧ", "G_\n", "\u017f", "A" * 257),
        ):
            await refuses(proxy, 422, "invalid-request", args=["sleep"], env={name: "a"})
        for name in (*fixed, "TOKEN", "LD_PRELOAD", "greeting", "GREETINGS", "GREETIN", "XG_", "_", "g_"):
            await refuses(proxy, 403, "policy-denied", args=["sleep"], env={name: "a"})
        for value in ("\0", "a\0LD_PRELOAD=/evil", "a" * 32_769, 1, None, True, ["a"], {"a": "b"}):
            await refuses(proxy, 422, "invalid-request", args=["sleep"], env={"GREETING": value})
        env = {f"G_{number}": "a" for number in range(129)}
        await refuses(proxy, 422, "invalid-request", args=["sleep"], env=env)
        assert proxy.recorder.for_clients() == []
        await proxy.start("box", "print-env", env={"GREETING": "a\nLD_PRELOAD=/evil"}, secrets=["token"])
        async with proxy.stdio("box", "mcp") as ws:
            seen = json.loads((await ws.receive(timeout=30)).data)
        assert {**seen, **fixed, "GREETING": "a\nLD_PRELOAD=/evil", "TOKEN": "value"} == seen
        assert "LD_PRELOAD" not in seen
        assert violations(proxy.recorder.creates()[0].body) == []
