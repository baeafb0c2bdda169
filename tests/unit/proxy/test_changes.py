"""What a reader of changes is told, and how little is held for one that does not read."""

import asyncio

import pytest

from doogie_proxy.changes import MAX_WAITING, Changes
from doogie_proxy.server import Key


async def test_a_reader_is_told_what_has_changed_how_often_and_of_its_client_alone() -> None:
    changes = Changes()
    with changes.reader("chat") as reader:
        changes.tell(Key("chat", "a"))
        changes.tell(Key("other", "b"))
        changes.tell(Key("chat", "a"))
        changes.tell(Key("chat", "c"))
        assert await reader.next() == {"a": 2, "c": 1}
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        changes.tell(Key("chat", "a"))
        assert await waiting == {"a": 1}


async def test_a_change_before_the_reader_came_or_after_it_left_is_not_held() -> None:
    changes = Changes()
    changes.tell(Key("chat", "a"))
    with changes.reader("chat") as reader, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader.next()
    changes.tell(Key("chat", "a"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reader.next()


async def test_a_reader_that_waits_too_long_is_told_to_look_at_everything_once() -> None:
    changes = Changes()
    with changes.reader("chat") as reader:
        for number in range(MAX_WAITING):
            changes.tell(Key("chat", f"s{number}"))
        assert len(await reader.next() or {}) == MAX_WAITING
        for number in range(MAX_WAITING + 1):
            changes.tell(Key("chat", f"s{number}"))
        assert await reader.next() is None
        changes.tell(Key("chat", "a"))
        assert await reader.next() == {"a": 1}


async def test_news_that_a_cancelled_wait_did_not_take_are_there_for_the_next() -> None:
    changes = Changes()
    with changes.reader("chat") as reader:
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        changes.tell(Key("chat", "a"))
        assert await reader.next() == {"a": 1}
        changes.look_again()
        assert await reader.next() is None
