"""What is typed after ``doogie-images build``: a package, or a command line as it is published. Pure.

npx:@scope/name@1.2.3 [ARGUMENTS]        uvx:name[extra]==1.2.3 [ARGUMENTS]
npx -y @scope/name [ARGUMENTS]           uvx --from name program [ARGUMENTS]      several words, or one
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from doogie_client.commands import program
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.errors import CommandRefused
from doogie_client.commands.package import Package, Runner
from doogie_images.errors import NotWanted


@dataclass(frozen=True)
class Wanted:
    """A package, and what the server of the command gets: arguments, and variables (None: without a value)."""

    package: Package
    args: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict, repr=False)


def read(words: Sequence[str]) -> Wanted:
    """What the words ask for.

    Raises:
        NotWanted: neither a package nor a command that runs one.
    """
    first, *rest = words
    if first.startswith(tuple(f"{runner}:" for runner in Runner)):
        try:
            return Wanted(Package.from_text(first), tuple(rest))
        except ValueError as exc:
            raise NotWanted(f"after {first.partition(':')[0]}: comes {exc}") from exc
    try:
        reading = program.read(ServerCommand(command=first, args=rest))
    except ValidationError as exc:
        raise NotWanted("; ".join(error["msg"] for error in exc.errors(include_input=False))) from exc
    if reading.faults:
        raise NotWanted(str(CommandRefused(reading.faults)))
    if reading.package is None:
        raise NotWanted("that command runs an image, so there is nothing to build: `docker pull` gets it")
    return Wanted(
        reading.package,
        tuple(word.text for word in reading.args),
        {variable.name: variable.value for variable in reading.env},
    )
