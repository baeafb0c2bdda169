"""An entry with the values that were given for it: words and environment, as they are and as may be shown. Pure.

A secret is never part of what may be shown: ``<id>`` stands for a value that was given, and ``***`` for one that the
document has itself, where an option or variable of that name is likely to hold one (``--api-key sk-…``).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from doogie_client.commands.command import MASK
from doogie_client.hosts.entry import HostEntry, Reason, ReasonKind, Word
from doogie_client.hosts.envfile import read_env_file
from doogie_client.hosts.jsonc import DocumentError, below
from doogie_client.hosts.paths import is_path
from doogie_client.hosts.placeholders import is_secret_name, split_named
from doogie_client.hosts.template import Input, Template, stand_in
from doogie_contract.models import MAX_ENV_VALUE_CHARS

MAX_VALUES = 100

_USER_INFO = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_TEXT = re.compile(rf"[^\x00\ud800-\udfff]{{0,{MAX_ENV_VALUE_CHARS}}}")


@dataclass(frozen=True)
class Answers:
    """What whoever imports knows.

    Args:
        values: by the id of an input; several for one that may be repeated.
        secrets: instead of a value: by the id of an input, the name of a secret of the proxy's rule.
    """

    values: Mapping[str, str | Sequence[str]] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A word, or a variable's value: as it is, as it may be shown, what it was made of, and where that stands."""

    real: str = field(repr=False)
    shown: str
    template: Template
    loc: str


