"""What the tests ask of a command: the request it gives, or the faults it has."""

from dataclasses import replace

import pytest

from doogie_client.commands import (
    Catalogue,
    CommandRefused,
    Entry,
    Fault,
    ServerCommand,
    Translation,
    package_of,
    translate,
)

SHIPPED = Catalogue.shipped()
EXACT = "9.9.9"
"""The version that ``having`` gives a package whose command names none."""


def command(line: str | list[str], **fields: object) -> ServerCommand:
    """A whole line, or a program and its arguments as they stand."""
    if isinstance(line, str):
        return ServerCommand.model_validate({"command": line, **fields})
    return ServerCommand.model_validate({"command": line[0], "args": line[1:], **fields})


def having(asked: ServerCommand) -> Catalogue:
    """A catalogue that has the package which a command names, and no other."""
    package = package_of(asked)
    if package is None:
        return Catalogue(())
    return Catalogue((Entry(package if package.exact else replace(package, version=EXACT), "built/it:9"),))


def translated(line: str | list[str], catalogue: Catalogue | None = None, **fields: object) -> Translation:
    asked = command(line, **fields)
    return translate(asked, having(asked) if catalogue is None else catalogue)


def faults(line: str | list[str], catalogue: Catalogue = SHIPPED, **fields: object) -> tuple[Fault, ...]:
    with pytest.raises(CommandRefused) as refused:
        translate(command(line, **fields), catalogue)
    return refused.value.faults


def kinds(line: str | list[str], catalogue: Catalogue = SHIPPED, **fields: object) -> list[tuple[str, str]]:
    """Kind and place of each fault."""
    return [(str(fault.kind), fault.loc) for fault in faults(line, catalogue, **fields)]
