"""``Lifecycle``: start, stop and look at the servers of configurations; what is seen is noted in the configuration.

Whoever calls what changes something has the configuration's turn (``Operations``). A refusal is an answer like any
other: a ``ConfigStatus`` with status ``error``.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.errors import CommandRefused
from doogie_client.commands.translate import translate
from doogie_client.errors import (
    DoogieError,
    NotFound,
    ProblemResponse,
    ProtocolError,
    ProxyUnavailable,
    SpecConflict,
)
from doogie_client.service.errors import StopFailed
from doogie_client.service.records import ConfigRecord, ConfigStatus, Status
from doogie_client.service.run_dir import RunDir
from doogie_client.service.status import disabled, failed, seen
from doogie_client.service.store import ConfigStore
from doogie_contract.models import ServerState, ServerStatus, StartRequest

PROXY_ERRORS = (ProxyUnavailable, ProtocolError, ProblemResponse)
"""What a call of the proxy raises when it does not do what it was asked."""

log = structlog.get_logger(__name__)


class _Done(NamedTuple):
    """What became of an operation: the answer, and the error where it failed."""

    status: ConfigStatus
    error: DoogieError | None = None


class Lifecycle:
    """The servers of all configurations, at one proxy."""

    def __init__(self, *, store: ConfigStore, proxy: ProxyClient, catalogue: Catalogue, run_dir: RunDir) -> None:
        self._store = store
        self._proxy = proxy
        self._catalogue = catalogue
        self._run_dir = run_dir

    def request_of(self, record: ConfigRecord) -> StartRequest:
        """What the proxy is asked for. Raises ``CommandRefused``."""
        return translate(record.config, self._catalogue).request

    async def find(self, record: ConfigRecord) -> ServerStatus:
        """What the proxy says of the server; state ``absent`` where it knows none. Raises ``PROXY_ERRORS``."""
        try:
            return await self._proxy.status(record.server_name)
        except NotFound:
            return ServerStatus(name=record.server_name, state=ServerState.ABSENT)

    async def look(self, record: ConfigRecord) -> ConfigStatus:
        """The server's status now; that the proxy is away is one, too."""
        try:
            return seen(record, await self.find(record))
        except PROXY_ERRORS as exc:
            return failed(record, exc)

    async def note(self, config_id: str) -> None:
        """Keep the server's status in its configuration, where there still is one and the proxy can say it."""
        record = await self._store.get(config_id)
        if record is not None:
            status = await self.look(record)
            if status.state is not None:
                await self.keep(status)

    async def keep(self, status: ConfigStatus) -> None:
        """Keep a status in its configuration."""
        await self._store.set_status(
            status.id, status.status, container_id=status.container_id, error_message=status.error_message
        )

    # ── what may fail, as an answer ──────────────────────────────────────────────────────────────

    async def start(self, record: ConfigRecord) -> ConfigStatus:
        """Make the server run; it may run already."""
        if not record.config.enabled:
            return disabled(record)
        return (await self._do("start", record, self._start)).status

    async def stop(self, record: ConfigRecord) -> ConfigStatus:
        """End the server; there may be none."""
        return (await self._do("stop", record, self._stop)).status

    async def restart(self, record: ConfigRecord) -> ConfigStatus:
        """End the server and start it anew; what the policy denies leaves it running."""
        if not record.config.enabled:
            return disabled(record)
        return (await self._do("restart", record, self._replace)).status

    # ── what may fail, as an error ───────────────────────────────────────────────────────────────

    async def end(self, record: ConfigRecord) -> None:
        """End the server because its configuration is about to change. Raises ``StopFailed``."""
        if (error := (await self._do("stop", record, self._stop)).error) is not None:
            raise StopFailed(record.name, error) from error

    async def replace(self, record: ConfigRecord) -> None:
        """Give a running server a fresh container. Raises ``CommandRefused``, ``PROXY_ERRORS``."""
        if (error := (await self._do("replace", record, self._replace)).error) is not None:
            raise error

    # ── operations ───────────────────────────────────────────────────────────────────────────────

    async def _do(
        self, what: str, record: ConfigRecord, operation: Callable[[ConfigRecord], Awaitable[ConfigStatus]]
    ) -> _Done:
        """Carry an operation out, keep in the configuration what became of it, and log it."""
        begun = time.monotonic()
        try:
            done = _Done(await operation(record))
        except (CommandRefused, *PROXY_ERRORS) as exc:
            done = await self._failed(record, exc)
        else:
            await self.keep(done.status)
        log.info(
            "server_operation",
            what=what,
            config_id=record.id,
            server=record.server_name,
            status=done.status.status.value,
            problem=done.status.problem,
            container_id=done.status.container_id,
            duration_s=round(time.monotonic() - begun, 3),
        )
        return done

    async def _start(self, record: ConfigRecord) -> ConfigStatus:
        request = self.request_of(record)
        before = await self.find(record)
        try:
            after = await self._proxy.start(record.server_name, request)
        except SpecConflict:  # the catalogue has another image by now, or someone started it by hand
            return seen(record, (await self.find(record)).model_copy(update={"outdated": True}))
        if after.container_id != before.container_id:
            self._mark_fresh(record, after)
        return seen(record, after)

    async def _stop(self, record: ConfigRecord) -> ConfigStatus:
        stopped = await self._proxy.stop(record.server_name)
        self._run_dir.forget(record.id)
        return seen(record.model_copy(update={"status": Status.STOPPED}), stopped)

    async def _replace(self, record: ConfigRecord) -> ConfigStatus:
        after = await self._proxy.restart(record.server_name, self.request_of(record))
        self._mark_fresh(record, after)
        return seen(record, after)

    def _mark_fresh(self, record: ConfigRecord, server: ServerStatus) -> None:
        if server.container_id is not None:
            try:
                self._run_dir.mark_fresh(record.id, server.container_id)
            except OSError as exc:  # the first session will restart the server, and that is all
                log.warning("run_dir_unusable", error=str(exc))

    async def _failed(self, record: ConfigRecord, error: DoogieError) -> _Done:
        """The answer says what failed; the configuration keeps that too, and whether the server runs all the same."""
        server = None
        with suppress(*PROXY_ERRORS):
            server = await self.find(record)
        answer = failed(record, error, server)
        if server is not None and server.state is ServerState.RUNNING:
            await self.keep(answer.model_copy(update={"status": Status.RUNNING}))
        else:
            await self.keep(answer)
        return _Done(answer, error)
