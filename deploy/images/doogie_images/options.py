"""What the commands take: options, and their values as what the builder works with."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from doogie_client.cli.arguments import environment
from doogie_client.commands.package import Package
from doogie_images.errors import NotWanted
from doogie_images.lock import Lock
from doogie_images.request import Request

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="PACKAGE | [--] COMMAND...",
        help="npx:@scope/pkg@1.2.3, uvx:pkg[extra]==1.2.3, or a published npx or uvx line.",
        show_default=False,
    ),
]
Arg = Annotated[
    list[str] | None, typer.Option("--arg", metavar="ARG", help="An argument of the server, behind the command's.")
]
Mounts = Annotated[
    list[str] | None,
    typer.Option("--mount", metavar="NAME=SOURCE:TARGET[:rw]", help="A directory or volume it gets, by this name."),
]
Tmpfs = Annotated[
    list[str] | None, typer.Option("--tmpfs", metavar="PATH=SIZE", help="An empty directory it can write to.")
]
Memory = Annotated[str, typer.Option(metavar="SIZE", help="The most memory it may take.")]
Network = Annotated[str, typer.Option(metavar="NAME", help="A network for the rule to give it; the test has none.")]
Apt = Annotated[list[str] | None, typer.Option("--apt", metavar="PACKAGE", help="A Debian package it needs, like git.")]
With = Annotated[list[str] | None, typer.Option("--with", metavar="PACKAGE", help="A package to install beside it.")]
Executable = Annotated[
    str | None, typer.Option(metavar="PROGRAM", help="Its program, where it is not the one of its own name.")
]
AllowScripts = Annotated[bool, typer.Option("--allow-scripts", help="Let packages run code while they are installed.")]
LockFile = Annotated[
    Path | None, typer.Option("--lock", metavar="FILE", help="Install what this lock file pins; nothing is resolved.")
]
Images = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Images, ids or packages.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="An image, its id, or a package.", show_default=False)]
Env = Annotated[
    list[str] | None,
    typer.Option("-e", "--env", metavar="K[=V]", help="A variable of the server. Without =V: this shell's value."),
]
EnvFile = Annotated[list[Path] | None, typer.Option("--env-file", metavar="FILE", help="K[=V] lines.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For the server to answer.")]
NoSmoke = Annotated[bool, typer.Option("--no-smoke", help="Do not start the server to see whether it answers.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep an image whose server does not answer.")]
WriteCatalogue = Annotated[
    Path | None, typer.Option("--write-catalogue", metavar="FILE", help="Put the entry into this catalogue file.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for scripts.")]


def pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` of an option that may be given several times.

    Raises:
        NotWanted: something else, or a name twice.
    """
    found: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise NotWanted(f"{option} {text}: expected NAME=VALUE")
        if found.setdefault(name, value) != value:
            raise NotWanted(f"{option} {name} is given twice")
    return found


def variables(options: Sequence[str] | None, files: Sequence[Path] | None) -> dict[str, str | None]:
    """Variables by name, as ``-e`` and ``--env-file`` give them; None for what has no value in this shell either.

    Raises:
        ValueError, OSError: with the place, and never with a value.
    """
    without = dict.fromkeys(pair for pair in options or [] if "=" not in pair)
    texts = [(str(path), path.read_text(encoding="utf-8")) for path in files or []]
    return {**without, **environment(options or [], texts, os.environ)}


def complete(given: Mapping[str, str | None], request: Request) -> dict[str, str]:
    """Values for all variables of the request.

    Raises:
        NotWanted: some have none.
    """
    if missing := [name for name in request.env if given.get(name) is None]:
        why = f"no value for {', '.join(missing)}: give one with --env, or build with --no-smoke"
        raise NotWanted(why)
    return {name: value for name in request.env if (value := given.get(name)) is not None}


def read_lock_file(path: Path, request: Request) -> Lock:
    """A lock file for this request.

    Raises:
        NotWanted, NotResolved: it is for another one, or it is none.
    """
    locked = Lock.parse(request.package.runner, path.read_text(encoding="utf-8"))
    exact = replace(request.package, version=locked.version_of(request.package))
    if request.package.exact and not exact.same_version(request.package):
        raise NotWanted(f"{path} pins {exact}, not {request.package}")
    for beside in request.package.with_packages:
        locked.version_of(Package.parse(request.package.runner, beside))
    return locked
