"""``SqlConfigStore``: the ``ConfigStore`` on SQLite (a file) or PostgreSQL, by URL."""

import asyncio
import builtins
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, Select, Table, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.commands.command import MASK
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, Status, UserId
from doogie_client.service.sql.database import Database, T, Work, parse_url
from doogie_client.service.sql.keys import KeyFile, Keyring
from doogie_client.service.sql.locks import Locks
from doogie_client.service.sql.migrate import migrate
from doogie_client.service.sql.names import name_key, server_names
from doogie_client.service.sql.peers import Peers
from doogie_client.service.sql.postgres import PostgresPeers, connector, postgres_database, table_oid
from doogie_client.service.sql.rows import edited, from_row, to_row
from doogie_client.service.sql.sqlite import SqlitePeers, sqlite_database
from doogie_client.service.sql.tables import configs, encryption
from doogie_client.service.store import (
    Change,
    ConfigChanged,
    ConfigNotFound,
    MaskedValue,
    NameTaken,
    StoreMisconfigured,
    VersionConflict,
)

MAX_MESSAGE_CHARS = 4000
ROTATED_AT_ONCE = 50
ALIKE_CHARS = 20

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_USER_ID: TypeAdapter[str] = TypeAdapter(UserId)
_INSERTS: dict[str, Callable[[Table], postgresql.Insert | sqlite.Insert]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}


@dataclass(frozen=True)
class Rotation:
    """What ``rotate_keys`` did: the id of the key that all is encrypted with now, and how many rows were not before."""

    key_id: str
    rows: int


