"""Imports into a real store, held against the proxy's own decision."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from doogie_client.errors import InvalidRequest, PolicyDenied, ProxyUnavailable
from doogie_client.hosts.entry import ReasonKind
from doogie_client.hosts.jsonc import DocumentError
from doogie_client.service.exporting import export_commands
from doogie_client.service.import_report import ImportRequest, Outcome
from doogie_client.service.records import ConfigRecord, NewConfig, ServerConfig
from doogie_client.service.sql import SqlConfigStore
from doogie_client.service.store import StoreUnavailable
from doogie_contract.models import Admission, Limits, StartRequest
from doogie_contract.problems import Problem, ProblemDetail, ProblemType
from doogie_proxy.admission import Denied, admit
from doogie_proxy.policy import Policy
from doogie_proxy.policy_file import parse
from tests.service.imports import FAR, FILES, GITHUB, PYTHON, TIME, TIME_IN_DOCKER, Raced, document, imported, outcomes

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # both: test_importing_atomic.py

LIMITS = Limits(
    memory_bytes=1, cpus=1, pids=1, tmp_bytes=1, shm_bytes=1, nofile=1, max_message_bytes=1, buffer_bytes=1,
    replay="none", network="none", user="1:1", detached_ttl_s=1, max_age_s=1, stop_grace_s=1, keep_exited_s=1,
)  # fmt: skip


class Proxy:
    """Decides as the proxy does, by a policy that an operator may change."""

    def __init__(self, policy: str = "") -> None:
        self.policy = Policy.model_validate({"version": 1, "clients": self._clients([]), "rules": []})
        self.asked: list[StartRequest] = []
        if policy:
            self.add(policy)

    @staticmethod
    def _clients(rules: Sequence[str]) -> dict[str, Any]:
        return {"chat": {"token_sha256": ["a" * 64], "rules": list(rules)}}

    def add(self, part: str) -> None:
        """What the operator was handed over, put into the policy file and read by the proxy's own checker."""
        rules = parse(f"version: 1\nclients: {{}}\n{part}").rules
        head = json.dumps(self._clients([rule.name for rule in rules]))
        self.policy = parse(f"version: 1\nclients: {head}\n{part}")

    async def admit(self, request: StartRequest) -> Admission:
        self.asked.append(request)
        decided = admit(self.policy, "chat", request)
        if isinstance(decided, Denied):
            raise PolicyDenied(problem(ProblemType.POLICY_DENIED, decided.errors))
        return Admission(rule=decided.rule.name, image=str(decided.image), args=list(decided.args), limits=LIMITS)


def problem(kind: ProblemType, errors: Sequence[ProblemDetail]) -> Problem:
    return Problem(
        type=kind.urn, title=kind.title, status=kind.status, detail="no", request_id="1", errors=list(errors)
    )


# --- what is saved ------------------------------------------------------------------------------------------------


async def test_a_valid_server_is_saved_and_all_else_comes_back_with_its_reason(store: SqlConfigStore) -> None:
    report = await imported(
        store, document(time=TIME, github=GITHUB, files=FILES, far=FAR, python=PYTHON, broken=1), shared=True
    )
    assert outcomes(report) == {
        "time": "created",
        "github": "needs_input",
        "files": "needs_operator",
        "far": "refused",
        "python": "refused",
        "broken": "refused",
    }
    assert report.saved
    [record] = await store.list()
    assert (record.name, record.user_id, record.shared) == ("time", "alice", True)
    assert record.config == ServerConfig(command="uvx", args=["mcp-server-time"])
    time, github, files, far, *_ = report.servers
    assert time.config_id == record.id
    assert [known.id for known in github.inputs if known.missing and known.secret] == ["GITHUB_TOKEN"]
    assert files.needs_operator is not None
    assert files.command is not None
    assert (files.command.args[-1], files.command.mounts) == ("/data/desktop", ["desktop"])
    assert [reason.kind for reason in far.reasons] == [ReasonKind.REMOTE]
    assert all(server.reasons for server in report.servers if server.outcome is not Outcome.CREATED)


