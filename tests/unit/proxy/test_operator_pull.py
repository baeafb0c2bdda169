"""Which login ``doogie-proxy pull`` takes from the Docker CLI's configuration."""

import base64
import json
from pathlib import Path

import pytest

from doogie_proxy.operator_pull import CredentialsError, credentials

AUTH = base64.b64encode(b"user:pass:word").decode()
HUB = "https://index.docker.io/v1/"


def written(directory: Path, content: object) -> Path:
    path = directory / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("repo", "registry"),
    [
        ("registry.example/tools/box", "registry.example"),
        ("registry:5000/box", "registry:5000"),
        ("localhost/box", "localhost"),
        ("mcp/time", HUB),
        ("alpine", HUB),
    ],
)
def test_the_login_is_that_of_the_images_registry(tmp_path: Path, repo: str, registry: str) -> None:
    config = written(tmp_path, {"auths": {registry: {"auth": AUTH}, "another.example": {"auth": "b3RoZXI6eA=="}}})
    assert credentials(config, repo) == {"username": "user", "password": "pass:word", "serveraddress": registry}


def test_an_identity_token_is_taken_instead_of_a_password(tmp_path: Path) -> None:
    config = written(tmp_path, {"auths": {HUB: {"auth": AUTH, "identitytoken": "token"}}})
    assert credentials(config, "mcp/time") == {"identitytoken": "token", "serveraddress": HUB}


def test_no_login_is_none(tmp_path: Path) -> None:
    assert credentials(tmp_path / "config.json", "mcp/time") is None
    assert credentials(written(tmp_path, {"auths": {"registry.example": {"auth": AUTH}}}), "mcp/time") is None
    assert credentials(written(tmp_path, {}), "mcp/time") is None


@pytest.mark.parametrize("kept", [{"credsStore": "desktop"}, {"credHelpers": {HUB: "desktop"}}])
def test_a_credential_store_is_named_and_what_to_do_instead(tmp_path: Path, kept: object) -> None:
    with pytest.raises(CredentialsError, match=r"credential store 'desktop'.*docker pull it instead"):
        credentials(written(tmp_path, kept), "mcp/time")


@pytest.mark.parametrize(
    "content",
    [
        "not JSON: planted-secret",
        "[]",
        {"auths": []},
        {"auths": {HUB: "planted-secret"}},
        {"auths": {HUB: {"auth": "planted-secret"}}},
        {"auths": {HUB: {"password": "planted-secret"}}},
    ],
)
def test_what_is_no_configuration_is_refused_without_its_content(tmp_path: Path, content: object) -> None:
    with pytest.raises(CredentialsError, match="not a Docker CLI's configuration") as refused:
        credentials(written(tmp_path, content), "mcp/time")
    assert "planted" not in str(refused.value)
    assert refused.value.__suppress_context__
