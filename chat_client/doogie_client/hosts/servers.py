"""Servers as hosts keep them: ``name: {command, args, env}``. Pure.

    Claude Desktop   mcpServers                         modelcontextprotocol.io/docs/develop/connect-local-servers
    Claude Code      mcpServers, with type and url      code.claude.com/docs/en/mcp
    Cursor           mcpServers, with envFile           cursor.com/docs/mcp
    Windsurf         mcpServers, with serverUrl         docs.windsurf.com/windsurf/cascade/mcp
    Gemini CLI       mcpServers, with httpUrl           geminicli.com/docs/tools/mcp-server
    Cline, Roo Code  mcpServers, with disabled          docs.cline.bot/mcp/configuring-mcp-servers
    VS Code          servers, inputs, envFile           code.visualstudio.com/docs/copilot/reference/mcp-configuration
    Zed              context_servers; in older files    zed.dev/docs/ai/mcp
                     command is {path, args, env}
    OpenCode         mcp; command is a list, and        opencode.ai/docs/mcp-servers
                     environment is the env

One reader takes all of them, as what they share means the same. Our own addition is ``doogie: {secrets, mounts}``,
names of what the proxy's rule offers. It says as well that the command was written for a container, and that there is
nothing to fill in but in its environment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from doogie_client.hosts.entry import HostEntry, Reason, ReasonKind, Variable, Word, remote_server, with_inputs
from doogie_client.hosts.jsonc import DocumentError, below
from doogie_client.hosts.line import split_words
from doogie_client.hosts.paths import is_windows_path
from doogie_client.hosts.placeholders import read
from doogie_client.hosts.template import Input

_LOCAL = frozenset({"stdio", "local"})
_REMOTE = frozenset({"http", "sse", "streamablehttp", "ws", "websocket", "remote"})
_URLS = ("url", "serverUrl", "httpUrl")
_READ = frozenset(
    {"args", "command", "cwd", "description", "disabled", "doogie", "enabled", "env", "envFile", "environment"}
    | {"headers", "name", "source", "transport", "type", *_URLS}
)
SERVER_KEYS = frozenset({"command", *_URLS})
"""One of these says that an object is a server."""


def read_servers(servers: JsonValue, loc: str, declared: Mapping[str, Input]) -> Iterator[HostEntry]:
    """The servers of an object by name, or of a list of objects that each have a ``name``.

    Raises:
        DocumentError: neither.
    """
    match servers:
        case dict():
            for name, server in servers.items():
                yield read_server(server, below(loc, name), declared, name)
        case list():
            for index, server in enumerate(servers):
                yield read_server(server, below(loc, str(index)), declared)
        case _:
            raise DocumentError(loc, 'must be an object of servers: {"name": {"command": …, "args": […]}}')


def read_server(server: JsonValue, loc: str, declared: Mapping[str, Input], name: str | None = None) -> HostEntry:
    """One server; what is wrong with it stands in its ``reasons``."""
    reader = _Server(loc, declared)
    if not isinstance(server, dict):
        reader.malformed(loc, "must be an object with a command, and perhaps args and env")
        return reader.entry(name)
    return reader.read(server, name)


def read_inputs(inputs: JsonValue, loc: str) -> dict[str, Input]:
    """VS Code's ``inputs``: ``promptString``, ``pickString`` and ``command``, which is asked for as well.

    Raises:
        DocumentError: something else.
    """
    if not isinstance(inputs, list):
        raise DocumentError(loc, 'must be a list of inputs: [{"type": "promptString", "id": …, "description": …}]')
    found: dict[str, Input] = {}
    for index, item in enumerate(inputs):
        place = below(loc, str(index))
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            raise DocumentError(place, "must be an object with an id")
        known = _input(item, place)
        if known.id in found:
            raise DocumentError(below(place, "id"), f"{known.id!r} is the id of another input as well")
        found[known.id] = known
    return found


@dataclass
class _Server:
    """One server, as it is read."""

    loc: str
    declared: Mapping[str, Input]
    exact: bool = False
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    env: dict[str, Variable] = field(default_factory=dict)

    def malformed(self, loc: str, msg: str) -> None:
        self.reasons.append(Reason(ReasonKind.MALFORMED, loc, msg))

    def read(self, server: Mapping[str, JsonValue], name: str | None) -> HostEntry:
        own = server.get("doogie")
        if own is not None and not isinstance(own, dict):
            self.malformed(below(self.loc, "doogie"), 'must be an object: {"secrets": […], "mounts": […]}')
        self.exact = isinstance(own, dict)
        url = next((key for key in _URLS if server.get(key) is not None), None)
        if self._is_remote(server, url):
            self.reasons.append(remote_server(server.get(url or "url"), below(self.loc, url or "type")))
        else:
            self._command(server, url)
            if [word.text.fill({}) for word in self.words[:2]] == ["doogie", "stdio"]:
                msg = "a server that runs behind a Doogie proxy already, so there is nothing to start"
                self.reasons.append(Reason(ReasonKind.REMOTE, below(self.loc, "command"), msg))
                self.words.clear()
        for key in ("env", "environment"):
            self._environment(server.get(key), below(self.loc, key))
        entry = self.entry(name if name is not None else self._text_or_none(server, "name"))
        return with_inputs(
            replace(
                entry,
                env_file=self._text_or_none(server, "envFile"),
                description=self._text_or_none(server, "description"),
                enabled=self._enabled(server),
                secrets=self._names(own, "secrets"),
                mounts=self._names(own, "mounts"),
                exact=self.exact,
                reasons=tuple(self.reasons),
                notes=tuple(self._all_notes(server)),
            ),
            self.declared,
        )

    def entry(self, name: str | None) -> HostEntry:
        return HostEntry(self.loc, name, tuple(self.words), self.env, reasons=tuple(self.reasons))

    def _is_remote(self, server: Mapping[str, JsonValue], url: str | None) -> bool:
        """Whether it is one; what cannot be one or the other is a reason."""
        for key in ("type", "transport"):
            kind = server.get(key)
            plain = kind.lower().replace("-", "").replace("_", "") if isinstance(kind, str) else None
            if plain in _REMOTE:
                return True
            if kind is not None and plain not in _LOCAL:
                self.malformed(below(self.loc, key), "must be stdio, or the kind of a remote server: http, sse")
        return url is not None and server.get("command") is None

    def _command(self, server: Mapping[str, JsonValue], url: str | None) -> None:
        command, loc = server.get("command"), below(self.loc, "command")
        match command:
            case dict():  # Zed, before 2025
                self._word(command.get("path"), below(loc, "path"))
                self._arguments(command.get("args"), below(loc, "args"))
                self._environment(command.get("env"), below(loc, "env"))
            case list():
                self._arguments(command, loc)
                if not command:
                    self.malformed(loc, "is empty")
            case None:
                self.malformed(self.loc, "has no command")
            case str() if " " in command and not self.exact and not is_windows_path(command):
                self._line(command, loc)
            case _:
                self._word(command, loc)
        if command is not None and url is not None:
            self.malformed(below(self.loc, url), "has a command as well; keep one of them")
        self._arguments(server.get("args"), below(self.loc, "args"))

    def _line(self, line: str, loc: str) -> None:
        try:
            words = split_words(line, loc)
        except DocumentError as exc:
            self.malformed(exc.loc, exc.msg)
        else:
            for word in words:
                self._word(word, loc)

    def _arguments(self, args: JsonValue, loc: str) -> None:
        if args is None:
            return
        if not isinstance(args, list):
            self.malformed(loc, "must be a list of texts, one for each argument")
            return
        for index, arg in enumerate(args):
            self._word(arg, below(loc, str(index)))

    def _word(self, value: JsonValue, loc: str) -> None:
        if (text := self._text(value, loc)) is not None:
            before = self.words[-1] if self.words else None
            self.words.append(Word.literal(text, loc) if self.exact else Word.read(text, loc, before))

    def _environment(self, env: JsonValue, loc: str) -> None:
        if env is None:
            return
        if not isinstance(env, dict):
            self.malformed(loc, 'must be an object of texts: {"NAME": "value"}')
            return
        for name, value in env.items():
            place = below(loc, name)
            if name in self.env:
                self.malformed(place, "this variable is given twice; keep one of them")
            elif value is None:
                self.notes.append(f"{place} is null, so the variable is not set")
            elif (text := self._text(value, place)) is not None:
                self.env[name] = Variable(read(text, name), place)

    def _text(self, value: JsonValue, loc: str) -> str | None:
        match value:
            case bool():
                self.malformed(loc, f'must be a text: "{str(value).lower()}"')
            case str():
                return value
            case int():
                return str(value)
            case _:
                self.malformed(loc, 'must be a text, in "…"')
        return None

    def _text_or_none(self, server: Mapping[str, JsonValue], key: str) -> str | None:
        return None if server.get(key) is None else self._text(server[key], below(self.loc, key))

    def _names(self, own: JsonValue, key: str) -> tuple[str, ...]:
        names = own.get(key) if isinstance(own, dict) else None
        if names is None:
            return ()
        loc = below(below(self.loc, "doogie"), key)
        if not isinstance(names, list):
            self.malformed(loc, "must be a list of names")
            return ()
        texts = [self._text(name, below(loc, str(index))) for index, name in enumerate(names)]
        return tuple(text for text in texts if text is not None)

    def _enabled(self, server: Mapping[str, JsonValue]) -> bool | None:
        for key, meaning in (("disabled", False), ("enabled", True)):
            value = server.get(key)
            if isinstance(value, bool):
                return value is meaning
            if value is not None:
                self.malformed(below(self.loc, key), "must be true or false")
        return None

    def _all_notes(self, server: Mapping[str, JsonValue]) -> Iterator[str]:
        yield from self.notes
        if server.get("cwd") is not None:
            yield "cwd was not taken over: in the container the rule's workdir decides"
        if others := sorted(set(server) - _READ):
            yield f"not taken over, as it has no meaning here: {', '.join(below('', key) for key in others)}"


def _input(item: Mapping[str, JsonValue], loc: str) -> Input:
    def text(key: str) -> str | None:
        value = item.get(key)
        if value is None or isinstance(value, str):
            return value
        raise DocumentError(below(loc, key), "must be a text")

    options = item.get("options") or []
    if not isinstance(options, list):
        raise DocumentError(below(loc, "options"), "must be a list of texts")
    values = [option.get("value") if isinstance(option, dict) else option for option in options]
    password = item.get("password", False)
    if not isinstance(password, bool):
        raise DocumentError(below(loc, "password"), "must be true or false")
    return Input(
        id=str(item["id"]),
        description=text("description"),
        secret=password,
        default=text("default"),
        choices=tuple(value for value in values if isinstance(value, str)),
    )