async def test_what_was_asked_for_is_given_with_a_second_import(store: SqlConfigStore) -> None:
    text = document(time=TIME, github=GITHUB)
    await imported(store, text)
    report = await imported(store, text, values={"GITHUB_TOKEN": "s3cret", "OTHER": "x"})
    assert outcomes(report) == {"time": "unchanged", "github": "created"}
    assert report.notes == ["values.OTHER: nothing in the document asks for it"]
    assert "s3cret" not in report.model_dump_json() + repr(report)
    stored = {record.name: record for record in await store.list()}
    assert stored["github"].config.env == {"GITHUB_TOKEN": "s3cret"}
    assert report.servers[0].config_id == stored["time"].id


async def test_a_request_shows_no_value(store: SqlConfigStore) -> None:
    request = ImportRequest(document=document(x={"command": "s3cret"}), values={"A": "s3cret"})
    assert "s3cret" not in repr(request)
    with pytest.raises(ValueError, match="document") as caught:
        ImportRequest.model_validate({"document": ["s3cret"], "values": {"A": {"s3cret": 1}}})
    assert "s3cret" not in str(caught.value)


async def test_a_line_gets_the_name_that_is_given_or_that_of_what_it_runs(store: SqlConfigStore) -> None:
    for name, options in (("mcp-server-time", {}), ("My clock", {"name": "My clock"})):
        report = await imported(store, "uvx mcp-server-time", **options)
        assert outcomes(report) == {name: "created"}
    with pytest.raises(DocumentError, match="one server"):
        await imported(store, document(a=TIME, b=TIME), name="x")
    with pytest.raises(DocumentError, match="the document is empty"):
        await imported(store, "")


async def test_a_name_that_no_configuration_can_have_is_refused(store: SqlConfigStore) -> None:
    report = await imported(store, document(**{"x" * 101: TIME, " ": TIME, "a\nb": TIME, "  time ": TIME}))
    assert list(outcomes(report).values()) == ["refused", "refused", "refused", "created"]
    assert [record.name for record in await store.list()] == ["time"]
    assert report.servers[0].reasons[0].msg.startswith("name: ")


async def test_whether_it_is_enabled_and_its_description_are_taken_over(store: SqlConfigStore) -> None:
    await imported(store, document(time={**TIME, "disabled": True, "description": "What time is it?"}))
    [record] = await store.list()
    assert (record.config.enabled, record.description) == (False, "What time is it?")
    assert outcomes(await imported(store, document(time=TIME))) == {"time": "unchanged"}
    assert outcomes(await imported(store, document(time={**TIME, "disabled": False}), replace=True)) == {
        "time": "updated"
    }
    [record] = await store.list()
    assert (record.config.enabled, record.description, record.version) == (True, "What time is it?", 2)


# --- names that are taken -----------------------------------------------------------------------------------------


async def test_ones_own_configuration_is_replaced_only_on_demand(store: SqlConfigStore) -> None:
    await store.create(
        NewConfig(name="Time", config=ServerConfig(command="mcp/old", env={"A": "1"}, mounts=["docs"])), "alice"
    )
    refused = await imported(store, document(time=TIME))
    assert outcomes(refused) == {"time": "refused"}
    assert [reason.kind for reason in refused.servers[0].reasons] == [ReasonKind.NAME_TAKEN]
    stopped: list[str] = []

    async def stop(record: ConfigRecord) -> None:
        stopped.append(record.config.command)

    report = await imported(store, document(time=TIME, other=TIME), replace=True, stop=stop)
    assert outcomes(report) == {"time": "updated", "other": "created"}
    assert stopped == ["mcp/old", "mcp/old"]  # once more for what was started before the change was stored
    record = await store.get(report.servers[0].config_id or "")
    assert record is not None
    assert (record.name, record.version) == ("Time", 2)
    assert record.config == ServerConfig(command="uvx", args=["mcp-server-time"])


async def test_somebody_elses_configuration_is_neither_replaced_nor_compared(store: SqlConfigStore) -> None:
    await imported(store, document(time=TIME), user="bob")
    report = await imported(store, document(time=TIME), replace=True)
    [server] = report.servers
    assert (server.outcome, server.config_id) == (Outcome.REFUSED, None)
    assert server.reasons[0].msg == "somebody else has a configuration 'time'; give it another name"


