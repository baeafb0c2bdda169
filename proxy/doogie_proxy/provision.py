"""``doogie-proxy init``: what a first start needs. Never replaces what is there, so it may run at every start."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from doogie_proxy.auth import hash_token, new_token
from doogie_proxy.identity import Keyring

TOKEN_PLACEHOLDER = "TOKEN_SHA256"  # noqa: S105  # a placeholder for a hash


@dataclass(frozen=True)
class Owners:
    """Who owns what: numeric ids. The uids differ, so that the chat side cannot replace the proxy's socket."""

    proxy_uid: int
    chat_uid: int
    gid: int


def provision(config_dir: Path, token_file: Path, socket_dir: Path, state_dir: Path, owners: Owners) -> Iterator[str]:
    """Make what is missing; yields a line for each thing made or found, never a secret.

    ============================  ====  =====================  ===============================================
    policy.yaml in config_dir     0640  proxy : proxy's group  starter policy, for one client named ``chat``
    signing.key in config_dir     0600  proxy                  one fresh key
    token_file                    0400  chat                   the client's bearer token
    socket_dir                    2750  proxy : gid            the client may pass through, not write
    state_dir                     0700  proxy : proxy's group  what changes about servers
    ============================  ====  =====================  ===============================================

    Raises:
        OSError: no right to make or give away one of them.
        ValueError: the token is lost (a policy without a token file): its hash cannot be turned back.
    """
    policy_file, key_file = config_dir / "policy.yaml", config_dir / "signing.key"
    if policy_file.exists() and not token_file.exists():
        raise ValueError(
            f"{policy_file} is there but {token_file} is not: put the client's token there, or make a new one and "
            "add its hash (doogie-proxy hash-token) to the policy"
        )
    yield _directory(config_dir, 0o750, owners.proxy_uid, owners.proxy_uid)
    yield _directory(socket_dir, 0o2750, owners.proxy_uid, owners.gid)
    yield _directory(state_dir, 0o700, owners.proxy_uid, owners.proxy_uid)
    yield _directory(token_file.parent, 0o750, owners.chat_uid, owners.gid)
    yield _file(key_file, Keyring.new_key() + "\n", 0o600, owners.proxy_uid, owners.proxy_uid)
    yield _file(token_file, new_token() + "\n", 0o400, owners.chat_uid, owners.gid)
    yield _file(policy_file, _starter_policy(token_file), 0o640, owners.proxy_uid, owners.proxy_uid)


def _starter_policy(token_file: Path) -> str:
    starter = files("doogie_proxy").joinpath("starter-policy.yaml").read_text(encoding="utf-8")
    return starter.replace(TOKEN_PLACEHOLDER, hash_token(token_file.read_text(encoding="ascii").strip()))


def _directory(path: Path, mode: int, uid: int, gid: int) -> str:
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, uid, gid)
    path.chmod(mode)  # after chown, which clears the set-group-id bit
    return f"{path}/ {mode:o} {uid}:{gid}"


def _file(path: Path, text: str, mode: int, uid: int, gid: int) -> str:
    if path.exists():
        return f"{path} kept"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    return f"{path} made, {mode:o} {uid}:{gid}"
