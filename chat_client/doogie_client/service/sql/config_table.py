"""``ConfigTable``: the table of configurations inside a transaction, encrypted on the way in, decrypted on the way out.

Which key a transaction writes with is said by a row of the database (``doogie_encryption``), not by the key file. Every
writer holds that row, shared, until it has ended; so once it was changed, nothing is written with the old key any more.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import RowMapping, Table, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.service.records import ConfigRecord
from doogie_client.service.sql.keys import KeyFile, Keyring
from doogie_client.service.sql.names import name_key, server_names
from doogie_client.service.sql.rows import from_row, to_row
from doogie_client.service.sql.tables import configs, encryption
from doogie_client.service.store import NameTaken, StoreMisconfigured

ROTATED_AT_ONCE = 50
ALIKE_CHARS = 20
"""Server names that begin alike so far are looked at before one is chosen; a number at the end takes the rest."""

_INSERTS: dict[str, Callable[[Table], postgresql.Insert | sqlite.Insert]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}


class ConfigTable:
    """The configurations. Every method but ``records`` is a part of the connection's transaction."""

    def __init__(self, keys: KeyFile, ring: Keyring) -> None:
        self._keys = keys
        self._ring = ring

    async def insert(self, connection: AsyncConnection, record: ConfigRecord) -> ConfigRecord | None:
        """Insert a record, under the first ``server_name`` that is free; None where its name or id is taken."""
        ring, key_id = await self._writing_key(connection)
        candidates = server_names(record.name)
        alike = configs.c.server_name.startswith(next(server_names(record.name))[:ALIKE_CHARS])
        taken = set(await connection.scalars(select(configs.c.server_name).where(alike)))
        while True:
            server_name = next(name for name in candidates if name not in taken)
            stored = record.model_copy(update={"server_name": server_name})
            statement = _insert_into(connection, configs).values(to_row(stored, ring, key_id)).on_conflict_do_nothing()
            if (await connection.execute(statement)).rowcount:
                return stored
            # Somebody else was first, with the same name or but the same server name.
            same = or_(configs.c.name_key == name_key(record.name), configs.c.id == record.id)
            if await connection.scalar(select(configs.c.id).where(same)) is not None:
                return None

    async def locked(self, connection: AsyncConnection, config_id: str) -> ConfigRecord | None:
        """The configuration, which no other transaction changes until this one ends."""
        query = select(configs).where(configs.c.id == config_id).with_for_update()
        row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else (await self.records([row]))[0]

    async def save(self, connection: AsyncConnection, record: ConfigRecord) -> None:
        """Store a record that is there already. Raises ``NameTaken``."""
        row = to_row(record, *await self._writing_key(connection))
        try:
            await connection.execute(update(configs).where(configs.c.id == record.id).values(row))
        except IntegrityError:
            raise NameTaken(f"there is a configuration {record.name!r} already") from None

    async def records(self, rows: Sequence[RowMapping]) -> list[ConfigRecord]:
        """Decrypt rows. Raises ``SecretsUnreadable``."""
        ring = await self._ring_with({row["key_id"] for row in rows})
        return [from_row(row, ring) for row in rows]

    async def begin(self, connection: AsyncConnection) -> None:
        """Have a new database written with the first key of the file; hold that the key of another is in the file."""
        first = _insert_into(connection, encryption).values(id=1, key_id=self._ring.first)
        await connection.execute(first.on_conflict_do_nothing())
        await self._writing_key(connection)

    async def write_with_first_key(self, connection: AsyncConnection) -> str:
        """Have all that is written from now on, by whomever, be written with the first key of the file; its id."""
        self._ring = await asyncio.to_thread(self._keys.keyring)
        await connection.execute(update(encryption).values(key_id=self._ring.first))
        return self._ring.first

    async def encrypt_anew(self, connection: AsyncConnection, key_id: str) -> int:
        """Encrypt some of those that are not yet with this key, which is the one to write with; how many."""
        others = select(configs).where(configs.c.key_id != key_id).order_by(configs.c.id).limit(ROTATED_AT_ONCE)
        rows = (await connection.execute(others.with_for_update())).mappings().all()
        for record in await self.records(rows):
            await self.save(connection, record)
        return len(rows)

    async def _writing_key(self, connection: AsyncConnection) -> tuple[Keyring, str]:
        key_id = await connection.scalar(select(encryption.c.key_id).with_for_update(read=True)) or ""
        ring = await self._ring_with([key_id])
        if key_id not in ring:
            raise StoreMisconfigured(f"the database is written with the key {key_id}, which {self._keys} does not hold")
        return ring, key_id

    async def _ring_with(self, key_ids: Iterable[str]) -> Keyring:
        """The keys; read anew if one of these is not among them."""
        if any(key_id not in self._ring for key_id in key_ids):
            self._ring = await asyncio.to_thread(self._keys.keyring)
        return self._ring


def _insert_into(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Their ON CONFLICT is no standard's: each has its own INSERT."""
    return _INSERTS[connection.dialect.name](table)