async def test_a_name_that_a_document_has_twice_is_saved_once(store: SqlConfigStore) -> None:
    report = await imported(store, document(time=TIME, Time=TIME_IN_DOCKER, TIME=TIME))
    assert [server.outcome.value for server in report.servers] == ["created", "refused", "refused"]
    assert len(await store.list()) == 1


async def test_what_cannot_be_stopped_is_not_replaced(store: SqlConfigStore) -> None:
    await imported(store, document(a=TIME_IN_DOCKER, b=TIME_IN_DOCKER))

    async def stop(record: ConfigRecord) -> None:
        if record.name == "a":
            raise ProxyUnavailable("away")

    report = await imported(store, document(a=TIME, b=TIME), replace=True, stop=stop)
    assert outcomes(report) == {"a": "refused", "b": "updated"}
    assert [reason.kind for reason in report.servers[0].reasons] == [ReasonKind.RUNNING]
    assert [record.version for record in await store.list()] == [1, 2]


async def test_what_runs_is_stopped_again_after_the_change_and_only_where_its_command_changes(
    store: SqlConfigStore,
) -> None:
    await imported(store, document(a=TIME_IN_DOCKER, b=TIME_IN_DOCKER))
    stopped: list[tuple[str, int]] = []

    async def stop(record: ConfigRecord) -> None:
        stored = await store.get(record.id)
        assert stored is not None
        stopped.append((record.name, stored.version))
        if stored.version == 2:
            raise ProxyUnavailable("away")

    text = document(a=TIME, b={**TIME_IN_DOCKER, "description": "What time is it?"})
    report = await imported(store, text, replace=True, stop=stop)
    assert outcomes(report) == {"a": "updated", "b": "updated"}
    assert stopped == [("a", 1), ("a", 2)]
    assert report.servers[0].notes[-1] == ("what runs of it may be of the old command, and could not be stopped: away")


async def test_a_dry_run_says_the_same_and_saves_nothing(store: SqlConfigStore) -> None:
    await imported(store, document(old=TIME_IN_DOCKER, same=TIME))
    before = await store.list()
    text = document(new=TIME, old=TIME, same=TIME, files=FILES, far=FAR)
    ways: list[dict[str, Any]] = [{"replace": True}, {"atomic": True}, {}]
    for options in ways:
        dry = await imported(store, text, dry_run=True, **options)
        assert not dry.saved
        assert await store.list() == before
    dry = await imported(store, text, dry_run=True, replace=True)
    real = await imported(store, text, replace=True)
    assert outcomes(dry) == outcomes(real)


async def test_a_store_that_is_away_is_told_and_the_import_can_be_done_again(store: SqlConfigStore) -> None:
    async def away() -> None:
        raise StoreUnavailable("away")

    raced: Any = Raced(store, away)
    with pytest.raises(StoreUnavailable):
        await imported(raced, document(a=TIME, b=TIME))
    assert outcomes(await imported(raced, document(a=TIME, b=TIME))) == {"a": "created", "b": "created"}


# --- the operator -------------------------------------------------------------------------------------------------


async def test_what_the_operator_is_handed_over_makes_the_next_import_succeed(store: SqlConfigStore) -> None:
    proxy = Proxy()
    text = document(time=TIME, files=FILES, docker={**TIME_IN_DOCKER, "args": [*TIME_IN_DOCKER["args"], "--tz", "UTC"]})
    first = await imported(store, text, admit=proxy.admit)
    assert set(outcomes(first).values()) == {"needs_operator"}
    assert first.for_operator is not None
    assert await store.list() == []
    [reason] = first.servers[0].reasons
    assert (reason.kind, reason.msg) == (
        ReasonKind.DENIED,
        "The policy does not allow this: rules: client 'chat' has no rules: add some to the policy",
    )
    proxy.add(first.for_operator)
    second = await imported(store, text, admit=proxy.admit)
    assert set(outcomes(second).values()) == {"created"}
    assert second.for_operator is None
    stored = {record.name: record.config for record in await store.list()}
    assert stored["files"].args[-1] == "/data/desktop"
    assert stored["files"].mounts == ["desktop"]


