import unicodedata
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from doogie_client.service.records import ConfigName
from doogie_client.service.sql.names import SERVER_NAME, SERVER_NAME_CHARS, name_key, server_names
from doogie_contract.models import ServerName

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100)


@pytest.mark.parametrize(
    ("name", "server_name"),
    [
        ("Time", "time"),
        ("My Files", "my-files"),
        ("  --GitHub (work)! ", "github-work"),
        ("a__b", "a-b"),
        ("Café Größe", "cafe-grosse"),
        ("\uff11\uff12\uff13 \ufb01les", "123-files"),
        ("时间", "server"),
        ("🕰", "server"),
        ("-", "server"),
        ("x" * 100, "x" * 31),
        ("x" * 30 + " y", "x" * 30),
        ("@scope/pkg@1.2.3", "scope-pkg-1-2-3"),
    ],
)
def test_a_server_is_named_after_its_configuration(name: str, server_name: str) -> None:
    assert next(server_names(name)) == server_name


def test_further_names_are_numbered_and_no_longer() -> None:
    assert list(islice(server_names("My Files"), 3)) == ["my-files", "my-files-2", "my-files-3"]
    assert list(islice(server_names("x" * 40), 2)) == ["x" * 31, "x" * 29 + "-2"]
    assert list(islice(server_names("x" * 28 + " y"), 2))[1] == "x" * 28 + "-2"


@given(NAMES)
def test_every_name_makes_valid_different_server_names_and_always_the_same(name: str) -> None:
    made = list(islice(server_names(name), 120))
    assert len(set(made)) == 120
    for server_name in made:
        assert SERVER_NAME.fullmatch(server_name)
        assert not server_name.endswith("-")
        assert "__" not in f"{server_name}x"
        assert len(server_name) <= SERVER_NAME_CHARS
        TypeAdapter(ServerName).validate_python(server_name)
    assert made == list(islice(server_names(name), 120))


@given(NAMES)
def test_names_that_differ_in_case_or_encoding_alone_are_the_same(name: str) -> None:
    key = name_key(name)
    assert name_key(key) == key
    assert name_key(name.upper()) == name_key(name.upper().lower())
    assert name_key(unicodedata.normalize("NFD", name)) == key
    assert name_key(unicodedata.normalize("NFC", name)) == key
    assert name_key(f"\u200b{name}\u2060") == key
    assert len(key.encode()) <= 2000  # an index of PostgreSQL takes 2,700


@pytest.mark.parametrize(("one", "other"), [("Time", "TIME"), ("straße", "STRASSE"), ("Ångström", "a\u030angström")])
def test_such_names_are_the_same(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("Time", "Time 2"), ("a b", "a-b"), ("a", "á"), ("a", "\u0430")])
def test_such_names_are_not_the_same(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0b", "x" * 101, "\ud800"])
def test_such_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ConfigName).validate_python(name)
