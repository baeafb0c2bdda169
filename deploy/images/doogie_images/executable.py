"""Which program of a package is the server: the choice that ``npx`` and ``uvx`` make. Pure."""

import re
from collections.abc import Mapping

from doogie_client.commands.package import Package, Runner
from doogie_images.errors import NoExecutable

Executables = Mapping[str, Mapping[str, str]]
"""What the recipe found installed: package to program to file. PyPI names as the packages spell them."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}", re.ASCII)


def choose(package: Package, found: Executables) -> str:
    """The program to run.

    The one that was asked for; else the package's only one, or the one of its own name. npm lets a package give one
    file several names: that is one program.

    Raises:
        NoExecutable: none or several would do; with all there are.
    """
    installed = {_name(package.runner, name): programs for name, programs in found.items()}
    own = {program: file for program, file in installed.get(package.name, {}).items() if _NAME.fullmatch(program)}
    if package.executable is not None:
        # uvx runs programs of what was installed beside the package too.
        everywhere = {program for programs in installed.values() for program in programs}
        if package.executable in everywhere and _NAME.fullmatch(package.executable):
            return package.executable
        raise NoExecutable(f"{package.name} has no program {package.executable!r}: {_list(package, own)}")
    expected = package.name.rpartition("/")[2]
    named = [program for program in own if _name(package.runner, program) == expected]
    if named:
        return named[0]
    if len(set(own.values())) == 1:
        return min(own)
    raise NoExecutable(
        f"{package.name} has several programs and none of its own name: {_list(package, own)}"
        if own
        else f"{package.name} has no program to run: it is a library, or its server is in another package"
    )


def _list(package: Package, own: Mapping[str, str]) -> str:
    if not own:
        return "it has none"
    return f"it has {', '.join(sorted(own))}; name one with --executable"


def _name(runner: Runner, name: str) -> str:
    """PyPI names are compared as PEP 503 normalises them, npm's as they are."""
    return re.sub(r"[-_.]+", "-", name).lower() if runner is Runner.UVX else name
