"""Settings: one environment variable each, ``DOOGIE_PROXY_<NAME>``. The table in docs/operations.md mirrors them."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from doogie_proxy.policy import OwnerName

PREFIX = "DOOGIE_PROXY_"
_OF_THE_CLIENT = {"URL", "TOKEN", "TOKEN_FILE", "SERVER_CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE"}


class UnixListener(NamedTuple):
    """A unix socket; its mode is 0660, so its group decides who may connect."""

    path: Path


class TcpListener(NamedTuple):
    """A TCP address; one that is not loopback is served under TLS alone."""

    host: str
    port: int


Listener = UnixListener | TcpListener


class Settings(BaseSettings):
    """All settings of ``doogie-proxy serve``.

    Raises:
        pydantic.ValidationError: a value is not valid, or a variable with our prefix is not known.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    listen: str = Field(
        default="unix:///run/doogie/proxy.sock",
        description="where to listen: `unix:///path` or `tcp://127.0.0.1:port`; several with commas",
    )
    tls_cert_file: Path | None = Field(default=None, description="the certificate of `tcp://` listeners, PEM")
    tls_key_file: Path | None = Field(default=None, description="its private key, PEM, not encrypted")
    tls_client_ca_file: Path | None = Field(
        default=None, description="who signs the certificates that clients must show, PEM"
    )
    allowed_hosts: str = Field(
        default="localhost,127.0.0.1,[::1]",
        description="names in `Host` that `tcp://` listeners answer to; several with commas",
    )
    policy: Path = Field(default=Path("/etc/doogie/policy.yaml"), description="the policy file")
    engine: str = Field(default="unix:///var/run/docker.sock", description="the engine's socket")
    signing_key_file: Path = Field(
        default=Path("/etc/doogie/signing.key"),
        description="keys that sign container labels; the first signs, all verify",
    )
    state_dir: Path = Field(
        default=Path("/var/lib/doogie"), description="for what changes about servers: when clients left, what was begun"
    )
    instance: OwnerName = Field(default="default", description="tells apart proxies that share an engine")
    audit_file: Path | None = Field(default=None, description="a copy of the audit log; one JSON object a line")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json` for machines, `console` for people"
    )
    engine_timeout_s: Annotated[float, Field(gt=0, description="for one engine call; a stop gets its grace on top")] = (
        30.0
    )
    pull_timeout_s: Annotated[float, Field(gt=0, description="for an image to be pulled")] = 600.0
    reconnect_s: Annotated[float, Field(gt=0, description="before a lost engine is tried again")] = 1.0
    engine_stale_after_s: Annotated[
        float,
        Field(gt=0, description="of a socket that refuses; then the proxy exits with 75, to be restarted"),
    ] = 30.0
    sweep_interval_s: Annotated[float, Field(gt=0, description="between two looks at leases and leftovers")] = 5.0
    idle_timeout_s: Annotated[float, Field(gt=0, description="for a connection without a whole request head")] = 75.0
    send_timeout_s: Annotated[float, Field(gt=0, description="for an answer's reader to go on reading")] = 30.0
    connections_max: Annotated[int, Field(ge=1, description="the most connections of one listener")] = 512
    client_requests_max: Annotated[
        int, Field(ge=1, description="the most requests and streams of one client under way")
    ] = 256
    head_line_max_bytes: Annotated[int, Field(ge=1024, description="the longest request line or header")] = 8_192
    head_lines_max: Annotated[int, Field(ge=16, description="the most headers of one request")] = 64
    body_max_bytes: Annotated[int, Field(ge=1024, description="the largest request body")] = 262_144
    body_timeout_s: Annotated[float, Field(gt=0, description="for a request body to arrive")] = 10.0
    heartbeat_s: Annotated[float, Field(gt=0, description="between signs of life on an event stream")] = 15.0
    close_timeout_s: Annotated[float, Field(gt=0, description="for a connection to end in good order")] = 5.0
    shutdown_timeout_s: Annotated[float, Field(gt=0, description="for requests under way when the proxy ends")] = 10.0
    ticket_ttl_s: Annotated[float, Field(gt=0, description="a ticket's life")] = 30.0

    @field_validator("engine")
    @classmethod
    def _engine_is_a_unix_socket(cls, value: str) -> str:
        if not value.startswith("unix:///"):
            raise ValueError(f"{value!r}: the engine must be a unix socket, unix:///var/run/docker.sock")
        return value

    @field_validator("listen")
    @classmethod
    def _listeners_are_valid(cls, value: str) -> str:
        for text in value.split(","):
            parse_listener(text.strip())
        return value

    @model_validator(mode="after")
    def _tls_is_whole_and_used_where_needed(self) -> Self:
        files = (self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file)
        if any(files) and not all(files):
            raise ValueError(f"TLS needs {PREFIX}TLS_CERT_FILE, _TLS_KEY_FILE and _TLS_CLIENT_CA_FILE")
        for listener in self.listeners:
            if isinstance(listener, TcpListener) and not all(files) and not _is_loopback(listener.host):
                raise ValueError(
                    f"{PREFIX}LISTEN: {listener.host} is not loopback, and needs TLS client certificates: set "
                    f"{PREFIX}TLS_CERT_FILE, _TLS_KEY_FILE and _TLS_CLIENT_CA_FILE, or share a unix socket instead"
                )
        return self

    @model_validator(mode="after")
    def _no_unknown_variables(self) -> Self:
        known = {name.upper() for name in type(self).model_fields} | _OF_THE_CLIENT
        given = {name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)}
        if unknown := sorted(given - known):
            raise ValueError(
                f"unknown setting {PREFIX}{unknown[0]}; known: {', '.join(sorted(known - _OF_THE_CLIENT))}"
            )
        return self

    @property
    def engine_socket(self) -> str:
        """Path of the engine's socket."""
        return self.engine.removeprefix("unix://")

    @property
    def allowed_host_names(self) -> frozenset[str]:
        """What ``allowed_hosts`` says."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(","))

    @property
    def listeners(self) -> list[Listener]:
        """What ``listen`` says."""
        return [parse_listener(text.strip()) for text in self.listen.split(",")]


def parse_listener(text: str) -> Listener:
    """``unix:///path`` or ``tcp://host:port``.

    Raises:
        ValueError: neither.
    """
    if text.startswith("unix:///"):
        return UnixListener(Path(text.removeprefix("unix://")))
    parts = urlsplit(text)
    surplus = parts.path or parts.query or parts.fragment or parts.username
    if parts.scheme != "tcp" or not parts.hostname or parts.port is None or surplus:
        raise ValueError(f"{text!r} is not a listener: use unix:///path/to.sock or tcp://127.0.0.1:port")
    return TcpListener("127.0.0.1" if parts.hostname == "localhost" else parts.hostname, parts.port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
