"""The wire models of ``/api/v1/mcp``: flat, as the old API's were, with what is new beside it.

Requests refuse unknown fields. Answers never hold the value of an environment variable.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from doogie_client.commands.command import MAX_WORD_CHARS, MAX_WORDS
from doogie_client.service.records import ConfigName, ConfigRecord, ConfigStatus, ConfigUpdate, Description, NewConfig
from doogie_client.service.records import ServerConfig
from doogie_contract.models import EnvName, EnvValue, Limits, ResourceName

Command = Annotated[str, Field(min_length=1, max_length=MAX_WORD_CHARS)]
Args = Annotated[list[str], Field(max_length=MAX_WORDS)]
Env = dict[EnvName, EnvValue]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class ConfigCreate(_Request):
    """Body of ``POST /configs`` and of a dry run."""

    name: ConfigName
    command: Command = "docker"
    args: Args = Field(default_factory=list)
    env: Env | None = Field(default=None, description="values may be secrets: stored encrypted, never shown again")
    enabled: bool = True
    description: Description | None = None
    shared: bool = Field(default=False, description="whether every user may see and call it")
    secrets: list[ResourceName] = Field(default_factory=list, description="of the proxy's rule, by name")
    mounts: list[ResourceName] = Field(default_factory=list, description="of the proxy's rule, by name")
