"""``doogie-chat serve`` with several workers on one database: boot, mixed requests, kills, signals."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from doogie_client.service.records import NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.sql.keys import KeyFile
from doogie_client.web.users import hash_token
from tests.support.chat import ADMIN, ALICE, SLEEPER, Chat, users_document
from tests.support.chat_served import ServedChat, served_chat
from tests.support.harness import ProxyUnderTest, containers_of, write_yaml
from tests.support.postgres import PostgresCluster
from tests.support.recording_engine import RecordingEngine

CLIENTS, ROUNDS = 8, 12
KILLS = 2
STATUSES = {200, 204, 400, 404, 409, 412}
"""What a mixed request may be answered with."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresCluster]:
    """A PostgreSQL server of this module's own."""
    with PostgresCluster() as cluster:
        yield cluster


Settings = dict[str, object]


@pytest.fixture
def on_postgres(postgres: PostgresCluster, tmp_path: Path) -> Iterator[Settings]:
    """Four workers on PostgreSQL."""
    KeyFile(tmp_path / "chat.key").create()
    with postgres.database() as url:
        yield {"database_url": url, "key_file": tmp_path / "chat.key", "workers": 4}


@pytest.fixture(params=["postgresql", "sqlite"])
def on_either(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The same, and two workers on SQLite."""
    if request.param == "postgresql":
        settings: Settings = request.getfixturevalue("on_postgres")
        return settings
    KeyFile(tmp_path / "chat.key").create()
    return {"database_url": f"sqlite:///{tmp_path}/chat.db", "key_file": tmp_path / "chat.key", "workers": 2}


async def running_at(proxy: ProxyUnderTest) -> set[str]:
    answer = await proxy.call("GET", "/v1/servers")
    return {server["name"] for server in answer.json["servers"] if server["state"] == "running"}


def created_by(recorder: RecordingEngine) -> int:
    """How many containers the proxy has had made."""
    return sum("/containers/create" in str(request) for request in recorder.about_containers())


async def test_many_workers_start_each_enabled_server_once(
    chat_proxy: ProxyUnderTest, tmp_path: Path, on_postgres: Settings
) -> None:
    key_file = tmp_path / "chat.key"
    async with await SqlConfigStore.open(str(on_postgres["database_url"]), key_file=key_file, create_key=True) as store:
        for number in range(3):
            await store.create(NewConfig(name=f"server {number}", config=ServerConfig(**SLEEPER)), "admin")
        await store.create(NewConfig(name="disabled", config=ServerConfig(**SLEEPER, enabled=False)), "admin")
    async with served_chat(tmp_path, chat_proxy, **on_postgres) as chat:
        booted = await chat.until_logged("enabled_servers_started", int(str(on_postgres["workers"])))
        assert sorted(event["started"] for event in booted) == [0] * (len(booted) - 1) + [3]
        assert await running_at(chat_proxy) == {"server-0", "server-1", "server-2"}
        assert len(containers_of(chat_proxy.instance)) == 3
        assert created_by(chat_proxy.recorder) == 3
        starts = [event["server"] for event in chat.logged("server_operation") if event["what"] == "start"]
        assert sorted(starts) == ["server-0", "server-1", "server-2"]
        assert chat.defects() == []
        await clean(chat)


async def clean(chat: Chat) -> None:
    """Remove all that there is."""
    for config in (await chat.call("GET", "./configs")).json:
        chat.created.append(config["id"])
    await chat.delete_all()


class Client:
    """Who sends mixed requests, and what the answers said."""

    def __init__(self, chat: ServedChat, number: int) -> None:
        self.chat = chat
        self.number = number
        self.random = random.Random(number)
        self.edits: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.statuses: list[int] = []

    async def run(self, shared: list[str]) -> None:
        for turn in range(ROUNDS):
            await self._one(shared, turn)

    async def _one(self, shared: list[str], turn: int) -> None:
        config_id = self.random.choice(shared)
        match self.random.randrange(8):
            case 0:
                made = await self.chat.create(f"of {self.number} in {turn}")
                shared.append(made["id"])
            case 1 | 2:
                description = f"{self.number}-{turn}"
                answer = await self.chat.call("PUT", f"./configs/{config_id}", {"description": description})
                self.statuses.append(answer.status)
                if answer.status == 200:
                    self.edits[config_id] = self.edits.get(config_id, 0) + 1
            case 3:
                answer = await self.chat.call("DELETE", f"./configs/{config_id}")
                self.statuses.append(answer.status)
                if answer.status == 204:
                    self.deleted.add(config_id)
            case 4 | 5:
                self.statuses.append((await self.chat.call("POST", f"./configs/{config_id}/start")).status)
            case 6:
                self.statuses.append((await self.chat.call("POST", f"./configs/{config_id}/stop")).status)
            case _:
                self.statuses.append((await self.chat.call("GET", f"./configs/{config_id}/status")).status)


async def test_mixed_requests_through_many_workers_leave_a_consistent_state(
    chat_proxy: ProxyUnderTest, tmp_path: Path, on_either: Settings
) -> None:
    async with served_chat(tmp_path, chat_proxy, **on_either) as chat:
        shared = [(await chat.create(f"shared {number}"))["id"] for number in range(6)]
        clients = [Client(chat, number) for number in range(CLIENTS)]
        await asyncio.gather(*(client.run(shared) for client in clients))

        assert {status for client in clients for status in client.statuses} <= STATUSES
        deleted = [config_id for client in clients for config_id in client.deleted]
        assert len(set(deleted)) == len(deleted), "one was deleted twice"
        left = {config["id"]: config for config in (await chat.call("GET", "./configs")).json}
        assert set(left) == set(shared) - set(deleted)
        for config_id, config in left.items():
            edits = sum(client.edits.get(config_id, 0) for client in clients)
            assert config["version"] == 1 + edits
        said = {}
        for config_id, config in left.items():
            said[config["server_name"]] = (await chat.call("GET", f"./configs/{config_id}/status")).json["status"]
        running = {name for name, status in said.items() if status == "running"}
        assert await running_at(chat_proxy) == running
        assert len(containers_of(chat_proxy.instance)) == len(running)
        served = {event["pid"] for event in chat.logged("request")}
        assert served == set(chat.workers()), "not every worker was asked"
        assert chat.defects() == []
        print(f"{sum(len(client.statuses) for client in clients)} requests, {len(left)} left, {len(running)} running")
        await clean(chat)


async def test_a_worker_that_is_killed_loses_no_committed_row(
    chat_proxy: ProxyUnderTest, tmp_path: Path, on_postgres: Settings
) -> None:
    async with served_chat(tmp_path, chat_proxy, **on_postgres) as chat:
        committed: dict[str, int] = {}
        lost = 0
        done = asyncio.Event()

        async def write(number: int) -> None:
            nonlocal lost
            turn = 0
            while not done.is_set():
                turn += 1
                try:
                    made = await chat.create(f"{number} {turn}", enabled=False)
                    committed[made["id"]] = 1
                    answer = await chat.call("PUT", f"./configs/{made['id']}", {"description": "edited"})
                    assert answer.status == 200, answer.text
                    committed[made["id"]] = 2
                except aiohttp.ClientError:
                    lost += 1

        async def kill(times: int) -> None:
            for _ in range(times):
                before = set(chat.workers())
                victim = random.choice(sorted(before))
                os.kill(victim, signal.SIGKILL)
                await chat.until_logged("serving", len(chat.logged("worker_died")) + int(str(on_postgres["workers"])))
                while victim in chat.workers() or len(chat.workers()) < len(before):
                    await asyncio.sleep(0.02)
            done.set()

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(write(number))
            tasks.create_task(kill(KILLS))
        stored = {config["id"]: config["version"] for config in (await chat.call("GET", "./configs")).json}
        assert {config_id for config_id, version in committed.items() if stored.get(config_id, 0) < version} == set()
        assert len(chat.logged("worker_died")) == KILLS
        assert [event["event"] for event in chat.defects()] == ["worker_died"] * KILLS
        print(f"{len(committed)} committed, {lost} answers lost, {len(stored)} stored")


async def test_a_hangup_has_every_worker_read_the_users_file_anew(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with served_chat(tmp_path, chat_proxy, workers=2) as chat:
        document = users_document()
        document["users"] = {"carol": {"role": "user", "token_sha256": [hash_token("token-of-carol")]}}
        write_yaml(tmp_path / "users.yaml", document)
        chat.process.send_signal(signal.SIGHUP)
        await chat.until_logged("reloaded", 2)
        for _ in range(8):
            assert (await chat.call("GET", "./configs", token="token-of-carol")).status == 200
            assert (await chat.call("GET", "./configs", token=ADMIN)).status == 401
        (tmp_path / "users.yaml").write_text("version: 1\nusers:\n  carol: {role: user}\n")
        chat.process.send_signal(signal.SIGHUP)
        refused = await chat.until_logged("reload_refused", 2)
        assert refused[0]["faults"] == [f"{tmp_path}/users.yaml:3: users.carol.token_sha256: Field required"]
        assert (await chat.call("GET", "./configs", token="token-of-carol")).status == 200


async def test_requests_under_way_are_answered_before_the_end(chat_proxy: ProxyUnderTest, tmp_path: Path) -> None:
    async with served_chat(tmp_path, chat_proxy) as chat:
        made = await chat.create("server")
        async with chat.events(token=ALICE) as events:
            starting = asyncio.create_task(chat.call("POST", f"./configs/{made['id']}/start"))
            await asyncio.sleep(0)
            while not starting.done() and not any(
                made["server_name"] in str(r) for r in chat_proxy.recorder.about_containers()
            ):
                await asyncio.sleep(0.01)
            chat.process.send_signal(signal.SIGTERM)
            assert (await starting).status == 200
            while await events.block() is not None:
                pass
        assert await chat.process.wait() == 0
        assert await running_at(chat_proxy) == {"server"}
    await chat_proxy.stop("server")
