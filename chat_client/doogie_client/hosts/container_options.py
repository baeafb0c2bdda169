"""``docker run``'s options for files and variables become what a configuration has for them. Pure.

    -v /srv/docs:/docs       a mount of the rule, named in the configuration; the option is left out
    -e TOKEN                 without a value beside it: the variable is asked for
    -e TOKEN=${input:x}      a variable of the environment, where values are encrypted and masked; -e TOKEN stays

Where the options end and the image begins, ``commands`` has found out.
"""

import re

from pydantic import JsonValue

from doogie_client.commands import Fault, FaultKind
from doogie_client.commands.reading import Assignment, Reading
from doogie_client.hosts.draft import Draft, Text
from doogie_client.hosts.paths import MOUNT_ROOT, Mounts, is_elsewhere
from doogie_client.hosts.rule import policy_line
from doogie_client.hosts.template import Template

_VALUE_FOLLOWS = re.compile(r"--volume|--mount|-(?P<others>[a-zA-Z]*)v")
_VALUE_WITHIN = re.compile(r"(?:--volume=|--mount=|-v=?)(?P<value>.+)", re.DOTALL)
_SOURCE = re.compile(r"(?:\A|,)(?:src|source)=(?P<source>[^,]*)")
_BEFORE_A_VARIABLE = ("", "--env=", "-e=", "-e")

_TAKEN = Text("", "", Template(()), "")


def take_container_options(draft: Draft, reading: Reading, mounts: Mounts) -> None:
    """Take what can be taken; faults that are thereby mended stand in ``reading`` as before: read anew."""
    for assignment in reading.env:
        if assignment.value is None and assignment.name not in draft.env:
            draft.want(assignment.name, draft.place(assignment.loc))
        elif assignment.value is not None and assignment.name not in draft.env:
            _take_variable(draft, assignment)
    for fault in reading.faults:
        if fault.kind is FaultKind.POLICY and not mounts.too_many:
            _take_volume(draft, fault, mounts)
    draft.words = [word for word in draft.words if word is not _TAKEN]


def _take_variable(draft: Draft, given: Assignment) -> None:
    """Move a value that has something to fill in from the word behind ``-e`` to the environment."""
    index = draft.index(given.loc)
    for at in (index, index + 1):
        for before in _BEFORE_A_VARIABLE:
            prefix = f"{before}{given.name}"
            value = draft.words[at].template.without(f"{prefix}=") if at < len(draft.words) else None
            if value is not None and value.asks:
                draft.env[given.name] = draft.fill(value, given.name, draft.words[at].loc)
                left = draft.fill(Template.literal(prefix), "", draft.words[at].loc)
                before_program = at == index < len(draft.words) - 1 and not before  # NAME=value docker run …
                draft.words[at] = _TAKEN if before_program else left
                return


def _take_volume(draft: Draft, fault: Fault, mounts: Mounts) -> None:
    """Turn a volume into a mount; its words are left out once all are taken, so that places stay what they are."""
    wanted = _mounts_of(fault)
    if not wanted:
        return
    index = draft.index(fault.loc)
    option = draft.words[index]
    if follows := _VALUE_FOLLOWS.fullmatch(option.shown):
        value = draft.words[index + 1].shown
        others = follows["others"]
        draft.words[index] = draft.fill(Template.literal(f"-{others}"), "", option.loc) if others else _TAKEN
        draft.words[index + 1] = _TAKEN
    elif within := _VALUE_WITHIN.fullmatch(option.shown):
        value = within["value"]
        draft.words[index] = _TAKEN
    else:
        return
    for name, spec in wanted.items():
        target, host = str(spec.get("target")), spec.get("host")
        if isinstance(host, str) and is_elsewhere(host):
            spec = {**spec, "host": f"{MOUNT_ROOT}/{name}"}
        named = _SOURCE.search(value)
        mounts.add(name, named["source"] if named else value.partition(f":{target}")[0], target, spec, option.loc)


def _mounts_of(fault: Fault) -> dict[str, dict[str, JsonValue]]:
    """The mounts that a fault says to ask the operator for."""
    asked = fault.ask is not None and fault.ask.startswith("mounts:")
    mounts = policy_line(fault.ask or "").get("mounts") if asked else None
    return {name: spec for name, spec in mounts.items() if isinstance(spec, dict)} if isinstance(mounts, dict) else {}
