"""From an entry and the answers to what would be saved, or to everything that stands in its way. Pure.

    HostEntry ── Draft ──────────────► values filled in
              ── container_options ──► docker's -v as mounts of the rule, docker's -e as variables
              ── paths ──────────────► paths of somebody's own machine as mounts of the rule
              ── commands.translate ─► the request, or faults

The command is translated in the form that may be shown, so that no message of the translation holds a secret. What is
saved must then translate alike: no value changes what the command is.
"""

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from pydantic import ValidationError

from doogie_client.commands import Catalogue, CommandRefused, ServerCommand, Translation, translate
from doogie_client.commands.command import MASK
from doogie_client.commands.program import read
from doogie_client.commands.reading import Reading
from doogie_client.hosts.container_options import take_container_options
from doogie_client.hosts.draft import Answers, Draft, Text
from doogie_client.hosts.entry import HostEntry, Reason, ReasonKind
from doogie_client.hosts.jsonc import below
from doogie_client.hosts.paths import Mounts, is_windows_path
from doogie_client.hosts.placeholders import split_named
from doogie_client.hosts.rule import RuleRequest, flow
from doogie_client.hosts.template import Input
from doogie_contract.models import StartRequest

_OPERATORS = frozenset({ReasonKind.POLICY, ReasonKind.UNMAPPED, ReasonKind.MOUNT, ReasonKind.DENIED})
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+", re.ASCII)


class Verdict(IntEnum):
    """Whether a server can be saved, and who has to do something about it: the nearer first."""

    READY = 0
    NEEDS_INPUT = 1
    """Values are missing."""
    NEEDS_OPERATOR = 2
    """An image, a mount or a rule is missing."""
    REFUSED = 3
    """Only another document can help."""


@dataclass(frozen=True)
class Needed:
    """An input, whether a value for it is missing, and where the document uses it."""

    input: Input
    missing: bool
    used: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What would be saved, or why not.

    Args:
        entry: as read.
        name: of the entry, or after the package or image where it has none.
        shown: the command as it may be shown; None where there is none.
        command: the command itself; None where reasons or missing values stand in its way.
        asked: what it asks of the proxy, in the form that may be shown.
        request: what it asks of the proxy.
        rule: what a rule has to admit; None where that cannot be told.
    """

    entry: HostEntry
    name: str
    shown: ServerCommand | None = None
    command: ServerCommand | None = field(default=None, repr=False)
    asked: StartRequest | None = None
    request: StartRequest | None = field(default=None, repr=False)
    rule: RuleRequest | None = None
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    inputs: tuple[Needed, ...] = ()

    @property
    def build(self) -> tuple[str, ...]:
        """The operator's commands that make a missing image."""
        return tuple(reason.ask for reason in self.reasons if reason.kind is ReasonKind.UNMAPPED and reason.ask)

    @property
    def verdict(self) -> Verdict:
        """What is to be done about it."""
        return verdict(self.reasons)


def plan(entry: HostEntry, answers: Answers, catalogue: Catalogue, *, granted: Collection[str] | None = ()) -> Plan:
    """What would become of an entry.

    Args:
        entry: as read.
        answers: values and secrets.
        catalogue: which image a package is.
        granted: names of mounts that the policy offers; None: whoever asks the proxy will know.
    """
    return _Planning(entry, answers, catalogue, granted).plan()


def best_of(plans: Sequence[Plan]) -> Plan:
    """Of the ways to run one server, the first that can be saved, or else the most hopeful one."""
    best = min(plans, key=lambda made: made.verdict)
    others = [made.entry.loc for made in plans if made is not best]
    if not others:
        return best
    note = f"{best.entry.loc} was taken, of the ways in which the document says it can be run; not {', '.join(others)}"
    return replace(best, notes=(note, *best.notes))


def verdict(reasons: Iterable[Reason]) -> Verdict:
    """What is to be done about these reasons."""
    kinds = {reason.kind for reason in reasons}
    if not kinds:
        return Verdict.READY
    if not kinds <= _OPERATORS | {ReasonKind.INPUT}:
        return Verdict.REFUSED
    return Verdict.NEEDS_INPUT if kinds == {ReasonKind.INPUT} else Verdict.NEEDS_OPERATOR


