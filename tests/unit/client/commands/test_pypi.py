"""uvx and its like: the package, and its arguments as they stand."""

import pytest

from doogie_client.commands import package_of
from tests.unit.client.commands.reading import command, faults, translated


@pytest.mark.parametrize(
    ("line", "package", "executable", "beside", "args"),
    [
        ("uvx foo", "uvx:foo", None, (), []),
        ("uvx foo@1.2 --x", "uvx:foo==1.2", None, (), ["--x"]),
        ("uvx foo==1.2 -- --x", "uvx:foo==1.2", None, (), ["--", "--x"]),
        ("uvx -- foo -x", "uvx:foo", None, (), ["-x"]),
        ("uvx 'Foo.Bar[a,b]@latest'", "uvx:foo-bar[a,b]@latest", None, (), []),
        ("uvx --from foo==1 bar --from x", "uvx:foo==1", "bar", (), ["--from", "x"]),
        ("uvx --from=foo foo", "uvx:foo", None, (), []),
        ("uvx --from 'foo>=1,<2' foo_cli", "uvx:foo>=1,<2", "foo_cli", (), []),
        ("uvx --from foo.bar@latest foo.bar.exe", "uvx:foo-bar@latest", None, (), []),
        ("uvx --with 'pandas[sql]>=1,<3,NumPy' -w mcp foo", "uvx:foo", None, ("mcp", "numpy", "pandas[sql]>=1,<3"), []),
        ("uvx -qn -p3.12 --python 3.12 --isolated --refresh foo", "uvx:foo", None, (), []),
        ("uv tool run foo --x", "uvx:foo", None, (), ["--x"]),
        ("uv tool run --from foo bar", "uvx:foo", "bar", (), []),
        ("uv --quiet tool run foo", "uvx:foo", None, (), []),
        ("uv run --with foo foo --x", "uvx:foo", None, (), ["--x"]),
        ("uv run --no-project --with foo bar", "uvx:foo", "bar", (), []),
        ("uv run --with a --with foo==2 foo", "uvx:foo==2", None, ("a",), []),
        ("pipx run foo==1.2 --x", "uvx:foo==1.2", None, (), ["--x"]),
        ("pipx run --spec foo==1.2 bar -- x", "uvx:foo==1.2", "bar", (), ["--", "x"]),
        ("/Users/me/.local/bin/uvx foo", "uvx:foo", None, (), []),
        ("uvx.exe foo", "uvx:foo", None, (), []),
    ],
)
def test_a_line_names_a_package_and_its_arguments(
    line: str, package: str, executable: str | None, beside: tuple[str, ...], args: list[str]
) -> None:
    asked = command(line)
    found = package_of(asked)
    assert found is not None
    assert (str(found), found.executable, found.with_packages) == (package, executable, beside)
    if found.exact or found.version in (None, "latest"):
        assert translated(line).request.args == args


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("uvx", "malformed", "name of a package is missing"),
        ("uvx --from foo", "malformed", "program of the package to run is missing"),
        ("uvx --from", "malformed", "--from needs a value: PACKAGE"),
        ("uvx --from a --from b c", "malformed", "there can be one package"),
        ("uvx --isolated=true foo", "malformed", "--isolated takes no value"),
        ("uvx --frobnicate foo", "unknown", "was not read"),
        ("uvx --index-url https://x foo", "unsupported", "the operator decides"),
        ("uvx -i https://x foo", "unsupported", "the operator decides"),
        ("uvx --prerelease allow foo", "unsupported", "write exact versions"),
        ("uvx --with-requirements r.txt foo", "unsupported", "write exact versions"),
        ("uvx --env-file .env foo", "unsupported", "write its variables into env"),
        ("uvx --from git+https://x/y foo", "unsupported", "repository"),
        ("uvx --from 'foo @ git+https://x/y' foo", "unsupported", "repository"),
        ("uvx --from 'foo @ https://x/y.whl' foo", "unsupported", "URL"),
        ("uvx --from . foo", "unsupported", "file"),
        ("uvx --from /x/y foo", "unsupported", "file"),
        ("uvx ./x.whl", "unsupported", "file"),
        ("uvx server.py", "unsupported", "file"),
        ("uvx --with ./x foo", "unsupported", "file"),
        ("uvx 'foo bar'", "malformed", "is not the name of a PyPI package"),
        ("uvx --from foo bar@1", "malformed", "not the name of a program"),
        ("uvx --from foo python -m foo", "unsupported", "python runs any file"),
        ("uvx mcp run server.py", "unsupported", "runs a file"),
        ("uvx --from 'mcp[cli]' mcp run server.py", "unsupported", "runs a file"),
        ("uvx mcp-proxy https://x", "unsupported", "connect to that server's URL"),
        ("uv run server.py", "unsupported", "without --with"),
        ("uv run --with mcp mcp run server.py", "unsupported", "runs a file"),
        ("uv run --with foo python x.py", "unsupported", "python runs any file"),
        ("uv run --with a --with b c", "malformed", "not plain which package"),
        ("uv run", "malformed", "name of a program is missing"),
        ("uv --directory /x run foo", "unsupported", "project"),
        ("uv tool install foo", "unsupported", "write `uvx PACKAGE`"),
        ("uv", "unsupported", "write `uvx PACKAGE`"),
        ("uv pip install foo", "unsupported", "write `uvx PACKAGE`"),
        ("pipx install foo", "unsupported", "write `pipx run PACKAGE`"),
        ("pipx run --pip-args=-U foo", "unsupported", "write exact versions"),
    ],
)
def test_what_names_no_package_is_refused_with_the_reason(line: str, kind: str, said: str) -> None:
    found = [fault for fault in faults(line) if fault.kind != "unmapped"]
    assert [fault.kind for fault in found[:1]] == [kind]
    assert said in found[0].msg
