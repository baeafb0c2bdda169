"""Documents as hosts and servers publish them: what becomes of each, and that the suggested rule admits it."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from doogie_client.hosts.document import read_document
from doogie_client.hosts.draft import Answers
from doogie_client.hosts.jsonc import DocumentError
from doogie_client.hosts.plan import Plan, Verdict, best_of, plan
from doogie_contract.models import StartRequest
from doogie_proxy.admission import Admitted, Denied, admit
from tests.unit.client.hosts.documents import CATALOGUE, policy_with

PUBLISHED: list[dict[str, Any]] = YAML(typ="safe").load(Path(__file__).with_name("published.yaml"))
READABLE = [item for item in PUBLISHED if "servers" in item]


def plans(item: dict[str, Any]) -> list[Plan]:
    return [best_of([plan(entry, Answers(), CATALOGUE) for entry in server]) for server in read_document(item["text"])]


def described(made: Plan) -> dict[str, Any]:
    """A plan as the data describes it: what is empty is left out, and of what is refused, the command."""
    refused = made.shown is None or made.verdict is Verdict.REFUSED
    facts = {
        "name": made.name,
        "outcome": made.verdict.name.lower(),
        "because": sorted({reason.kind.value for reason in made.reasons}),
        "build": next(iter(made.build), None),
        "words": None if refused else [made.shown.command, *made.shown.args],  # type: ignore[union-attr]  # not refused
        "env": None if refused else made.shown.env,  # type: ignore[union-attr]  # not refused
        "mounts": None if refused else made.shown.mounts,  # type: ignore[union-attr]  # not refused
        "inputs": [needed.input.id for needed in made.inputs if needed.missing],
    }
    return {key: value for key, value in facts.items() if value}


def test_there_are_enough_of_them_and_of_every_format() -> None:
    texts = "\n".join(item["text"] for item in PUBLISHED)
    assert len(PUBLISHED) >= 80
    formats = ["mcpServers", "servers", "inputs", "context_servers", "envFile", "serverUrl", "httpUrl", "packages"]
    assert [name for name in formats if f'"{name}"' not in texts] == []
    for sign in ("docker run", "claude mcp add", "${input:", "${env:", ":-", "registry_type", "//"):
        assert sign in texts


@pytest.mark.parametrize("item", READABLE, ids=range(len(READABLE)))
def test_a_published_document_is_read_as_it_is_meant(item: dict[str, Any]) -> None:
    assert [described(made) for made in plans(item)] == item["servers"]


@pytest.mark.parametrize("item", [item for item in PUBLISHED if "error" in item])
def test_what_is_published_but_is_no_such_document_is_refused_with_its_place(item: dict[str, Any]) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(item["text"])
    assert str(caught.value).startswith(item["error"])


def waiting() -> list[Plan]:
    """All that the operator could provide for, with their inputs given."""
    found = []
    for item in READABLE:
        for entry in (entry for server in read_document(item["text"]) for entry in server):
            inputs = [needed.input for needed in plan(entry, Answers(), CATALOGUE).inputs]
            values = {known.id: next(iter(known.choices), "given") for known in inputs if known.default is None}
            found.append(plan(entry, Answers(values), CATALOGUE))
    return [made for made in found if made.verdict is Verdict.NEEDS_OPERATOR and made.rule is not None]


@pytest.mark.parametrize("made", waiting(), ids=lambda made: made.name)
def test_the_suggested_rule_is_a_policy_and_admits_the_server_and_no_more(made: Plan) -> None:
    assert made.rule is not None
    assert made.shown is not None
    image = made.rule.image or "doogie/built:1"
    policy = policy_with([made.rule])
    # As it will be once there is an image and the options that the policy decides are gone.
    request = StartRequest(
        image=image,
        args=[*made.rule.args],
        env=dict.fromkeys(made.rule.env, "x"),
        secrets=[*made.rule.secrets],
        mounts=[*made.rule.mounts],
    )
    assert isinstance(admit(policy, "chat", request), Admitted)
    for wider in (
        {"args": [*request.args, "--further"]},
        {"env": {**request.env, "FURTHER": "x"}},
        {"mounts": [*request.mounts, "further"]},
        {"image": "doogie/other:1"},
    ):
        assert isinstance(admit(policy, "chat", request.model_copy(update=wider)), Denied)


def test_all_suggested_rules_together_are_one_policy() -> None:
    from doogie_client.hosts.rule import unique_names

    rules = unique_names([made.rule for made in waiting() if made.rule is not None])
    assert len(policy_with(rules).rules) == len(rules) > 40
