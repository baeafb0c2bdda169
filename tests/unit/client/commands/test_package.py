"""Packages as values: read, told apart, written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.commands import Package, Runner, ServerCommand, package_of


@pytest.mark.parametrize(
    ("text", "name", "version", "extras", "exact"),
    [
        ("npx:foo", "foo", None, (), False),
        ("npx:@scope/foo@1.2.3", "@scope/foo", "1.2.3", (), True),
        ("npx:foo@v1.2.3-rc.1+b", "foo", "1.2.3-rc.1+b", (), True),
        ("npx:foo@latest", "foo", "latest", (), False),
        ("npx:foo@^1.2", "foo", "^1.2", (), False),
        ("npx:foo@1.2", "foo", "1.2", (), False),
        ("uvx:Foo.Bar_baz", "foo-bar-baz", None, (), False),
        ("uvx:foo==1.2", "foo", "1.2", (), True),
        ("uvx:foo@1.2", "foo", "1.2", (), True),
        ("uvx:foo[b, A_c]==1!2.0.post1+local", "foo", "1!2.0.post1+local", ("a-c", "b"), True),
        ("uvx:foo>=1, <2", "foo", ">=1,<2", (), False),
        ("uvx:foo==1.*", "foo", "==1.*", (), False),
        ("uvx:foo===1.0", "foo", "1.0", (), True),
        ("uvx:foo=1.0", "foo", "=1.0", (), False),
        ("npx:foo@=1.2.3", "foo", "1.2.3", (), True),
        ("uvx:foo@latest", "foo", "latest", (), False),
    ],
)
def test_a_package_is_read(text: str, name: str, version: str | None, extras: tuple[str, ...], exact: bool) -> None:
    package = Package.from_text(text)
    assert (package.name, package.version, package.extras, package.exact) == (name, version, extras, exact)
    assert Package.from_text(str(package)) == package


@pytest.mark.parametrize(
    "text",
    [
        "foo",
        "npm:foo",
        "npx:",
        "npx:Foo",
        "npx:@scope",
        "npx:a/b",
        "npx:foo@1.2.3@4",
        "npx:foo@git+https://x/y",
        "npx:foo@npm:bar",
        "npx:-y",
        "npx:" + "a" * 215,
        "uvx:foo @ https://x/y",
        "uvx:foo; python_version<'4'",
        "uvx:../foo",
        "uvx:foo]",
        "uvx:foo[]",
        "uvx:foo[,]",
        "uvx:foo[a b]",
        "uvx:-foo",
        "uvx:foo\n",
    ],
)
def test_what_is_no_package_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not the name of an? \w+ package$|^a package is written"):
        Package.from_text(text)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("uvx:a==1.0", "uvx:a==1.0.0", True),
        ("uvx:a==2026.08.31", "uvx:a==2026.8.31", True),
        ("uvx:a==v1.0.RC1", "uvx:a==1.0rc1", True),
        ("uvx:a==1.0", "uvx:a==1.1", False),
        ("uvx:a==1.0", "uvx:a==1!1.0", False),
        ("npx:a@1.0.0", "npx:a@1.0.0", True),
        ("npx:a@1.0.0", "npx:a@1.0.01", False),
    ],
)
def test_versions_are_compared_as_their_registry_does(first: str, second: str, same: bool) -> None:
    assert Package.from_text(first).same_version(Package.from_text(second)) is same


@pytest.mark.parametrize(
    ("text", "program", "executable"),
    [
        ("npx:@scope/foo@1.0.0", "foo", None),
        ("npx:@scope/foo@1.0.0", "bar", "bar"),
        ("uvx:awslabs.foo==1", "awslabs.foo", None),
        ("uvx:awslabs.foo==1", "awslabs.foo.exe", None),
        ("uvx:foo==1", "foo_cli", "foo_cli"),
        ("npx:foo@1.0.0", None, None),
    ],
)
def test_naming_the_program_that_is_named_like_the_package_says_nothing(
    text: str, program: str | None, executable: str | None
) -> None:
    assert Package.from_text(text).running(program).executable == executable


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
PACKAGES = st.builds(
    lambda runner, name, version, extras, program, beside: Package(
        runner, name, version, tuple(sorted(extras)) if runner is Runner.UVX else ()
    ).running(program, beside),
    st.sampled_from(Runner),
    NAMES,
    st.sampled_from([None, "latest", "1.2.3", "1.2.3-rc1"]),
    st.sets(NAMES, max_size=2),
    st.none() | NAMES,
    st.sets(NAMES, max_size=2),
)


@given(PACKAGES)
def test_the_line_of_a_package_means_that_package(package: Package) -> None:
    program, *args = package.line()
    if {package.name, *package.with_packages} & {"mcp", "tsx"}:
        return
    assert package_of(ServerCommand(command=program, args=args)) == package
