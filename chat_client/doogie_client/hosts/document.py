"""A document of any host, or a line, as entries. Pure.

{"mcpServers": …}         Claude Desktop, Claude Code, Cursor, Windsurf, Cline, Gemini CLI …
{"servers": …}            VS Code's mcp.json, with inputs; a list: a page of the registry's API
{"mcp": {"servers": …}}   VS Code's settings.json; without servers: OpenCode's
{"context_servers": …}    Zed's settings.json
{"packages": …}           the registry's server.json, also as its API wraps it: {"server": {…}}
{"name": {"command": …}}  the part within, as READMEs show it; {"command": …}: one server
"mcpServers": {…}         the same without braces around
docker run … | npx …      a line
"""

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from doogie_client.hosts.entry import Alternatives, HostEntry
from doogie_client.hosts.jsonc import DocumentError, below, load
from doogie_client.hosts.line import read_line
from doogie_client.hosts.server_json import read_server_json
from doogie_client.hosts.servers import SERVER_KEYS, read_inputs, read_server, read_servers
from doogie_client.hosts.template import Input

MAX_SERVERS = 100

_SHAPES = (
    'this is none of the documents that are read: {"mcpServers": …}, VS Code\'s {"servers": …}, Zed\'s '
    '{"context_servers": …}, the registry\'s server.json, {"name": {"command": …}}, or a line that starts a server'
)


def read_document(text: str | bytes) -> list[Alternatives]:
    """All servers of a document, in its order.

    Raises:
        DocumentError: it cannot be read, or is none of these.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise DocumentError("", f"not UTF-8: byte {exc.start} is none of a character") from None
    text = text.removeprefix("\ufeff")
    start = text.lstrip()
    if not start:
        raise DocumentError("", "the document is empty")
    if start.startswith(("{", "[", "/")):
        return _bounded(_read(load(text)))
    if start.startswith('"'):
        return _bounded(_read(load(f"{{{text}}}")))
    return [(read_line(text),)]


def _bounded(servers: Iterator[Alternatives]) -> list[Alternatives]:
    found: list[Alternatives] = []
    for server in servers:
        if len(found) == MAX_SERVERS:
            raise DocumentError("", f"the document has more than {MAX_SERVERS} servers")
        found.append(server)
    return found


def _read(document: JsonValue) -> Iterator[Alternatives]:
    match document:
        case list():
            yield from _listed(document, "")
        case dict():
            yield from _read_object(document)
        case _:
            raise DocumentError("", _SHAPES)


def _read_object(document: Mapping[str, JsonValue]) -> Iterator[Alternatives]:
    known = False
    servers = document.get("servers")
    if isinstance(servers, list):
        known = True
        yield from _listed(servers, "servers")
    elif servers is not None:
        known = True
        yield from _each(servers, "servers", _inputs(document, ""))
    for key in ("mcpServers", "context_servers"):
        if key in document:
            known = True
            yield from _each(document[key], key, {})
    if isinstance(mcp := document.get("mcp"), dict):
        known = True
        if "servers" in mcp:
            yield from _each(mcp["servers"], "mcp.servers", _inputs(mcp, "mcp"))
        else:
            yield from _each(mcp, "mcp", {})
    if not known:
        yield from _read_part(document)


def _read_part(document: Mapping[str, JsonValue]) -> Iterator[Alternatives]:
    """A document that is one server, or servers without anything around them."""
    if isinstance(server := document.get("server"), dict) and _is_server_json(server):
        yield read_server_json(server, "server")
    elif _is_server_json(document):
        yield read_server_json(document)
    elif not SERVER_KEYS.isdisjoint(document) and not isinstance(document.get("command"), dict):
        yield (read_server(dict(document), "", {}),)
    elif document and all(isinstance(part, dict) and not SERVER_KEYS.isdisjoint(part) for part in document.values()):
        yield from _each(dict(document), "", {})
    else:
        raise DocumentError("", _SHAPES)


def _listed(servers: list[JsonValue], loc: str) -> Iterator[Alternatives]:
    """Documents of the registry, each perhaps within ``{"server": …}``, or servers that each have a name."""
    for index, item in enumerate(servers):
        place = below(loc, str(index))
        inner = item.get("server") if isinstance(item, dict) else None
        if isinstance(inner, dict) and _is_server_json(inner):
            yield read_server_json(inner, below(place, "server"))
        elif isinstance(item, dict) and _is_server_json(item):
            yield read_server_json(item, place)
        else:
            yield (read_server(item, place, {}),)


def _is_server_json(document: Mapping[str, JsonValue]) -> bool:
    return isinstance(document.get("name"), str) and ("packages" in document or "remotes" in document)


def _each(servers: JsonValue, loc: str, declared: Mapping[str, Input]) -> Iterator[Alternatives]:
    entry: HostEntry
    for entry in read_servers(servers, loc, declared):
        yield (entry,)


def _inputs(document: Mapping[str, JsonValue], loc: str) -> Mapping[str, Input]:
    inputs = document.get("inputs")
    return {} if inputs is None else read_inputs(inputs, below(loc, "inputs"))
