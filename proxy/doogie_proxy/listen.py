"""Opening the listeners: unix sockets that only their group can reach, and TCP, beyond loopback under TLS."""

import asyncio
import socket
import ssl
import stat
from collections.abc import Callable

import structlog

from doogie_proxy.settings import Listener, Settings, TcpListener, UnixListener

SOCKET_MODE = 0o660
ACCEPT_PAUSE_S = 1.0
"""After a connection that could not be accepted."""

log = structlog.get_logger(__name__)


class ListenError(Exception):
    """A listener cannot be opened; says which and why."""


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """How ``tcp://`` listeners speak TLS: both sides show a certificate, every time. None without the settings.

    Raises:
        ListenError: a file cannot be used.
    """
    if not (settings.tls_cert_file and settings.tls_key_file and settings.tls_client_ca_file):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # a session that is resumed shows no certificate
    try:
        # With a password, so that an encrypted key is an error: without one OpenSSL asks the terminal.
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password="")
        context.load_verify_locations(settings.tls_client_ca_file)
    except OSError as exc:  # ssl.SSLError is one
        raise ListenError(f"TLS certificate, key or client CA: {exc}") from exc
    return context


class TlsServer:
    """Accepts connections like ``asyncio.Server``, but gives each its seat before the handshake, or closes it at once.

    Args:
        listening: the socket.
        factory: makes the protocol of a connection; called before the handshake.
        tls: of the listener.
        seats: where a protocol is as long as its connection is open; it takes itself out at the end.
        settings: the limits.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext,
        seats: set[asyncio.BaseProtocol],
        settings: Settings,
    ) -> None:
        self._listening = listening
        self._factory = factory
        self._tls = tls
        self._seats = seats
        self._settings = settings
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more, and break off handshakes."""
        self._accepting.cancel()
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as handshakes:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._listening)
                except OSError as exc:  # the process has no descriptor left, or the peer is gone again
                    log.warning("accept_failed", error=str(exc))
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                    continue
                if len(self._seats) >= self._settings.connections_max:
                    log.info("connection_refused", connections=len(self._seats))
                    accepted.close()
                    continue
                handshakes.create_task(self._shake_hands(accepted))

    async def _shake_hands(self, accepted: socket.socket) -> None:
        protocol = self._factory()
        self._seats.add(protocol)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._settings.idle_timeout_s,
                ssl_shutdown_timeout=self._settings.close_timeout_s,
            )
        except Exception as exc:  # noqa: BLE001  # whatever a stranger sends, it must not end the listener
            self._seats.discard(protocol)
            log.info("handshake_failed", error=type(exc).__name__, reason=getattr(exc, "reason", None))


async def listen(
    factory: Callable[[], asyncio.BaseProtocol],
    listener: Listener,
    *,
    tls: ssl.SSLContext | None,
    seats: set[asyncio.BaseProtocol],
    settings: Settings,
) -> tuple[asyncio.Server | TlsServer, str]:
    """Accept connections, each handled by a protocol of ``factory``; returns the server and its URL.

    Raises:
        ListenError: the address is taken, or cannot be bound.
    """
    loop = asyncio.get_running_loop()
    try:
        if isinstance(listener, TcpListener):
            family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
            listening = socket.create_server(listener, family=family)
            listening.setblocking(False)
            port = listening.getsockname()[1]  # the one that was chosen, if 0 was asked for
            address = f"[{listener.host}]:{port}" if ":" in listener.host else f"{listener.host}:{port}"
            if tls:
                return TlsServer(listening, factory, tls, seats, settings), f"https://{address}"
            return await loop.create_server(factory, sock=listening), f"http://{address}"
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
