"""``translate``: a command becomes a request, or is refused with everything that stands in its way. Pure."""

import re
import shlex
from dataclasses import dataclass, field

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from doogie_client.commands import program
from doogie_client.commands.catalogue import LATEST, Catalogue
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.errors import CommandRefused, FaultKind
from doogie_client.commands.line import LINE_LOC
from doogie_client.commands.package import Package
from doogie_client.commands.reading import Reading, shown
from doogie_contract.models import StartRequest

_PLACEHOLDER = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_.-]*[:}]", re.ASCII)
_ELSEWHERE = "connects to a server elsewhere; connect to that server's URL instead, without a container"
_NO_SERVERS = {
    "npx:mcp-remote": _ELSEWHERE,
    "npx:supergateway": _ELSEWHERE,
    "uvx:mcp-proxy": _ELSEWHERE,
    "npx:@smithery/cli": "fetches another server when it runs; use the package or image of that server itself",
    "npx:@modelcontextprotocol/inspector": "starts the server that it inspects; write that server's own command",
}
"""Packages that only stand between a host and a server: to build an image of one would mend nothing."""


@dataclass(frozen=True)
class Translation:
    """What a command means.

    Args:
        request: what to ask the proxy for; its environment may hold secrets, so it is not in the ``repr``.
        notes: for people: what the command says that is so here in any case, and what the catalogue decided.
        package: of an ``npx`` or ``uvx`` command, as written; None for an image.
    """

    request: StartRequest = field(repr=False)
    notes: tuple[str, ...] = ()
    package: Package | None = None


def translate(command: ServerCommand, catalogue: Catalogue) -> Translation:
    """The request that a command means, its package's image looked up in the catalogue.

    All of ``command.env`` goes to the server, whatever the program: what an MCP host gives to ``docker`` itself is
    meant for the container.

    Raises:
        CommandRefused: with all faults at once.
    """
    reading = program.read(command)
    _refuse_placeholders(command, reading)
    env = _environment(command, reading)
    image = _image(reading, catalogue)
    request = _request(command, reading, image, env)
    if request is None or reading.faults:
        raise CommandRefused(reading.faults)
    return Translation(request, tuple(dict.fromkeys(reading.notes)), reading.package)


def package_of(command: ServerCommand) -> Package | None:
    """The package that an ``npx``- or ``uvx``-like command would fetch and run; None where it is another program.

    The command's arguments and environment are not looked at: they say nothing about the package.

    Raises:
        CommandRefused: the command is faulty up to the package; with all faults at once.
    """
    reading = program.read(command)
    if reading.faults:
        raise CommandRefused(reading.faults)
    return reading.package


def _refuse_placeholders(command: ServerCommand, reading: Reading) -> None:
    """``${VAR}`` and ``${input:x}`` are for whoever imports a file to ask for; a line's quotes say what is text."""
    texts = [*reading.args, *((value, loc) for _, value, loc in reading.env if value is not None)]
    texts += [(value, f"env.{name}") for name, value in command.env.items()]
    for text, loc in texts:
        if loc != LINE_LOC and (found := _PLACEHOLDER.search(text)):
            spelled = found[0] if found[0].endswith("}") else f"{found[0][:-1]}…}}"
            reading.refuse(FaultKind.MALFORMED, loc, f"{spelled} stands for a value; write the value itself")


def _environment(command: ServerCommand, reading: Reading) -> dict[str, str]:
    """The server's variables; one that is given twice must have one value."""
    known = command.env | {name: value for name, value, _ in reading.env if value is not None}
    env: dict[str, str] = dict(command.env)
    for name, said, loc in reading.env:
        value = known.get(name) if said is None else said
        if value is not None:
            if env.setdefault(name, value) != value:
                reading.refuse(FaultKind.MALFORMED, loc, f"{shown(name)} is given twice, with different values")
        elif command.secrets:
            reading.notes.append(f"{name}: one of the secrets has to set it: {', '.join(command.secrets)}")
        else:
            right = "give one in env, or name in secrets the rule's secret that sets it"
            reading.refuse(FaultKind.MALFORMED, loc, f"{shown(name)} has no value: {right}")
    return env


def _image(reading: Reading, catalogue: Catalogue) -> str | None:
    if reading.package is None:
        return reading.image.text if reading.image else None
    package = reading.package
    entry = catalogue.find(package)
    if entry is not None:
        if package.version in LATEST:
            reading.notes.append(f"{package} runs as version {entry.package.version}, which the catalogue has")
        return entry.image
    if why := _NO_SERVERS.get(f"{package.runner}:{package.name}"):
        reading.refuse(FaultKind.UNSUPPORTED, reading.package_loc, f"{package.name} {why}")
        return None
    others = [other.package.version or "" for other in catalogue.versions(package)]
    why = f"there is no image of {package} yet"
    if others:
        why = f"there is no image of {package}; there is one of {', '.join(others)}"
    if not package.exact and package.version not in LATEST:
        why += "; a tag or range means another version tomorrow, so the command must say the exact one that is built"
    reading.refuse(FaultKind.UNMAPPED, reading.package_loc, why, f"doogie-images build {_to_build(package)}")
    return None


def _to_build(package: Package) -> str:
    """One word for a shell: the package's text, or the whole line where that text does not say everything.

    No word of it can hold a quote, a ``$`` or a backslash.
    """
    wanted = package.without_version() if package.version in LATEST else package
    if not (package.executable or package.with_packages):
        return shlex.quote(str(wanted))
    line = (word if shlex.quote(word) == word else f'"{word}"' for word in wanted.line())
    return f"'{' '.join(line)}'"


def _request(command: ServerCommand, reading: Reading, image: str | None, env: dict[str, str]) -> StartRequest | None:
    """The request, or what the contract does not take of it as faults in the places where the command says it."""
    body = {
        "args": [word.text for word in reading.args],
        "env": env,
        "secrets": command.secrets,
        "mounts": command.mounts,
    }
    try:
        return StartRequest.model_validate(body if image is None else body | {"image": image})
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=False, include_input=False):
            if image is not None or error["loc"] != ("image",):
                reading.refuse(FaultKind.MALFORMED, _place(reading, error["loc"]), _why(error))
        return None


def _place(reading: Reading, loc: tuple[int | str, ...]) -> str:
    match loc:
        case ("args", int(index)):
            return reading.args[index].loc
        case ("env", str(name), *_):
            return next((place for given, _, place in reading.env if given == name), f"env.{name}")
        case _:
            return ".".join(str(part) for part in loc)


def _why(error: ErrorDetails) -> str:
    if error["type"] != "string_pattern_mismatch":
        return error["msg"].removeprefix("Value error, ")
    if error["loc"][-1] == "[key]":
        return "not the name of a variable: letters, digits and _, not beginning with a digit"
    return "a NUL character cannot be in it"
