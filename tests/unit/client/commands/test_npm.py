"""npx and its like: the package, and its arguments as they stand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doogie_client.commands import package_of
from tests.unit.client.commands.reading import command, faults, kinds, translated

NPX = Path(sys.executable).with_name("npx")
"""Of the development environment, which brings its own Node.js."""


@pytest.mark.parametrize(
    ("line", "package", "executable", "beside", "args"),
    [
        ("npx foo", "npx:foo", None, (), []),
        ("npx -y @a/foo@1.2.3 --x -y", "npx:@a/foo@1.2.3", None, (), ["--x", "-y"]),
        ("npx --yes --quiet foo -- -x", "npx:foo", None, (), ["--", "-x"]),
        ("npx -- foo -x", "npx:foo", None, (), ["-x"]),
        ("npx -p foo bar a", "npx:foo", "bar", (), ["a"]),
        ("npx --package=foo@2.0.0 -y -- bar --package=x", "npx:foo@2.0.0", "bar", (), ["--package=x"]),
        ("npx -p=foo foo", "npx:foo", None, (), []),
        ("npx -p foo -p @b/bar --package baz foo", "npx:foo", None, ("@b/bar", "baz"), []),
        ("npx --loglevel silent --cache /tmp/x foo", "npx:foo", None, (), []),
        ("npx --yes=false foo", "npx:foo", None, (), []),
        ("npm exec foo", "npx:foo", None, (), []),
        ("npm x -y -- foo --flag", "npx:foo", None, (), ["--flag"]),
        ("npm exec --package=foo -- bar --flag", "npx:foo", "bar", (), ["--flag"]),
        ("npm exec foo a --yes b -- --flag", "npx:foo", None, (), ["a", "b", "--flag"]),
        ("npm --silent exec foo", "npx:foo", None, (), []),
        ("pnpm dlx foo --x", "npx:foo", None, (), ["--x"]),
        ("pnpm --package=foo dlx bar", "npx:foo", "bar", (), []),
        ("pnpx foo", "npx:foo", None, (), []),
        ("yarn dlx -q -p foo bar x", "npx:foo", "bar", (), ["x"]),
        ("bunx --bun -y foo x", "npx:foo", None, (), ["x"]),
        ("bun x foo", "npx:foo", None, (), []),
        ("npx.cmd -y foo", "npx:foo", None, (), []),
        ("cmd /c npx -y foo a", "npx:foo", None, (), ["a"]),
        ("cmd.exe /d /s /C 'npx -y foo a'", "npx:foo", None, (), ["a"]),
    ],
)
def test_a_line_names_a_package_and_its_arguments(
    line: str, package: str, executable: str | None, beside: tuple[str, ...], args: list[str]
) -> None:
    found = translated(line)
    assert found.package is not None
    assert (str(found.package), found.package.executable, found.package.with_packages) == (package, executable, beside)
    assert found.request.args == args
    assert package_of(command(line)) == found.package


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("npx", "malformed", "name of a package is missing"),
        ("npx -y", "malformed", "name of a package is missing"),
        ("npx -p foo", "malformed", "program of the package to run is missing"),
        ("npx -p", "malformed", "-p needs a value: PACKAGE"),
        ("npx -yp foo bar", "unknown", "'-yp' is not a known option"),
        ("npx --frobnicate foo", "unknown", "was not read"),
        ("npx -n foo", "unknown", "'-n' is not a known option"),
        ("npx -c 'foo --x'", "unsupported", "line for a shell"),
        ("npx --registry https://x foo", "unsupported", "the operator decides"),
        ("npx --node-options=--x foo", "unsupported", "NODE_OPTIONS"),
        ("npx --legacy-peer-deps foo", "unsupported", "settled when the image is built"),
        ("npx -w a foo", "unsupported", "machine the command was written for"),
        ("npx --version", "unsupported", "prints a text"),
        ("npx github:user/repo", "unsupported", "repository"),
        ("npx user/repo#main", "unsupported", "repository"),
        ("npx git+ssh://git@x/y.git", "unsupported", "repository"),
        ("npx foo@git+https://x/y", "unsupported", "repository"),
        ("npx https://x/y.tgz", "unsupported", "URL"),
        ("npx ./dist/index.js", "unsupported", "file"),
        ("npx ./foo.tgz", "unsupported", "file"),
        (r"npx 'C:\x\y'", "unsupported", "file"),
        ("npx file:../foo", "unsupported", "file"),
        ("npx Foo", "malformed", "'Foo' is not the name of an npm package"),
        ("npx foo@", "malformed", "is not the name of an npm package"),
        ("npx -p foo bar/baz", "malformed", "not the name of a program"),
        ("npx -p foo node x.js", "unsupported", "node runs any file"),
        ("npx tsx src/index.ts", "unsupported", "runs a file"),
        ("npx -y mcp-remote https://x/sse", "unsupported", "connect to that server's URL"),
        ("npx -y @smithery/cli@latest run x", "unsupported", "that server itself"),
        ("npm run start", "unsupported", "npm without exec"),
        ("npm", "unsupported", "npm without exec"),
        ("yarn start", "unsupported", "yarn without dlx"),
        ("bun run x.ts", "unsupported", "bun without x"),
        ("npm exec foo --flag", "malformed", "write -- before the arguments"),
    ],
)
def test_what_names_no_package_is_refused_with_the_reason(line: str, kind: str, said: str) -> None:
    found = [fault for fault in faults(line) if fault.kind != "unmapped"]
    assert [fault.kind for fault in found] == [kind]
    assert said in found[0].msg


def test_a_bridge_that_the_operator_has_an_image_of_is_a_package_like_others() -> None:
    assert translated("npx -y mcp-remote@0.1.2 https://x/sse").request.args == ["https://x/sse"]


def test_every_fault_of_a_line_is_told_with_the_build_line() -> None:
    words = ["npx", "--registry", "https://x", "-q", "foo@1.0.0", "${KEY}"]
    assert kinds(words, env={"A": "${B}"}) == [
        ("unsupported", "args.0"),
        ("unmapped", "args.3"),
        ("malformed", "args.4"),
        ("malformed", "env.A"),
    ]


def test_package_of_looks_at_nothing_behind_the_package() -> None:
    package = package_of(command(["npx", "-y", "foo", "${KEY}", "\0"], env={"A": "${B}"}))
    assert str(package) == "npx:foo"
    assert package_of(command("docker run -i mcp/x")) is None
    assert package_of(command("mcp/x:1")) is None


def test_npx_itself_reads_them_so(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "argv-echo"
    programs = tmp_path / "node_modules" / ".bin"
    package.mkdir(parents=True)
    programs.mkdir()
    about = {"name": "argv-echo", "version": "1.0.0", "bin": {"argv-echo": "echo.js", "other": "echo.js"}}
    (package / "package.json").write_text(json.dumps(about))
    (package / "echo.js").write_text("#!/usr/bin/env node\nconsole.log(JSON.stringify(process.argv.slice(2)))\n")
    (package / "echo.js").chmod(0o755)
    for name in about["bin"]:
        (programs / name).symlink_to("../argv-echo/echo.js")
    project = {"name": "here", "version": "1.0.0", "dependencies": {"argv-echo": "1.0.0"}}
    (tmp_path / "package.json").write_text(json.dumps(project))
    env = {**os.environ, "PATH": f"{NPX.parent}:{os.environ['PATH']}", "npm_config_offline": "true"}
    for words in (
        ["-y", "argv-echo@1.0.0", "--flag", "-y"],
        ["argv-echo", "--", "--flag"],
        ["-p", "argv-echo", "other", "-p", "x"],
        ["--package=argv-echo", "--", "other", "--", "x"],
    ):
        ran = subprocess.run([NPX, *words], cwd=tmp_path, env=env, capture_output=True, check=True, timeout=60)
        assert json.loads(ran.stdout) == translated(["npx", *words]).request.args
