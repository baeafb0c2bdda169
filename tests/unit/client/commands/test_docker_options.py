"""The table of docker's options: whole, of one mind with the policy and with the documentation."""

import re
from collections.abc import Iterator

from pydantic import ValidationError
from ruamel.yaml import YAML

from doogie_client.commands.docker_options import DOCKER_RUN
from doogie_client.commands.options import ByValue, Mapped, Option
from doogie_proxy.policy import Rule
from tests.unit.client.commands.reading import faults

VALUES = [
    *("", "0", "1", "-1", "1.5", "512m", "2g", "64k", "a", "a:b", "a=b", "true", "host", "none", "bridge", "tools"),
    *("/a", "/a/", "/a:/b", "/a:/b:ro", "a:/b", "~/a:/b", "./a:/b", r"C:\a:/b", "/:/a", "/proc:/proc", "/a:/"),
    *("type=bind,src=/a,dst=/b", "type=tmpfs,dst=/a", "type=bind", "src=/a,target=/b/../c", "name=a,alias=b"),
    *("nofile=1:2", "nofile=x", "root", "1000", "1000:1000", "0:0", "yes", "null", "[]", "{}", "a: b", "#", "'", '"'),
    *("/a b:/c d", "/é:/ü", "/a,b:/c", "/a//b:/c//d", "//a://b", "/a\tb:/c", "/tmp:/data:rw,z", "x" * 3000),
]
PLACEHOLDERS = {
    "SIZE": "64MiB",
    "CORES": "1",
    "NUMBER": "16",
    "SECONDS": "30",
    "NETWORK": "tools",
    "RUNTIME": "runsc",
    "PROGRAM": "node",
    "PATH": "/work",
    "UID:GID": '"1000:1000"',
    "REPOSITORY@sha256:DIGEST": "mcp/x@sha256:" + "0" * 64,
}
"""What only the operator knows, and something that they could know."""


OUT_OF_BOUNDS = {"greater_than_equal", "less_than_equal"}
"""Amounts are the command's own: the policy says that 1 open file is too few."""


def uses() -> Iterator[tuple[Option, str]]:
    for option in DOCKER_RUN.options:
        for value in VALUES if option.takes else ("true", "false"):
            yield option, value


def asked(option: Option, value: str) -> Iterator[str]:
    """The lines that one use asks the operator for: none or one."""
    if isinstance(option.meaning, Mapped):
        return
    for fault in faults(["docker", "run", f"{option.names[0]}={value}"]):
        if fault.ask is not None:
            yield fault.ask


def _wrong(rule: dict[str, object]) -> set[str]:
    try:
        Rule.model_validate(rule)
    except ValidationError as exc:
        return {error["type"] for error in exc.errors()}
    return set()


def test_no_option_is_in_the_table_twice() -> None:
    names = [name for option in DOCKER_RUN.options for name in option.names]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"--[a-z0-9-]{2,}|-[a-zA-Z]", name) for name in names)


def test_whatever_a_value_is_the_line_to_ask_for_is_one_that_a_policy_takes() -> None:
    lines = {line for option, value in uses() for line in asked(option, value)}
    assert len(lines) > 60
    for line in lines:
        filled = line
        for placeholder, value in PLACEHOLDERS.items():
            filled = filled.replace(placeholder, value)
        rule = {"name": "x", "images": ["mcp/x@sha256:" + "1" * 64], **YAML(typ="safe").load(filled)}
        assert "\n" not in line
        assert _wrong(rule) <= OUT_OF_BOUNDS, line


def test_every_kind_of_setting_that_a_rule_has_for_docker_can_be_asked_for() -> None:
    fields = {line.partition(":")[0] for option, value in uses() for line in asked(option, value)}
    assert fields == {
        *("entrypoint", "images", "lifetime", "mounts", "network", "resources", "runtime", "stdio", "tmpfs", "user"),
        "workdir",
    }


def test_what_goes_by_value_takes_any() -> None:
    for option, value in uses():
        if isinstance(option.meaning, ByValue):
            assert all(fault.msg for fault in faults(["docker", "run", f"{option.names[0]}={value}"]))
