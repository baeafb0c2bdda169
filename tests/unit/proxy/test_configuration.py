"""What is read of the operator's files besides the policy: secrets, and all of it together."""

from pathlib import Path

import pytest

from doogie_proxy.configuration import MAX_SECRET_BYTES, Configuration, read_secrets
from doogie_proxy.identity import Keyring
from doogie_proxy.policy import Policy
from doogie_proxy.policy_file import ConfigurationError
from doogie_proxy.settings import Settings

KEY = "a" * 64


def policy_of(*files: Path) -> Policy:
    """A policy with a rule for each of these secrets."""
    rules = [
        {
            "name": f"r{number}",
            "images": ["time:1"],
            "allow_tags": True,
            "secrets": {"token": {"file": str(file), "env": "TOKEN"}},
        }
        for number, file in enumerate(files)
    ]
    return Policy.model_validate({"version": 1, "clients": {}, "rules": rules})


def secret_of(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    return read_secrets(policy_of(file))[str(file)]


def settings_of(directory: Path) -> Settings:
    (directory / "policy.yaml").write_text(policy_of(directory / "token").model_dump_json())
    (directory / "signing.key").write_text(KEY)
    (directory / "token").write_text("planted-secret\n")
    return Settings(policy=directory / "policy.yaml", signing_key_file=directory / "signing.key")


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"x", "x"),
        (b"x\n", "x"),
        (b"x\n\n", "x\n"),
        (b"\nx", "\nx"),
        (b"x\r\n", "x\r"),
        (b" x ", " x "),
        ("schlüssel".encode(), "schlüssel"),
    ],
)
def test_a_secret_is_its_file_without_one_newline_at_the_end(tmp_path: Path, content: bytes, value: str) -> None:
    assert secret_of(tmp_path / "token", content) == value


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "empty, or has a NUL byte: it cannot be the value of an environment variable"),
        (b"\n", "empty, or has a NUL byte: it cannot be the value of an environment variable"),
        (b"planted\0secret", "empty, or has a NUL byte: it cannot be the value of an environment variable"),
        (b"planted-secret\xff", "not UTF-8"),
        (b"planted-secret" * 10_000, "longer than 32768 bytes"),
    ],
)
def test_a_secret_that_cannot_be_in_an_environment_is_refused_without_being_told(
    tmp_path: Path, content: bytes, error: str
) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigurationError) as caught:
        secret_of(file, content)
    assert caught.value.lines == [f"rules.r0.secrets.token: {file}: {error}"]
    assert caught.value.__cause__ is None
    assert "planted" not in str(caught.value)


def test_a_secret_is_at_most_32_kibibytes(tmp_path: Path) -> None:
    assert len(secret_of(tmp_path / "token", b"x" * 2**15)) == MAX_SECRET_BYTES
    with pytest.raises(ConfigurationError, match="longer than 32768 bytes"):
        secret_of(tmp_path / "token", b"x" * (2**15 + 1))


def test_a_secret_that_never_ends_is_refused_and_not_read_to_its_end() -> None:
    with pytest.raises(ConfigurationError, match="longer than 32768 bytes"):
        read_secrets(policy_of(Path("/dev/zero")))


def test_every_secret_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    good, absent, empty = tmp_path / "good", tmp_path / "absent", tmp_path / "empty"
    good.write_text("x")
    empty.touch()
    with pytest.raises(ConfigurationError) as caught:
        read_secrets(policy_of(absent, good, empty, tmp_path))
    assert [line.split(": ")[:2] for line in caught.value.lines] == [
        ["rules.r0.secrets.token", str(absent)],
        ["rules.r2.secrets.token", str(empty)],
        ["rules.r3.secrets.token", str(tmp_path)],
    ]
    assert "No such file" in caught.value.lines[0]
    assert "Is a directory" in caught.value.lines[2]


def test_each_secret_has_the_value_of_its_own_file(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text(f"value of {file.name}")
    assert read_secrets(policy_of(*files)) == {str(file): f"value of {file.name}" for file in files}


def test_a_policy_without_secrets_has_none() -> None:
    assert read_secrets(policy_of()) == {}


# ── all of it ────────────────────────────────────────────────────────────────────────────────────


def test_a_configuration_is_read_from_the_files_that_the_settings_name(tmp_path: Path) -> None:
    found = Configuration.load(settings_of(tmp_path))
    assert [rule.name for rule in found.policy.rules] == ["r0"]
    assert found.secrets == {str(tmp_path / "token"): "planted-secret"}
    assert found.keyring.sign("p", "m") == Keyring([bytes.fromhex(KEY)]).sign("p", "m")


def test_a_configuration_cannot_be_changed_and_shows_no_secret(tmp_path: Path) -> None:
    found = Configuration.load(settings_of(tmp_path))
    assert repr(found) == f"Configuration(policy={found.policy!r})"
    assert "planted-secret" not in f"{found} {found!r}"
    with pytest.raises(AttributeError):
        found.secrets = {}  # type: ignore[misc]  # the type checker knows it as well


@pytest.mark.parametrize("content", [None, "", "not-a-key"])
def test_a_signing_key_that_cannot_be_used_is_a_fault_of_the_configuration(tmp_path: Path, content: str | None) -> None:
    settings = settings_of(tmp_path)
    settings.signing_key_file.unlink()
    if content is not None:
        settings.signing_key_file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        Configuration.load(settings)
    [line] = caught.value.lines
    assert line.startswith("signing key: ")
    assert "not-a-key" not in line


@pytest.mark.parametrize("name", ["policy.yaml", "token"])
def test_a_file_that_is_missing_is_a_fault_of_the_configuration(tmp_path: Path, name: str) -> None:
    settings = settings_of(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        Configuration.load(settings)
