r"""Paths of the machine that a document was written for, and the mounts that take their place. Pure.

    /Users/me/Documents   ~/notes   ./data   C:\Users\me   $HOME/x   ${workspaceFolder}/x   path/to/x

None of them is in a container. What can be there is a mount of the rule: the operator makes a directory of the engine's
host available under a name, and the path becomes the one at which it is in the container.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from doogie_contract.models import MAX_NAMED

MOUNT_ROOT = "/srv/mcp"
"""Where suggested directories of the host are; the operator may choose others."""
TARGET_ROOT = "/data"
"""Where they are in the container."""
MAX_NAME_CHARS = 48

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\", re.ASCII)
_ELSEWHERE = re.compile(
    _WINDOWS.pattern + r"|~(?:[\\/]|\Z)|\.\.?(?:[\\/]|\Z)|\$(?:HOME|PWD)\b|\$\(pwd\)|`pwd`|%[A-Za-z]+%"
    r"|\$\{(?:env:)?(?:workspaceFolder|workspaceRoot|fileWorkspaceFolder|userHome|cwd|HOME|PWD|USERPROFILE|CLAUDE_)"
    r"|/?(?i:path[/_-]to|absolute[/_-]path|full[/_-]path)\b"
    r"|/(?:Users|home|root|Volumes|Applications|mnt/[a-z])(?:/|\Z)|/<|/your[-_/]",
    re.ASCII,
)
_ABSOLUTE = re.compile(r"/(?!/)")
_OF_ANY_CONTAINER = re.compile(r"/(?:tmp|dev/(?:null|stdin|stdout|stderr))(?:/|\Z)")
_FILE = re.compile(r"[^.].*\.[A-Za-z0-9]{1,8}")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+", re.ASCII)
_HOME = re.compile(r"~|\$HOME|%(?:USERPROFILE|HOMEPATH)%|\$\{(?:env:)?(?:HOME|userHome|USERPROFILE)\}")
_HERE = re.compile(r"\.\.?|\$\{[^}]*\}|\$[A-Za-z]+|\$\(pwd\)|`pwd`|%[A-Za-z]+%")


def is_windows_path(text: str) -> bool:
    """Whether a text begins with a drive or a share of Windows."""
    return _WINDOWS.match(text) is not None


def is_elsewhere(text: str) -> bool:
    """Whether a text is, by its looks, a path of somebody's own machine."""
    return _ELSEWHERE.match(text) is not None


def is_path(text: str) -> bool:
    """Whether a text is such a path, or an absolute one of any machine."""
    return is_elsewhere(text) or _ABSOLUTE.match(text) is not None


@dataclass(frozen=True)
class Mount:
    """A directory that a server needs.

    Args:
        name: in the rule, and in the configuration.
        source: as the document has it.
        target: where it is in the container.
        spec: as the policy has it, its target too.
        loc: where the document needs it.
    """

    name: str
    source: str
    target: str
    spec: Mapping[str, JsonValue]
    loc: str


@dataclass
class Mounts:
    """The mounts of one server, found one after the other; names are unique, and a directory is mounted once.

    Args:
        native: the program was written to run on the machine itself, so that every absolute path is of that machine.
            Else it ran in a container, whose own paths stay.
        taken: names that others have.
    """

    native: bool = False
    taken: set[str] = field(default_factory=set)
    found: list[Mount] = field(default_factory=list)

    @property
    def too_many(self) -> bool:
        """Whether there are more than a request can have, so that it is refused whatever else is found."""
        return len(self.found) > MAX_NAMED

    def add(self, name: str, source: str, target: str, spec: Mapping[str, JsonValue], loc: str) -> Mount:
        """A further mount, under this name or, where that is taken, one like it."""
        free = next(candidate for candidate in _numbered(name) if candidate not in self.taken)
        self.taken.add(free)
        mount = Mount(free, source, target, spec, loc)
        self.found.append(mount)
        return mount

    def inside(self, text: str, loc: str) -> str | None:
        """The path in the container for a path, or for a list of paths; None where a text is neither."""
        for separator in (",", ";", ":"):
            parts = [part.strip() for part in text.split(separator, maxsplit=MAX_NAMED)]
            if len(parts) > 1 and all(self._is_away(part) for part in parts):
                return separator.join(self._inside(part, loc) for part in parts)
        return self._inside(text, loc) if self._is_away(text) else None

    def _is_away(self, text: str) -> bool:
        if self.too_many or any(text == mount.target or text.startswith(f"{mount.target}/") for mount in self.found):
            return False
        if is_elsewhere(text):
            return True
        return self.native and _ABSOLUTE.match(text) is not None and not _OF_ANY_CONTAINER.match(text)

    def _inside(self, path: str, loc: str) -> str:
        parts = [part for part in re.split(r"[\\/]", path) if part]
        file = parts.pop() if len(parts) > 1 and _FILE.fullmatch(parts[-1]) else ""
        source = path.removesuffix(file).rstrip("\\/") or "/"
        mount = next((known for known in self.found if known.source == source), None)
        if mount is None:
            name = next(free for free in _numbered(_mount_name(parts)) if free not in self.taken)
            target = f"{TARGET_ROOT}/{name}"
            mount = self.add(name, source, target, {"host": f"{MOUNT_ROOT}/{name}", "target": target}, loc)
        return f"{mount.target}/{file}" if file else mount.target


def _mount_name(parts: Sequence[str]) -> str:
    """A name for the mount of a path: after the last of its parts that gives one."""
    return next((name for part in reversed(parts) if (name := _name(part))), "data")


def _name(part: str) -> str:
    if _HOME.fullmatch(part):
        return "home"
    if _HERE.fullmatch(part):
        return "workspace"
    return _NOT_IN_NAMES.sub("-", part.lower()).strip("_.-")[:MAX_NAME_CHARS].rstrip("_.-")


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
