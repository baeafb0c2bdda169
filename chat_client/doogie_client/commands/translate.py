"""``translate``: a command becomes a request, or is refused with everything that stands in its way."""

from dataclasses import dataclass, field

from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.errors import CommandRefused, Fault, FaultKind
from doogie_client.commands.package import Package
from doogie_contract.models import StartRequest


@dataclass(frozen=True)
class Translation:
    """What a command means.

    Args:
        request: what to ask the proxy for; its environment may hold secrets, so it is not in the ``repr``.
        notes: for people: what the command says that is always so here, and what the catalogue decided.
        package: of an ``npx`` or ``uvx`` command, as written; None for an image.
    """

    request: StartRequest = field(repr=False)
    notes: tuple[str, ...] = ()
    package: Package | None = None


def translate(command: ServerCommand, catalogue: Catalogue) -> Translation:
    """The request that a command means, its package's image looked up in the catalogue.

    Raises:
        CommandRefused: with all faults at once.
    """
    del catalogue
    raise CommandRefused([Fault(FaultKind.UNKNOWN, "command", f"{command.command!r} is not a known program")])


def package_of(command: ServerCommand) -> Package | None:
    """The package that an ``npx``- or ``uvx``-like command would fetch and run; None where it is another program.

    The command's arguments and environment are not looked at: they say nothing about the package.

    Raises:
        CommandRefused: such a command, but its options or package are faulty; with all faults at once.
    """
    del command
    return None
