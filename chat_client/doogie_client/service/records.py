"""The records of the service: stored configurations, changes of them, and what is told about a server."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from doogie_client.commands.command import MASK, MAX_WORD_CHARS, MAX_WORDS, ServerCommand
from doogie_contract.models import EnvName, EnvValue, ResourceName, ServerState

ConfigName = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", strip_whitespace=True)
]
"""What people call a configuration: any printable text; unique, whatever its case. The proxy knows it by
``server_name``."""
Description = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
"""Opaque: whatever the chat backend calls its users."""
Command = Annotated[str, StringConstraints(min_length=1, max_length=MAX_WORD_CHARS)]


class ServerConfig(ServerCommand):
    """The stored ``config``: the command, and whether the server is to run. Whoever may start it may call it."""

    enabled: bool = True


class Status(StrEnum):
    """The vocabulary of the old front end; ``ServerState`` beside it is finer."""

    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"


class NewConfig(BaseModel):
    """What ``create_config`` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ConfigName
    config: ServerConfig
    description: Description | None = None
    shared: bool = False


class ConfigUpdate(BaseModel):
    """A partial update: what is not given stays as it is.

    None clears ``description``, ``args``, ``env``, ``secrets`` and ``mounts`` as ``{}`` and ``[]`` do, and leaves the
    others as they are. ``env`` replaces the whole environment; a value of ``MASK`` in it keeps what is stored for that
    variable, so that what was read can be sent back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: ConfigName | None = None
    description: Description | None = None
    shared: bool | None = None
    command: Command | None = None
    args: Annotated[list[str], Field(max_length=MAX_WORDS)] | None = None
    env: dict[EnvName, EnvValue] | None = None
    secrets: list[ResourceName] | None = None
    mounts: list[ResourceName] | None = None
    enabled: bool | None = None

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """What is set, without values that may be secret."""
        for field in sorted(self.model_fields_set):
            value = getattr(self, field)
            if field == "env" and value:
                value = dict.fromkeys(value, MASK)
            yield field, "…" if field in {"command", "args"} and value else value


class ConfigRecord(BaseModel):
    """A stored configuration, with the real values of its environment: ``masked`` is what may leave the service.

    ``version`` goes up by one with each edit; an update that names an older one is refused. ``status``,
    ``container_id`` and ``error_message`` are what was last seen, for lists; ``get_config_status`` asks the proxy.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: str
    name: str
    server_name: str = Field(description="its name at the proxy and before the __ of its tools; never changes")
    user_id: str
    config: ServerConfig
    description: str | None = None
    shared: bool = False
    container_id: str | None = None
    status: Status = Status.STOPPED
    error_message: str | None = None
    version: int = 1
    created_at: datetime
    updated_at: datetime

    def masked(self) -> Self:
        """The same with ``MASK`` for the value of each variable: for answers, logs and exports."""
        return self.model_copy(update={"config": self.config.masked()})


class ConfigStatus(BaseModel):
    """What ``get_config_status``, ``start_server`` and their like answer: the old fields, and the finer state."""

    id: str
    name: str
    enabled: bool
    status: Status
    container_id: str | None = None
    error_message: str | None = None
    state: ServerState | None = Field(default=None, description="as the proxy says; None when it cannot be asked")
    outdated: bool = Field(default=False, description="what runs is not what is stored, or the policy has changed")
