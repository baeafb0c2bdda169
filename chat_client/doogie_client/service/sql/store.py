"""``SqlConfigStore``: the ``ConfigStore`` on SQLite (a file) or PostgreSQL, by URL."""

import asyncio
import builtins
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, Select, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from doogie_client.commands.command import MASK
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, Status, UserId
from doogie_client.service.sql.config_table import ConfigTable
from doogie_client.service.sql.database import Database, T, Work, parse_url
from doogie_client.service.sql.keys import KeyFile
from doogie_client.service.sql.locks import Locks
from doogie_client.service.sql.migrate import migrate
from doogie_client.service.sql.names import name_key
from doogie_client.service.sql.old_table import OldTableImport, import_rows, read_old_table
from doogie_client.service.sql.peers import Peers
from doogie_client.service.sql.postgres import PostgresPeers, connector, postgres_database, table_oid
from doogie_client.service.sql.rows import edited, is_id
from doogie_client.service.sql.sqlite import SqlitePeers, sqlite_database
from doogie_client.service.sql.tables import configs
from doogie_client.service.store import (
    Change,
    ConfigChanged,
    ConfigEdit,
    ConfigNotFound,
    MaskedValue,
    NameTaken,
    VersionConflict,
)

MAX_MESSAGE_CHARS = 4000

_USER_ID: TypeAdapter[str] = TypeAdapter(UserId)


@dataclass(frozen=True)
class Rotation:
    """What ``rotate_keys`` did: the id of the key that all is encrypted with now, and how many rows were not before."""

    key_id: str
    rows: int


class SqlConfigStore:
    """Stored configurations in a database. Make one with ``open``; it belongs to the event loop it was opened in."""

    def __init__(self, database: Database, peers: Peers, keys: KeyFile, table: ConfigTable) -> None:
        self._database = database
        self._peers = peers
        self._locks = Locks(peers)
        self._keys = keys
        self._table = table

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
            table = ConfigTable(keys, ring)
            await database.write(table.begin)
            await peers.start()
        except BaseException:
            await database.close()
            raise
        return cls(database, peers, keys, table)

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
        record = _record(new, user_id)
        return await self._change(lambda connection: self._created(connection, record))

    async def save_all(self, changes: Sequence[NewConfig | ConfigEdit], user_id: str) -> Sequence[ConfigRecord]:
        """Store new ones, which are of this user, and change others: all of them in this order, or none.

        Raises what ``create`` and ``update`` do.
        """
        prepared = [_record(change, user_id) if isinstance(change, NewConfig) else change for change in changes]

        async def work(connection: AsyncConnection) -> Sequence[ConfigRecord]:
            return [
                await self._updated(connection, change.config_id, change.update, change.version)
                if isinstance(change, ConfigEdit)
                else await self._created(connection, change)
                for change in prepared
            ]

        return await self._change(work)

    async def get(self, config_id: str) -> ConfigRecord | None:
        """The configuration of this id."""
        if not is_id(config_id):
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
        if limit is not None and limit < 0:
            raise ValueError("there are no fewer than 0 configurations")
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
        return await self._change(lambda connection: self._updated(connection, config_id, update, version))

    async def delete(self, config_id: str, *, version: int | None = None) -> bool:
        """Remove a configuration; whether there was one. Raises ``VersionConflict``."""
        if not is_id(config_id):
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
        if not is_id(config_id):
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
            key_id = await self._database.write(self._table.write_with_first_key)
            rows = 0
            while done := await self._database.write(lambda connection: self._table.encrypt_anew(connection, key_id)):
                rows += done
            return Rotation(key_id, rows)

    async def import_old_table(self, path: Path, *, shared: bool = False) -> OldTableImport:
        """Take over the configurations of DoogieBot's own SQLite database, which is only read: all of them or none.

        They keep their ids, so that running it again imports nothing twice. Names that are taken get a number.

        Raises:
            StoreMisconfigured: there is no such file or no such table in it.
        """
        rows = await asyncio.to_thread(read_old_table, path, shared=shared)

        async def work(connection: AsyncConnection) -> OldTableImport:
            imported = await import_rows(connection, self._table, rows)
            for config in imported.imported:
                await self._peers.tell(connection, ConfigChanged(Change.CREATED, config.id))
            return imported

        async with self.lock("doogie-import-old-table"):
            return await self._change(work)

    async def _created(self, connection: AsyncConnection, record: ConfigRecord) -> ConfigRecord:
        stored = await self._table.insert(connection, record)
        if stored is None:
            raise NameTaken(f"there is a configuration {record.name!r} already")
        await self._peers.tell(connection, ConfigChanged(Change.CREATED, stored.id))
        return stored

    async def _updated(
        self, connection: AsyncConnection, config_id: str, update: ConfigUpdate, version: int | None
    ) -> ConfigRecord:
        if not is_id(config_id):
            raise ConfigNotFound("what is no id is no configuration's")
        before = await self._table.locked(connection, config_id)
        if before is None:
            raise ConfigNotFound(f"there is no configuration {config_id!r}")
        if version is not None and version != before.version:
            raise VersionConflict(f"{before.name!r} is at version {before.version}, not {version}: read it again")
        after = edited(before, update)
        if after == before:
            return before
        after = after.model_copy(update={"version": before.version + 1, "updated_at": datetime.now(UTC)})
        await self._table.save(connection, after)
        await self._peers.tell(connection, ConfigChanged(Change.UPDATED, config_id))
        return after

    async def _read(self, query: Select[Any]) -> builtins.list[ConfigRecord]:
        async def work(connection: AsyncConnection) -> Sequence[RowMapping]:
            rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
            return rows

        return await self._table.records(await self._database.read(work))

    async def _change(self, work: Work[T]) -> T:
        """Do it in a transaction that tells news."""
        return await self._database.write(work, after=self._peers.committed)


def _record(new: NewConfig, user_id: str) -> ConfigRecord:
    """What is to be inserted. Raises ``MaskedValue``."""
    for variable, value in new.config.env.items():
        if value == MASK:
            raise MaskedValue(f"env.{variable}: {MASK} stands for a stored value, and there is none: send the value")
    now = datetime.now(UTC)
    return ConfigRecord(
        id=str(uuid.uuid4()),
        name=new.name,
        server_name="",  # given when it is inserted
        user_id=_USER_ID.validate_python(user_id),
        config=new.config,
        description=new.description,
        shared=new.shared,
        created_at=now,
        updated_at=now,
    )


def _storable(text: str) -> str:
    """Text without what no database takes: NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
