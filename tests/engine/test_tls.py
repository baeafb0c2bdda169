"""TCP under TLS: both sides show a certificate, and a token is needed as well."""

import asyncio
import datetime
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from doogie_client import HostNotAllowed, ProxyClient, ProxyUnavailable, StartRequest, Unauthenticated
from doogie_proxy.listen import ListenError, tls_context
from doogie_proxy.settings import Settings
from tests.support.harness import TOKEN, TOOLBOX, ProxyUnderTest, policy_document, proxy_under_test, toolbox_rule
from tests.support.wire import connected, head

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


class Files(NamedTuple):
    """A certificate with its key, and who signed it."""

    cert: Path
    key: Path
    ca: Path


class Authority:
    """A certificate authority that writes what it issues into a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._ca = trustme.CA()
        self.file = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *, not_after: datetime.datetime | None = None) -> Files:
        issued = self._ca.issue_cert(name, not_after=not_after)
        cert, key = (self._directory / f"{self._name}-{name}-{kind}.pem" for kind in ("cert", "key"))
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return Files(cert, key, self.file)


@pytest.fixture
def servers(tmp_path: Path) -> Authority:
    """Who signs what proxies show."""
    return Authority(tmp_path, "servers")


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """Who signs what clients show."""
    return Authority(tmp_path, "clients")


@pytest.fixture
async def secured(engine: str, tmp_path: Path, servers: Authority, clients: Authority) -> AsyncIterator[ProxyUnderTest]:
    """A proxy whose loopback port speaks TLS."""
    files = servers.issue("127.0.0.1")
    async with proxy_under_test(
        tmp_path,
        policy_document(toolbox_rule()),
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        tls_client_ca_file=clients.file,
        sweep_interval_s=3600,
        idle_timeout_s=1,
        close_timeout_s=0.3,
        connections_max=3,
    ) as running:
        assert running.tcp_url.startswith("https://127.0.0.1:")
        yield running


def environ(proxy: ProxyUnderTest, ca: Path, shown: Files | None, *, token: str = TOKEN) -> dict[str, str]:
    """What a client's environment says."""
    variables = {
        "DOOGIE_PROXY_URL": proxy.tcp_url,
        "DOOGIE_PROXY_TOKEN": token,
        "DOOGIE_PROXY_SERVER_CA_FILE": str(ca),
    }
    if shown:
        variables["DOOGIE_PROXY_CLIENT_CERT_FILE"] = str(shown.cert)
        variables["DOOGIE_PROXY_CLIENT_KEY_FILE"] = str(shown.key)
    return variables


async def test_a_client_with_certificate_and_token_uses_all_of_the_api(
    secured: ProxyUnderTest, servers: Authority, clients: Authority
) -> None:
    async with ProxyClient.from_env(environ(secured, servers.file, clients.issue("chat"))) as client:
        await client.start("echo", StartRequest(image=TOOLBOX, args=["cat"]))
        async with client.stdio("echo") as stdio:
            payload = os.urandom(300_000)
            async with asyncio.TaskGroup() as group:
                group.create_task(stdio.write(payload))
                received = b""
                while len(received) < len(payload):
                    received += await stdio.read()
            assert received == payload
        assert (await client.status("echo")).state == "running"
        await client.stop("echo")


async def test_the_command_takes_certificates_from_the_environment(
    secured: ProxyUnderTest, servers: Authority, clients: Authority
) -> None:
    for shown, code in ((clients.issue("chat"), 0), (None, 3)):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "doogie_client.cli", "ls", "--json"],
            env=environ(secured, servers.file, shown),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["none", "another-ca", "expired", "self-made"])
async def test_who_shows_no_good_certificate_gets_no_answer(
    secured: ProxyUnderTest, tmp_path: Path, servers: Authority, clients: Authority, kind: str
) -> None:
    match kind:
        case "none":
            shown = None
        case "another-ca":
            shown = servers.issue("chat")
        case "expired":
            shown = clients.issue("chat", not_after=YESTERDAY)
        case _:
            shown = Authority(tmp_path, "clients-too").issue("chat")
    with capture_logs() as logged, secured.recorder.silence():
        async with ProxyClient.from_env(environ(secured, servers.file, shown)) as client:
            with pytest.raises(ProxyUnavailable):
                await client.list()
            with pytest.raises(ProxyUnavailable):
                async with client.stdio("echo"):
                    pass
    reason = "PEER_DID_NOT_RETURN_A_CERTIFICATE" if kind == "none" else "CERTIFICATE_VERIFY_FAILED"
    assert {(entry["event"], entry.get("reason")) for entry in logged} == {("handshake_failed", reason)}


async def test_a_certificate_is_no_token_and_no_name(
    secured: ProxyUnderTest, servers: Authority, clients: Authority
) -> None:
    shown = clients.issue("chat")
    async with ProxyClient.from_env(environ(secured, servers.file, shown, token="wrong")) as client:
        with pytest.raises(Unauthenticated):
            await client.list()
    tls = ssl.create_default_context(cafile=str(servers.file))
    tls.load_cert_chain(shown.cert, shown.key)
    url = urlsplit(secured.tcp_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=tls)
    writer.write(head("GET /healthz").replace(b"Host: localhost", b"Host: evil.example"))
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 403 ")
    writer.transport.abort()


