"""From eight published command lines to answers: built, then started by a proxy under the rule that was printed."""

import asyncio
import io
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from doogie_client.client import ProxyClient
from doogie_client.commands.catalogue import Catalogue
from doogie_client.commands.command import ServerCommand
from doogie_client.commands.translate import translate
from tests.e2e.builder import engine_as_it_was, run_builder
from tests.e2e.published import REPOSITORIES, SERVERS, Published, Surroundings
from tests.support.harness import TOKEN, Json, docker, inspect, policy_document, proxy_under_test

AT_ONCE = 3
"""They wait for the registries most of the time."""


class Page(BaseHTTPRequestHandler):
    """One page; there is no robots.txt that forbids it."""

    def do_GET(self) -> None:
        found = self.path == "/"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Good day</h1>" if found else b"")

    def log_message(self, *_: object) -> None:
        """Not on the test's stderr."""


@pytest.fixture(scope="module")
def surroundings(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """A repository on the host, and a page on a network of its own, where that network meets the host."""
    repository = tmp_path_factory.mktemp("published") / "repository"
    repository.mkdir(mode=0o755)
    author = ("-c", "user.name=Duck", "-c", "user.email=duck@example.org")
    for command in (["init", "--quiet"], [*author, "commit", "--quiet", "--allow-empty", "--message=Begin"]):
        subprocess.run(["git", "-C", str(repository), *command], check=True)
    network = f"doogie-test-{uuid.uuid4().hex[:8]}"
    docker("network", "create", network)
    try:
        address = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network)
        with ThreadingHTTPServer((address, 0), Page) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield Surroundings(str(repository), network, f"http://{address}:{server.server_port}/")
            finally:
                server.shutdown()
                thread.join()
    finally:
        docker("network", "rm", network)


@pytest.fixture(scope="module")
def printed(surroundings: Surroundings) -> Iterator[dict[str, "Future[str]"]]:
    """What the builder prints for each server."""

    def build(server: Published) -> str:
        options = [
            option.format(repository=surroundings.repository, network=surroundings.network) for option in server.options
        ]
        variables = [word for name in server.env for word in ("--env", name)]
        done = run_builder("build", *options, *variables, server.line, **server.env)
        if done.returncode != 0:
            raise AssertionError(f"{server.line} is not built:\n{done.stderr}")
        return done.stdout

    with engine_as_it_was(*REPOSITORIES), ThreadPoolExecutor(AT_ONCE) as threads:
        yield {server.name: threads.submit(build, server) for server in SERVERS}


@pytest.mark.parametrize("server", SERVERS, ids=[server.name for server in SERVERS])
async def test_a_published_server_answers_under_the_rule_that_its_build_printed(
    server: Published, printed: dict[str, "Future[str]"], surroundings: Surroundings, tmp_path: Path
) -> None:
    text = await asyncio.wrap_future(printed[server.name])
    document: Json = YAML(typ="safe").load(io.StringIO(text))
    (rule,) = document["rules"]
    catalogue = Catalogue.parse(f"version: 1\n{text.partition('rules:')[0]}")
    command = ServerCommand(command=server.line, env=dict(server.env), mounts=list(server.mounts))
    request = translate(command, catalogue).request
    roots = {"mount_roots": [surroundings.repository]} if server.mounts else {}
    async with (
        proxy_under_test(tmp_path, {**policy_document(rule), **roots}) as proxy,
        ProxyClient(f"unix://{proxy.socket}", TOKEN) as client,
        client.mcp_session("published", request=request, read_timeout_s=60) as session,
    ):
        status = await client.status("published")
        assert status.rule == rule["name"]
        assert status.container_id is not None
        host = inspect(status.container_id)["HostConfig"]
        assert host["NetworkMode"] == rule.get("network", "none")
        assert host["ReadonlyRootfs"] is True
        await server.call(session, surroundings)
