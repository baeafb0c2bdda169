"""What a reader hands over: one server of a host's file, before anything is filled in or translated. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from pydantic import JsonValue

from doogie_client.hosts.placeholders import is_secret_name, read, split_named
from doogie_client.hosts.template import Input, Template


class ReasonKind(StrEnum):
    """Why an entry is not saved. The first five are those of ``commands.FaultKind``."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    UNSUPPORTED = "unsupported"
    POLICY = "policy"
    UNMAPPED = "unmapped"
    REMOTE = "remote"
    """A server that runs elsewhere: there is nothing to start."""
    DENIED = "denied"
    """No rule of the policy admits it."""
    MOUNT = "mount"
    """It needs files, which a mount of the rule has to provide."""
    INPUT = "input"
    """A value is missing, or is none that it may have."""
    RUNNING = "running"
    """What runs of the configuration that it would replace cannot be stopped."""
    NAME_TAKEN = "name-taken"
    """Another configuration has its name."""


@dataclass(frozen=True)
class Reason:
    """One reason.

    Args:
        loc: where in the document: ``mcpServers.time.args.2``.
        msg: what is wrong there, and what would be right.
        ask: what the operator can do about it: a line of the policy, or a command.
    """

    kind: ReasonKind
    loc: str
    msg: str
    ask: str | None = None


@dataclass(frozen=True)
class Word:
    """One argument.

    Args:
        text: as it stands in the document.
        loc: where.
        name: of the option whose value it is, dashes and all; empty: of none.
        with_name: the name is not a word of its own in the document, but stands before the value.
        flag: the value is ``true``, and the name stands alone, or ``false``, and nothing does.
        required: else it is left out, name and all, where a value is missing.
    """

    text: Template
    loc: str
    name: str = ""
    with_name: bool = False
    flag: bool = False
    required: bool = True

    @classmethod
    def literal(cls, text: str, loc: str) -> Self:
        """A word that says itself."""
        return cls(Template.literal(text), loc)

    @classmethod
    def read(cls, text: str, loc: str, before: Self | None) -> Self:
        """A word of a host's file; it may be the value of the option before it."""
        option = before.text.fill({}) if before is not None and not text.startswith("-") else ""
        name = option if option.startswith("--") and "=" not in option else ""
        return cls(read(text, name), loc, name)


@dataclass(frozen=True)
class Variable:
    """One variable of the environment."""

    text: Template
    loc: str
    required: bool = True


@dataclass(frozen=True)
class HostEntry:
    """One server.

    Args:
        loc: where it stands in the document.
        name: as the document calls it; None where it has no name of its own.
        words: the command and its arguments; none for what is not a program.
        env: by name.
        env_file: path of a file of variables beside the document; its content is asked for under this id.
        inputs: by id, what the document says of what it asks for.
        secrets, mounts: of the proxy's rule, by name.
        exact: it was written for this proxy, so its command and arguments are as they are to be.
        enabled: None where the document does not say.
        reasons: what cannot be read of it.
        notes: what is read and has no meaning here.
    """

    loc: str
    name: str | None = None
    words: tuple[Word, ...] = ()
    env: Mapping[str, Variable] = field(default_factory=dict)
    env_file: str | None = None
    inputs: Mapping[str, Input] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    description: str | None = None
    enabled: bool | None = None
    exact: bool = False
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()


Alternatives = tuple[HostEntry, ...]
"""Ways to run one server, at least one, the publisher's first choice first; hosts' files have one."""


def with_inputs(entry: HostEntry, declared: Mapping[str, Input]) -> HostEntry:
    """The entry with all that it asks for in ``inputs``: as declared, or by its name alone."""
    inputs: dict[str, Input] = {}
    places = [(word.text, split_named(word.text.fill({}))[0] or word.name) for word in entry.words]
    places += [(variable.text, name) for name, variable in entry.env.items()]
    for template, name in places:
        for ask in template.asks:
            known = inputs.get(ask.id) or declared.get(ask.id) or Input(ask.id)
            secret = known.secret or is_secret_name(ask.id) or is_secret_name(name)
            inputs[ask.id] = replace(known, secret=secret)
    if entry.env_file is not None:
        what = f"the content of {entry.env_file}: NAME=VALUE, one a line"
        inputs[entry.env_file] = Input(entry.env_file, what, secret=True)
    return replace(entry, inputs=inputs)


def remote_server(url: JsonValue, loc: str) -> Reason:
    """The reason not to start what runs already; of the URL, whose rest may hold a token, scheme and host are shown."""
    address = re.match(r"([a-z]{1,20})://([^/?#\s]{1,200})", url) if isinstance(url, str) else None
    where = f" at {address[1]}://{address[2].rpartition('@')[2]}" if address else ""
    msg = f"a remote server{where}: it runs elsewhere, so there is nothing to start; give the chat application its URL"
    return Reason(ReasonKind.REMOTE, loc, msg)
