"""The MCP registry's ``server.json``. Pure.

    packages[]   ways to install and run one server: npm with npx, pypi with uvx, oci with docker run
    remotes[]    where it runs already, which is not ours

Read as of schema 2025-12-11 (static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json); its form of
2025-07-09 has the same fields in ``snake_case``. Where the schema leaves open what the command line is, it is as VS
Code makes it (``mcpManagementService.ts``): a named argument is two words, and one that says nothing of a value is its
name alone. Of format ``boolean`` it is its name alone where true and nothing where false: in ``docker run -i true``,
``true`` would be the image.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from doogie_client.hosts.entry import (
    Alternatives,
    HostEntry,
    Reason,
    ReasonKind,
    Variable,
    Word,
    remote_server,
    with_inputs,
)
from doogie_client.hosts.jsonc import DocumentError, below
from doogie_client.hosts.template import Ask, Input, Piece, Template

_VARIABLE = re.compile(r"\{([^{}]{1,100})\}")
_CAPITAL = re.compile(r"[A-Z]")
_PUBLIC = {"npm": ("https://registry.npmjs.org",), "pypi": ("https://pypi.org", "https://pypi.org/simple")}
_RUN = ("docker", "run", "-i", "--rm")
_ENV_OPTIONS = frozenset({"-e", "--env"})
_SAYS_OF_A_VALUE = ("value", "valueHint", "default", "description", "choices", "placeholder", "format")


def read_server_json(document: Mapping[str, JsonValue], loc: str = "") -> Alternatives:
    """One entry for each package; without any, one that says why there is nothing to start.

    Raises:
        DocumentError: ``packages`` or ``remotes`` is no list of objects, or both are empty.
    """
    name, description = document.get("name"), document.get("description")
    base = HostEntry(
        loc=loc or "server.json",
        name=name.rpartition("/")[2] if isinstance(name, str) else None,
        description=description if isinstance(description, str) else None,
    )
    packages, remotes = (_objects(document.get(key), below(loc, key)) for key in ("packages", "remotes"))
    if packages:
        found = (_Package(below(below(loc, "packages"), str(at)), item) for at, item in enumerate(packages))
        return tuple(package.read(base) for package in found)
    if not remotes:
        raise DocumentError(base.loc, "has neither packages nor remotes")
    return (replace(base, reasons=(remote_server(remotes[0].get("url"), below(loc, "remotes.0")),)),)


@dataclass
class _Package:
    """One package, as it is read."""

    loc: str
    package: Mapping[str, JsonValue]
    words: list[Word] = field(default_factory=list)
    env: dict[str, Variable] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self, base: HostEntry) -> HostEntry:
        kind, identifier = self._text(self.package, "registryType"), self._text(self.package, "identifier")
        transport = self.package.get("transport")
        speaks = transport.get("type") if isinstance(transport, dict) else "stdio"
        if speaks != "stdio":
            self._refuse("transport", "speaks HTTP on a port; only servers that speak stdio are started here")
        if identifier is None:
            self._malformed("identifier", "must be the name of the package")
        elif kind == "oci":
            self._image(identifier)
        elif kind in _PUBLIC:
            self._published(kind, identifier)
        else:
            self._refuse("registryType", "only npm, pypi and oci packages can be started here")
        entry = replace(base, loc=self.loc, words=tuple(self.words), env=self.env)
        return with_inputs(replace(entry, reasons=tuple(self.reasons), notes=tuple(self.notes)), self.inputs)

    def _published(self, kind: str, identifier: str) -> None:
        """``npx -y NAME@VERSION …``, ``uvx NAME==VERSION …``."""
        registry = self._text(self.package, "registryBaseUrl")
        if registry is not None and registry.rstrip("/") not in _PUBLIC[kind]:
            self._refuse(
                "registryBaseUrl", "is another registry than the public one, which alone images are built from"
            )
        version = self._text(self.package, "version")
        separator = "@" if kind == "npm" else "=="
        spec = f"{identifier}{separator}{version}" if version else identifier
        self._say("npx" if kind == "npm" else "uvx")
        runtime = list(self._arguments("runtimeArguments", identifier))
        if kind == "npm" and not runtime:
            self._say("-y")
        self.words += runtime
        self._say(spec)
        self._environment()
        self.words += self._arguments("packageArguments")

    def _image(self, identifier: str) -> None:
        """``docker run -i --rm … IMAGE …``; what its options set in the environment becomes part of that."""
        version = self._text(self.package, "version")
        image = identifier.removeprefix("docker.io/")
        if version and "@" not in image and ":" not in image.rpartition("/")[2]:
            image = f"{image}:{version}"
        for text in _RUN:
            self._say(text)
        self._environment()
        for word in self._arguments("runtimeArguments", re.sub(r"(?:@|:[^/]*\Z).*", "", identifier)):
            text = word.text.fill({})
            name, equals, _ = text.partition("=")
            value = word.text.without(f"{name}=") if equals and word.name in _ENV_OPTIONS else None
            if value is None:
                self.words += [] if text in _RUN or word.name in _RUN else [word]
            elif name not in self.env:
                self.env[name] = Variable(value, word.loc, required=word.required)
            else:
                self.reasons.append(Reason(ReasonKind.MALFORMED, word.loc, "this variable is given twice; keep one"))
        self._say(image)
        self.words += self._arguments("packageArguments")

    def _environment(self) -> None:
        loc = below(self.loc, "environmentVariables")
        for at, item in enumerate(self._objects(self.package, "environmentVariables")):
            place = below(loc, str(at))
            name = self._text(item, "name")
            if name is None:
                self.reasons.append(Reason(ReasonKind.MALFORMED, place, "must have a name"))
            elif name in self.env:
                self.reasons.append(Reason(ReasonKind.MALFORMED, place, "this variable is given twice; keep one"))
            else:
                self.env[name] = Variable(self._value(item, name), place, required=self._is_required(item))

    def _arguments(self, key: str, identifier: str | None = None) -> Iterator[Word]:
        """The words of a list of arguments; without one that is the package itself, which stands behind them anyway."""
        for at, item in enumerate(self._objects(self.package, key)):
            place = below(below(self.loc, key), str(at))
            name = self._text(item, "name") or ""
            named = item.get("type") == "named"
            if named and not name:
                self.reasons.append(Reason(ReasonKind.MALFORMED, place, "a named argument must have a name"))
                continue
            if named and all(_get(item, said) is None for said in _SAYS_OF_A_VALUE):
                yield Word.literal(name, place)
                continue
            text = self._value(item, name.lstrip("-") or self._text(item, "valueHint") or f"argument-{at + 1}")
            if identifier and re.fullmatch(rf"{re.escape(identifier)}(?:[@:=].*)?", text.fill({}), re.DOTALL):
                continue
            flag = named and item.get("format") == "boolean"
            yield Word(text, place, name, with_name=named, flag=flag, required=self._is_required(item))

    def _value(self, item: Mapping[str, JsonValue], input_id: str) -> Template:
        """``value`` with its ``{variables}``; without one, what is asked for under ``input_id``."""
        value, variables = self._text(item, "value"), item.get("variables")
        known = variables if isinstance(variables, dict) else {}
        if value is None:
            self._ask(input_id, item)
            return Template((Ask(input_id),))
        pieces: list[Piece] = []
        end = 0
        for match in _VARIABLE.finditer(value):
            variable = known.get(match[1])
            if isinstance(variable, dict):
                pieces += [value[end : match.start()], self._variable(match[1], variable)]
                end = match.end()
        pieces.append(value[end:])
        return Template(tuple(piece for piece in pieces if piece != ""))

    def _variable(self, name: str, variable: Mapping[str, JsonValue]) -> Piece:
        fixed = self._text(variable, "value")
        if fixed is not None:
            return fixed
        self._ask(name, variable)
        return Ask(name)

    def _ask(self, input_id: str, item: Mapping[str, JsonValue]) -> None:
        choices = item.get("choices")
        options = choices if isinstance(choices, list) else ["true", "false"] if item.get("format") == "boolean" else []
        self.inputs[input_id] = Input(
            id=input_id,
            description=self._text(item, "description"),
            secret=_flag(item, "isSecret"),
            default=self._text(item, "default"),
            choices=tuple(choice for choice in options if isinstance(choice, str)),
            repeated=_flag(item, "isRepeated"),
        )

    def _is_required(self, item: Mapping[str, JsonValue]) -> bool:
        variables = item.get("variables")
        parts = variables.values() if isinstance(variables, dict) else ()
        return _flag(item, "isRequired") or any(isinstance(part, dict) and _flag(part, "isRequired") for part in parts)

    def _say(self, text: str) -> None:
        self.words.append(Word.literal(text, self.loc))

    def _objects(self, item: Mapping[str, JsonValue], key: str) -> list[Mapping[str, JsonValue]]:
        try:
            return _objects(_get(item, key), below(self.loc, key))
        except DocumentError as exc:
            self.reasons.append(Reason(ReasonKind.MALFORMED, exc.loc, exc.msg))
            return []

    def _text(self, item: Mapping[str, JsonValue], key: str) -> str | None:
        value = _get(item, key)
        if value is None or isinstance(value, str):
            return value
        self._malformed(key, "must be a text")
        return None

    def _malformed(self, key: str, msg: str) -> None:
        self.reasons.append(Reason(ReasonKind.MALFORMED, below(self.loc, key), msg))

    def _refuse(self, key: str, msg: str) -> None:
        self.reasons.append(Reason(ReasonKind.UNSUPPORTED, below(self.loc, key), msg))


def _objects(value: JsonValue, loc: str) -> list[Mapping[str, JsonValue]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DocumentError(loc, "must be a list of objects")
    found: list[Mapping[str, JsonValue]] = []
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            raise DocumentError(below(loc, str(at)), "must be an object")
        found.append(item)
    return found


def _get(item: Mapping[str, JsonValue], key: str) -> JsonValue:
    """A field by its name of today, or by that of schema 2025-07-09."""
    return item.get(key, item.get(_CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", key)))


def _flag(item: Mapping[str, JsonValue], key: str) -> bool:
    return _get(item, key) is True
