"""What changes while one looks: the pull that a start waits for, and all servers.

On a terminal it is redrawn; elsewhere each change that matters is a line.
"""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import ExitStack, aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Self

from doogie_client.cli import output
from doogie_client.client import ProxyClient
from doogie_client.errors import DoogieError
from doogie_contract.models import PullStatus, ServerEvent, ServerList, ServerState, ServerStatus, StartRequest

if TYPE_CHECKING:
    from rich.table import Table

SHOW_AFTER_S = 0.3
"""A start that takes no longer has pulled nothing worth showing."""


async def start(proxy: ProxyClient, name: str, request: StartRequest) -> ServerStatus:
    """Start a server, and show on stderr how far its image is while it is pulled.

    Raises:
        DoogieError: as ``ProxyClient.start``.
    """
    starting = asyncio.create_task(proxy.start(name, request))
    showing = asyncio.create_task(_show_pull(proxy, name, after=starting))
    try:
        return await starting
    except asyncio.CancelledError:
        sys.stderr.write(f"doogie: left alone, the start may go on; `doogie stop {name}` ends it\n")
        raise
    finally:
        starting.cancel()
        showing.cancel()
        await asyncio.gather(starting, showing, return_exceptions=True)


async def _show_pull(proxy: ProxyClient, name: str, *, after: "asyncio.Task[ServerStatus]") -> None:
    """Until cancelled. It is a courtesy: what keeps it from working keeps nobody from starting a server."""
    await asyncio.wait([after], timeout=SHOW_AFTER_S)
    try:
        with ExitStack() as shown:
            bar: _Bar | _Lines | None = None
            async with aclosing(proxy.events()) as events:
                async for event in events:
                    status = _status_in(event, name)
                    if status is None or status.pull is None:
                        continue
                    if bar is None:
                        bar = _Bar() if sys.stderr.isatty() else _Lines()
                        shown.enter_context(bar)
                    bar.show(status, status.pull)
    except DoogieError:
        pass


def _status_in(event: ServerList | ServerEvent, name: str) -> ServerStatus | None:
    statuses = event.servers if isinstance(event, ServerList) else [event.server]
    return next((status for status in statuses if status.name == name), None)


class _Bar:
    """A progress bar that goes away when it is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("pulling", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def show(self, status: ServerStatus, pull: PullStatus) -> None:
        done, total = output.pulled(pull)
        what = f"pulling {output.printable(status.image or pull.image)}"
        self._progress.update(self._task, description=what, completed=done, total=total or None)


class _Lines:
    """A line when it begins, and after each tenth of what is known to come."""

    def __init__(self) -> None:
        self._tenths = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to tidy up."""

    def show(self, status: ServerStatus, pull: PullStatus) -> None:
        done, total = output.pulled(pull)
        tenths = 10 * done // total if total else 0
        if tenths > self._tenths:
            self._tenths = tenths
            image = output.printable(status.image or pull.image)
            sys.stderr.write(f"doogie: pulling {image}: {output.news(status)}\n")


async def watch(proxy: ProxyClient, *, as_json: bool) -> None:
    """Show all servers as they change, until cancelled.

    Raises:
        DoogieError: as ``ProxyClient.events``.
    """
    servers: dict[str, ServerStatus] = {}
    with ExitStack() as shown:
        live = None
        if sys.stdout.isatty() and not as_json:
            from rich.live import Live

            live = shown.enter_context(Live(get_renderable=lambda: _table(servers), refresh_per_second=4))
        async with aclosing(proxy.events()) as events:
            async for event in events:
                changed = _take(servers, event)
                if as_json:
                    sys.stdout.write(event.model_dump_json() + "\n")
                elif live is None:
                    for status in changed:
                        sys.stdout.write(_line(status) + "\n")
                sys.stdout.flush()


def _take(servers: dict[str, ServerStatus], event: ServerList | ServerEvent) -> list[ServerStatus]:
    """Bring what is held in line with an event, and return what is worth a line: states that are new."""
    if isinstance(event, ServerList):
        now = {status.name: status for status in event.servers}
        gone = [ServerStatus(name=name, state=ServerState.ABSENT) for name in servers.keys() - now.keys()]
        changed = [*gone, *now.values()]
    else:
        changed = [event.server]
    before = dict(servers)
    for status in changed:
        if status.state is ServerState.ABSENT and status.problem is None:
            servers.pop(status.name, None)
        else:
            servers[status.name] = status
    return [status for status in changed if _said(before.get(status.name)) != _said(status)]


def _said(status: ServerStatus | None) -> tuple[object, ...]:
    """What a line would say that is not a matter of degree."""
    if status is None:
        return ()
    attached = status.stdio is not None and status.stdio.attached
    return status.state, attached, status.exit, status.problem


def _line(status: ServerStatus) -> str:
    attached = "attached" if status.stdio is not None and status.stdio.attached else ""
    parts = (datetime.now().astimezone().isoformat(timespec="seconds"), status.name, status.state.value)
    return output.printable("  ".join(filter(None, (*parts, attached, output.news(status))))).replace("\n", " ")


def _table(servers: Mapping[str, ServerStatus]) -> "Table":
    rows = (
        [output.printable(cell).replace("\n", " ") for cell in (*output.server_row(status), output.news(status))]
        for _, status in sorted(servers.items())
    )
    return output.terminal_table((*output.SERVER_COLUMNS, "NEWS"), rows)
