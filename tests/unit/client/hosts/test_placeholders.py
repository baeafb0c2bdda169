"""What is asked for, what is a place of another machine, and what is text that stands as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doogie_client.hosts.placeholders import is_secret_name, read
from doogie_client.hosts.template import Ask, Laptop, Template


@pytest.mark.parametrize(
    ("text", "name", "pieces"),
    [
        ("plain", "", ["plain"]),
        ("", "", []),
        ("${TOKEN}", "", [Ask("TOKEN")]),
        ("Bearer ${TOKEN}!", "", ["Bearer ", Ask("TOKEN"), "!"]),
        ("${URL:-https://x.example/a}", "", [Ask("URL", "https://x.example/a")]),
        ("${URL:-{a}}", "", ["${URL:-{a}}"]),
        ("${LEVEL:-}", "", [Ask("LEVEL", "")]),
        ("${env:TOKEN}${input:api-key}", "", [Ask("TOKEN"), Ask("api-key")]),
        ("${command:extension.pick}", "", [Ask("command:extension.pick")]),
        ("$TOKEN", "", [Ask("TOKEN")]),
        ("--token=$TOKEN", "", ["--token=", Ask("TOKEN")]),
        ("pa$$WORD and $x", "", ["pa$$WORD and $x"]),
        ("${", "", ["${"]),
        ("${}", "", ["${}"]),
        ("${A:-${B}}", "", ["${A:-", Ask("B"), "}"]),
        ("${workspaceFolder}/x", "", [Laptop("${workspaceFolder}"), "/x"]),
        ("${workspaceFolder:api}", "", [Laptop("${workspaceFolder:api}")]),
        ("${env:HOME}/x", "", [Laptop("${env:HOME}"), "/x"]),
        ("a${pathSeparator}b${/}c", "", ["a", "/", "b", "/", "c"]),
        ("<YOUR_TOKEN>", "API_TOKEN", [Ask("API_TOKEN")]),
        ("<YOUR_TOKEN>", "", [Ask("YOUR_TOKEN")]),
        ("https://<host name>/x", "URL", ["https://", Ask("host name"), "/x"]),
        ("your-api-key", "--key", [Ask("key")]),
        ("--api-key=YOUR_API_KEY", "", ["--api-key=", Ask("api-key")]),
        ("TOKEN=<token>", "-e", ["TOKEN=", Ask("TOKEN")]),
        ("https://your-company.example/", "URL", ["https://", Ask("your-company"), ".example/"]),
        ("ntn_****", "NOTION_TOKEN", [Ask("NOTION_TOKEN")]),
        ("sk-...", "KEY", [Ask("KEY")]),
        ("xxxx", "KEY", [Ask("KEY")]),
        ("a < b > c", "", ["a < b > c"]),
        ("<1>", "", ["<1>"]),
        ("yours", "", ["yours"]),
        ("/path/to/your-project", "", ["/path/to/your-project"]),
        ("--dir=/<path to it>/src", "", ["--dir=/<path to it>/src"]),
        ("C:\\your-files", "", ["C:\\your-files"]),
    ],
)
def test_a_text_is_read_in_its_pieces(text: str, name: str, pieces: list[object]) -> None:
    assert list(read(text, name).pieces) == pieces


@given(st.text(), st.text(max_size=5))
def test_any_text_is_read_and_what_is_not_asked_for_stays(text: str, name: str) -> None:
    template = read(text, name)
    assert all(piece != "" for piece in template.pieces)
    literal = "".join(piece for piece in template.pieces if isinstance(piece, str))
    if not template.asks and not any(isinstance(piece, Laptop) for piece in template.pieces):
        assert literal in {text, text.replace("${/}", "/").replace("${pathSeparator}", "/")}


@pytest.mark.parametrize(
    "name", ["API_KEY", "GITHUB_TOKEN", "--api-key", "githubToken", "DB_PASSWORD", "pat", "CONNECTION_STRING", "x-auth"]
)
def test_a_name_like_this_is_a_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["TZ", "LOG_LEVEL", "--path", "keyboard", "PATTERN", "tokenizer", "", "-e", "monkey"])
def test_a_name_like_this_is_not(name: str) -> None:
    assert not is_secret_name(name)


def test_a_template_is_filled_with_values_then_defaults_then_what_stands_for_them() -> None:
    template = read("${A}/${B:-b}/${C}/${workspaceFolder}")
    assert template.fill({"A": "1"}) == "1/b/<C>/${workspaceFolder}"
    assert template.fill({"A": "1", "B": "2", "C": "${A}"}) == "1/2/${A}/${workspaceFolder}"


def test_a_prefix_is_taken_off_only_where_it_stands_as_text() -> None:
    assert read("NAME=${A}").without("NAME=") == Template((Ask("A"),))
    assert read("${A}NAME=").without("NAME=") is None
    assert Template(()).without("x") is None
    assert Template.literal("x").without("x") == Template(())