async def test_names_that_are_allowed_are_the_only_ones(
    engine: str, tmp_path: Path, servers: Authority, clients: Authority
) -> None:
    files = servers.issue("127.0.0.1")
    async with (
        proxy_under_test(
            tmp_path,
            policy_document(toolbox_rule()),
            tls_cert_file=files.cert,
            tls_key_file=files.key,
            tls_client_ca_file=clients.file,
            allowed_hosts="proxy.example",
        ) as proxy,
        ProxyClient.from_env(environ(proxy, servers.file, clients.issue("chat"))) as client,
    ):
        with pytest.raises(HostNotAllowed):
            await client.list()


async def test_a_client_trusts_no_other_proxy(
    secured: ProxyUnderTest, tmp_path: Path, servers: Authority, clients: Authority
) -> None:
    shown = clients.issue("chat")
    port = urlsplit(secured.tcp_url).port
    for ca, url in ((clients.file, secured.tcp_url), (servers.file, f"https://localhost:{port}")):
        variables = {**environ(secured, ca, shown), "DOOGIE_PROXY_URL": url}
        async with ProxyClient.from_env(variables) as client:
            with pytest.raises(ProxyUnavailable, match=r"(?i)certificate"):
                await client.list()


async def test_older_tls_and_no_tls_get_no_answer(
    secured: ProxyUnderTest, servers: Authority, clients: Authority
) -> None:
    shown = clients.issue("chat")
    tls = ssl.create_default_context(cafile=str(servers.file))
    tls.load_cert_chain(shown.cert, shown.key)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    url = urlsplit(secured.tcp_url)
    with pytest.raises(OSError, match=r"PROTOCOL_VERSION|^$"):
        await asyncio.open_connection(url.hostname, url.port, ssl=tls)
    async with connected(secured, tcp=True) as peer:
        peer.send(head("GET /healthz"))
        assert not (await peer.rest()).startswith(b"HTTP/")


async def test_no_session_is_resumed_so_every_connection_shows_a_certificate(
    secured: ProxyUnderTest, servers: Authority, clients: Authority
) -> None:
    shown = clients.issue("chat")
    tls = ssl.create_default_context(cafile=str(servers.file))
    tls.load_cert_chain(shown.cert, shown.key)
    url = urlsplit(secured.tcp_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=tls)
    writer.write(head("GET /healthz"))
    await reader.readuntil(b"\r\n\r\n")  # a ticket would have come by now
    assert not writer.get_extra_info("ssl_object").session.has_ticket
    writer.transport.abort()


async def test_handshakes_that_get_nowhere_take_seats_and_end(
    secured: ProxyUnderTest, servers: Authority, clients: Authority
) -> None:
    variables = environ(secured, servers.file, clients.issue("chat"))
    async with connected(secured, tcp=True) as one, connected(secured, tcp=True) as two:
        async with connected(secured, tcp=True) as three, connected(secured, tcp=True) as refused:
            assert await refused.rest(timeout_s=0.8) == b""
            for peer in (one, two, three):
                await peer.rest(timeout_s=5)
        async with ProxyClient.from_env(variables) as client:
            assert await client.list() == []


async def test_the_proxy_ends_while_a_handshake_is_under_way(
    engine: str, tmp_path: Path, servers: Authority, clients: Authority
) -> None:
    files = servers.issue("127.0.0.1")
    begun = asyncio.get_running_loop().time()
    async with proxy_under_test(
        tmp_path,
        policy_document(toolbox_rule()),
        tls_cert_file=files.cert,
        tls_key_file=files.key,
        tls_client_ca_file=clients.file,
    ) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.tcp_url).port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    assert asyncio.get_running_loop().time() - begun < 10


def test_a_certificate_that_cannot_be_used_is_said_at_the_start(
    tmp_path: Path, servers: Authority, clients: Authority
) -> None:
    good, other = servers.issue("127.0.0.1"), servers.issue("localhost")
    encrypted = tmp_path / "encrypted.pem"
    key = serialization.load_pem_private_key(good.key.read_bytes(), None)
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
        )
    )
    for cert, key_file, ca in (
        (tmp_path / "missing.pem", good.key, clients.file),
        (good.cert, tmp_path / "missing.pem", clients.file),
        (good.cert, good.key, tmp_path / "missing.pem"),
        (good.cert, other.key, clients.file),
        (good.cert, encrypted, clients.file),
        (good.key, good.key, clients.file),
        (good.cert, good.key, good.key),
    ):
        settings = Settings(tls_cert_file=cert, tls_key_file=key_file, tls_client_ca_file=ca)
        with pytest.raises(ListenError, match="TLS certificate, key or client CA: "):
            tls_context(settings)
    assert tls_context(Settings(tls_cert_file=good.cert, tls_key_file=good.key, tls_client_ca_file=clients.file))
    assert tls_context(Settings()) is None