class Draft:
    """An entry on its way to a command; what is found on the way is added to it.

    Args:
        entry: as read.
        answers: as given.
    """

    def __init__(self, entry: HostEntry, answers: Answers) -> None:
        self.entry = entry
        self.inputs: dict[str, Input] = dict(entry.inputs)
        self.reasons: list[Reason] = list(entry.reasons)
        self.notes: list[str] = list(entry.notes)
        self.secrets: dict[str, str] = {}
        """Of the rule, by name: the variable that each has to be in."""
        self.missing: dict[str, None] = {}
        """Ids of inputs that something needs and that have no value, in the order in which they were needed."""
        self._given = answers
        self._values: dict[str, Sequence[str]] = {}
        self._first: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        for known in entry.inputs.values():
            self._take(known)
        self.env = self._environment()
        self.words = [text for word in entry.words for text in self._said(word)]

    @property
    def hidden(self) -> frozenset[str]:
        """The texts that stand for what is secret or missing in what may be shown."""
        unknown = {known.id for known in self.inputs.values() if known.secret} | set(self.missing)
        return frozenset({MASK, *map(stand_in, unknown)})

    @staticmethod
    def index(loc: str) -> int:
        """Which of ``words`` a place of ``commands`` is: ``command`` is the first, ``args.0`` the second."""
        return int(loc.removeprefix("args.")) + 1 if loc.startswith("args.") else 0

    def place(self, loc: str) -> str:
        """A place of ``commands`` as one of the document."""
        if loc.startswith("env.") and (variable := self.env.get(loc.removeprefix("env."))):
            return variable.loc
        if loc == "command" or loc.startswith("args."):
            return self.words[self.index(loc)].loc
        return below(self.entry.loc, loc)

    def hides(self, text: Text) -> bool:
        """Whether something in what may be shown of a text stands for what is secret or missing."""
        asked = (ask.id for ask in text.template.asks)
        return MASK in text.shown or any(self.inputs[name].secret or name in self.missing for name in asked)

    def refuse(self, kind: ReasonKind, loc: str, msg: str, ask: str | None = None) -> None:
        """Take down a reason and go on: all of them are told at once."""
        self.reasons.append(Reason(kind, loc, msg, ask))

    def want(self, name: str, loc: str) -> None:
        """Ask for a variable that the command takes from the environment it is started in (``docker run -e NAME``)."""
        known = Input(name, secret=is_secret_name(name))
        self.inputs.setdefault(name, known)
        self._take(known)
        self.env[name] = self.fill(Template.asking(name), name, loc)

    def fill(self, template: Template, name: str, loc: str) -> Text:
        """The text with what was given; what was not is missing. ``name``: whose value it is."""
        self.missing.update((lacking, None) for lacking in self._lacking(template) if lacking not in self._given.values)
        for ask in template.asks:
            if ask.default is not None and ask.id not in self._values:
                self._tell_default(ask.id, ask.default)
        shown = _masked(template.fill(self._shown), name, template)
        return Text(template.fill(self._first), shown, template, loc)

    def use_secret(self, variable: str, input_id: str) -> None:
        """Let the rule set a variable, in the place of a value for an input."""
        secret = self._given.secrets[input_id]
        if self.secrets.setdefault(secret, variable) != variable:
            msg = f"the secret {secret!r} sets one variable, {self.secrets[secret]}; give the value of this one"
            self.refuse(ReasonKind.INPUT, self.env[variable].loc, msg)
        del self.env[variable]

    def secret_of(self, template: Template) -> str | None:
        """The input that is all of a text and that a secret of the rule is to stand for."""
        asks = template.asks
        whole = len(template.pieces) == 1 and len(asks) == 1
        return asks[0].id if whole and asks[0].id in self._given.secrets else None

    def _take(self, known: Input) -> None:
        """The values of an input: those that were given, or its default; none where it has to be given yet."""
        given = self._given.values.get(known.id)
        if given is None:
            if known.default is not None and known.id not in self._given.secrets:
                self._keep(known, (known.default,))
                self._tell_default(known.id, known.default)
            return
        values = (given,) if isinstance(given, str) else tuple(given)
        most = MAX_VALUES if known.repeated else 1
        if not 0 < len(values) <= most:
            fault = "takes one value" if most == 1 else f"takes 1 to {most} values"
        elif not all(_TEXT.fullmatch(value) for value in values):
            fault = f"must be text of at most {MAX_ENV_VALUE_CHARS} characters, without NUL"
        elif MASK in values:
            fault = f"{MASK} is what stands for a secret where it is shown; give the value itself"
        elif known.choices and not set(values) <= set(known.choices):
            fault = f"must be one of {', '.join(known.choices)}"
        else:
            self._keep(known, values)
            return
        self.refuse(ReasonKind.INPUT, f"values.{known.id}", fault)

    def _keep(self, known: Input, values: Sequence[str]) -> None:
        self._values[known.id] = values
        self._first[known.id] = values[0]
        if not known.secret:
            self._shown[known.id] = values[0]

    def _tell_default(self, input_id: str, default: str) -> None:
        known = self.inputs[input_id]
        shown = "its default" if known.secret else f"its default {default!r}"
        self.notes.append(f"{input_id}: no value was given, so {shown} is used")

    def _environment(self) -> dict[str, Text]:
        env: dict[str, Text] = {}
        file, loc = self.entry.env_file, below(self.entry.loc, "envFile")
        if file is not None and file not in self._values:
            self.missing[file] = None
        elif file is not None:
            try:
                variables = read_env_file(self._values[file][0], f"values.{file}")
            except DocumentError as exc:
                self.refuse(ReasonKind.INPUT, exc.loc, exc.msg)
            else:
                env = {name: Text(value, MASK, Template.literal(value), loc) for name, value in variables.items()}
        for name, variable in self.entry.env.items():
            if variable.required or not self._lacking(variable.text):
                env[name] = self.fill(variable.text, name, variable.loc)
        return env

    def _said(self, word: Word) -> Iterator[Text]:
        """The words that one argument is: none, itself, or its name and value, as often as there are values."""
        if not word.required and self._lacking(word.text):
            return
        before = self.fill(Template.literal(word.name), "", word.loc)
        texts = [self.fill(text, word.name, word.loc) for text in self._repeated(word.text)]
        for text in texts:
            if word.flag and text.real in {"true", "false"}:
                if text.real == "true":
                    yield before
            else:
                if word.with_name:
                    yield before
                yield text

    def _repeated(self, template: Template) -> Iterator[Template]:
        """The text for each value of an input that is all of it and has several."""
        whole = template.asks[0].id if len(template.pieces) == 1 and template.asks else ""
        values = self._values.get(whole, ())
        if len(values) > 1:
            yield from (Template.literal(value) for value in values)
            return
        for ask in template.asks:
            if len(self._values.get(ask.id, ())) > 1:
                self.refuse(ReasonKind.INPUT, f"values.{ask.id}", "takes one value here, as it is part of a text")
        yield template

    def _lacking(self, template: Template) -> list[str]:
        known = (self._values, self._given.secrets)
        return [ask.id for ask in template.asks if ask.default is None and not any(ask.id in given for given in known)]


def _masked(shown: str, name: str, template: Template) -> str:
    """``shown`` without what the document itself has in the place of a secret."""
    if _USER_INFO.search(shown):
        return MASK
    prefix, value = split_named(shown)
    if template.asks or not value or is_path(value) or not is_secret_name(prefix or name):
        return shown
    return f"{prefix}{MASK}"
