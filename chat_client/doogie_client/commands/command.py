"""``ServerCommand``: what an administrator writes to have a server, before it is translated."""

from pydantic import BaseModel, ConfigDict, Field

from doogie_contract.models import EnvName, EnvValue, ResourceName

MAX_WORD_CHARS = 32768
MAX_WORDS = 512


class ServerCommand(BaseModel):
    """A command line, an environment, and what of the proxy's rule it wants by name.

    ``command`` is a program (``docker``, ``npx``, ``uvx`` …), a whole line (``docker run -i mcp/time``) or the name of
    an image; ``args`` follow it, each one argument as it stands. It is data: nothing here ever runs it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = Field(default="docker", min_length=1, max_length=MAX_WORD_CHARS)
    args: list[str] = Field(default_factory=list, max_length=MAX_WORDS)
    env: dict[EnvName, EnvValue] = Field(default_factory=dict, description="values may be secrets: never logged")
    secrets: list[ResourceName] = Field(default_factory=list, description="of the rule; the proxy knows the values")
    mounts: list[ResourceName] = Field(default_factory=list, description="of the rule; the proxy knows the paths")
