"""``make_app``: the web app, to be served by ``doogie-chat`` or put into an application of one's own.

With ``app = make_app(Backend(service, store, proxy, catalogue), authenticate)``: ``web.run_app(app)`` serves it alone,
``larger.add_subapp("/doogie/", app)`` within another aiohttp application.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import structlog
from aiohttp import web

from doogie_client.service.records import Status
from doogie_client.service.service import MCPConfigService
from doogie_client.web.api import Api, Backend, Limits
from doogie_client.web.guard import ALLOWED_HOSTS, finish_headers, guard
from doogie_client.web.openapi import ID_PATTERN, document
from doogie_client.web.operations import OPERATIONS
from doogie_client.web.users import Authenticate

_ID = rf"(?!(?:json|dry-run)\Z){ID_PATTERN}"
"""Else ``Allow`` of these two would have the methods of a configuration."""

log = structlog.get_logger(__name__)


def make_app(
    backend: Backend,
    authenticate: Authenticate,
    *,
    limits: Limits | None = None,
    allowed_hosts: Iterable[str] | None = None,
    start_enabled: bool = True,
) -> web.Application:
    """The web app over a backend that is entered already and outlives it.

    Args:
        backend: what it is built on.
        authenticate: says who sends a request; ``UsersFile``, or one's own.
        limits: of what one caller may take.
        allowed_hosts: names in ``Host`` and ``Origin``; None: the application around this one looks at them.
        start_enabled: whether the servers of all enabled configurations are started when the app is.
    """
    api = Api(backend, authenticate, limits or Limits())
    api.openapi_document = json.dumps(document(OPERATIONS))
    app = web.Application(middlewares=[guard])
    if allowed_hosts is not None:
        app[ALLOWED_HOSTS] = frozenset(name.lower() for name in allowed_hosts)
    for operation in OPERATIONS:
        path = operation.path.replace("{id}", f"{{id:{_ID}}}")
        app.router.add_route(operation.method, path, api.bind(operation))
    app.on_response_prepare.append(finish_headers)

    async def running(_app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(api.news.run())]
        if start_enabled:
            tasks.append(asyncio.create_task(_start_enabled(backend.service)))
        for task in tasks:
            task.add_done_callback(_note_failure)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def ending(_app: web.Application) -> None:
        api.end()

    app.cleanup_ctx.append(running)
    app.on_shutdown.append(ending)
    return app


async def _start_enabled(service: MCPConfigService) -> None:
    """Start what is enabled; what fails is kept in its configuration, and never keeps the app from serving."""
    statuses = await service.start_all_enabled()
    failed = [status.name for status in statuses if status.status is Status.ERROR]
    log.info("enabled_servers_started", started=len(statuses) - len(failed), failed=failed)


def _note_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (exc := task.exception()) is not None:
        log.error("task_failed", exc_info=exc)
