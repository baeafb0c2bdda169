"""The wiring: settings and policy in, listeners out. The only module that knows all the others."""

import asyncio
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from doogie_contract.channels import CloseCode
from doogie_proxy.api import Api
from doogie_proxy.engine import Engine
from doogie_proxy.http import drop_banner, guard
from doogie_proxy.identity import Keyring
from doogie_proxy.policy import Policy
from doogie_proxy.servers import Servers
from doogie_proxy.settings import Settings, TcpListener, UnixListener

SOCKET_MODE = 0o660

log = structlog.get_logger(__name__)


class ListenError(Exception):
    """A listener cannot be opened; says which and why."""


@asynccontextmanager
async def running(settings: Settings, policy: Policy, keyring: Keyring) -> AsyncIterator[list[str]]:
    """A proxy that serves; yields the URLs it listens on, and ends gracefully on exit.

    Raises:
        ListenError: an address is taken, or cannot be bound.
    """
    async with (
        Engine(settings.engine_socket, timeout_s=settings.engine_timeout_s) as engine,
        Servers(
            engine,
            keyring,
            instance=settings.instance,
            sweep_interval_s=settings.sweep_interval_s,
            reconnect_s=settings.reconnect_s,
        ) as servers,
    ):
        api = Api(settings, policy, servers)
        app = web.Application(middlewares=[guard], client_max_size=settings.body_max_bytes)
        app.add_routes(api.routes())
        app.on_response_prepare.append(drop_banner)
        # A client that goes away must not hold a seat; what it asked of Servers runs on (Servers._run).
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=settings.shutdown_timeout_s
        )
        await runner.setup()
        try:
            urls = [await _listen(runner, listener) for listener in settings.listeners]
            log.info("listening", urls=urls, instance=settings.instance)
            yield urls
        finally:
            api.shutting_down = True
            servers.evict_all(CloseCode.SERVICE_RESTART, "the proxy is restarting: come back")
            await runner.cleanup()


async def serve(settings: Settings, policy: Policy, keyring: Keyring) -> None:
    """Run until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with running(settings, policy, keyring):
        await ended.wait()
        log.info("ending")
    log.info("ended")


async def _listen(runner: web.AppRunner, listener: UnixListener | TcpListener) -> str:
    try:
        if isinstance(listener, TcpListener):
            site = web.TCPSite(runner, listener.host, listener.port)
            await site.start()
            return site.name.replace(f":{listener.port}", f":{runner.addresses[-1][1]}")
        await _refuse_to_replace(listener)
        await web.UnixSite(runner, listener.path).start()
        listener.path.chmod(SOCKET_MODE)
        return f"unix://{listener.path}"
    except OSError as exc:
        raise ListenError(f"cannot listen on {listener}: {exc}") from exc


async def _refuse_to_replace(listener: UnixListener) -> None:
    """A socket file that a dead proxy left is replaced; a living one's is not, nor anything that is no socket."""
    try:
        mode = listener.path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{listener.path} exists and is not a socket")
    try:
        _, writer = await asyncio.open_unix_connection(listener.path)
    except ConnectionRefusedError:
        listener.path.unlink()
        return
    writer.close()
    await writer.wait_closed()
    raise ListenError(f"another process listens on {listener.path}")
