"""Reads ``mcp_server_configs``, the table that DoogieBot's own service kept in its SQLite database, and nothing else.

    id, name, description, server_type, status, user_id, created_at, updated_at,
    config JSON {command, args, env, enabled}

Source: backend/app/models/mcp_config.py and services/mcp_config_service/crud.py of ThreatFlux/DoogieBot. Names there
are not unique; ``enabled`` is false where it is missing; ``env`` may be null; times are text in UTC.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.commands.command import MASK
from doogie_client.service.records import ConfigRecord, NewConfig, UserId
from doogie_client.service.sql.config_table import ConfigTable
from doogie_client.service.sql.rows import is_id
from doogie_client.service.sql.tables import configs
from doogie_client.service.store import StoreMisconfigured

TABLE = "mcp_server_configs"
MAX_NAME_CHARS = 100

_USER_ID: TypeAdapter[str] = TypeAdapter(UserId)


@dataclass(frozen=True)
class OldConfig:
    """What became of a row of the old table.

    Args:
        id: as it was, and is.
        name: as it was.
        imported_as: the name it has now; None where it was skipped.
        reason: why it was skipped, or has another name.
    """

    id: str
    name: str
    imported_as: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class OldTableImport:
    """The report of an import, in the order of the old table's ages."""

    configs: tuple[OldConfig, ...]

    @property
    def imported(self) -> list[OldConfig]:
        """Those that are there now, the renamed ones among them."""
        return [config for config in self.configs if config.imported_as is not None]

    @property
    def renamed(self) -> list[OldConfig]:
        """Those that are there under another name, because theirs was taken or cannot be one here."""
        return [config for config in self.imported if config.imported_as != config.name]

    @property
    def skipped(self) -> list[OldConfig]:
        """Those that are not there, each with its reason."""
        return [config for config in self.configs if config.imported_as is None]


def read_old_table(path: Path, *, shared: bool) -> list[tuple[OldConfig, ConfigRecord | None]]:
    """All rows of the table, oldest first, with the configuration each would be; None, and a reason, where it is none.

    Raises:
        StoreMisconfigured: there is no such file or no such table in it.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM {TABLE} ORDER BY created_at, id").fetchall()  # noqa: S608 - a constant
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise StoreMisconfigured(f"{path} is not a database of DoogieBot's that can be read: {exc}") from exc
    return [_read(dict(row), shared=shared) for row in rows]


async def import_rows(
    connection: AsyncConnection, table: ConfigTable, rows: Sequence[tuple[OldConfig, ConfigRecord | None]]
) -> OldTableImport:
    """Insert what ``read_old_table`` has read, but for what is there already; one caller at a time."""
    there = set(await connection.scalars(select(configs.c.id)))
    return OldTableImport(tuple([await _import(connection, table, there, *row) for row in rows]))


async def _import(
    connection: AsyncConnection, table: ConfigTable, there: set[str], old: OldConfig, record: ConfigRecord | None
) -> OldConfig:
    if old.id in there:
        return replace(old, reason="it was imported before")
    if record is None:
        return old
    names = names_like(old.name)
    while (stored := await table.insert(connection, record.model_copy(update={"name": next(names)}))) is None:
        pass
    reason = None if stored.name == old.name else f"{old.name!r} is taken, or cannot be a name here"
    return replace(old, imported_as=stored.name, reason=reason)


def names_like(name: str) -> Iterator[str]:
    """A name that can be one here, and what is tried where it is taken: ``Time (2)``, ``Time (3)``, … without end."""
    printable = re.sub(r"[\x00-\x1f\x7f]", " ", name).strip()
    yield printable[:MAX_NAME_CHARS].strip() or "unnamed"
    for number in count(2):
        suffix = f" ({number})"
        yield (printable[: MAX_NAME_CHARS - len(suffix)].strip() or "unnamed") + suffix


def _read(row: Mapping[str, Any], *, shared: bool) -> tuple[OldConfig, ConfigRecord | None]:
    old = OldConfig(str(row.get("id")), str(row.get("name") or ""))
    try:
        return old, _record(old, row, shared=shared)
    except ValidationError as exc:
        faults = exc.errors(include_input=False, include_url=False, include_context=False)
        why = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    except ValueError as exc:
        why = str(exc)
    return OldConfig(old.id, old.name, reason=why), None


def _record(old: OldConfig, row: Mapping[str, Any], *, shared: bool) -> ConfigRecord:
    if not is_id(old.id):
        raise ValueError("its id cannot be one here")
    if row.get("status") == "deleted":
        raise ValueError("it is marked as deleted")
    if row.get("server_type", "custom") != "custom":
        raise ValueError(f"it is no container: its server_type is {row['server_type']}")
    config = json.loads(row.get("config") or "null")
    if not isinstance(config, dict):
        raise ValueError("it has no command")  # noqa: TRY004 - of data, not of an argument
    new = NewConfig.model_validate(
        {
            "name": next(names_like(old.name)),
            "description": row.get("description"),
            "shared": shared,
            "config": {
                "command": config.get("command") or "docker",
                "args": config.get("args") or [],
                "env": config.get("env") or {},
                "enabled": bool(config.get("enabled", False)),
            },
        }
    )
    if MASK in new.config.env.values():
        raise ValueError(f"config.env: a value is {MASK}, which stands for one that is not shown")
    created_at = _time(row.get("created_at"))
    return ConfigRecord(
        id=old.id,
        name=new.name,
        server_name="",  # given when it is stored
        user_id=_USER_ID.validate_python(row.get("user_id")),
        config=new.config,
        description=new.description,
        shared=new.shared,
        created_at=created_at,
        updated_at=max(created_at, _time(row.get("updated_at"))),
    )


def _time(text: object) -> datetime:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.now(UTC)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
