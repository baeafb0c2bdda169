"""What goes over the wire: configurations as DoogieBot's front end knows them, and OpenAI's messages and tool calls."""

from datetime import datetime
from typing import Literal

from pydantic import AliasPath, BaseModel, ConfigDict, Field


class MCPServerConfigCreate(BaseModel):
    """A new configuration, flat: the command beside the name."""

    name: str
    command: str = "docker"
    args: list[str]
    env: dict[str, str] | None = None
    enabled: bool = True


class MCPServerConfigResponse(BaseModel):
    """A stored configuration, flat as well."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    user_id: str
    name: str
    command: str = Field(validation_alias=AliasPath("config", "command"))
    args: list[str] = Field(validation_alias=AliasPath("config", "args"))
    env: dict[str, str] | None = Field(validation_alias=AliasPath("config", "env"))
    enabled: bool = Field(validation_alias=AliasPath("config", "enabled"))
    created_at: datetime
    updated_at: datetime


class Function(BaseModel):
    """Which tool, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """What a language model answers that wants a tool called."""

    id: str
    type: Literal["function"] = "function"
    function: Function


class ChatMessage(BaseModel):
    """A message of the user, of the language model, or with a tool's answer."""

    role: Literal["user", "assistant", "tool"]
    content: str
    tool_calls: list[ToolCall] = Field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None


class UserMessage(BaseModel):
    """What a user writes."""

    content: str
