"""The command ``doogie-proxy``."""

import http.client
import json
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import uvloop
from aiohttp import web
from pydantic import ValidationError

from doogie_contract.models import StartRequest
from doogie_proxy import auth, log
from doogie_proxy.admission import Denied, admit
from doogie_proxy.app import StaleSocketError
from doogie_proxy.app import serve as run_proxy
from doogie_proxy.configuration import Configuration
from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineFailure
from doogie_proxy.http import parse_json
from doogie_proxy.identity import Keyring
from doogie_proxy.listen import ListenError
from doogie_proxy.metrics_relay import relay
from doogie_proxy.operator_pull import CredentialsError
from doogie_proxy.operator_pull import pull as pull_images
from doogie_proxy.policy import Policy
from doogie_proxy.policy_advice import warnings
from doogie_proxy.policy_file import ConfigurationError
from doogie_proxy.policy_file import load as load_policy
from doogie_proxy.policy_live import missing
from doogie_proxy.provision import Owners, provision
from doogie_proxy.reap import Found, ProxyRunsError, end, find, without_proxy
from doogie_proxy.settings import Settings, TcpListener
from doogie_proxy.state import StateLockedError

app = typer.Typer(
    help="The only holder of the Docker socket: starts policy-approved containers for an unprivileged client.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_STALE_SOCKET = os.EX_TEMPFAIL
EXIT_LEFT_BEHIND = 3

PolicyPath = Annotated[Path, typer.Argument(metavar="POLICY", help="the policy file")]


def _fail(*lines: str, code: int = 1) -> NoReturn:
    for line in lines:
        typer.echo(f"doogie-proxy: {line}", err=True)
    raise typer.Exit(code)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as exc:
        _fail(
            *(
                f"DOOGIE_PROXY_{'.'.join(map(str, error['loc'])).upper()}: {error['msg']}"
                if error["loc"]
                else error["msg"]
                for error in exc.errors()
            )
        )


def _policy(path: Path) -> Policy:
    try:
        return load_policy(path)
    except ConfigurationError as exc:
        _fail(*exc.lines)


@app.command()
def serve() -> None:
    """Serve the API. Settings are environment variables, DOOGIE_PROXY_*; see docs/operations.md."""
    settings = _settings()
    try:
        configuration = Configuration.load(settings)
    except ConfigurationError as exc:
        _fail(*exc.lines)
    log.configure(settings.log_level, settings.log_format)
    try:
        uvloop.run(run_proxy(settings, configuration))
    except ConfigurationError as exc:
        _fail(*exc.lines)
    except (ListenError, StateLockedError) as exc:
        _fail(str(exc))
    except StaleSocketError as exc:
        _fail(str(exc), code=EXIT_STALE_SOCKET)


@app.command()
def init(
    config_dir: Annotated[Path, typer.Option(help="for policy.yaml and signing.key")] = Path("/etc/doogie"),
    token_file: Annotated[Path, typer.Option(help="for the client's token")] = Path("/run/doogie-token/token"),
    socket_dir: Annotated[Path, typer.Option(help="of the proxy's socket")] = Path("/run/doogie"),
    state_dir: Annotated[Path, typer.Option(help="what DOOGIE_PROXY_STATE_DIR says")] = Path("/var/lib/doogie"),
    proxy_uid: Annotated[int, typer.Option(min=1)] = 10000,
    chat_uid: Annotated[int, typer.Option(min=1)] = 10001,
    gid: Annotated[int, typer.Option(min=1, help="shared group of the socket")] = 10002,
) -> None:
    """Make a token, a signing key, a starter policy, and the directories of socket and state. Keeps what is there."""
    if proxy_uid == chat_uid:
        _fail("--proxy-uid and --chat-uid must differ, or the chat side could replace the proxy's socket")
    try:
        for line in provision(config_dir, token_file, socket_dir, state_dir, Owners(proxy_uid, chat_uid, gid)):
            typer.echo(line)
    except (OSError, ValueError) as exc:
        _fail(str(exc))


@app.command()
def check(
    policy: PolicyPath,
    live: Annotated[bool, typer.Option("--live", help="also ask the engine whether what it names exists")] = False,
) -> None:
    """Say whether a policy file is valid, and if not, where and what would be right. Warns of what is unwise.

    With --live, as the proxy would (DOOGIE_PROXY_ENGINE): images, networks, runtimes, volumes, host directories, and
    files of secrets. Host directories are tried with containers that are created and removed, and never started.
    """
    checked = _policy(policy)
    for warning in warnings(checked):
        typer.echo(f"warning: {warning}", err=True)
    if live:
        try:
            faults = uvloop.run(missing(checked, _settings()))
        except EngineFailure as exc:
            _fail(f"the engine cannot be asked: {exc}")
        if faults:
            _fail(*faults)
    for name, client in checked.clients.items():
        typer.echo(f"client {name}: rules {', '.join(client.rules) or 'none'}")
    typer.echo(f"{policy}: valid, {len(checked.rules)} rules" + (", and all of it is there" if live else ""))


@app.command()
def explain(
    request: Annotated[Path, typer.Argument(metavar="REQUEST.json", help="a StartRequest; - for standard input")],
    client: Annotated[str, typer.Option(help="name of the client in the policy")],
    policy: Annotated[Path | None, typer.Option(help="default: DOOGIE_PROXY_POLICY")] = None,
) -> None:
    """Say which rule would admit a request, or, rule by rule, what stands in the way. Exit code 1 if none does."""
    checked = _policy(policy or _settings().policy)
    if client not in checked.clients:
        _fail(f"the policy has no client {client!r}; it has {', '.join(checked.clients) or 'none'}")
    try:
        body = sys.stdin.buffer.read() if str(request) == "-" else request.read_bytes()
        wanted = StartRequest.model_validate(parse_json(body), strict=True)
    except (OSError, ValueError, RecursionError) as exc:
        _fail(f"{request}: not a StartRequest: {exc}")
    decision = admit(checked, client, wanted)
    if isinstance(decision, Denied):
        typer.echo(f"denied: no rule of client {client} admits it")
        for error in decision.errors:
            typer.echo(f"  {error.loc}: {error.msg}")
        raise typer.Exit(1)
    typer.echo(f"admitted by rule {decision.rule.name}: runs {decision.image} with arguments {list(decision.args)}")


@app.command()
def reap(
    everything: Annotated[bool, typer.Option("--all", help="end them; without it they are only listed")] = False,
) -> None:
    """List the containers of this instance, or end them all, while no proxy runs. Touches no others.

    The settings of the proxy say which instance, keys and engine. Exit code 3 when containers are left that have the
    instance's label and no signature by one of the keys.
    """
    settings = _settings()
    log.configure("warning", "console", stream=sys.stderr)
    try:
        keyring = Keyring.load(settings.signing_key_file)
        found, faults = uvloop.run(_reap(settings, keyring, everything=everything))
    except (OSError, ValueError, EngineFailure, StateLockedError, ProxyRunsError) as exc:
        _fail(str(exc))
    for one in found.ours:
        typer.echo(str(one))
    typer.echo(f"{len(found.ours) - len(faults)} {'ended' if everything else 'found; --all ends them'}")
    for container_id in found.foreign:
        typer.echo(
            f"doogie-proxy: {container_id} is let be: none of the keys has signed it (docker rm --force)", err=True
        )
    if faults:
        _fail(*faults)
    if found.foreign:
        raise typer.Exit(EXIT_LEFT_BEHIND)


async def _reap(settings: Settings, keyring: Keyring, *, everything: bool) -> tuple[Found, list[str]]:
    async with (
        without_proxy(settings) as state,
        Engine(settings.engine_socket, timeout_s=settings.engine_timeout_s) as engine,
    ):
        found = await find(engine, keyring, settings.instance)
        return found, await end(engine, state, found.ours) if everything else []


@app.command()
def metrics(
    token_file: Annotated[Path, typer.Option(help="with the token of a client that has metrics: true")],
    socket_file: Annotated[Path, typer.Option("--socket", help="of the proxy")] = Path("/run/doogie/proxy.sock"),
    host: Annotated[str, typer.Option(help="address to listen on; whoever reaches it can read")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9464,
) -> None:
    """Relay /metrics from the proxy's socket to a TCP port, for a Prometheus that cannot scrape a socket."""
    try:
        web.run_app(relay(socket_file, token_file), host=host, port=port, access_log=None, print=None)
    except OSError as exc:
        _fail(str(exc))


@app.command()
def pull(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="a rule of the policy")],
    pin: Annotated[bool, typer.Option("--pin", help="fetch what tags mean now, and print the rule's line")] = False,
    policy: Annotated[Path | None, typer.Option(help="default: DOOGIE_PROXY_POLICY")] = None,
    docker_config: Annotated[Path, typer.Option(help="of docker login", show_default="~/.docker/config.json")] = Path(
        "~/.docker/config.json"
    ),
) -> None:
    """Have the engine fetch a rule's images, with the logins of the Docker CLI; prints the images by digest.

    Without --pin, images that have a digest come by that, as the proxy pulls them.
    """
    settings = _settings()
    rules = {one.name: one for one in _policy(policy or settings.policy).rules}
    if rule not in rules:
        _fail(f"the policy has no rule {rule!r}; it has {', '.join(rules) or 'none'}")
    if not rules[rule].images:
        _fail(f"rule {rule} lists no images: what matches a pattern is for docker pull")
    pulling = pull_images(
        rules[rule], settings, docker_config.expanduser(), pin=pin, tell=lambda line: typer.echo(line, err=True)
    )
    try:
        typer.echo(uvloop.run(pulling))
    except (EngineFailure, CredentialsError) as exc:
        _fail(str(exc))


@app.command("hash-token")
def hash_token(
    new: Annotated[bool, typer.Option("--new", help="make a token and print it before its hash")] = False,
) -> None:
    """Print the token_sha256 of the token on standard input."""
    if new:
        token = auth.new_token()
        typer.echo(token)
    else:
        token = sys.stdin.readline().strip()
    if not token:
        _fail("give the token on standard input, or --new")
    typer.echo(auth.hash_token(token))


@app.command("policy-schema")
def policy_schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    typer.echo(json.dumps(Policy.model_json_schema(), indent=2))


@app.command()
def health() -> None:
    """Ask the first listener's /readyz; exit code 0 when servers can be started. For container health checks."""
    listener = _settings().listeners[0]
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        if isinstance(listener, TcpListener):
            connection.sock = socket.create_connection(listener, timeout=5)
        else:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(5)
            connection.sock.connect(str(listener.path))
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        _fail(f"{listener}: {exc}")
    finally:
        connection.close()
    typer.echo(body)
    raise typer.Exit(0 if answer.status == 200 else 1)
