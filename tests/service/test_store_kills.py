"""Whatever is killed, no committed change is lost and none is half there."""

import asyncio
import random
from pathlib import Path

from doogie_client.service.sql import SqlConfigStore
from tests.service.processes import Worker, rotate, whole_generation, worker, write_without_end
from tests.support.postgres import PostgresCluster

ROUNDS = 15


class Committed:
    """What writers have reported: the last generation of each id."""

    def __init__(self) -> None:
        self._generations: dict[str, int] = {}

    async def read(self, running: Worker) -> None:
        """Read one report."""
        report = await running.received()
        assert isinstance(report, tuple)
        config_id, number = report
        self._generations[config_id] = number

    async def read_rest(self, running: Worker) -> None:
        """Read what a dead one has left in the pipe."""
        try:
            while True:
                await self.read(running)
        except EOFError:
            pass

    async def assert_kept(self, store: SqlConfigStore) -> None:
        """All of it is there, and at most the one change more that could not be reported."""
        stored = {record.id: whole_generation(record) for record in await store.list()}
        for config_id, number in self._generations.items():
            assert stored[config_id] in {number, number + 1}
        assert len(stored) <= len(self._generations) + 1
        self._generations = stored


async def test_a_killed_writer_loses_no_committed_change_and_leaves_no_half_one(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    chance = random.Random(20)
    committed = Committed()
    for _ in range(ROUNDS):
        with worker(write_without_end, database, key_file) as running:
            await committed.read(running)
            await asyncio.sleep(chance.uniform(0, 0.15))  # until some moment
            running.kill()
            await committed.read_rest(running)
        await committed.assert_kept(store)


async def test_a_database_server_that_crashes_loses_no_committed_change(
    postgres: PostgresCluster, key_file: Path
) -> None:
    chance = random.Random(3)
    committed = Committed()
    with postgres.database() as url:
        for _ in range(3):
            with worker(write_without_end, url, key_file, create_key=True) as running:
                await committed.read(running)
                await asyncio.sleep(chance.uniform(0, 0.3))  # until some moment
                postgres.stop("immediate")
                running.kill()
                await committed.read_rest(running)
            postgres.start()
            async with await SqlConfigStore.open(url, key_file=key_file) as store:
                await committed.assert_kept(store)


async def test_a_rotation_that_is_killed_again_and_again_beside_a_writer_loses_nothing(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    chance = random.Random(10)
    committed = Committed()
    with worker(write_without_end, database, key_file) as writing:
        for _ in range(ROUNDS // 2):
            await committed.read(writing)
            with worker(rotate, database, key_file) as rotating:
                await rotating.received()
                await asyncio.sleep(chance.uniform(0, 0.15))  # until some moment
        writing.kill()
        await committed.read_rest(writing)
    await committed.assert_kept(store)
    rotated = await store.rotate_keys()
    first, *_ = key_file.read_text().split()
    key_file.write_text(first + "\n")  # nothing needs the others any more
    assert rotated.rows >= 0
    async with await SqlConfigStore.open(database, key_file=key_file) as reopened:
        assert await reopened.list() == await store.list()
