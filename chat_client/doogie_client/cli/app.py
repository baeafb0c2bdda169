"""The commands of ``doogie``."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from doogie_client.cli import live, output
from doogie_client.cli.arguments import environment, tool_arguments
from doogie_client.client import ProxyClient
from doogie_client.errors import DoogieError, InvalidName, ProxyUnavailable
from doogie_contract.models import ServerList, ServerStatus, StartRequest

if TYPE_CHECKING:
    from mcp_types import ContentBlock, Tool

    from doogie_client.mcp import McpSession

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_TOOL_ERROR = 4
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM

_T = TypeVar("_T")
_Work = Callable[[ProxyClient], Awaitable[_T]]

app = typer.Typer(
    name="doogie",
    help="Run MCP servers in containers, through the Doogie proxy.",
    epilog=(
        "Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 proxy unreachable; 4 the tool answered with an "
        "error. `doogie stdio` exits with the server's own code."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The server's name.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for scripts.")]
Image = Annotated[str, typer.Argument(metavar="IMAGE", help="repo, repo:tag or repo@digest.", show_default=False)]
Args = Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS...]", help="The program's arguments.")]
Env = Annotated[list[str] | None, typer.Option("-e", "--env", metavar="K[=V]", help="Without =V: this shell's value.")]
EnvFile = Annotated[list[Path] | None, typer.Option("--env-file", metavar="FILE", help="K[=V] lines.")]
Secret = Annotated[
    list[str] | None, typer.Option("--secret", metavar="NAME", help="A secret of the rule, into its environment.")
]
Mount = Annotated[list[str] | None, typer.Option("--mount", metavar="NAME", help="A mount of the rule.")]
Takeover = Annotated[bool, typer.Option("--takeover", help="Take the stream from whoever is attached.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Longest wait for one reply.")]
Tail = Annotated[int, typer.Option("--tail", metavar="LINES", min=0, help="How many of the last lines.")]


@app.callback()
def connection(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="DOOGIE_PROXY_URL",
            help="unix:///path, http://127.0.0.1:PORT or https://HOST:PORT.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(envvar="DOOGIE_PROXY_TOKEN_FILE", help="File holding the token.", show_default=False)
    ] = None,
) -> None:
    """Run MCP servers in containers, through the Doogie proxy."""
    given = {"DOOGIE_PROXY_URL": url, "DOOGIE_PROXY_TOKEN_FILE": token_file}
    ctx.obj = {**os.environ, **{key: value for key, value in given.items() if value is not None}}


@app.command("ls")
def list_servers(ctx: typer.Context, as_json: Json = False) -> None:
    """List your servers."""
    servers = _run(ctx, lambda proxy: proxy.list())
    if as_json:
        output.write_json(ServerList(servers=servers))
    else:
        output.servers(servers)


@app.command()
def watch(ctx: typer.Context, as_json: Json = False) -> None:
    """Show your servers as they change, until Ctrl-C; into a pipe, a line for each change."""
    _run(ctx, lambda proxy: live.watch(proxy, as_json=as_json))


@app.command()
def start(
    ctx: typer.Context,
    name: Name,
    image: Image,
    args: Args = None,
    env: Env = None,
    env_file: EnvFile = None,
    secret: Secret = None,
    mount: Mount = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until it runs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which rule admits it, or why none.")] = False,
    as_json: Json = False,
) -> None:
    """Start a server. Idempotent: does nothing when it runs already with the same image, arguments and environment.

    While its image is pulled, stderr shows how far it is. After Ctrl-C the start goes on: `doogie stop` ends it.
    """
    request = _request(image, args, _environment(env, env_file), secret, mount)
    if dry_run:
        admission = _run(ctx, lambda proxy: proxy.admit(name, request))
        output.write_json(admission) if as_json else output.admission(admission)
        return
    if no_wait:
        _show(_run(ctx, lambda proxy: proxy.start(name, request, wait=False)), as_json)
    else:
        _show(_run(ctx, lambda proxy: live.start(proxy, name, request)), as_json)


@app.command()
def restart(
    ctx: typer.Context,
    name: Name,
    image: Image,
    args: Args = None,
    env: Env = None,
    env_file: EnvFile = None,
    secret: Secret = None,
    mount: Mount = None,
    as_json: Json = False,
) -> None:
    """Stop a server and start it anew. When the policy denies the new one, the old one keeps running."""
    request = _request(image, args, _environment(env, env_file), secret, mount)
    _show(_run(ctx, lambda proxy: proxy.restart(name, request)), as_json)


@app.command()
def stop(
    ctx: typer.Context,
    name: Name,
    grace: Annotated[
        int | None, typer.Option(metavar="SECONDS", min=0, max=300, help="SIGTERM to SIGKILL; default: the rule's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Stop a server and remove its container. Idempotent."""
    _show(_run(ctx, lambda proxy: proxy.stop(name, grace_s=grace)), as_json)


