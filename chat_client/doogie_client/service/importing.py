"""Import of other hosts' configuration files: what can be saved is saved, all else comes back with its reasons.

    report = await import_document(store, ImportRequest(document=text), "alice", catalogue=catalogue, admit=…)

The same document may be imported again: what is stored alike already is ``unchanged``. So values that were asked for
are given with a second import, and what an operator had to provide is there by then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import structlog
from pydantic import ValidationError

from doogie_client.commands import Catalogue
from doogie_client.errors import DoogieError, InvalidRequest, PolicyDenied
from doogie_client.hosts.document import read_document
from doogie_client.hosts.draft import Answers
from doogie_client.hosts.entry import Alternatives, HostEntry, Reason, ReasonKind
from doogie_client.hosts.jsonc import DocumentError, below
from doogie_client.hosts.plan import Plan, Verdict, best_of, plan, verdict
from doogie_client.hosts.rule import to_yaml, unique_names
from doogie_client.service.import_report import (
    SAVED,
    ImportedCommand,
    ImportedServer,
    ImportInput,
    ImportReason,
    ImportReport,
    ImportRequest,
    NeedsOperator,
    Outcome,
)
from doogie_client.service.records import ConfigRecord, ConfigUpdate, NewConfig, ServerConfig
from doogie_client.service.sql.names import name_key
from doogie_client.service.store import ConfigEdit, ConfigNotFound, ConfigStore, NameTaken, VersionConflict
from doogie_contract.models import Admission, StartRequest

log = structlog.get_logger(__name__)

MAX_TOLD = 20
"""How much is told of what the proxy says of one server."""
ATTEMPTS = 3
"""How often a save is tried anew after somebody else changed what it was decided by."""

Admit = Callable[[StartRequest], Awaitable[Admission]]
"""Asks the proxy whether a rule admits a request (``ProxyClient.admit``). Raises ``PolicyDenied`` if none does."""
Stop = Callable[[ConfigRecord], Awaitable[None]]
"""Ends what runs of a configuration, before it is changed. Raises ``DoogieError`` if it cannot."""

_OUTCOMES = {
    Verdict.NEEDS_INPUT: Outcome.NEEDS_INPUT,
    Verdict.NEEDS_OPERATOR: Outcome.NEEDS_OPERATOR,
    Verdict.REFUSED: Outcome.REFUSED,
}
"""Of what is ready, what is stored decides."""


@dataclass
class _Item:
    """One server on its way.

    Args:
        plan: what it would be.
        name: of the configuration.
        new: what would be stored; None where that is not known.
        record: what is stored.
        change: what is to be saved.
        ends: the configuration whose server is to end, because another would be started from now on.
        reasons, notes: beside those of the plan.
    """

    plan: Plan
    name: str
    new: NewConfig | None = None
    outcome: Outcome = Outcome.REFUSED
    record: ConfigRecord | None = None
    change: NewConfig | ConfigEdit | None = None
    ends: ConfigRecord | None = None
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def decide(
        self, outcome: Outcome, record: ConfigRecord | None = None, change: NewConfig | ConfigEdit | None = None
    ) -> None:
        """What is to become of it."""
        self.outcome, self.record, self.change, self.ends = outcome, record, change, None

    def refuse(self, kind: ReasonKind, msg: str) -> None:
        """It is not saved, for a reason that is not in the document."""
        self.reasons.append(Reason(kind, self.plan.entry.loc, msg))
        self.decide(Outcome.REFUSED)

    async def end(self, stop: Stop | None) -> DoogieError | None:
        """End what runs of the command that changes, if it changes; why that could not be ended."""
        if self.ends is not None and stop is not None:
            try:
                await stop(self.ends)
            except DoogieError as exc:
                return exc
        return None


async def import_document(
    store: ConfigStore,
    request: ImportRequest,
    user_id: str,
    *,
    catalogue: Catalogue,
    admit: Admit | None = None,
    mounts: Collection[str] = (),
    stop: Stop | None = None,
) -> ImportReport:
    """Save what a document of another host has, as configurations of this user.

    Args:
        store: where to.
        request: what.
        user_id: whose.
        catalogue: which image a package is.
        admit: to find out whether the policy has a rule for it; without it, that is not looked at.
        mounts: names of those the policy offers, for when the proxy is not or cannot be asked.
        stop: called for each configuration whose command changes. Before: where it raises, nothing of that one is
            changed. And after, as what somebody started in between was started by the old command.

    Raises:
        DocumentError: the document as a whole cannot be read.
        StoreUnavailable: what was saved until then stays saved; import the document again.
    """
    # What is large takes a while, and is worked on beside the event loop.
    found = await asyncio.to_thread(read_document, request.document)
    if request.name is not None and len(found) != 1:
        raise DocumentError("name", f"is for a document with one server, and this one has {len(found)}")
    answers = Answers(values=request.values, secrets=request.secrets)
    items: list[_Item] = []
    for server in found:
        plans = [await _planned(entry, answers, catalogue, admit, mounts) for entry in server]
        items.append(_item(best_of(plans), request))
    await _decide(store, items, request, user_id)
    saved = not request.dry_run
    if saved and request.atomic:
        saved = await _save(store, items, request, user_id, stop)
    elif saved:
        for item in items:
            await _save(store, [item], request, user_id, stop)
    return ImportReport(
        servers=[_report(item) for item in items],
        saved=saved,
        for_operator=_for_operator(items),
        notes=_unasked(found, items, request),
    )


async def _planned(
    entry: HostEntry, answers: Answers, catalogue: Catalogue, admit: Admit | None, mounts: Collection[str]
) -> Plan:
    """The plan, with what the proxy says of its request."""
    if admit is None:
        return await asyncio.to_thread(plan, entry, answers, catalogue, granted=mounts)
    made = await asyncio.to_thread(plan, entry, answers, catalogue, granted=None)
    hidden = made.rule.hidden if made.rule is not None else ()
    shown = made.asked is not None and not any(text in arg for arg in made.asked.args for text in hidden)
    request = made.asked if shown else made.request
    if request is None:
        return made
    try:
        await admit(request)
    except (PolicyDenied, InvalidRequest) as exc:
        kind = ReasonKind.DENIED if isinstance(exc, PolicyDenied) else ReasonKind.MALFORMED
        # Where a secret is among the arguments, what the proxy says of them may repeat it.
        said = [f"{fault.loc}: {fault.msg}" if shown else fault.loc for fault in exc.problem.errors]
        told = [*dict.fromkeys(said)][:MAX_TOLD]
        reasons = [Reason(kind, entry.loc, f"{exc.problem.title}: {text}") for text in told]
        return replace(made, reasons=(*made.reasons, *reasons))
    except DoogieError as exc:
        made = await asyncio.to_thread(plan, entry, answers, catalogue, granted=mounts)
        return replace(made, notes=(*made.notes, f"whether a rule admits it could not be found out: {exc}"))
    return made


def _item(made: Plan, request: ImportRequest) -> _Item:
    item = _Item(made, made.name if request.name is None else request.name)
    if made.command is None:
        return item
    config = ServerConfig.model_validate({**made.command.model_dump(), "enabled": made.entry.enabled is not False})
    try:
        item.new = NewConfig(name=item.name, config=config, description=made.entry.description, shared=request.shared)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_context=False, include_input=False):
            item.refuse(ReasonKind.MALFORMED, f"{'.'.join(map(str, error['loc']))}: {error['msg']}")
    return item


async def _decide(store: ConfigStore, items: Sequence[_Item], request: ImportRequest, user_id: str) -> None:
    """Decide, by what is stored now, what is to become of each."""
    stored = {name_key(record.name): record for record in await store.list()}
    seen: set[str] = set()
    for item in items:
        if item.new is None or item.plan.reasons or item.reasons:
            item.decide(_OUTCOMES[verdict([*item.plan.reasons, *item.reasons])])
            continue
        key = name_key(item.new.name)
        record = stored.get(key)
        if key in seen:
            item.refuse(ReasonKind.NAME_TAKEN, f"the document has {item.name!r} twice")
        elif record is None:
            item.decide(Outcome.CREATED, None, item.new)
        elif record.user_id != user_id:
            item.refuse(ReasonKind.NAME_TAKEN, f"somebody else has a configuration {item.name!r}; give it another name")
        else:
            _compare(item, item.new, record, replace_it=request.replace)
        seen.add(key)


def _compare(item: _Item, new: NewConfig, record: ConfigRecord, *, replace_it: bool) -> None:
    """Decide about a server whose name one's own configuration has. What the document does not say stays as it is."""
    said = item.plan.entry
    config = new.config
    if said.enabled is None:
        config = config.model_copy(update={"enabled": record.config.enabled})
    description = record.description if new.description is None else new.description
    if (config, description) == (record.config, record.description):
        item.decide(Outcome.UNCHANGED, record)
    elif not replace_it:
        msg = f"there is another configuration {item.name!r}; replace it, or give this one another name"
        item.refuse(ReasonKind.NAME_TAKEN, msg)
    else:
        update = ConfigUpdate.model_validate({**config.model_dump(), "description": description})
        item.decide(Outcome.UPDATED, record, ConfigEdit(record.id, update, record.version))
        item.ends = record if config != record.config else None


