"""Opening the listeners: unix sockets that only their group can reach, and loopback TCP."""

import asyncio
import stat
from collections.abc import Callable

from doogie_proxy.settings import Listener, TcpListener, UnixListener

SOCKET_MODE = 0o660


class ListenError(Exception):
    """A listener cannot be opened; says which and why."""


async def listen(factory: Callable[[], asyncio.Protocol], listener: Listener) -> tuple[asyncio.Server, str]:
    """Accept connections, each handled by a protocol of ``factory``; returns the server and its URL.

    Raises:
        ListenError: the address is taken, or cannot be bound.
    """
    loop = asyncio.get_running_loop()
    try:
        if isinstance(listener, TcpListener):
            server = await loop.create_server(factory, listener.host, listener.port)
            port = server.sockets[0].getsockname()[1]  # the one that was chosen, if 0 was asked for
            host = f"[{listener.host}]" if ":" in listener.host else listener.host
            return server, f"http://{host}:{port}"
        await _refuse_to_replace(listener)
        server = await loop.create_unix_server(factory, listener.path)
        listener.path.chmod(SOCKET_MODE)
        return server, f"unix://{listener.path}"
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
