"""``ServerCommand``: what an administrator writes to have a server, before it is translated."""

from collections.abc import Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from doogie_contract.models import EnvName, EnvValue, ResourceName

MAX_WORD_CHARS = 32768
MAX_WORDS = 512

MASK = "***"
"""What stands for the value of an environment variable wherever it is shown."""


class ServerCommand(BaseModel):
    """A command line, an environment, and what of the proxy's rule it wants by name.

    ``command`` is a program (``docker``, ``npx``, ``uvx`` …), a whole line (``docker run -i mcp/time``) or the name of
    an image; ``args`` follow it, each one argument as it stands. It is data: nothing here ever runs it.

    Its ``repr`` and the errors of its validation show no value: not of the environment, and not the words after the
    first, among which may be a token or a connection string.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    command: str = Field(default="docker", min_length=1, max_length=MAX_WORD_CHARS)
    args: list[str] = Field(default_factory=list, max_length=MAX_WORDS)
    env: dict[EnvName, EnvValue] = Field(default_factory=dict, description="values may be secrets: never logged")
    secrets: list[ResourceName] = Field(default_factory=list, description="of the rule; the proxy knows the values")
    mounts: list[ResourceName] = Field(default_factory=list, description="of the rule; the proxy knows the paths")

    def masked(self) -> Self:
        """The same with ``MASK`` for the value of each variable: for answers, logs and exports."""
        return self.model_copy(update={"env": dict.fromkeys(self.env, MASK)})

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """What ``repr`` and ``str`` show."""
        first, _, rest = self.command.partition(" ")
        yield "command", f"{first} …" if rest else first
        yield "args", f"{len(self.args)} words"
        for field in type(self).model_fields:
            if field not in {"command", "args"}:
                yield field, dict.fromkeys(self.env, MASK) if field == "env" else getattr(self, field)