@app.command()
def status(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show one server; after its end, how it ended."""
    answer = _run(ctx, lambda proxy: proxy.status(name))
    output.write_json(answer) if as_json else output.server(answer)


@app.command()
def renew(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Keep a server that nobody is attached to for another while."""
    _show(_run(ctx, lambda proxy: proxy.renew(name)), as_json)


@app.command()
def logs(
    ctx: typer.Context,
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the server ends.")] = False,
    tail: Tail = 200,
) -> None:
    """Show what a server wrote to stderr."""

    async def work(proxy: ProxyClient) -> None:
        if not follow:
            output.write(await proxy.logs(name, tail=tail))
            return
        async with aclosing(proxy.follow_logs(name, tail=tail)) as pieces:
            async for text in pieces:
                output.write(text)

    _run(ctx, work)


@app.command()
def stdio(
    ctx: typer.Context,
    name: Name,
    takeover: Takeover = False,
    linger: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="After the end of own stdin: how long to wait for more output."),
    ] = 2.0,
) -> None:
    """Join own stdin and stdout to a server's, byte for byte; its stderr goes to stderr.

    When own stdin ends, a server that can see it (rule with `replay: none`) gets end-of-file, and its output is copied
    until it exits. Any other server goes on: its output is copied until nothing came for --linger seconds, then the
    command detaches and exits with 0.
    """
    from doogie_client.cli.join import join

    raise typer.Exit(_run(ctx, lambda proxy: join(proxy, name, takeover=takeover, linger_s=linger)))


@app.command()
def tools(
    ctx: typer.Context, name: Name, takeover: Takeover = False, timeout: Timeout = 60, as_json: Json = False
) -> None:
    """List the tools of a running MCP server."""
    listed = _run(ctx, lambda proxy: _with_session(proxy, name, takeover, timeout, _list_tools))
    if as_json:
        output.write_json(
            {"tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed]}
        )
    else:
        output.table(("TOOL", "ARGUMENTS", "DESCRIPTION"), (_tool_row(tool) for tool in listed))


@app.command()
def call(
    ctx: typer.Context,
    name: Name,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool's name.", show_default=False)],
    arguments: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="All arguments as one JSON object; - reads it from stdin.")
    ] = None,
    arg: Annotated[
        list[str] | None, typer.Option("--arg", "-a", metavar="K=V", help="One argument, typed as the tool wants it.")
    ] = None,
    takeover: Takeover = False,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """Call a tool of a running MCP server and print its answer."""
    text = sys.stdin.read() if arguments == "-" else arguments

    async def work(session: "McpSession") -> int:
        schema = next((t.input_schema for t in await _list_tools(session) if t.name == tool), {}) if arg else {}
        try:
            parsed = tool_arguments(arg or [], text, schema)
        except ValueError as exc:
            _usage(str(exc))
        result = await session.call_tool(tool, dict(parsed))
        if as_json:
            output.write_json(result.model_dump(mode="json", by_alias=True, exclude_none=True))
        else:
            for block in result.content:
                output.write(_block_text(block).removesuffix("\n") + "\n")
        return EXIT_TOOL_ERROR if result.is_error else 0

    raise typer.Exit(_run(ctx, lambda proxy: _with_session(proxy, name, takeover, timeout, work)))


