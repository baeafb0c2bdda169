"""A thousand operations at once through two stores on one database, held against what each of them answered."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import event

from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig, Status
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql.names import SERVER_NAME, name_key
from doogie_client.service.store import Change, ConfigChanged, ConfigNotFound, NameTaken, VersionConflict
from tests.support.postgres import PostgresCluster

OPERATIONS = 1000
NAMES = 40


class Model:
    """What the answers of the operations say must be true of the table."""

    def __init__(self) -> None:
        self.seen: defaultdict[str, dict[int, ConfigRecord]] = defaultdict(dict)  # by id and version
        self.deleted: Counter[str] = Counter()
        self.told: Counter[ConfigChanged] = Counter()
        self.refused: Counter[type[Exception]] = Counter()

    def saw(self, change: Change, record: ConfigRecord) -> None:
        assert record.version not in self.seen[record.id], "two edits made the same version"
        self.seen[record.id][record.version] = record
        self.told[ConfigChanged(change, record.id)] += 1

    def check(self, table: list[ConfigRecord]) -> None:
        """Hold the table against it."""
        assert len({name_key(record.name) for record in table}) == len(table)
        assert len({record.server_name for record in table}) == len(table)
        assert max(self.deleted.values()) == 1
        assert {record.id for record in table} == self.seen.keys() - self.deleted.keys()
        for versions in self.seen.values():
            assert sorted(versions) == list(range(1, len(versions) + 1))  # no edit was lost
            assert len({record.server_name for record in versions.values()}) == 1
            assert SERVER_NAME.fullmatch(versions[1].server_name)
        for record in table:
            status = {"status": record.status, "container_id": record.container_id}
            assert record == self.seen[record.id][max(self.seen[record.id])].model_copy(update=status)


def operations(
    stores: list[SqlConfigStore], model: Model, chance: random.Random
) -> list[Callable[[], Awaitable[None]]]:
    """A mix of operations; which configuration each is about is decided when it runs."""

    def somebody() -> str:
        return chance.choice([*model.seen, "nobody"])

    def some_name() -> str:
        name = f"Server {chance.randrange(NAMES)}"
        return chance.choice([name, name.upper(), name.lower()])

    async def create() -> None:
        config = ServerConfig(command="mcp/time", env={"N": str(chance.random())})
        model.saw(
            Change.CREATED, await chance.choice(stores).create(NewConfig(name=some_name(), config=config), "alice")
        )

    async def edit() -> None:
        update = ConfigUpdate(env={"N": str(chance.random())})
        model.saw(Change.UPDATED, await chance.choice(stores).update(somebody(), update))

    async def rename() -> None:
        update = ConfigUpdate(name=some_name(), description=str(chance.random()))
        known = list(model.seen)
        config_id = somebody()
        version = max(model.seen[config_id]) if config_id in known else None
        model.saw(Change.UPDATED, await chance.choice(stores).update(config_id, update, version=version))

    async def remove() -> None:
        config_id = somebody()
        if await chance.choice(stores).delete(config_id):
            model.deleted[config_id] += 1
            model.told[ConfigChanged(Change.DELETED, config_id)] += 1

    async def status() -> None:
        status = chance.choice(list(Status))
        await chance.choice(stores).set_status(somebody(), status, container_id=status.value, error_message=None)

    async def read() -> None:
        listed = await chance.choice(stores).list(limit=10)
        assert [name_key(record.name) for record in listed] == sorted(name_key(record.name) for record in listed)

    kinds = chance.choices([create, edit, rename, remove, status, read], weights=[25, 20, 15, 10, 20, 10], k=OPERATIONS)
    return list(kinds)


async def test_a_thousand_concurrent_operations_leave_a_consistent_table(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    model = Model()
    chance = random.Random(1000)

    async def counted(operation: Callable[[], Awaitable[None]]) -> None:
        try:
            await operation()
        except (NameTaken, VersionConflict, ConfigNotFound) as exc:
            model.refused[type(exc)] += 1

    async with await SqlConfigStore.open(database, key_file=key_file) as other, other.changes() as news:
        for number in range(0, NAMES, 2):  # for the first operations, which all begin before any has ended
            new = NewConfig(name=f"Server {number}", config=ServerConfig(command="mcp/time"))
            model.saw(Change.CREATED, await store.create(new, "alice"))
        await asyncio.gather(*(each.list() for each in (store, other) * 10))  # so that all connections are there
        mix = operations([store, other], model, chance)
        async with asyncio.TaskGroup() as group:
            for operation in mix:
                group.create_task(counted(operation))
        model.check(await store.list())
        assert await other.list() == await store.list()
        assert {NameTaken, VersionConflict, ConfigNotFound} == model.refused.keys()
        heard: Counter[ConfigChanged] = Counter()
        while heard.total() - sum(n for told, n in heard.items() if told.change is Change.STATUS) < model.told.total():
            heard[await asyncio.wait_for(anext(news), 10)] += 1
        assert Counter({told: n for told, n in heard.items() if told.change is not Change.STATUS}) == model.told


async def test_a_database_that_isolates_more_by_default_does_not_make_calls_fail(
    postgres: PostgresCluster, key_file: Path
) -> None:
    with postgres.database() as url:
        name = url.split("/")[3].split("?")[0]
        postgres.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:
            await asyncio.gather(*(store.list() for _ in range(20)))
            created = await store.create(NewConfig(name="one", config=ServerConfig()), "alice")
            edits = (store.update(created.id, ConfigUpdate(description=str(number))) for number in range(50))
            versions = {record.version for record in await asyncio.gather(*edits)}
            assert versions == set(range(2, 52))


async def test_a_call_that_is_cancelled_at_any_point_leaves_the_store_whole(store: SqlConfigStore) -> None:
    kept = await store.create(NewConfig(name="kept", config=ServerConfig(command="mcp/time")), "alice")
    began: list[str] = []
    event.listen(store._database._engine.sync_engine, "begin", lambda _: began.append("transaction"))

    def calls(number: int) -> list[Callable[[], Awaitable[object]]]:
        new = NewConfig(name=f"new {number}", config=ServerConfig(command="mcp/time"))
        return [
            lambda: store.create(new, "alice"),
            lambda: store.update(kept.id, ConfigUpdate(description=str(number))),
            lambda: store.set_status(kept.id, Status.RUNNING, container_id=str(number), error_message=None),
            lambda: store.delete(kept.id, version=10**6),
            lambda: store.list(),
            lambda: _enter_and_leave(store),
        ]

    for number in range(60):
        for call in calls(number):
            task = asyncio.ensure_future(call())
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                with suppress(VersionConflict):
                    task.result()
    assert began
    async with store.lock("lock", wait=False) as held:
        assert held
    final = await store.update(kept.id, ConfigUpdate(description="whole"))
    assert final.description == "whole"
    assert len({record.server_name for record in await store.list()}) == len(await store.list())
    await asyncio.gather(*(store.get(kept.id) for _ in range(20)))  # every connection of the pool is there


async def _enter_and_leave(store: SqlConfigStore) -> None:
    async with store.lock("lock"):
        await asyncio.sleep(0)
