"""``doogie-chat init``: what a first start needs. Never replaces what is there, so it may run at every start."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from doogie_client.service.sql.keys import KeyFile
from doogie_client.web.users import Role, hash_token, new_token


def provision(directory: Path, admin: str) -> Iterator[str]:
    """Make what is missing; yields a line for each thing made or found, never a secret.

    ==============  ====  ==================================================
    encryption.key  0600  one fresh key that encrypts environments at rest
    admin.token     0400  a fresh bearer token of the user ``admin``
    users.yaml      0600  the hash of that token, with the role ``admin``
    ==============  ====  ==================================================

    Raises:
        OSError: no right to make one of them.
        ValueError: there is a users file, but no token file: a hash cannot be turned back.
        StoreMisconfigured: the key file that is there cannot be used.
    """
    users_file, token_file = directory / "users.yaml", directory / "admin.token"
    key_file = directory / "encryption.key"
    if users_file.exists() and not token_file.exists():
        raise ValueError(
            f"{users_file} is there but {token_file} is not: put the admin's token there, or make a new one and add "
            "its hash (doogie-chat hash-token --new) to the users file"
        )
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    yield f"{key_file} made, 600" if KeyFile(key_file).create() else f"{key_file} kept"
    yield _file(token_file, new_token() + "\n", 0o400)
    digest = hash_token(token_file.read_text(encoding="ascii").strip())
    yield _file(users_file, _users(admin, digest), 0o600)


def _users(admin: str, digest: str) -> str:
    return (
        "# Who may use the web app: docs/chat-api.md. Read anew on SIGHUP.\n"
        "version: 1\n"
        "users:\n"
        f"  {json.dumps(admin)}:\n"  # a JSON string is a YAML one
        f"    role: {Role.ADMIN.value}\n"
        f"    token_sha256: [{json.dumps(digest)}]\n"
    )


def _file(path: Path, text: str, mode: int) -> str:
    if path.exists():
        return f"{path} kept"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return f"{path} made, {mode:o}"
