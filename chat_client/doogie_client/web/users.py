"""Who is asking: users and their roles, and the users file, which knows them by the hashes of their bearer tokens.

    version: 1
    users:
      alice:
        role: admin                 # or user
        token_sha256: ["…"]         # doogie-chat hash-token; several while one replaces another

An application that embeds the web app and knows its users itself passes its own ``Authenticate`` instead.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from doogie_client.service.records import UserId

_BEARER = re.compile(r"Bearer +([\x21-\x7e]{1,512})", re.IGNORECASE)


class Role(StrEnum):
    """Admins do everything. Users see and call what is theirs or shared."""

    ADMIN = "admin"
    USER = "user"


class User(NamedTuple):
    """Who is asking."""

    id: UserId
    role: Role


Authenticate = Callable[[web.Request], Awaitable[User | None]]
"""Who sends this request; None: nobody that is known. An event stream asks again and again, with its first request."""


class UsersFileError(Exception):
    """The users file cannot be used; each line says where, what, and what would be right."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    token_sha256: list[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]] = Field(min_length=1)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    users: dict[UserId, _Entry]

    @model_validator(mode="after")
    def _one_user_per_token(self) -> Self:
        owners: dict[str, str] = {}
        for name, entry in self.users.items():
            for known in entry.token_sha256:
                if owners.setdefault(known, name) != name:
                    raise ValueError(f"users {owners[known]} and {name} have the same token: give each its own")
        return self


class UsersFile:
    """The users of a file. ``reload`` reads it anew, all or nothing.

    Raises:
        UsersFileError: unreadable, not YAML, a key given twice, or not a users file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users: dict[str, User] = {}
        self.reload()

    def __len__(self) -> int:
        return len(set(self._users.values()))

    def reload(self) -> None:
        """Know from now on whom the file names now. Raises ``UsersFileError``, with which all stays as it was."""
        document = _parse(self._path)
        self._users = {
            known: User(name, entry.role) for name, entry in document.users.items() for known in entry.token_sha256
        }

    async def __call__(self, request: web.Request) -> User | None:
        """Who holds the bearer token (RFC 6750 section 2.1). Every hash is compared, each in constant time."""
        match = _BEARER.fullmatch(request.headers.get(hdrs.AUTHORIZATION, ""))
        if match is None:
            return None
        digest = hash_token(match[1])
        found = None
        for known, user in self._users.items():
            if hmac.compare_digest(known, digest):
                found = user
        return found


def hash_token(token: str) -> str:
    """SHA-256 (hex), as ``token_sha256`` wants it. A token is random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A fresh token: 256 random bits."""
    return secrets.token_urlsafe(32)


def _parse(path: Path) -> _Document:
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UsersFileError([f"{path}: cannot be read: {exc}"]) from exc
    except MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise UsersFileError([f"{path}:{line}: {exc.problem or exc.context}"]) from exc
    except (YAMLError, ValueError) as exc:
        raise UsersFileError([f"{path}: not YAML: {exc}"]) from exc
    if not isinstance(document, CommentedMap):
        raise UsersFileError([f"{path}:1: a users file is a mapping that begins with version: 1"])
    try:
        return _Document.model_validate(_plain(document))
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False, include_input=False)
        raise UsersFileError(
            [f"{path}:{_line(document, error['loc'])}: {_describe(error['loc'], error['msg'])}" for error in errors]
        ) from exc


def _plain(node: Any) -> Any:
    """The document without ruamel's position-keeping types."""
    match node:
        case CommentedMap():
            return {key: _plain(value) for key, value in node.items()}
        case CommentedSeq():
            return [_plain(value) for value in node]
        case str():
            return str(node)
        case _:
            return node


def _describe(loc: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if message == "Extra inputs are not permitted":
        message = "unknown key"
    where = ".".join(str(part) for part in loc if part != "[key]")
    return f"{where}: {message}" if where else message


def _line(document: CommentedMap, loc: tuple[int | str, ...]) -> int:
    """The line of the innermost part of ``loc`` that the file spells."""
    node: Any = document
    line = 0
    for part in loc:
        if not isinstance(node, CommentedBase):
            break
        try:
            line = (node.lc.key(part) if isinstance(node, CommentedMap) else node.lc.item(part))[0]
            node = node[part]  # type: ignore[index]  # the two classes that derive from CommentedBase can be indexed
        except (KeyError, IndexError, TypeError):
            break
    return int(line) + 1
