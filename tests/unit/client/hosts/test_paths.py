"""Paths of somebody's own machine become paths of the container, under mounts that have names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.hosts.paths import MAX_NAME_CHARS, Mounts, is_elsewhere, is_path
from doogie_contract.models import SERVER_NAME_PATTERN


def inside(text: str, *, native: bool = True) -> tuple[str | None, list[tuple[str, str]]]:
    mounts = Mounts(native=native)
    return mounts.inside(text, "args.0"), [(mount.name, mount.source) for mount in mounts.found]


@pytest.mark.parametrize(
    ("text", "path", "mounts"),
    [
        ("/Users/me/Documents", "/data/documents", [("documents", "/Users/me/Documents")]),
        ("/home/me/My Files/", "/data/my-files", [("my-files", "/home/me/My Files")]),
        ("C:\\Users\\me\\Desktop", "/data/desktop", [("desktop", "C:\\Users\\me\\Desktop")]),
        ("c:/work/notes.md", "/data/work/notes.md", [("work", "c:/work")]),
        ("\\\\server\\share", "/data/share", [("share", "\\\\server\\share")]),
        ("~", "/data/home", [("home", "~")]),
        ("~/notes/today.md", "/data/notes/today.md", [("notes", "~/notes")]),
        (".", "/data/workspace", [("workspace", ".")]),
        ("./data", "/data/data", [("data", "./data")]),
        ("../", "/data/workspace", [("workspace", "..")]),
        ("$HOME/.kube/config", "/data/config", [("config", "$HOME/.kube/config")]),
        ("$(pwd)", "/data/workspace", [("workspace", "$(pwd)")]),
        ("%APPDATA%\\x", "/data/x", [("x", "%APPDATA%\\x")]),
        ("${workspaceFolder}/src", "/data/src", [("src", "${workspaceFolder}/src")]),
        ("path/to/git/repo", "/data/repo", [("repo", "path/to/git/repo")]),
        ("/path/to/db.sqlite", "/data/to/db.sqlite", [("to", "/path/to")]),
        ("/<path to it>/x", "/data/x", [("x", "/<path to it>/x")]),
        ("/Users/me/a,/Users/me/b", "/data/a,/data/b", [("a", "/Users/me/a"), ("b", "/Users/me/b")]),
        ("~/x/a.md; ~/x/b.md", "/data/x/a.md;/data/x/b.md", [("x", "~/x")]),
        ("/Users/Ω", "/data/users", [("users", "/Users/Ω")]),
        ("/", "/data/data", [("data", "/")]),
        ("/srv/files", "/data/files", [("files", "/srv/files")]),
        ("/opt/a:/opt/b", "/data/a:/data/b", [("a", "/opt/a"), ("b", "/opt/b")]),
    ],
)
def test_a_path_becomes_one_of_the_container(text: str, path: str, mounts: list[tuple[str, str]]) -> None:
    assert inside(text) == (path, mounts)


@pytest.mark.parametrize(
    "text", ["", "plain", "--x", "https://x.example/a", "//x", "a/b", "/tmp", "/tmp/x", "/dev/null"]
)
def test_what_is_no_path_of_that_machine_stays(text: str) -> None:
    assert inside(text) == (None, [])


@pytest.mark.parametrize("text", ["/srv/files", "/data", "/", "/app/x.json"])
def test_a_container_has_its_own_absolute_paths(text: str) -> None:
    assert inside(text, native=False) == (None, [])
    assert is_path(text)
    assert not is_elsewhere(text)


def test_a_directory_is_mounted_once_and_a_name_is_given_once() -> None:
    mounts = Mounts(native=True, taken={"docs"})
    assert [
        mounts.inside(path, "x") for path in ("/a/docs", "/b/docs", "/a/docs/", "/a/docs/x.md", "/a/docs/y.md")
    ] == [
        "/data/docs-2",
        "/data/docs-3",
        "/data/docs-2",
        "/data/docs-2/x.md",
        "/data/docs-2/y.md",
    ]
    assert [mount.spec for mount in mounts.found] == [
        {"host": "/srv/mcp/docs-2", "target": "/data/docs-2"},
        {"host": "/srv/mcp/docs-3", "target": "/data/docs-3"},
    ]


def test_what_is_below_a_mount_is_there_already() -> None:
    mounts = Mounts(native=False)
    mounts.add("me", "/Users/me", "/Users/me", {"host": "/srv/mcp/me", "target": "/Users/me"}, "x")
    assert mounts.inside("/Users/me/x", "x") is None
    assert mounts.inside("/Users/you", "x") == "/data/you"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_any_paths_get_names_that_a_rule_takes(parts: list[str]) -> None:
    mounts = Mounts(native=True)
    for part in parts:
        mounts.inside(f"/Users/{part}", "x")
    for mount in mounts.found:
        assert re.fullmatch(SERVER_NAME_PATTERN, mount.name)
        assert len(mount.name) <= MAX_NAME_CHARS + 2
    assert len({mount.name for mount in mounts.found}) == len(mounts.found)
