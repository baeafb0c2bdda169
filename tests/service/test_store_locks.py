"""Locks exclude other processes, are let go of with them, and tell their holder when they are lost."""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql.sqlite import LockFiles
from doogie_client.service.store import LockLost, StoreUnavailable
from tests.service.processes import hold_locks, worker
from tests.support.postgres import PostgresCluster

MANY = 100


def this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def is_free(store: SqlConfigStore, name: str) -> bool:
    async with store.lock(name, wait=False) as held:
        return held


async def test_a_lock_that_another_process_holds_is_free_when_that_is_killed(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    with worker(hold_locks, database, key_file) as holder:
        assert await holder.received() == (True, True)
        assert not await is_free(store, "first")
        assert not await is_free(store, "second")
        assert await is_free(store, "third")
        waiting = asyncio.create_task(anext_of(store, "first"))
        holder.kill()
        assert await asyncio.wait_for(waiting, 20)
    async with asyncio.timeout(20), store.lock("second") as held:
        assert held


async def anext_of(store: SqlConfigStore, name: str) -> bool:
    async with store.lock(name) as held:
        return held


async def test_two_stores_exclude_each_other_and_hand_over(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    inside = 0

    async def work(mine: SqlConfigStore) -> None:
        nonlocal inside
        async with mine.lock("server"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.001)
            inside -= 1

    async with await SqlConfigStore.open(database, key_file=key_file) as other:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(work(store))
                group.create_task(work(other))
        assert await is_free(other, "server")


async def test_many_locks_are_held_at_once_beside_the_work_of_the_store(store: SqlConfigStore) -> None:
    names = [f"server {number}" for number in range(MANY)]
    async with AsyncExitStack() as held:
        for name in names:
            assert await held.enter_async_context(store.lock(name))
        assert await asyncio.gather(*(store.list() for _ in range(MANY))) == [[]] * MANY
        assert not any(await asyncio.gather(*(is_free(store, name) for name in names)))
    assert all(await asyncio.gather(*(is_free(store, name) for name in names)))


async def test_a_lock_is_free_after_an_error_and_after_cancellation_of_its_holder_or_a_waiter(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    async with await SqlConfigStore.open(database, key_file=key_file) as other:
        with pytest.raises(RuntimeError, match="in the body"):
            async with store.lock("server"):
                raise RuntimeError("in the body")
        assert await is_free(other, "server")
        entered = asyncio.Event()

        async def hold(mine: SqlConfigStore) -> None:
            async with mine.lock("server"):
                entered.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(hold(store))
        await entered.wait()
        waiters = [asyncio.create_task(hold(mine)) for mine in (store, other)]
        for waiter in waiters:
            await asyncio.wait([waiter], timeout=0.05)  # it waits
            waiter.cancel()
        holder.cancel()
        await asyncio.wait([holder, *waiters])
        assert all(task.cancelled() for task in (holder, *waiters))
        assert await is_free(other, "server")


async def test_acquiring_that_is_cancelled_at_any_point_holds_nothing(
    store: SqlConfigStore, database: str, key_file: Path
) -> None:
    async with await SqlConfigStore.open(database, key_file=key_file) as other:
        for steps in range(40):
            task = asyncio.create_task(is_free(store, "server"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            async with asyncio.timeout(20), other.lock("server") as held:
                assert held


async def test_names_of_locks_are_any_text(store: SqlConfigStore) -> None:
    names = ["", "/", "../../etc/passwd", "a" * 5000, "\0", "ü", "Server", "server"]
    async with AsyncExitStack() as stack:
        for name in names:
            assert await stack.enter_async_context(store.lock(name, wait=False))


async def test_files_of_locks_are_private_and_go_with_them(tmp_path: Path, key_file: Path) -> None:
    url = f"sqlite:///{tmp_path}/doogie.db"
    directory = tmp_path / "doogie.db.locks"
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store, store.lock("server"):
        (file,) = directory.iterdir()
        assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert list(directory.iterdir()) == []


def test_a_file_that_its_holder_removes_while_another_opens_it_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, other, third = (LockFiles(tmp_path / "locks") for _ in range(3))
    flock = fcntl.flock
    assert holder.acquire("server")

    def let_go_just_now(descriptor: int, operation: int) -> None:
        holder.release("server")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", let_go_just_now)
    assert not other.acquire("server")  # what it has locked is not there any more
    monkeypatch.undo()
    assert third.acquire("server")
    assert not other.acquire("server")
    third.release("server")
    assert other.acquire("server")
    other.release("server")
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_file_is_removed_before_it_is_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, other = LockFiles(tmp_path / "locks"), LockFiles(tmp_path / "locks")
    close = os.close
    assert holder.acquire("server")

    def another_comes_first(descriptor: int) -> None:
        close(descriptor)
        monkeypatch.undo()
        assert other.acquire("server")

    monkeypatch.setattr(os, "close", another_comes_first)
    holder.release("server")
    assert not holder.acquire("server")
    other.release("server")


async def test_a_lock_that_cannot_be_made_says_so(tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "doogie.db.locks").touch()
    async with await SqlConfigStore.open(
        f"sqlite:///{tmp_path}/doogie.db", key_file=key_file, create_key=True
    ) as store:
        with pytest.raises(StoreUnavailable, match="no lock can be made"):
            await is_free(store, "server")


async def test_a_closed_store_holds_nothing_and_says_so(store: SqlConfigStore, database: str, key_file: Path) -> None:
    held = asyncio.Event()

    async def hold() -> None:
        async with asyncio.timeout(20), store.lock("server"):
            held.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    waiter = asyncio.create_task(anext_of(store, "server"))
    await held.wait()
    await store.close()
    with pytest.raises(LockLost):
        await holder
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await waiter
    async with await SqlConfigStore.open(database, key_file=key_file) as other:
        assert await is_free(other, "server")


# --- PostgreSQL: what depends on a connection can be lost with it ---------------------------------------------------


@pytest.fixture
def server_database(postgres: PostgresCluster) -> Iterator[tuple[str, str]]:
    """The URL and the name of an empty database."""
    with postgres.database() as url:
        yield url, url.split("/")[3].split("?")[0]


def connections(postgres: PostgresCluster, name: str, action: str = "count(*)") -> str:
    """What is to be known of, or done to, the connections that hold locks."""
    holders = "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND database = "
    holders += f"(SELECT oid FROM pg_database WHERE datname = '{name}')"
    return postgres.sql(f"SELECT {action} FROM ({holders}) AS holders")


async def test_one_connection_holds_all_locks(
    postgres: PostgresCluster, server_database: tuple[str, str], key_file: Path
) -> None:
    url, name = server_database
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store, AsyncExitStack() as held:
        for number in range(MANY):
            await held.enter_async_context(store.lock(str(number)))
        assert connections(postgres, name) == "1"
    assert connections(postgres, name) == "0"


async def test_a_holder_is_cancelled_when_its_lock_is_lost_and_can_take_it_again(
    postgres: PostgresCluster, server_database: tuple[str, str], key_file: Path
) -> None:
    url, name = server_database
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:

        async def hold() -> None:
            async with asyncio.timeout(20), store.lock("server"):
                connections(postgres, name, "pg_terminate_backend(pid)")
                await asyncio.Event().wait()

        with pytest.raises(LockLost, match="'server' was lost"):
            await hold()
        assert this_task().cancelling() == 0
        async with asyncio.timeout(20), store.lock("server") as held:
            assert held


async def test_a_holder_that_gives_a_callback_is_called_and_goes_on(
    postgres: PostgresCluster, server_database: tuple[str, str], key_file: Path
) -> None:
    url, name = server_database
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:
        lost = asyncio.Event()
        async with store.lock("server", on_lost=lost.set), store.lock("another", on_lost=lambda: None):
            connections(postgres, name, "pg_terminate_backend(pid)")
            await asyncio.wait_for(lost.wait(), 20)
            await asyncio.sleep(0)  # it is not cancelled
        assert await store.list() == []


async def test_a_lock_that_is_lost_while_its_holder_ends_disturbs_nothing_after_it(
    postgres: PostgresCluster, server_database: tuple[str, str], key_file: Path
) -> None:
    url, _ = server_database
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:
        with pytest.raises(LockLost):
            async with store.lock("server"):
                store._peers._held["server"]()  # type: ignore[attr-defined] # lost in this very moment
        await asyncio.sleep(0)
        assert this_task().cancelling() == 0

        async def lost_and_cancelled() -> None:
            async with store.lock("server"):
                store._peers._held["server"]()  # type: ignore[attr-defined] # as above
                this_task().cancel()
                await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):  # who cancels it must see it cancelled
            await lost_and_cancelled()
        assert this_task().uncancel() == 0


async def test_who_waits_for_a_lock_waits_on_through_a_restart_of_the_server(
    postgres: PostgresCluster, server_database: tuple[str, str], key_file: Path
) -> None:
    url, _ = server_database
    async with await SqlConfigStore.open(url, key_file=key_file, create_key=True) as store:
        postgres.stop()
        waiting = asyncio.create_task(anext_of(store, "server"))
        await asyncio.sleep(0)
        postgres.start()
        assert await asyncio.wait_for(waiting, 20)
