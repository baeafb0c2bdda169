"""Command lines as READMEs of well-known MCP servers have them: each translated exactly, or refused as it should be."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from doogie_client.commands import FaultKind, package_of
from tests.unit.client.commands.reading import SHIPPED, command, faults, translated


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Given(_Strict):
    command: str
    args: list[str] = []
    env: dict[str, str] = {}


class Case(_Strict):
    line: str | None = None
    given: Given | None = None
    image: str | None = None
    package: str | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    faults: list[list[str]] = Field(default=[], description="kind, place, what to ask the operator for")


class Source(_Strict):
    source: str
    commands: list[Case]


PUBLISHED = [Source.model_validate(s) for s in YAML(typ="safe").load(Path(__file__).with_name("published.yaml"))]
CASES = [
    pytest.param(case, id=f"{source.source} {number}")
    for source in PUBLISHED
    for number, case in enumerate(source.commands)
]


def test_there_are_enough_of_them_from_enough_servers() -> None:
    assert len(CASES) >= 200
    assert len({source.source.partition("@")[0] for source in PUBLISHED}) >= 20


@pytest.mark.parametrize("case", CASES)
def test_a_published_command_means_what_it_says(case: Case) -> None:
    given = case.given or Given(command=case.line or "")
    words = [given.command, *given.args] if case.given else given.command
    if case.faults:
        found = [[fault.kind, fault.loc, fault.ask] for fault in faults(words, env=given.env)]
        assert found == [[*fault, None][:3] for fault in case.faults]
        return
    request = translated(words, env=given.env).request
    assert (request.args, request.env) == (case.args, case.env)
    package = package_of(command(words, env=given.env))
    if package is None:
        assert request.image == case.image
        return
    assert (str(package), package.executable, package.with_packages) == (case.package, None, ())
    if SHIPPED.find(package) is None:
        (fault,) = faults(words, env=given.env)
        wanted = str(package).removesuffix("@latest")
        assert (fault.kind, fault.ask) == (FaultKind.UNMAPPED, f"doogie-images build {wanted}")