class SqlConfigStore:
    """Stored configurations in a database. Make one with ``open``; it belongs to the event loop it was opened in."""

    def __init__(self, database: Database, peers: Peers, keys: KeyFile, ring: Keyring) -> None:
        self._database = database
        self._peers = peers
        self._locks = Locks(peers)
        self._keys = keys
        self._ring = ring

    @classmethod
    async def open(
        cls, url: str, *, key_file: Path, create_key: bool = False, pool_size: int = 5, timeout_s: float = 30
    ) -> Self:
        """Connect, and bring the schema up to this version; several processes may do it at once.

        Args:
            url: ``postgresql://user:password@host/database`` or ``sqlite:///path``.
            key_file: the keys that values are encrypted with, a file that none but its owner can read.
            create_key: make the key file with a fresh key if it is missing.
            pool_size: connections; PostgreSQL needs one more, which news and locks go over.
            timeout_s: longest time for a call, waiting for its turn included.

        Raises:
            StoreUnavailable: the database cannot be reached.
            StoreMisconfigured: URL, key file or schema are not what they should be.
        """
        address = parse_url(url)
        keys = KeyFile(key_file)
        if create_key:
            await asyncio.to_thread(keys.create)
        ring = await asyncio.to_thread(keys.keyring)
        on_sqlite = address.get_backend_name() == "sqlite"
        make_database = sqlite_database if on_sqlite else postgres_database
        database = make_database(address, pool_size=pool_size, timeout_s=timeout_s)
        try:
            await migrate(database)
            peers: Peers
            if on_sqlite:
                peers = SqlitePeers(database, Path(address.database or ""))
            else:
                scope = await database.read(table_oid)
                peers = PostgresPeers(connector(address), database.name, scope=scope, timeout_s=timeout_s)
            store = cls(database, peers, keys, ring)
            await database.write(store._first_key)
            await peers.start()
        except BaseException:
            await database.close()
            raise
        return store

    async def close(self) -> None:
        """Let go of everything: locks are lost, listeners' iterators end, connections are closed."""
        try:
            await self._peers.close()
        finally:
            await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def create(self, new: NewConfig, user_id: str) -> ConfigRecord:
        """Store a configuration, with an id and a ``server_name`` of its own. Raises ``NameTaken``, ``MaskedValue``."""
        for variable, value in new.config.env.items():
            if value == MASK:
                raise MaskedValue(
                    f"env.{variable}: {MASK} stands for a stored value, and there is none: send the value"
                )
        now = datetime.now(UTC)
        record = ConfigRecord(
            id=str(uuid.uuid4()),
            name=new.name,
            server_name="",  # given by _insert
            user_id=_USER_ID.validate_python(user_id),
            config=new.config,
            description=new.description,
            shared=new.shared,
            created_at=now,
            updated_at=now,
        )

        async def work(connection: AsyncConnection) -> ConfigRecord:
            stored = await self._insert(connection, record)
            if stored is None:
                raise NameTaken(f"there is a configuration {new.name!r} already")
            return stored

        return await self._change(work)

    async def get(self, config_id: str) -> ConfigRecord | None:
        """The configuration of this id."""
        if not _ID.fullmatch(config_id):
            return None
        found = await self._read(select(configs).where(configs.c.id == config_id))
        return found[0] if found else None

    async def list(
        self,
        *,
        user_id: str | None = None,
        visible_to: str | None = None,
        enabled: bool | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> builtins.list[ConfigRecord]:
        """Configurations by name: of one owner; of one owner or shared; enabled or not; ``limit`` after that name."""
        query = select(configs).order_by(configs.c.name_key).limit(limit)
        if user_id is not None:
            query = query.where(configs.c.user_id == _storable(user_id))
        if visible_to is not None:
            query = query.where(or_(configs.c.user_id == _storable(visible_to), configs.c.shared))
        if enabled is not None:
            query = query.where(configs.c.enabled == enabled)
        if after is not None:
            query = query.where(configs.c.name_key > name_key(_storable(after)))
        return await self._read(query)

    async def update(self, config_id: str, update: ConfigUpdate, *, version: int | None = None) -> ConfigRecord:
        """Change what ``update`` sets. One that changes nothing is no edit: ``version`` stays.

        Raises ``ConfigNotFound``, ``NameTaken``, ``VersionConflict``, ``MaskedValue``.
        """

        async def work(connection: AsyncConnection) -> ConfigRecord:
            before = await self._locked(connection, config_id)
            if version is not None and version != before.version:
                raise VersionConflict(f"{before.name!r} is at version {before.version}, not {version}: read it again")
            after = edited(before, update)
            if after == before:
                return before
            after = after.model_copy(update={"version": before.version + 1, "updated_at": datetime.now(UTC)})
            await self._save(connection, after)
            await self._peers.tell(connection, ConfigChanged(Change.UPDATED, config_id))
            return after

        return await self._change(work)

    async def delete(self, config_id: str, *, version: int | None = None) -> bool:
        """Remove a configuration; whether there was one. Raises ``VersionConflict``."""
        if not _ID.fullmatch(config_id):
            return False

        async def work(connection: AsyncConnection) -> bool:
            query = select(configs.c.version).where(configs.c.id == config_id).with_for_update()
            stored = await connection.scalar(query)
            if stored is None:
                return False
            if version is not None and version != stored:
                raise VersionConflict(f"the configuration {config_id} is at version {stored}, not {version}")
            await connection.execute(delete(configs).where(configs.c.id == config_id))
            await self._peers.tell(connection, ConfigChanged(Change.DELETED, config_id))
            return True

        return await self._change(work)

    async def set_status(
        self, config_id: str, status: Status, *, container_id: str | None, error_message: str | None
    ) -> None:
        """Note what was seen of the server; not an edit, so neither ``version`` nor ``updated_at`` change."""
        if not _ID.fullmatch(config_id):
            return
        seen = {
            "status": status.value,
            "container_id": None if container_id is None else _storable(container_id),
            "error_message": None if error_message is None else _storable(error_message)[:MAX_MESSAGE_CHARS],
        }
        news = or_(*(configs.c[column].is_distinct_from(value) for column, value in seen.items()))

        async def work(connection: AsyncConnection) -> None:
            noted = await connection.execute(update(configs).where(configs.c.id == config_id, news).values(seen))
            if noted.rowcount:
                await self._peers.tell(connection, ConfigChanged(Change.STATUS, config_id))

        await self._change(work)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[ConfigChanged]]:
        """The news of all processes, this one's too, from entering on; it ends when the store is closed."""
        await self._peers.listening()
        with self._peers.feed.listen() as news:
            yield news

    def lock(
        self, name: str, *, wait: bool = True, on_lost: Callable[[], None] | None = None
    ) -> AbstractAsyncContextManager[bool]:
        """Hold ``name`` for one task of one process at a time, as ``ConfigStore.lock`` says."""
        return self._locks.hold(name, wait=wait, on_lost=on_lost)

    async def rotate_keys(self, *, new_key: bool = False) -> Rotation:
        """Encrypt all with the first key of the file; ``new_key``: with a fresh one, which is put there first.

        Other processes go on meanwhile: whatever they write from the beginning on is written with that key too, and
        they read the file anew when they meet a key that they do not know. Stopped at any point, it may run again. When
        it returns, nothing in the database needs another key.
        """
        async with self.lock("doogie-rotate-keys"):
            if new_key:
                await asyncio.to_thread(self._keys.add_key)
            self._ring = await asyncio.to_thread(self._keys.keyring)
            key_id = self._ring.first
            await self._database.write(lambda connection: _write_with(connection, key_id))
            rows = 0
            while done := await self._database.write(lambda connection: self._rotate_some(connection, key_id)):
                rows += done
            return Rotation(key_id, rows)

    async def _rotate_some(self, connection: AsyncConnection, key_id: str) -> int:
        others = select(configs).where(configs.c.key_id != key_id).order_by(configs.c.id).limit(ROTATED_AT_ONCE)
        rows = (await connection.execute(others.with_for_update())).mappings().all()
        for record in await self._records(rows):
            await self._save(connection, record)
        return len(rows)

    async def _first_key(self, connection: AsyncConnection) -> None:
        """A new database is written with the first key; one that is not must be readable."""
        insert = _INSERTS[connection.dialect.name]
        await connection.execute(insert(encryption).values(id=1, key_id=self._ring.first).on_conflict_do_nothing())
        await self._writing_key(connection)

    async def _read(self, query: Select[Any]) -> builtins.list[ConfigRecord]:
        async def work(connection: AsyncConnection) -> Sequence[RowMapping]:
            rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
            return rows

        return await self._records(await self._database.read(work))

    async def _change(self, work: Work[T]) -> T:
        """Do it in a transaction that tells news."""
        return await self._database.write(work, after=self._peers.committed)

    async def _insert(self, connection: AsyncConnection, record: ConfigRecord) -> ConfigRecord | None:
        """Insert a record under the first ``server_name`` that is free; None where its name or id is taken."""
        ring, key_id = await self._writing_key(connection)
        insert = _INSERTS[connection.dialect.name]
        names = server_names(record.name)
        alike = configs.c.server_name.startswith(next(server_names(record.name))[:ALIKE_CHARS])
        taken = set(await connection.scalars(select(configs.c.server_name).where(alike)))
        for server_name in names:
            if server_name in taken:
                continue
            stored = record.model_copy(update={"server_name": server_name})
            statement = insert(configs).values(to_row(stored, ring, key_id)).on_conflict_do_nothing()
            if (await connection.execute(statement)).rowcount:
                await self._peers.tell(connection, ConfigChanged(Change.CREATED, stored.id))
                return stored
            same = or_(configs.c.name_key == name_key(record.name), configs.c.id == record.id)
            if await connection.scalar(select(configs.c.id).where(same)) is not None:
                return None
        raise AssertionError("there is always a further name")

    async def _locked(self, connection: AsyncConnection, config_id: str) -> ConfigRecord:
        """The configuration, which no other transaction changes until this one ends."""
        row = None
        if _ID.fullmatch(config_id):
            query = select(configs).where(configs.c.id == config_id).with_for_update()
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise ConfigNotFound(f"there is no configuration {config_id!r}")
        return (await self._records([row]))[0]

    async def _save(self, connection: AsyncConnection, record: ConfigRecord) -> None:
        ring, key_id = await self._writing_key(connection)
        row = to_row(record, ring, key_id)
        try:
            await connection.execute(update(configs).where(configs.c.id == record.id).values(row))
        except IntegrityError:
            raise NameTaken(f"there is a configuration {record.name!r} already") from None

    async def _writing_key(self, connection: AsyncConnection) -> tuple[Keyring, str]:
        """The key that this transaction must write with; rotation waits until it has ended."""
        key_id = await connection.scalar(select(encryption.c.key_id).with_for_update(read=True)) or ""
        ring = await self._ring_with([key_id])
        if key_id not in ring:
            raise StoreMisconfigured(
                f"{self._database.name} is written with the key {key_id}, which {self._keys} does not hold"
            )
        return ring, key_id

    async def _ring_with(self, key_ids: Iterable[str]) -> Keyring:
        """The keys; read anew if one of these is not among them."""
        if any(key_id not in self._ring for key_id in key_ids):
            self._ring = await asyncio.to_thread(self._keys.keyring)
        return self._ring

    async def _records(self, rows: Sequence[RowMapping]) -> builtins.list[ConfigRecord]:
        ring = await self._ring_with({row["key_id"] for row in rows})
        return [from_row(row, ring) for row in rows]


async def _write_with(connection: AsyncConnection, key_id: str) -> None:
    """Have every writer use this key: waits for those that have looked at it, and comes before those that have not."""
    await connection.execute(update(encryption).values(key_id=key_id))


def _storable(text: str) -> str:
    """Text without what no database takes: NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
