"""``WebSettings``: the service's settings, and what the web app is told beside them, each as ``DOOGIE_CHAT_<NAME>``.

The table in docs/chat-api.md mirrors them.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from doogie_client.service.settings import ServiceSettings

PREFIX = "DOOGIE_CHAT_"
LOOPBACK_NAMES = "localhost,127.0.0.1,[::1]"


class UnixListener(NamedTuple):
    """A unix socket; its mode is 0660, so its group decides who may connect."""

    path: Path


class TcpListener(NamedTuple):
    """A TCP address, without TLS: beyond loopback a reverse proxy that speaks it belongs before it."""

    host: str
    port: int


Listener = UnixListener | TcpListener


class WebSettings(ServiceSettings):
    """All settings of ``doogie-chat``.

    Raises:
        pydantic.ValidationError: a value is not valid, or a variable with our prefix is not known.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    listen: str = Field(
        default="tcp://127.0.0.1:8080",
        description="where to listen: `unix:///path` or `tcp://127.0.0.1:port`; several with commas",
    )
    allowed_hosts: str = Field(
        default=LOOPBACK_NAMES, description="names in `Host` and `Origin` that the app is reached by, with commas"
    )
    users_file: Path = Field(default=Path("/etc/doogie-chat/users.yaml"), description="who may do what")
    workers: int = Field(default=1, ge=1, le=64, description="processes that serve")
    start_enabled: bool = Field(default=True, description="start the servers of enabled configurations at start-up")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json` for machines, `console` for people"
    )
    body_max_bytes: Annotated[int, Field(ge=1024, description="the largest request body")] = 1_048_576
    body_timeout_s: Annotated[float, Field(gt=0, description="for a request body to arrive")] = 10.0
    user_requests_max: Annotated[int, Field(ge=1, description="requests and event streams of one user under way")] = 64
    heartbeat_s: Annotated[float, Field(gt=0, description="between two heartbeats of an event stream")] = 15.0
    idle_timeout_s: Annotated[float, Field(gt=0, description="for a connection without a whole request head")] = 75.0
    shutdown_timeout_s: Annotated[float, Field(gt=0, description="for requests under way when the app ends")] = 10.0

    @field_validator("listen")
    @classmethod
    def _listeners_are_valid(cls, value: str) -> str:
        for text in value.split(","):
            parse_listener(text.strip())
        return value

    @model_validator(mode="after")
    def _hosts_are_named_beyond_loopback(self) -> Self:
        for listener in self.listeners:
            if (
                isinstance(listener, TcpListener)
                and not _is_loopback(listener.host)
                and self.allowed_hosts == LOOPBACK_NAMES
            ):
                raise ValueError(
                    f"{PREFIX}LISTEN: {listener.host} is not loopback: say in {PREFIX}ALLOWED_HOSTS by which names the "
                    "app is reached, and put a reverse proxy that speaks TLS before it"
                )
        return self

    @model_validator(mode="after")
    def _no_unknown_variables(self) -> Self:
        known = {name.upper() for name in type(self).model_fields}
        given = {name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)}
        if unknown := sorted(given - known):
            raise ValueError(f"unknown setting {PREFIX}{unknown[0]}; known: {', '.join(sorted(known))}")
        return self

    @property
    def allowed_host_names(self) -> frozenset[str]:
        """What ``allowed_hosts`` says."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(","))

    @property
    def listeners(self) -> list[Listener]:
        """What ``listen`` says."""
        return [parse_listener(text.strip()) for text in self.listen.split(",")]


def parse_listener(text: str) -> Listener:
    """``unix:///path``, ``tcp://host:port`` or ``host:port``.

    Raises:
        ValueError: none of them.
    """
    if text.startswith("unix:///"):
        return UnixListener(Path(text.removeprefix("unix://")))
    parts = urlsplit(text if "://" in text else f"tcp://{text}")
    surplus = parts.path or parts.query or parts.fragment or parts.username
    if parts.scheme != "tcp" or not parts.hostname or parts.port is None or surplus:
        raise ValueError(f"{text!r} is not a listener: use unix:///path/to.sock or tcp://127.0.0.1:port")
    return TcpListener("127.0.0.1" if parts.hostname == "localhost" else parts.hostname, parts.port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
