"""``ProxyClient``: the proxy's HTTP API, version 1, as typed calls.

    async with ProxyClient.from_env() as proxy:
        status = await proxy.start("time", StartRequest(image="mcp/time"))
        async with proxy.stdio("time") as stdio:
            await stdio.write(b"…")

Retries. A GET that fails on a reused connection is sent once more by aiohttp (RFC 9110 section 9.2.2 allows it).
``events`` connects anew by itself. POSTs are never sent twice by this package, except for a ``start`` that waits for an
image to be pulled; ``start`` and ``stop`` are idempotent, so a caller may repeat them.
"""

import asyncio
import codecs
import ipaddress
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import BaseModel

from doogie_client.errors import (
    InvalidName,
    NotFound,
    ProtocolError,
    ProxyUnavailable,
    ShuttingDown,
    foreign_errors,
    problem_response,
)
from doogie_client.events import MAX_EVENT_BYTES, RETRY_FIRST_S, RETRY_MOST_S, read_events
from doogie_client.stdio import StdioStream
from doogie_contract.channels import SUBPROTOCOL_CHANNEL
from doogie_contract.models import (
    SERVER_NAME_PATTERN,
    Admission,
    ClientPolicy,
    ServerEvent,
    ServerList,
    ServerState,
    ServerStatus,
    StartRequest,
    StopRequest,
    Ticket,
)
from doogie_contract.problems import PROBLEM_CONTENT_TYPE, Problem

if TYPE_CHECKING:
    from doogie_client.mcp import McpSession

DEFAULT_URL = "unix:///run/doogie/proxy.sock"
DEFAULT_TIMEOUT_S = 60.0

_Model = TypeVar("_Model", bound=BaseModel)


