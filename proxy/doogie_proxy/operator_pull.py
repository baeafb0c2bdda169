"""``doogie-proxy pull``: what a rule runs, fetched by the operator, with the operator's own credentials.

They are those of ``docker login`` and go to the engine with this one request. The proxy that serves has none.
"""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doogie_proxy.engine import Engine
from doogie_proxy.engine_failures import EngineError
from doogie_proxy.policy import Rule
from doogie_proxy.references import ImageRef
from doogie_proxy.settings import Settings

_HUB = "https://index.docker.io/v1/"
"""What ``docker login`` calls the registry of images that name none."""


class CredentialsError(Exception):
    """What ``docker login`` left cannot be used; says why, and what would be right."""


async def pull(rule: Rule, settings: Settings, docker_config: Path, *, pin: bool, tell: Callable[[str], None]) -> str:
    """Have the engine fetch the images that a rule lists.

    Args:
        rule: of the policy.
        settings: of the proxy.
        docker_config: the Docker CLI's ``config.json``; it need not be there.
        pin: where there is a tag, fetch what it means now, whatever the rule's digest.
        tell: is given a line for each image.

    Returns:
        The rule's ``images``, pinned to what came.

    Raises:
        EngineFailure: one cannot be fetched; the engine's words are for the operator.
        CredentialsError: see there.
    """
    pinned = []
    async with Engine(settings.engine_socket, timeout_s=settings.engine_timeout_s) as engine:
        for listed in rule.listed_images:
            by_tag = listed.digest is None or (pin and listed.tag is not None)
            wanted = str(listed._replace(digest=None) if by_tag else listed._replace(tag=None))
            tell(f"pulling {wanted}")
            digest = await _pull_one(engine, wanted, settings.pull_timeout_s, credentials(docker_config, listed.repo))
            pinned.append(str(ImageRef(listed.repo, listed.tag, digest)))
    return f"images: {json.dumps(pinned)}"


async def _pull_one(engine: Engine, reference: str, timeout_s: float, login: Mapping[str, str] | None) -> str:
    """Pull, and return the digest of what came."""
    digest = ""

    def hear(message: Mapping[str, Any]) -> None:
        nonlocal digest
        name, _, value = str(message.get("status")).partition(": ")
        if name == "Digest":
            digest = value

    await engine.pull(reference, hear, timeout_s=timeout_s, login=login)
    if not digest:
        raise EngineError(f"the pull of {reference} broke off")
    return digest


def credentials(docker_config: Path, repo: str) -> dict[str, str] | None:
    """What ``docker login`` has kept for the registry of this repository; None if nothing.

    Source: https://docs.docker.com/reference/cli/docker/login/ (``auths``, ``credsStore``, ``credHelpers``).
    """
    first, slash, _ = repo.partition("/")
    registry = first if slash and (set(first) & {".", ":"} or first == "localhost") else _HUB
    try:
        kept = json.loads(docker_config.read_text(encoding="utf-8"))
        if store := kept.get("credHelpers", {}).get(registry) or kept.get("credsStore"):
            raise CredentialsError(
                f"{docker_config}: the login for {registry} is in the credential store {store!r}, which is not read "
                "here: docker pull it instead, or give --docker-config a file without credsStore and credHelpers"
            )
        entry = kept.get("auths", {}).get(registry)
        if not entry:
            return None
        if token := entry.get("identitytoken"):
            return {"identitytoken": token, "serveraddress": registry}
        username, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:  # no text of theirs: it may hold a secret
        raise CredentialsError(f"{docker_config}: not a Docker CLI's configuration ({type(exc).__name__})") from None
    return {"username": username, "password": password, "serveraddress": registry}
