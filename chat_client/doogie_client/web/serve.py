"""``doogie-chat serve``: what one worker process does, and how many there are."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial

import structlog
from aiohttp import web

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.errors import DoogieError
from doogie_client.service.opening import open_store
from doogie_client.service.service import MCPConfigService
from doogie_client.web.api import Backend, Limits
from doogie_client.web.app import make_app
from doogie_client.web.bodies import BodyLimits
from doogie_client.web.connection import Connection
from doogie_client.web.listen import bind, url_of
from doogie_client.web.settings import WebSettings
from doogie_client.web.users import UsersFile, UsersFileError
from doogie_client.web.workers import EXIT_CANNOT_START, supervise

log = structlog.get_logger(__name__)


def serve(settings: WebSettings) -> int:
    """Serve until told to end; the exit code.

    Raises:
        UsersFileError: the users file cannot be used.
        CatalogueError: a catalogue cannot be used.
        ListenError: a listener cannot be opened.
    """
    users = UsersFile(settings.users_file)
    catalogue = _catalogue(settings)
    with ExitStack() as stack:
        listening = [stack.enter_context(bind(listener)) for listener in settings.listeners]
        log.info("listening", urls=[url_of(one) for one in listening], workers=settings.workers, users=len(users))
        work = partial(_work, settings, users, catalogue, listening)
        return work(None) if settings.workers == 1 else supervise(settings.workers, work)


@asynccontextmanager
async def opened(settings: WebSettings, catalogue: Catalogue) -> AsyncIterator[Backend]:
    """All that the app is built on, as the settings say; closed when the block is left.

    Raises:
        DoogieError: the database cannot be used.
        OSError, ValueError: a file or a setting of the proxy's client cannot be used.
    """
    async with (
        await open_store(settings) as store,
        ProxyClient.from_env() as proxy,
        MCPConfigService(
            store=store,
            proxy=proxy,
            catalogue=catalogue,
            run_dir=settings.run_dir,
            call_timeout_s=settings.call_timeout_s,
            session_timeout_s=settings.session_timeout_s,
            concurrent_starts=settings.concurrent_starts,
            renew_interval_s=settings.renew_interval_s,
        ) as service,
    ):
        yield Backend(service, store, proxy, catalogue)


def _catalogue(settings: WebSettings) -> Catalogue:
    return Catalogue.load(*([settings.catalogue] if settings.catalogue else []))


def _work(
    settings: WebSettings,
    users: UsersFile,
    catalogue: Catalogue,
    listening: Sequence[socket.socket],
    alive: int | None,
) -> int:
    return asyncio.run(_worker(settings, users, catalogue, listening, alive))


async def _worker(
    settings: WebSettings,
    users: UsersFile,
    catalogue: Catalogue,
    listening: Sequence[socket.socket],
    alive: int | None,
) -> int:
    """Serve on these sockets until SIGTERM, SIGINT, or the end of ``alive``; SIGHUP reads the users file anew."""
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    if alive is not None:
        loop.add_reader(alive, _supervisor_gone, loop, alive, signals)
    async with AsyncExitStack() as stack:
        try:
            backend = await stack.enter_async_context(opened(settings, catalogue))
            await stack.enter_async_context(_served(settings, users, backend, listening))
        except (DoogieError, OSError, ValueError) as exc:
            log.error("cannot_start", error=str(exc))  # noqa: TRY400  # the message says all; no defect of ours
            return EXIT_CANNOT_START
        log.info("serving")
        while await signals.get() is signal.SIGHUP:
            await _reload(users)
        log.info("ending")
    log.info("ended")
    return 0


async def _reload(users: UsersFile) -> None:
    try:
        await asyncio.to_thread(users.reload)
    except UsersFileError as exc:
        log.error("reload_refused", faults=exc.lines)  # noqa: TRY400  # as above
    else:
        log.info("reloaded", users=len(users))


def _supervisor_gone(loop: asyncio.AbstractEventLoop, alive: int, signals: "asyncio.Queue[signal.Signals]") -> None:
    loop.remove_reader(alive)
    signals.put_nowait(signal.SIGTERM)


@asynccontextmanager
async def _served(
    settings: WebSettings, users: UsersFile, backend: Backend, listening: Sequence[socket.socket]
) -> AsyncIterator[None]:
    limits = Limits(
        body=BodyLimits(settings.body_max_bytes, settings.body_timeout_s),
        user_requests_max=settings.user_requests_max,
        heartbeat_s=settings.heartbeat_s,
    )
    app = make_app(
        backend,
        users,
        limits=limits,
        allowed_hosts=settings.allowed_host_names,
        start_enabled=settings.start_enabled,
    )
    # A tool call ends with its caller; what must not be half-done is carried on by the service.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=settings.shutdown_timeout_s)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("the runner is set up")
    accept = partial(Connection, runner.server, settings.idle_timeout_s)
    servers = []
    try:
        for one in listening:
            one.setblocking(False)
            servers.append(await asyncio.get_running_loop().create_server(accept, sock=one))
        yield
    finally:
        for server in servers:
            server.close()
        await runner.cleanup()