async def _save(
    store: ConfigStore, items: Sequence[_Item], request: ImportRequest, user_id: str, stop: Stop | None
) -> bool:
    """Save all of these or, where one cannot be, none; whether they were."""
    for _ in range(ATTEMPTS):
        if not all(item.outcome in SAVED for item in items):
            return False
        for item in items:
            if (problem := await item.end(stop)) is not None:
                msg = f"what runs of it could not be stopped, so it was not changed: {problem}"
                item.refuse(ReasonKind.RUNNING, msg)
                return False
        # In one order for all, so that two imports at once do not wait for each other.
        changing = sorted((item for item in items if item.change is not None), key=lambda item: name_key(item.name))
        try:
            records = await store.save_all([item.change for item in changing if item.change is not None], user_id)
        except (NameTaken, VersionConflict, ConfigNotFound):
            await _decide(store, items, request, user_id)
            continue
        for item, record in zip(changing, records, strict=True):
            item.record, item.change = record, None
            log.info("config_imported", outcome=item.outcome.value, config_id=record.id, server=record.server_name)
            if (problem := await item.end(stop)) is not None:
                item.notes.append(f"what runs of it may be of the old command, and could not be stopped: {problem}")
        return True
    for item in items:
        if item.change is not None:
            item.refuse(ReasonKind.NAME_TAKEN, f"{item.name!r} was changed by somebody else meanwhile; try again")
    return False