@app.command()
def policy(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what you may start."""
    answer = _run(ctx, lambda proxy: proxy.policy())
    output.write_json(answer) if as_json else output.policy(answer)


# --- plumbing ---------------------------------------------------------------------------------------------------


def _run(ctx: typer.Context, work: _Work[_T]) -> _T:
    """``work`` with an open client; errors become one message and the documented exit code."""
    try:
        proxy = ProxyClient.from_env(ctx.obj)
    except (ValueError, OSError) as exc:
        _usage(str(exc))

    async def main() -> _T:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with proxy:
            return await work(proxy)

    try:
        return asyncio.run(main())
    except DoogieError as exc:
        output.error(exc)
        code = {ProxyUnavailable: EXIT_UNREACHABLE, InvalidName: EXIT_USAGE}.get(type(exc), EXIT_FAILED)
        raise typer.Exit(code) from exc
    except asyncio.CancelledError:
        raise typer.Exit(EXIT_TERMINATED) from None
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # Nobody reads stdout any more, which is no fault; Python's own flush at exit must not find out again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_BROKEN_PIPE) from None


def _usage(message: str) -> NoReturn:
    sys.stderr.write(f"doogie: {output.printable(message)}\n")
    raise typer.Exit(EXIT_USAGE)


def _environment(env: list[str] | None, env_files: list[Path] | None) -> dict[str, str]:
    try:
        files = [(str(path), path.read_text()) for path in env_files or []]
        return environment(env or [], files, os.environ)
    except (ValueError, OSError) as exc:
        _usage(str(exc))


def _request(
    image: str, args: list[str] | None, env: dict[str, str], secrets: list[str] | None, mounts: list[str] | None
) -> StartRequest:
    try:
        return StartRequest(image=image, args=args or [], env=env, secrets=secrets or [], mounts=mounts or [])
    except ValidationError as exc:
        # Not str(exc): it repeats values, and those of the environment may be secret.
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False))
        _usage("; ".join(faults))


def _show(status: ServerStatus, as_json: bool) -> None:
    """The answer of a command that changed a server."""
    output.write_json(status) if as_json else output.outcome(status)


async def _with_session(
    proxy: ProxyClient, name: str, takeover: bool, timeout_s: float, work: Callable[["McpSession"], Awaitable[_T]]
) -> _T:
    from mcp.shared.exceptions import MCPError

    try:
        async with proxy.mcp_session(name, takeover=takeover, read_timeout_s=timeout_s) as session:
            return await work(session)
    except MCPError as exc:
        sys.stderr.write(f"doogie: the server answered with error {exc.code}: {output.printable(exc.message)}\n")
        raise typer.Exit(EXIT_TOOL_ERROR) from exc


async def _list_tools(session: "McpSession") -> "list[Tool]":
    page = await session.list_tools()
    listed = page.tools
    while page.next_cursor is not None:
        page = await session.list_tools(cursor=page.next_cursor)
        listed += page.tools
    return listed


def _tool_row(tool: "Tool") -> tuple[str, str, str]:
    """Name; arguments, the required ones with a star; the description's first line."""
    required = tool.input_schema.get("required", [])
    arguments = (f"{name}*" if name in required else name for name in tool.input_schema.get("properties", {}))
    return tool.name, " ".join(arguments), (tool.description or "").strip().partition("\n")[0]


def _block_text(block: "ContentBlock") -> str:
    """Text as it is; of anything else, what it is (``--json`` prints all of it)."""
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return f"[{block.type} {block.mime_type}, {len(block.data)} characters of base64]"
        case "resource_link":
            return f"[resource {block.uri}]"
        case "resource":
            text = getattr(block.resource, "text", None)
            return text if isinstance(text, str) else f"[resource {block.resource.uri}]"
