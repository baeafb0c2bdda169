"""Opening the listeners before there are workers: TCP, and unix sockets that only their group can reach."""

import socket
import stat

from doogie_client.web.settings import Listener, TcpListener, UnixListener

BACKLOG = 512
SOCKET_MODE = 0o660


class ListenError(Exception):
    """A listener cannot be opened; says which and why."""


def bind(listener: Listener) -> socket.socket:
    """A socket that listens. Raises ``ListenError``: the address is taken, or cannot be bound."""
    try:
        if isinstance(listener, TcpListener):
            family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
            return socket.create_server(listener, family=family, backlog=BACKLOG)
        _make_way_for(listener)
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(str(listener.path))
            listener.path.chmod(SOCKET_MODE)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        return listening
    except OSError as exc:
        raise ListenError(f"cannot listen on {listener}: {exc}") from exc


def url_of(listening: socket.socket) -> str:
    """How the socket is reached; its port is the one that was chosen, if 0 was asked for."""
    if listening.family == socket.AF_UNIX:
        return f"unix://{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _make_way_for(listener: UnixListener) -> None:
    """A socket file that a dead app left is removed; a living one's is not, nor anything that is no socket."""
    try:
        mode = listener.path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{listener.path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(listener.path))
        except ConnectionRefusedError:
            listener.path.unlink()
            return
    raise ListenError(f"another process listens on {listener.path}")