def _report(item: _Item) -> ImportedServer:
    made = item.plan
    shown = made.shown
    needs = None
    if item.outcome is Outcome.NEEDS_OPERATOR:
        rule = to_yaml([made.rule]) if made.rule is not None else None
        needs = NeedsOperator(build=next(iter(made.build), None), rule=rule)
    return ImportedServer(
        name=item.name,
        loc=made.entry.loc,
        outcome=item.outcome,
        config_id=item.record.id if item.record is not None else None,
        reasons=[
            ImportReason(kind=reason.kind, loc=reason.loc, msg=reason.msg, ask=reason.ask)
            for reason in (*made.reasons, *item.reasons)
        ],
        needs_operator=needs,
        inputs=[
            ImportInput(
                id=needed.input.id,
                description=needed.input.description,
                secret=needed.input.secret,
                default=None if needed.input.secret else needed.input.default,
                choices=list(needed.input.choices),
                repeated=needed.input.repeated,
                missing=needed.missing,
                used=list(needed.used),
            )
            for needed in made.inputs
        ],
        notes=[*made.notes, *item.notes],
        command=ImportedCommand(
            command=shown.command, args=shown.args, env=[*shown.env], secrets=shown.secrets, mounts=shown.mounts
        )
        if shown is not None
        else None,
    )


def _for_operator(items: Sequence[_Item]) -> str | None:
    """The images to build, the volumes to make and the rules, as a part of a policy file."""
    waiting = [item.plan for item in items if item.outcome is Outcome.NEEDS_OPERATOR]
    rules = unique_names([made.rule for made in waiting if made.rule is not None])
    commands = [command for made in waiting for command in made.build]
    volumes = [mount["volume"] for rule in rules for mount in rule.mounts.values() if "volume" in mount]
    commands += [f"docker volume create {volume}" for volume in volumes]
    lines = "".join(f"# first: {command}\n" for command in dict.fromkeys(commands))
    return lines + (to_yaml(rules) if rules else "") or None


def _unasked(found: Sequence[Alternatives], items: Sequence[_Item], request: ImportRequest) -> list[str]:
    """What was given and nothing asks for."""
    known = {name for server in found for entry in server for name in entry.inputs}
    known |= {needed.input.id for item in items for needed in item.plan.inputs}
    given = [*(("values", name) for name in request.values), *(("secrets", name) for name in request.secrets)]
    return [f"{below(where, name)}: nothing in the document asks for it" for where, name in given if name not in known]