class _Planning:
    def __init__(
        self, entry: HostEntry, answers: Answers, catalogue: Catalogue, granted: Collection[str] | None
    ) -> None:
        self._entry = entry
        self._answers = answers
        self._catalogue = catalogue
        self._granted = granted
        self._draft = Draft(entry, answers)
        self._mounts = Mounts(taken=set(entry.mounts))

    def plan(self) -> Plan:
        draft = self._draft
        reading = self._reading() if draft.words else None
        shown = self._command(real=False) if draft.words else None
        translation = self._translation(shown, reading) if shown is not None and reading is not None else None
        self._tell_mounts()
        self._tell_misplaced_secrets()
        inputs = self._inputs()
        request = self._request(translation) if translation is not None and not draft.reasons else None
        return Plan(
            entry=self._entry,
            name=_name(reading) if self._entry.name is None else self._entry.name,
            shown=shown,
            command=self._command(real=True) if request is not None else None,
            asked=translation.request if translation is not None else None,
            request=request,
            rule=self._rule(reading, translation) if reading is not None else None,
            reasons=tuple(dict.fromkeys(draft.reasons)),
            notes=tuple(dict.fromkeys([*draft.notes, *(translation.notes if translation is not None else ())])),
            inputs=inputs,
        )

    def _reading(self) -> Reading | None:
        """What the words say, once docker's options and paths are mounts, and variables are asked for."""
        command = self._command(real=False)
        if command is None:
            return None
        if not self._entry.exact:
            take_container_options(self._draft, read(command), self._mounts)
        for name, text in [*self._draft.env.items()]:
            if (input_id := self._draft.secret_of(text.template)) is not None:
                self._draft.use_secret(name, input_id)
        reading = read(self._command(real=False) or command)
        if self._entry.exact:
            return reading
        self._mounts.native = reading.package is not None
        for word in reading.args:
            at = self._draft.index(word.loc)
            whole = self._draft.words[at]
            inside = self._inside(replace(whole, shown=word.text))
            if whole.shown == word.text:
                self._draft.words[at] = inside
            elif inside.shown != word.text:
                msg = "a path in a line that is one argument; write each word of the command by itself"
                self._draft.refuse(ReasonKind.MALFORMED, whole.loc, msg)
        for name, text in self._draft.env.items():
            self._draft.env[name] = self._inside(text)
        return read(self._command(real=False) or command)

    def _inside(self, text: Text) -> Text:
        """The text with paths as they are in the container; one that is secret stays as it is."""
        if self._draft.hides(text):
            return text
        prefix, value = split_named(text.shown)
        inside = self._mounts.inside(value, text.loc)
        return text if inside is None else replace(text, real=prefix + inside, shown=prefix + inside)

    def _command(self, *, real: bool) -> ServerCommand | None:
        """The command as it is now; what cannot be in one is a reason."""
        draft = self._draft
        first, *rest = (text.real if real else text.shown for text in draft.words)
        if real and MASK in {text.real for text in draft.env.values()}:
            msg = f"{MASK} is what stands for a secret where it is shown; give the value itself"
            draft.refuse(ReasonKind.INPUT, self._entry.loc, msg)
            return None
        try:
            return ServerCommand(
                command=first if self._entry.exact or is_windows_path(first) else shlex.quote(first),
                args=rest,
                env={name: text.real if real else text.shown for name, text in draft.env.items()},
                secrets=[*dict.fromkeys([*self._entry.secrets, *draft.secrets])],
                mounts=[*dict.fromkeys([*self._entry.mounts, *(mount.name for mount in self._mounts.found)])],
            )
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_context=False, include_input=False):
                place = ".".join(str(part) for part in error["loc"] if part != "[key]")
                draft.refuse(ReasonKind.MALFORMED, draft.place(place), error["msg"])
            return None

    def _translation(self, command: ServerCommand, reading: Reading) -> Translation | None:
        try:
            return translate(command, self._catalogue)
        except CommandRefused as exc:
            for fault in exc.faults:
                kind = ReasonKind(fault.kind.value)
                if reading.package is not None and (kind, fault.loc) == (ReasonKind.UNSUPPORTED, reading.package_loc):
                    kind = ReasonKind.REMOTE  # a bridge: mcp-remote, supergateway
                self._draft.refuse(kind, self._draft.place(fault.loc), fault.msg, fault.ask)
            return None

    def _request(self, translation: Translation) -> StartRequest | None:
        """What the command asks for with all values in it; a value that makes another command of it is a reason."""
        command = self._command(real=True)
        try:
            request = translate(command, self._catalogue).request if command is not None else None
        except CommandRefused:
            request = None
        asked = translation.request
        if request is None or (request.image, len(request.args)) != (asked.image, len(asked.args)):
            msg = "a value that was given makes another command of this, or one that cannot be translated"
            self._draft.refuse(ReasonKind.INPUT, self._entry.loc, msg)
            return None
        return request

    def _tell_mounts(self) -> None:
        for mount in self._mounts.found:
            self._draft.notes.append(f"{mount.source} is mount {mount.name!r} of the rule, at {mount.target}")
            if self._granted is not None and mount.name not in self._granted:
                self._draft.refuse(
                    ReasonKind.MOUNT,
                    mount.loc,
                    f"{mount.source}: only the operator can make it available, as mount {mount.name!r} of the rule",
                    f"mounts: {flow({mount.name: dict(mount.spec)})}",
                )

    def _tell_misplaced_secrets(self) -> None:
        for text in [*self._draft.words, *self._draft.env.values()]:
            for ask in text.template.asks:
                if ask.id in self._answers.secrets:
                    msg = "a secret of the rule can only be all of a variable's value; give the value itself"
                    self._draft.refuse(ReasonKind.INPUT, text.loc, f"{ask.id}: {msg}")

    def _inputs(self) -> tuple[Needed, ...]:
        """All that is asked for; unless there is no hope, what is missing of it is a reason."""
        draft, entry = self._draft, self._entry
        asking = [(word.text, word.loc) for word in entry.words]
        asking += [(variable.text, variable.loc) for variable in entry.env.values()]
        asking += [(text.template, text.loc) for text in draft.env.values()]
        used: dict[str, list[str]] = {known: [] for known in draft.inputs}
        defaults: dict[str, str] = {}
        for template, loc in asking:
            for ask in template.asks:
                used[ask.id].append(loc)
                if ask.default is not None:
                    defaults.setdefault(ask.id, ask.default)
        if entry.env_file is not None:
            used[entry.env_file].append(below(entry.loc, "envFile"))
        if verdict(draft.reasons) is not Verdict.REFUSED:
            for name in draft.missing:
                draft.refuse(ReasonKind.INPUT, used[name][0], f"needs a value for {name!r}")
        return tuple(
            Needed(
                replace(known, default=defaults.get(name) if known.default is None else known.default),
                name in draft.missing,
                tuple(dict.fromkeys(used[name])),
            )
            for name, known in draft.inputs.items()
        )

    def _rule(self, reading: Reading, translation: Translation | None) -> RuleRequest | None:
        if reading.image is None and reading.package is None:
            return None
        image = translation.request.image if translation is not None else reading.image.text if reading.image else None
        asks = [reason.ask for reason in self._draft.reasons if reason.kind is ReasonKind.POLICY and reason.ask]
        return RuleRequest(
            name=_slug(self._entry.name or "") or _slug(_name(reading)) or "server",
            image=image,
            args=[word.text for word in reading.args],
            hidden=self._draft.hidden,
            env=sorted({*self._draft.env, *(given.name for given in reading.env)} - {*self._draft.secrets.values()}),
            secrets=dict(self._draft.secrets),
            mounts={mount.name: mount.spec for mount in self._mounts.found},
            sources={mount.name: mount.source for mount in self._mounts.found},
            lines=asks,
        )


def _name(reading: Reading | None) -> str:
    """A name after the package or image that is run."""
    if reading is not None and reading.package is not None:
        return reading.package.name.rpartition("/")[2]
    if reading is not None and reading.image is not None:
        return re.split(r"[:@]", reading.image.text.rpartition("/")[2])[0]
    return "server"


def _slug(name: str) -> str:
    return _NOT_IN_NAMES.sub("-", name.lower()).strip("_.-")[:63].rstrip("_.-")
