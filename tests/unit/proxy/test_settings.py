"""Settings: their defaults, and everything they refuse."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from doogie_proxy.settings import PREFIX, Settings, TcpListener, UnixListener, parse_listener


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
        Settings()
    [error] = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_every_setting_has_a_default() -> None:
    assert Settings().model_dump() == {
        "listen": "unix:///run/doogie/proxy.sock",
        "policy": Path("/etc/doogie/policy.yaml"),
        "engine": "unix:///var/run/docker.sock",
        "signing_key_file": Path("/etc/doogie/signing.key"),
        "state_dir": Path("/var/lib/doogie"),
        "instance": "default",
        "audit_file": None,
        "log_level": "info",
        "log_format": "json",
        "engine_timeout_s": 30.0,
        "pull_timeout_s": 600.0,
        "heartbeat_s": 15.0,
        "reconnect_s": 1.0,
        "engine_stale_after_s": 30.0,
        "sweep_interval_s": 5.0,
        "tls_cert_file": None,
        "tls_key_file": None,
        "tls_client_ca_file": None,
        "allowed_hosts": "localhost,127.0.0.1,[::1]",
        "idle_timeout_s": 75.0,
        "send_timeout_s": 30.0,
        "connections_max": 512,
        "client_requests_max": 256,
        "head_line_max_bytes": 8192,
        "head_lines_max": 64,
        "body_max_bytes": 256 * 1024,
        "body_timeout_s": 10.0,
        "close_timeout_s": 5.0,
        "shutdown_timeout_s": 10.0,
        "ticket_ttl_s": 30.0,
    }
    assert Settings().listeners == [UnixListener(Path("/run/doogie/proxy.sock"))]
    assert Settings().engine_socket == "/var/run/docker.sock"


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_setting_is_taken_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOGIE_PROXY_POLICY", "/srv/policy.yaml")
    monkeypatch.setenv("DOOGIE_PROXY_TICKET_TTL_S", "2.5")
    monkeypatch.setenv("DOOGIE_PROXY_BODY_MAX_BYTES", "1024")
    settings = Settings()
    assert (settings.policy, settings.ticket_ttl_s, settings.body_max_bytes) == (Path("/srv/policy.yaml"), 2.5, 1024)


@pytest.mark.parametrize("name", ["LISTENER", "POLICY_FILE", "DEBUG", "", "LISTEN_", "ENGINE_TIMEOUT"])
def test_an_unknown_variable_with_our_prefix_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    error = refusal(monkeypatch, **{name: "x"})
    assert f"unknown setting {PREFIX}{name}; known: ALLOWED_HOSTS, AUDIT_FILE, BODY_MAX_BYTES," in error


@pytest.mark.parametrize(
    "name", ["URL", "TOKEN", "TOKEN_FILE", "SERVER_CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE"]
)
def test_the_clients_own_variables_are_let_be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(PREFIX + name, "x")
    Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGINE_TIMEOUT_S", "0"),
        ("ENGINE_TIMEOUT_S", "-1"),
        ("RECONNECT_S", "soon"),
        ("SWEEP_INTERVAL_S", "0"),
        ("BODY_MAX_BYTES", "1023"),
        ("BODY_MAX_BYTES", "256KiB"),
        ("BODY_TIMEOUT_S", ""),
        ("CLIENT_REQUESTS_MAX", "0"),
        ("CONNECTIONS_MAX", "0"),
        ("SEND_TIMEOUT_S", "0"),
        ("CLOSE_TIMEOUT_S", "-0.1"),
        ("SHUTDOWN_TIMEOUT_S", "0"),
        ("TICKET_TTL_S", "nan"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("INSTANCE", "a-b"),
        ("INSTANCE", "A"),
        ("INSTANCE", ""),
        ("INSTANCE", "a" * 33),
    ],
)
def test_a_value_that_is_not_valid_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert refusal(monkeypatch, **{name: value}).startswith(f"{name.lower()}: ")


@pytest.mark.parametrize(
    "value", ["tcp://127.0.0.1:2375", "http://engine", "unix:", "unix://run/docker.sock", "/var/run/docker.sock", ""]
)
def test_the_engine_is_a_unix_socket(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert refusal(monkeypatch, ENGINE=value) == (
        f"engine: Value error, {value!r}: the engine must be a unix socket, unix:///var/run/docker.sock"
    )


@pytest.mark.parametrize("path", ["/run/user/1000/docker.sock", "/run/a?b#c", "/run/ä"])
def test_the_path_of_the_engines_socket_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv(PREFIX + "ENGINE", f"unix://{path}")
    assert Settings().engine_socket == path


# ── listeners ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("unix:///run/doogie/proxy.sock", UnixListener(Path("/run/doogie/proxy.sock"))),
        ("unix:///run/a?b#c%20d", UnixListener(Path("/run/a?b#c%20d"))),
        ("tcp://127.0.0.1:8080", TcpListener("127.0.0.1", 8080)),
        ("tcp://127.0.0.1:0", TcpListener("127.0.0.1", 0)),
        ("tcp://127.8.8.8:1", TcpListener("127.8.8.8", 1)),
        ("tcp://localhost:80", TcpListener("127.0.0.1", 80)),
        ("tcp://[::1]:80", TcpListener("::1", 80)),
        ("tcp://0.0.0.0:80", TcpListener("0.0.0.0", 80)),
        ("tcp://proxy.example:80", TcpListener("proxy.example", 80)),
    ],
)
def test_a_listener_is_a_unix_socket_or_a_tcp_address(text: str, listener: UnixListener | TcpListener) -> None:
    assert parse_listener(text) == listener


@pytest.mark.parametrize(
    "text",
    [
        "tcp://0.0.0.0:80",
        "tcp://[::]:80",
        "tcp://10.0.0.1:80",
        "tcp://192.168.1.1:80",
        "tcp://169.254.1.1:80",
        "tcp://[::ffff:10.0.0.1]:80",
        "tcp://[fe80::1]:80",
        "tcp://example.org:80",
        "tcp://localhost.example.org:80",
        "tcp://127.1:80",
        "tcp://0:80",
        "tcp://2130706433:80",
    ],
)
def test_a_tcp_address_that_is_not_loopback_needs_tls(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert "is not loopback, and needs TLS client certificates" in refusal(monkeypatch, LISTEN=text)
    for name in ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"):
        monkeypatch.setenv(PREFIX + name, "/etc/doogie/some.pem")
    assert Settings().listeners == [parse_listener(text)]


@pytest.mark.parametrize("names", [["CERT"], ["KEY"], ["CLIENT_CA"], ["CERT", "KEY"], ["CERT", "CLIENT_CA"]])
def test_half_of_tls_is_refused(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    files = {f"TLS_{name}_FILE": "/etc/doogie/some.pem" for name in names}
    assert "TLS needs DOOGIE_PROXY_TLS_CERT_FILE, _TLS_KEY_FILE and _TLS_CLIENT_CA_FILE" in refusal(
        monkeypatch, **files
    )


def test_hosts_are_names_of_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "ALLOWED_HOSTS", "proxy.example, PROXY")
    assert Settings().allowed_host_names == {"proxy.example", "proxy"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy.sock",
        "/run/proxy.sock",
        "unix:",
        "unix:/run/proxy.sock",
        "unix://run/proxy.sock",
        "UNIX:///run/proxy.sock",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://:80",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:80/",
        "tcp://127.0.0.1:80/path",
        "tcp://127.0.0.1:80?x=y",
        "tcp://127.0.0.1:80#x",
        "tcp://user@127.0.0.1:80",
        "127.0.0.1:80",
        "http://127.0.0.1:80",
        "fd://3",
    ],
)
def test_what_is_no_listener_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a listener: use unix:///path/to\.sock or tcp://127\.0\.0\.1:port"):
        parse_listener(text)


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1", "tcp://127.0.0.1:x", "tcp://[::1:80"])
def test_what_is_no_port_or_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"[Pp]ort|IPv6"):
        parse_listener(text)


@given(st.text() | st.text("tcp:/unx.0127[]@?#\\", max_size=24))
def test_any_text_is_refused_or_a_listener_that_no_network_reaches_in_the_clear(text: str) -> None:
    try:
        [listener] = Settings(listen=text).listeners
    except ValueError:
        return
    if isinstance(listener, TcpListener):
        assert listener.host == "::1" or listener.host.startswith("127.")
    else:
        assert listener.path.is_absolute()


def test_there_may_be_several_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "LISTEN", "unix:///run/a.sock, tcp://127.0.0.1:80")
    assert Settings().listeners == [UnixListener(Path("/run/a.sock")), TcpListener("127.0.0.1", 80)]


@pytest.mark.parametrize("listen", ["unix:///run/a.sock,", "unix:///run/a.sock,tcp://0.0.0.0", ","])
def test_one_bad_listener_is_enough_to_be_refused(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    assert refusal(monkeypatch, LISTEN=listen).startswith("listen: ")
