"""Settings: their defaults, and everything they refuse."""

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import doogie_client.web
from doogie_client.service import opening
from doogie_client.service.settings import ServiceSettings
from doogie_client.web.settings import PREFIX, TcpListener, UnixListener, WebSettings, parse_listener


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The one error that these variables, without their prefix, end in: ``place: message``."""
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ValidationError) as caught:
        WebSettings()
    [error] = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_every_setting_has_a_default() -> None:
    own = {
        name: value for name, value in WebSettings().model_dump().items() if name not in ServiceSettings.model_fields
    }
    assert own == {
        "listen": "tcp://127.0.0.1:8080",
        "allowed_hosts": "localhost,127.0.0.1,[::1]",
        "users_file": Path("/etc/doogie-chat/users.yaml"),
        "workers": 1,
        "start_enabled": True,
        "log_level": "info",
        "log_format": "json",
        "body_max_bytes": 1024 * 1024,
        "body_timeout_s": 10.0,
        "user_requests_max": 64,
        "heartbeat_s": 15.0,
        "idle_timeout_s": 75.0,
        "shutdown_timeout_s": 10.0,
    }
    assert WebSettings().listeners == [TcpListener("127.0.0.1", 8080)]


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("unix:///run/chat.sock", UnixListener(Path("/run/chat.sock"))),
        ("tcp://127.0.0.1:80", TcpListener("127.0.0.1", 80)),
        ("localhost:8080", TcpListener("127.0.0.1", 8080)),
        ("tcp://[::1]:8080", TcpListener("::1", 8080)),
        ("[::1]:0", TcpListener("::1", 0)),
    ],
)
def test_a_listener_is_read(text: str, listener: object) -> None:
    assert parse_listener(text) == listener


@pytest.mark.parametrize(
    "text", ["", "8080", "unix://relative", "http://127.0.0.1:80", "tcp://127.0.0.1", "tcp://a:1/x"]
)
def test_what_is_no_listener_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a listener|port"):
        parse_listener(text)


def test_several_listeners_are_given_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}LISTEN", "unix:///run/chat.sock, 127.0.0.1:8080")
    assert WebSettings().listeners == [UnixListener(Path("/run/chat.sock")), TcpListener("127.0.0.1", 8080)]


def test_beyond_loopback_the_names_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "0.0.0.0 is not loopback: say in DOOGIE_CHAT_ALLOWED_HOSTS" in refusal(monkeypatch, LISTEN="0.0.0.0:8080")
    monkeypatch.setenv(f"{PREFIX}ALLOWED_HOSTS", "Chat.example, chat")
    assert WebSettings().allowed_host_names == {"chat.example", "chat"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LISEN", "x", "unknown setting DOOGIE_CHAT_LISEN; known: ALLOWED_HOSTS, "),
        ("WORKERS", "many", "workers: Input should be a valid integer"),
        ("WORKERS", "0", "workers: Input should be greater than or equal to 1"),
        ("BODY_MAX_BYTES", "10", "body_max_bytes: Input should be greater than or equal to 1024"),
        ("HEARTBEAT_S", "0", "heartbeat_s: Input should be greater than 0"),
        ("LOG_LEVEL", "trace", "log_level: Input should be 'debug'"),
    ],
)
def test_what_is_not_valid_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    assert words in refusal(monkeypatch, **{name: value})


def test_every_setting_is_used() -> None:
    files = [Path(opening.__file__), *Path(doogie_client.web.__file__).parent.glob("*.py")]
    sources = "".join(path.read_text(encoding="utf-8") for path in files)
    properties = {"listen": "listeners", "allowed_hosts": "allowed_host_names"}
    used = set(re.findall(r"settings\.([a-z_]+)", sources))
    assert {properties.get(name, name) for name in WebSettings.model_fields} <= used
