"""The wiring: settings and policy in, listeners out. The only module that knows all the others."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import structlog
from aiohttp import web

from doogie_contract.channels import CloseCode
from doogie_proxy.api import Api
from doogie_proxy.audit import audit_file
from doogie_proxy.configuration import Configuration
from doogie_proxy.connection import Connection, mend_requests
from doogie_proxy.engine import Engine
from doogie_proxy.http import ALLOWED_HOSTS, METRICS, finish_headers, guard
from doogie_proxy.listen import TlsServer, listen, tls_context
from doogie_proxy.metrics import Metrics
from doogie_proxy.policy_file import ConfigurationError
from doogie_proxy.servers import Servers
from doogie_proxy.settings import Settings
from doogie_proxy.state import State

log = structlog.get_logger(__name__)


class StaleSocketError(Exception):
    """The engine's socket is dead: a new one has taken its place, or will."""


class Proxy(NamedTuple):
    """A proxy that serves: the URLs it listens on, and its API."""

    urls: list[str]
    api: Api


@asynccontextmanager
async def running(
    settings: Settings, configuration: Configuration, *, on_stale_socket: Callable[[], None] = lambda: None
) -> AsyncIterator[Proxy]:
    """A proxy that serves, and ends gracefully on exit.

    ``on_stale_socket`` is called when the engine's socket has refused for so long that it will not come back.

    Raises:
        ListenError: an address is taken, or cannot be bound.
        StateLockedError: another proxy of this instance runs.
    """
    async with (
        Metrics() as metrics,
        State(settings.state_dir, settings.instance) as state,
        Engine(settings.engine_socket, timeout_s=settings.engine_timeout_s, observe=metrics.engine_call) as engine,
        Servers(
            engine,
            configuration.keyring,
            state,
            metrics,
            instance=settings.instance,
            sweep_interval_s=settings.sweep_interval_s,
            reconnect_s=settings.reconnect_s,
            stale_after_s=settings.engine_stale_after_s,
            on_stale_socket=on_stale_socket,
            pull_timeout_s=settings.pull_timeout_s,
        ) as servers,
    ):
        api = Api(settings, configuration, servers, metrics)
        app = web.Application(middlewares=[guard], client_max_size=settings.body_max_bytes)
        app[METRICS] = metrics
        app[ALLOWED_HOSTS] = settings.allowed_host_names
        app.add_routes(api.routes())
        app.on_response_prepare.append(finish_headers)
        # A client that goes away must not hold a seat; what it asked of Servers runs on (Servers._run).
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=settings.shutdown_timeout_s)
        await runner.setup()
        manager = _manager(runner)
        mend_requests(manager)
        listening: list[asyncio.Server | TlsServer] = []
        seats: list[set[asyncio.BaseProtocol]] = []
        try:
            urls = []
            tls = tls_context(settings)
            for listener in settings.listeners:
                seats.append(set())
                factory = partial(Connection, manager, settings, seats[-1], metrics)
                server, url = await listen(factory, listener, tls=tls, seats=seats[-1], settings=settings)
                listening.append(server)
                urls.append(url)
            log.info("listening", urls=urls, instance=settings.instance)
            yield Proxy(urls, api)
        finally:
            for server in listening:
                server.close()
            api.shutting_down = True
            servers.evict_all(CloseCode.SERVICE_RESTART, "the proxy is restarting: come back")
            await runner.cleanup()


def _manager(runner: web.AppRunner) -> web.Server:
    if runner.server is None:
        raise RuntimeError("the runner is set up first")
    return runner.server


async def serve(settings: Settings, configuration: Configuration) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the files anew.

    Raises:
        StaleSocketError: nothing but another start will bring the engine back.
        ListenError: an address is taken, or cannot be bound.
        StateLockedError: another proxy of this instance runs.
        ConfigurationError: the audit file cannot be opened.
    """
    signals: asyncio.Queue[signal.Signals | None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    with audit_file(settings.audit_file):
        async with running(settings, configuration, on_stale_socket=partial(signals.put_nowait, None)) as proxy:
            while (told := await signals.get()) is signal.SIGHUP:
                await _reload(settings, proxy)
            log.info("ending")
    log.info("ended")
    if told is None:
        raise StaleSocketError(
            f"{settings.engine} has refused for {settings.engine_stale_after_s:g} s: start again, on the new socket"
        )


async def _reload(settings: Settings, proxy: Proxy) -> None:
    """All of the files or none: with a fault in one, everything stays as it was."""
    try:
        configuration = await asyncio.to_thread(Configuration.load, settings)
    except ConfigurationError as exc:
        log.error("reload_refused", faults=exc.lines)  # noqa: TRY400  # the lines say all; no defect of ours
    else:
        proxy.api.use(configuration)
        log.info("reloaded", clients=len(configuration.policy.clients), rules=len(configuration.policy.rules))
