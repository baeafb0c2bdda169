"""What of a configuration is shown, and to whom: pure, over how ``commands`` reads a command.

An environment is also written into the command itself: ``docker run -e TOKEN=value``. Such a value is shown as
``TOKEN=***``, as those of ``env`` are, and stays as it is when it is sent back so. To users who may only
call it, a configuration shows its program, not its arguments: many servers take tokens and addresses there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from doogie_client.commands import program
from doogie_client.commands.command import MASK, ServerCommand
from doogie_client.commands.line import LINE_LOC
from doogie_client.service.records import ConfigRecord, ConfigStatus, ConfigUpdate, ServerConfig, Status
from doogie_client.web.problems import Refusal, invalid

ASK_AN_ADMIN = "an admin can see why, in the server's status and log"


def shown(config: ServerConfig, *, wholly: bool) -> ServerConfig:
    """What may leave the service of a command; ``wholly``: with its arguments."""
    command, args = config.command, list(config.args)
    # The longest first, because one may be written within another: A=b in A=bc.
    for name, value, loc in sorted(_assignments(config), key=lambda one: len(one.value), reverse=True):
        written, hidden = f"{name}={value}", f"{name}={MASK}"
        if loc == LINE_LOC and written in command:
            command = command.replace(written, hidden)
        elif loc != LINE_LOC and (index := _index(args, loc, written)) is not None:
            args[index] = args[index].removesuffix(written) + hidden
        else:
            wholly = False  # quotes or escapes have changed how it is written
    if not wholly:
        words = config.command.split() or [MASK]
        command, args = " ".join([words[0], *([MASK] if words[1:] else [])]), [MASK] if args else []
    return config.masked().model_copy(update={"command": command, "args": args})


def shown_status(status: ConfigStatus, *, wholly: bool) -> ConfigStatus:
    """What may be told of a server; ``wholly``: with its last words, and with what the policy says."""
    if wholly or status.status is not Status.ERROR:
        return status
    return status.model_copy(update={"error_message": ASK_AN_ADMIN, "faults": []})


def require_values(command: ServerCommand) -> None:
    """Raise ``Refusal`` where a new command has ``***`` for a value: there is none that it could stand for."""
    for name, value, loc in _assignments(command):
        if value == MASK:
            raise _no_value(name, loc)


def restored(update: ConfigUpdate, record: ConfigRecord) -> ConfigUpdate:
    """The update with the stored values where it sends ``NAME=***`` back. Raises ``Refusal`` where none is stored."""
    given = update.model_dump(include=update.model_fields_set & {"command", "args"}, exclude_none=True)
    if given.get("command") == shown(record.config, wholly=True).command:
        given["command"] = record.config.command
    after = ServerCommand(**{"command": record.config.command, "args": record.config.args} | given)
    stored = {one.name: one.value for one in _assignments(record.config)}
    args = list(after.args)
    for name, value, loc in _assignments(after):
        if value == MASK:
            index = None if loc == LINE_LOC else _index(args, loc, f"{name}={MASK}")
            if index is None or name not in stored:
                raise _no_value(name, loc)
            args[index] = args[index].removesuffix(MASK) + stored[name]
    return update.model_copy(update=given | ({"args": args} if "args" in given else {}))


class _Assignment(NamedTuple):
    """``Assignment`` with a value."""

    name: str
    value: str
    loc: str


def _assignments(command: ServerCommand) -> list[_Assignment]:
    """Variables that the command itself gives a value, as far as it can be read."""
    found = program.read(command).env
    return [_Assignment(one.name, one.value, one.loc) for one in found if one.value is not None]


def _index(args: Sequence[str], loc: str, written: str) -> int | None:
    """Which argument has the assignment at its end: that of the option, ``-eA=b``, or the one after it."""
    first = int(loc.removeprefix("args."))
    return next(
        (index for index in (first, first + 1) if args[index : index + 1] and args[index].endswith(written)), None
    )


def _no_value(name: str, loc: str) -> Refusal:
    return invalid(f"body.{loc}", f"{name}={MASK} stands for a stored value that is not known here: send the value")
