"""The command ``doogie-chat``."""

import asyncio
import http.client
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from doogie_client.commands.errors import CatalogueError
from doogie_client.errors import DoogieError
from doogie_client.service.opening import open_store
from doogie_client.service.sql.store import SqlConfigStore
from doogie_client.web import log, users
from doogie_client.web.listen import ListenError
from doogie_client.web.provision import provision
from doogie_client.web.serve import serve as serve_app
from doogie_client.web.settings import PREFIX, TcpListener, WebSettings

T = TypeVar("T")

app = typer.Typer(
    help="The chat side's web app: stored MCP servers, started through the proxy, and their tools, over HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(f"doogie-chat: {line}", err=True)
    raise typer.Exit(1)


def _settings() -> WebSettings:
    try:
        return WebSettings()
    except ValidationError as exc:
        _fail(
            *(
                f"{PREFIX}{'.'.join(map(str, error['loc'])).upper()}: {error['msg']}" if error["loc"] else error["msg"]
                for error in exc.errors(include_url=False, include_context=False, include_input=False)
            )
        )


@app.command()
def serve(
    listen: Annotated[
        str | None, typer.Option(help="unix:///path or 127.0.0.1:8080; several with commas", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="processes that serve", show_default=False)] = None,
) -> None:
    """Serve the API. Settings are environment variables, DOOGIE_CHAT_*; see docs/chat-api.md."""
    for name, value in (("LISTEN", listen), ("WORKERS", workers)):
        if value is not None:
            os.environ[PREFIX + name] = str(value)
    settings = _settings()
    log.configure(settings.log_level, settings.log_format)
    try:
        code = serve_app(settings)
    except (users.UsersFileError, CatalogueError) as exc:
        _fail(*exc.lines)
    except ListenError as exc:
        _fail(str(exc))
    raise typer.Exit(code)


@app.command()
def init(
    directory: Annotated[Path, typer.Option(help="for users.yaml, admin.token and encryption.key")] = Path(
        "/etc/doogie-chat"
    ),
    admin: Annotated[str, typer.Option(help="the id of the first admin")] = "admin",
) -> None:
    """Make a users file with one admin, the admin's token and the encryption key. Keeps what is there."""
    try:
        for line in provision(directory, admin):
            typer.echo(line)
    except (OSError, ValueError, DoogieError) as exc:
        _fail(str(exc))


@app.command("hash-token")
def hash_token(
    new: Annotated[bool, typer.Option("--new", help="make a token and print it before its hash")] = False,
) -> None:
    """Print the token_sha256 of the token on standard input."""
    if new:
        token = users.new_token()
        typer.echo(token)
    else:
        token = sys.stdin.readline().strip()
    if not token:
        _fail("give the token on standard input, or --new")
    typer.echo(users.hash_token(token))


@app.command("rotate-keys")
def rotate_keys(
    new_key: Annotated[bool, typer.Option("--new-key", help="put a fresh key first before")] = False,
) -> None:
    """Encrypt all environments in the database with the first key of the key file. Running apps go on meanwhile."""
    rotation = _with_store(lambda store: store.rotate_keys(new_key=new_key))
    typer.echo(f"all is encrypted with the key {rotation.key_id}; {rotation.rows} configurations were not before")


@app.command("import-old")
def import_old(
    database: Annotated[Path, typer.Argument(metavar="DATABASE", help="DoogieBot's SQLite file; it is only read")],
    shared: Annotated[bool, typer.Option("--shared", help="let every user see and call what is imported")] = False,
) -> None:
    """Take over the configurations of DoogieBot's own service, with their ids and owners. May be run again."""
    imported = _with_store(lambda store: store.import_old_table(database, shared=shared))
    for config in imported.configs:
        what = "skipped" if config.imported_as is None else f"imported as {config.imported_as!r}"
        typer.echo(f"{config.id} {config.name!r}: {what}" + (f" ({config.reason})" if config.reason else ""))
    typer.echo(f"{len(imported.imported)} imported, {len(imported.skipped)} skipped")


@app.command()
def health() -> None:
    """Ask the first listener's /readyz; exit code 0 when database and proxy answer. For container health checks."""
    listener = _settings().listeners[0]
    connection = http.client.HTTPConnection("localhost", timeout=15)
    try:
        if isinstance(listener, TcpListener):
            connection.sock = socket.create_connection(listener, timeout=15)
        else:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(15)
            connection.sock.connect(str(listener.path))
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        _fail(f"{listener}: {exc}")
    finally:
        connection.close()
    typer.echo(body)
    raise typer.Exit(0 if answer.status == 200 else 1)


def _with_store(work: Callable[[SqlConfigStore], Awaitable[T]]) -> T:
    settings = _settings()

    async def run() -> T:
        async with await open_store(settings) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except DoogieError as exc:
        _fail(str(exc))