async def test_each_server_has_its_own_build_line_and_rule(store: SqlConfigStore) -> None:
    report = await imported(
        store,
        document(
            brave={"command": "npx", "args": ["-y", "@brave/brave-search-mcp-server@2.1.3"], "env": {"K": "x"}},
            memory={"command": "docker", "args": ["run", "-i", "-v", "claude-memory:/app/dist", "mcp/memory"]},
        ),
    )
    brave, memory = report.servers
    assert brave.needs_operator is not None
    assert brave.needs_operator.build == "doogie-images build npx:@brave/brave-search-mcp-server@2.1.3"
    assert brave.needs_operator.rule == (
        "rules: # add their names to the rules of your client as well\n"
        "  - name: brave\n"
        "    images: [IMAGE] # which doogie-images build prints\n"
        "    env: {allow: [K]}\n"
    )
    assert memory.needs_operator is not None
    assert memory.needs_operator.build is None
    assert report.for_operator is not None
    assert report.for_operator.startswith(
        "# first: doogie-images build npx:@brave/brave-search-mcp-server@2.1.3\n"
        "# first: docker volume create claude-memory\n"
        "rules: "
    )
    granted = await imported(store, document(memory=json.loads(json.dumps(TIME_IN_DOCKER))), mounts=["dist"])
    assert outcomes(granted) == {"memory": "created"}


async def test_the_mounts_that_the_policy_offers_are_enough_where_the_proxy_is_not_asked(store: SqlConfigStore) -> None:
    assert outcomes(await imported(store, document(files=FILES))) == {"files": "needs_operator"}
    assert outcomes(await imported(store, document(files=FILES), mounts=["desktop"])) == {"files": "created"}


async def test_a_proxy_that_is_away_keeps_no_import_from_being_done(store: SqlConfigStore) -> None:
    async def away(_request: StartRequest) -> Admission:
        raise ProxyUnavailable("no such socket")

    report = await imported(store, document(time=TIME, files=FILES), admit=away)
    assert outcomes(report) == {"time": "created", "files": "needs_operator"}
    assert "whether a rule admits it could not be found out: no such socket" in report.servers[0].notes


async def test_what_the_proxy_does_not_understand_is_refused(store: SqlConfigStore) -> None:
    async def strict(_request: StartRequest) -> Admission:
        raise InvalidRequest(problem(ProblemType.INVALID_REQUEST, [ProblemDetail(loc="body.image", msg="is none")]))

    report = await imported(store, document(time=TIME), admit=strict)
    assert outcomes(report) == {"time": "refused"}
    assert report.servers[0].reasons[0].msg == "The request is not valid: body.image: is none"


async def test_the_proxy_is_asked_without_secrets_where_they_cannot_matter(store: SqlConfigStore) -> None:
    proxy = Proxy()
    values = {"GITHUB_TOKEN": "s3cret", "T": "s3cret"}
    in_env = await imported(store, document(github=GITHUB), admit=proxy.admit, values=values)
    assert outcomes(in_env) == {"github": "needs_operator"}
    assert [request.env for request in proxy.asked] == [{"GITHUB_TOKEN": "<GITHUB_TOKEN>"}]
    in_args = {"command": "docker", "args": ["run", "mcp/x", "--token=${T}"]}
    proxy.add('rules: [{name: x, images: ["mcp/x:1"], allow_tags: true}]')
    report = await imported(store, document(x=in_args), admit=proxy.admit, values=values)
    assert proxy.asked[-1].args == ["--token=s3cret"]
    assert outcomes(report) == {"x": "needs_operator"}
    assert [reason.msg for reason in report.servers[0].reasons] == ["The policy does not allow this: rules.x"]
    assert "s3cret" not in report.model_dump_json()
    assert report.for_operator is not None
    assert 'patterns: ["--token=.+"]' in report.for_operator


async def test_what_is_exported_is_imported_by_another_user_elsewhere(store: SqlConfigStore) -> None:
    config = ServerConfig(
        command="docker run -i mcp/files", args=["/data/docs"], env={"T": "s3cret"}, mounts=["docs"], enabled=False
    )
    record = await store.create(NewConfig(name="files", config=config, description="Files"), "alice")
    text = json.dumps(export_commands([record]))
    assert "s3cret" not in text
    await store.delete(record.id)
    report = await imported(store, text, user="bob", values={"T": "s3cret"})
    assert outcomes(report) == {"files": "created"}
    [again] = await store.list()
    assert (again.config, again.description, again.user_id) == (config, "Files", "bob")