class ProxyClient:
    """The API of one proxy for one client. An async context manager; used outside of it, calls raise RuntimeError.

    Args:
        url: ``unix:///path/to/proxy.sock``; ``http://HOST:PORT`` where HOST is loopback; ``https://HOST:PORT``.
        token: the client's bearer token. Never logged, never part of an error.
        tls: for https: whom to trust, and the certificate to show. None: the system's authorities, and no certificate.
        timeout_s: longest wait for an answer; a ``stop`` waits twice its grace in addition.

    Raises:
        ValueError: another kind of URL, or a token that cannot stand in a header.

    All calls raise ``ProxyUnavailable``, ``ProtocolError`` and the ``ProblemResponse`` that fits; those with a name,
    ``InvalidName``. Calls may run concurrently; the number of connections is not limited.
    """

    def __init__(
        self, url: str, token: str, *, tls: ssl.SSLContext | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.url = url
        self._socket_path, self._base_url = _endpoint(url)
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("the token is empty or has characters that cannot stand in an HTTP header")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._tls = tls
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Self:
        """A client as the environment says.

        ``DOOGIE_PROXY_URL``: default ``unix:///run/doogie/proxy.sock``. ``DOOGIE_PROXY_TOKEN_FILE``: a file holding the
        token. ``DOOGIE_PROXY_TOKEN``: the token itself, where there is no file; every process of the user can read it.

        For https: ``DOOGIE_PROXY_SERVER_CA_FILE``: who signs the proxy's certificate; default: who the system trusts.
        ``DOOGIE_PROXY_CLIENT_CERT_FILE`` and ``DOOGIE_PROXY_CLIENT_KEY_FILE``: what this client shows. All PEM.

        Raises:
            ValueError: neither variable gives a token, or a value is not usable.
            OSError: a file cannot be read, or is not what it should be.
        """
        if token_file := environ.get("DOOGIE_PROXY_TOKEN_FILE"):
            token = Path(token_file).read_text().strip()
        elif not (token := environ.get("DOOGIE_PROXY_TOKEN", "")):
            raise ValueError("no token: set DOOGIE_PROXY_TOKEN_FILE to a file that holds it, or DOOGIE_PROXY_TOKEN")
        url = environ.get("DOOGIE_PROXY_URL") or DEFAULT_URL
        tls = _tls_of(environ) if url.startswith("https:") else None
        return cls(url, token, tls=tls, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def __aenter__(self) -> Self:
        # Neither connector has a limit: each stdio stream holds a connection, and a hundred of them must not
        # make the next call wait for ever.
        connector = (
            aiohttp.UnixConnector(self._socket_path, limit=0)
            if self._socket_path is not None
            else aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        )
        self._session = aiohttp.ClientSession(
            self._base_url,
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            raise_for_status=_raise_problem,
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; attached streams are cut. Idempotent."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    # --- servers ------------------------------------------------------------------------------------------------

    async def start(self, name: str, request: StartRequest, *, wait: bool = True) -> ServerStatus:
        """Make ``name`` run as ``request`` says; idempotent. With ``wait=False`` do not wait until it runs.

        It waits as long as the proxy pulls the image, however long that takes. Cancelled, the start goes on; ``stop``
        ends it.

        Raises:
            SpecConflict: it runs with another request; see ``restart``.
            PolicyDenied, ImageUnavailable …: as the proxy says.
        """
        params = {} if wait else {"wait": "none"}
        while True:
            try:
                return await self._call("POST", _path(name, "start"), ServerStatus, body=request, params=params)
            except ProxyUnavailable as exc:
                if not isinstance(exc.__cause__, TimeoutError) or not await self._is_coming(name):
                    raise

    async def admit(self, name: str, request: StartRequest) -> Admission:
        """What ``start`` would be allowed to do, without doing it: the rule and the limits. Raises ``PolicyDenied``."""
        return await self._call("POST", _path(name, "start"), Admission, body=request, params={"dry_run": "1"})

    async def stop(self, name: str, *, grace_s: int | None = None) -> ServerStatus:
        """Stop and remove ``name``; returns when it is gone (state ``absent``). Idempotent, also for unknown names.

        ``grace_s``: from SIGTERM to SIGKILL, at most 300; None: the rule's own.
        """
        # Where the server can see end-of-file it gets the grace twice, after that and after SIGTERM. Without a grace
        # of ours the rule's applies, whose length is not known here; 300 is the most it can be.
        timeout_s = self._timeout_s + 2 * (300 if grace_s is None else grace_s)
        return await self._call(
            "POST", _path(name, "stop"), ServerStatus, body=StopRequest(grace_s=grace_s), timeout_s=timeout_s
        )

    async def restart(self, name: str, request: StartRequest) -> ServerStatus:
        """Stop ``name`` and start it as ``request`` says. A request that the policy denies leaves it running."""
        await self.admit(name, request)
        await self.stop(name)
        return await self.start(name, request)

    async def status(self, name: str) -> ServerStatus:
        """The state of one server. Raises ``NotFound``."""
        return await self._call("GET", _path(name), ServerStatus)

    async def list(self) -> list[ServerStatus]:
        """All servers of this client, by name."""
        return (await self._call("GET", "/v1/servers", ServerList)).servers

    async def policy(self) -> ClientPolicy:
        """What this client may start."""
        return await self._call("GET", "/v1/policy", ClientPolicy)

    async def ticket(self, name: str) -> Ticket:
        """A ticket for one attach within 30 s, for WebSocket clients that cannot send the token as a header."""
        return await self._call("POST", _path(name, "ticket"), Ticket)

    async def renew(self, name: str) -> ServerStatus:
        """Count as if the last client of ``name`` had left just now; ``expires_at`` says how long that helps.

        For a server that is kept though nobody is attached; an attached one needs no renewal. Raises ``NotFound``.
        """
        return await self._call("POST", _path(name, "renew"), ServerStatus)

    async def events(self) -> AsyncGenerator[ServerList | ServerEvent, None]:
        """All servers of this client, then each one that changes, as it is then: state, pull, attachment, end.

        A reader that is slow gets the newest, and ``skipped`` counts what it has missed. When the proxy restarts or the
        connection is lost, it is made anew, which begins with another ``ServerList``; what happened meanwhile is not
        told one by one.

        Raises:
            ProxyUnavailable: at once where no connection is to be had in the first place; else after ``timeout_s``.
            Unauthenticated: the token was revoked.
        """
        now = asyncio.get_running_loop().time
        give_up_at, retry_s = now(), RETRY_FIRST_S  # a first connection that fails is told at once
        while True:
            try:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        give_up_at, retry_s = float("inf"), RETRY_FIRST_S
                        yield event
            except (ProxyUnavailable, ShuttingDown):
                if now() >= give_up_at:
                    raise
            if give_up_at == float("inf"):
                give_up_at = now() + self._timeout_s
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_MOST_S)

    # --- streams ------------------------------------------------------------------------------------------------

    async def logs(self, name: str, *, tail: int = 200) -> str:
        """The last ``tail`` lines of stderr, also for a while after the exit; as far as the proxy holds them."""
        with foreign_errors(self.url):
            async with self._http.get(_path(name, "logs"), params={"tail": str(tail)}) as response:
                return (await response.read()).decode(errors="replace")

    async def follow_logs(self, name: str, *, tail: int = 200) -> AsyncGenerator[str, None]:
        """The last ``tail`` lines of stderr, then what comes, in pieces of any length, until the container's end."""
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        params = {"tail": str(tail), "follow": "1"}
        forever = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s)
        with foreign_errors(self.url):
            async with self._http.get(_path(name, "logs"), params=params, timeout=forever) as response:
                async for chunk in response.content.iter_any():
                    if text := decode(chunk):
                        yield text
        if text := decode(b"", True):
            yield text

    @asynccontextmanager
    async def stdio(self, name: str, *, takeover: bool = False) -> AsyncIterator[StdioStream]:
        """Attach to the stdio of ``name``; leaving detaches, and the container keeps running.

        Output starts at the first byte that was not yet delivered to anyone; of a server that has ended, the rest of it
        comes, then its exit.

        Raises:
            StdioBusy: someone is attached, and ``takeover`` is False.
            NotFound: no such server.
        """
        socket = await self._attach(name, takeover=takeover)
        stream = StdioStream(socket, self.url)
        try:
            if socket.protocol != SUBPROTOCOL_CHANNEL:
                raise ProtocolError(f"{self.url} does not speak {SUBPROTOCOL_CHANNEL}")
            yield stream
        finally:
            await stream.aclose()

    def mcp_session(
        self,
        name: str,
        *,
        request: StartRequest | None = None,
        takeover: bool = False,
        mode: str = "auto",
        read_timeout_s: float | None = None,
    ) -> "AbstractAsyncContextManager[McpSession]":
        """An initialised MCP session; see ``doogie_client.mcp.mcp_session``. Needs the extra ``[mcp]``."""
        from doogie_client.mcp import mcp_session  # the SDK is optional, and slow to import

        return mcp_session(self, name, request=request, takeover=takeover, mode=mode, read_timeout_s=read_timeout_s)

    # --- plumbing -----------------------------------------------------------------------------------------------

    async def _is_coming(self, name: str) -> bool:
        """Whether a start that was not answered in time goes on, or has come to its end."""
        try:
            state = (await self.status(name)).state
        except NotFound:
            return False
        return state in (ServerState.PULLING, ServerState.CREATED, ServerState.RUNNING)

    async def _events(self) -> AsyncGenerator[ServerList | ServerEvent, None]:
        """The events of one connection. A proxy that sends no sign of life for ``timeout_s`` is taken for lost."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s, sock_read=self._timeout_s)
        with foreign_errors(self.url):
            async with (
                self._http.get("/v1/events", timeout=timeout, read_bufsize=MAX_EVENT_BYTES // 2) as response,
                aclosing(read_events(response, self.url)) as events,
            ):
                async for event in events:
                    yield event

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("ProxyClient is not open: use it as `async with ProxyClient(…) as proxy:`")
        return self._session

    async def _attach(self, name: str, *, takeover: bool) -> aiohttp.ClientWebSocketResponse:
        """The WebSocket to a server's stdio."""
        with foreign_errors(self.url):
            return await self._http.ws_connect(
                _path(name, "stdio"),
                params={"takeover": "1"} if takeover else {},
                protocols=[SUBPROTOCOL_CHANNEL],
                max_msg_size=0,  # memory is bounded by back-pressure, and the proxy cuts output into small messages
            )

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[_Model],
        *,
        body: BaseModel | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> _Model:
        """One request; its JSON answer, or the error that fits."""
        with foreign_errors(self.url):
            async with self._http.request(
                method,
                path,
                params=params,
                data=None if body is None else body.model_dump_json(exclude_none=True).encode(),
                headers={} if body is None else {"Content-Type": "application/json"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s or self._timeout_s),
            ) as response:
                return answer.model_validate_json(await response.read())


async def _raise_problem(response: aiohttp.ClientResponse) -> None:
    """Raise the problem that a response is; aiohttp calls it for each one, WebSocket handshakes included."""
    if response.status < 400:
        return
    if response.content_type != PROBLEM_CONTENT_TYPE:
        raise ProtocolError(
            f"HTTP status {response.status} with {response.content_type} is not a Doogie proxy's answer"
        )
    raise problem_response(Problem.model_validate_json(await response.read()))


def _path(name: str, *rest: str) -> str:
    """The URL path of a server's resource. Raises ``InvalidName``, so that no name can reach another path."""
    if not re.fullmatch(SERVER_NAME_PATTERN, name):
        raise InvalidName(f"{name!r} is not a server name: lower-case letters, digits and _.-, 1 to 63 characters, "
                          "the first one a letter or digit")  # fmt: skip
    return "/".join(("/v1/servers", name, *rest))


def _endpoint(url: str) -> tuple[str | None, str]:
    """Split a proxy URL into (socket path or None, base URL for HTTP). Raises ValueError with what would be right."""
    wanted = "expected unix:///path/to/proxy.sock, http://127.0.0.1:PORT or https://HOST:PORT"
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not the URL of a unix socket: {wanted}")
        return parts.path, "http://proxy"
    surplus = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or surplus:
        raise ValueError(f"{url!r} is not the URL of a proxy: {wanted}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(f"{url!r} would send the token unencrypted to another machine: {wanted}")
    return None, f"{parts.scheme}://{parts.netloc}"


def _tls_of(environ: Mapping[str, str]) -> ssl.SSLContext:
    """TLS as the environment says. Raises OSError, and ValueError for a certificate without its key."""
    certificate, key = environ.get("DOOGIE_PROXY_CLIENT_CERT_FILE"), environ.get("DOOGIE_PROXY_CLIENT_KEY_FILE")
    if bool(certificate) is not bool(key):
        raise ValueError("set both DOOGIE_PROXY_CLIENT_CERT_FILE and DOOGIE_PROXY_CLIENT_KEY_FILE, or neither")
    context = ssl.create_default_context(cafile=environ.get("DOOGIE_PROXY_SERVER_CA_FILE") or None)
    if certificate:
        context.load_cert_chain(certificate, key, password="")  # an encrypted key is an error, not a question
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
