"""The wire models of ``/api/v1/mcp``: flat, as the old API's were, with what is new beside it.

Requests refuse unknown fields. Answers never hold the value of an environment variable.
"""

from datetime import datetime

from mcp_types import Tool
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from doogie_client.service.records import (
    ConfigName,
    Description,
    NewConfig,
    ServerConfig,
    Status,
    UserId,
)
from doogie_contract.models import Limits, StartRequest


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class ConfigCreate(ServerConfig):
    """Body of ``POST /configs`` and of its dry run."""

    name: ConfigName
    description: Description | None = None
    shared: bool = Field(default=False, description="whether every user may see and call it")

    @field_validator("env", mode="before")
    @classmethod
    def _null_is_empty(cls, env: object) -> object:
        return {} if env is None else env  # as the old API took it

    def new_config(self) -> NewConfig:
        """For the service."""
        config = {name: getattr(self, name) for name in ServerConfig.model_fields}
        return NewConfig(
            name=self.name, config=ServerConfig(**config), description=self.description, shared=self.shared
        )


class Config(ServerConfig):
    """A stored configuration. The values of variables are ``***``; one that is sent back so stays as it is.

    To users who may call it only, ``args`` are ``***`` too.
    """

    id: str
    name: ConfigName
    server_name: str = Field(description="its name at the proxy and before the __ of its tools; never changes")
    user_id: UserId
    description: Description | None
    shared: bool
    version: int = Field(description="goes up with each edit; the ETag")
    created_at: datetime
    updated_at: datetime


class ConfigEvent(_Answer):
    """Data of an event ``config``: a configuration and what was last seen of its server."""

    config: Config
    status: Status
    container_id: str | None
    error_message: str | None


class Snapshot(_Answer):
    """Data of an event ``snapshot``: all that the caller may see."""

    configs: list[ConfigEvent]


class Deleted(_Answer):
    """Data of an event ``deleted``: a configuration is gone, or no longer the caller's to see."""

    id: str


class DryRun(_Answer):
    """What a configuration would start, and the rule that admits it. The values of ``request.env`` are ``***``."""

    request: StartRequest
    rule: str
    image: str = Field(description="what the rule makes of the request's image")
    limits: Limits
    notes: list[str] = Field(description="what of the command is always so here, and what the catalogue decided")


class ToolList(_Answer):
    """The tools of one server, as it describes them."""

    tools: list[Tool]


class Unavailable(_Answer):
    """An enabled configuration whose tools cannot be had now."""

    id: str
    name: str
    type: str = Field(description="of the problem")
    detail: str


class ToolDefinitions(_Answer):
    """Definitions for a language model; each name is ``<server>__<tool>``, which ``POST /call`` takes."""

    tools: list[dict[str, JsonValue]]
    unavailable: list[Unavailable]


class ToolCall(BaseModel):
    """Body of a call."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=512)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, ge=1, le=3600, description="default: DOOGIE_CHAT_CALL_TIMEOUT_S")


class McpConfigJson(_Answer):
    """A file for MCP hosts on a desktop, whose servers are ours."""

    mcpServers: dict[str, dict[str, JsonValue]]  # noqa: N815  # the format's own name
