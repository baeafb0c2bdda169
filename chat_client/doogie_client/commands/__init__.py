"""From an administrator's command line to a ``StartRequest``: strict and pure. Nothing is run, guessed or dropped.

Extra ``[service]``.

    a pasted line ── split_line ──► words
    ServerCommand ── translate ───► Translation: the request, and notes on what is so here in any case
                        │      └──► CommandRefused: every fault, with its place and what would mend it
                        └ Catalogue: the image of an npm or PyPI package
"""

from doogie_client.commands.catalogue import Catalogue, Entry
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.errors import CatalogueError, CommandRefused, Fault, FaultKind
from doogie_client.commands.line import split_line
from doogie_client.commands.package import Package, Runner
from doogie_client.commands.printed import to_docker_run
from doogie_client.commands.translate import Translation, package_of, translate

__all__ = [
    "Catalogue",
    "CatalogueError",
    "CommandRefused",
    "Entry",
    "Fault",
    "FaultKind",
    "Package",
    "Runner",
    "ServerCommand",
    "Translation",
    "package_of",
    "split_line",
    "to_docker_run",
    "translate",
]
