"""Configurations as rows and back. What may be secret is encrypted for the row and the field it stands in."""

import json
import re
from collections.abc import Mapping

from sqlalchemy import RowMapping

from doogie_client.commands.command import MASK
from doogie_client.service.records import ConfigRecord, ConfigUpdate, ServerConfig, Status
from doogie_client.service.sql.keys import Keyring
from doogie_client.service.sql.names import name_key
from doogie_client.service.store import MaskedValue, SecretsUnreadable

COMMAND = "command"
ENV = "env"

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_id(text: str) -> bool:
    """Whether a configuration could have it as its id; ours are UUIDs, imported ones what they were."""
    return _ID.fullmatch(text) is not None


def to_row(record: ConfigRecord, ring: Keyring, key_id: str) -> dict[str, object]:
    """All columns of a record, encrypted with the key of this id.

    ``command`` and ``args`` are encrypted as well: many servers take tokens and connection strings as arguments.
    """
    config = record.config
    command = json.dumps([config.command, config.args])
    env = {name: ring.encrypt(key_id, value, [record.id, ENV, name]) for name, value in config.env.items()}
    return {
        "id": record.id,
        "name": record.name,
        "name_key": name_key(record.name),
        "server_name": record.server_name,
        "user_id": record.user_id,
        "key_id": key_id,
        "command": ring.encrypt(key_id, command, [record.id, COMMAND]),
        "env": json.dumps(env),
        "secrets": json.dumps(config.secrets),
        "mounts": json.dumps(config.mounts),
        "enabled": config.enabled,
        "description": record.description,
        "shared": record.shared,
        "container_id": record.container_id,
        "status": record.status.value,
        "error_message": record.error_message,
        "version": record.version,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def from_row(row: RowMapping, ring: Keyring) -> ConfigRecord:
    """The record of a row of all columns.

    Raises:
        SecretsUnreadable: it cannot be decrypted; the message names the configuration, the field and the key.
    """
    config_id, key_id = row["id"], row["key_id"]

    def decrypt(ciphertext: str, *field: str) -> str:
        where = f"the configuration {row['name']!r} ({config_id})"
        if key_id not in ring:
            raise SecretsUnreadable(f"{where} is encrypted with the key {key_id}, which the key file does not hold")
        try:
            return ring.decrypt(key_id, ciphertext, [config_id, *field])
        except ValueError as exc:
            raise SecretsUnreadable(f"{where} has an unreadable {'.'.join(field)}: {exc}") from None

    command, args = json.loads(decrypt(row["command"], COMMAND))
    config = ServerConfig(
        command=command,
        args=args,
        env={name: decrypt(value, ENV, name) for name, value in json.loads(row["env"]).items()},
        secrets=json.loads(row["secrets"]),
        mounts=json.loads(row["mounts"]),
        enabled=row["enabled"],
    )
    return ConfigRecord(
        id=config_id,
        name=row["name"],
        server_name=row["server_name"],
        user_id=row["user_id"],
        config=config,
        description=row["description"],
        shared=row["shared"],
        container_id=row["container_id"],
        status=Status(row["status"]),
        error_message=row["error_message"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def edited(record: ConfigRecord, update: ConfigUpdate) -> ConfigRecord:
    """What becomes of a record by an update; ``version`` and times are left to the caller.

    Raises:
        MaskedValue: a variable is to keep its value and has none.
    """
    given = {field: getattr(update, field) for field in update.model_fields_set}
    fields: dict[str, object] = {}
    config: dict[str, object] = {}
    for field, value in given.items():
        if field in {"args", "secrets", "mounts"}:
            config[field] = value or []
        elif field == "env":
            config[field] = _unmasked(value or {}, record.config.env)
        elif field == "description":
            fields[field] = value
        elif value is not None:
            (fields if field in {"name", "shared"} else config)[field] = value
    return record.model_copy(update={**fields, "config": record.config.model_copy(update=config)})


def _unmasked(env: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """The environment with what is stored in place of each ``MASK``."""
    for variable, value in env.items():
        if value == MASK and variable not in stored:
            raise MaskedValue(f"env.{variable}: {MASK} stands for the stored value, and there is none: send the value")
    return {variable: stored[variable] if value == MASK else value for variable, value in env.items()}
