"""The narrowest rule of the proxy's policy that admits a server, as YAML for the operator. Pure.

It is what stands under ``rules:`` in the policy file (docs/policy.md). What only the operator can know stands in it in
capitals: IMAGE, NETWORK. It names no secret value: a pattern takes any text where an argument has one.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from doogie_client.hosts.paths import MOUNT_ROOT
from doogie_contract.models import MAX_ARGS

MAX_PATTERN_CHARS = 512
MAX_MATCHED_BYTES = 1024
"""The longest argument that a pattern of the policy is applied to."""
UNBUILT = "IMAGE"
"""Stands for an image that the operator has yet to build."""

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*", re.ASCII)
_NOT_STRINGS = frozenset({"false", "n", "no", "null", "off", "on", "true", "y", "yes"})
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True)
class RuleRequest:
    """What a rule has to admit.

    Args:
        name: the rule's.
        image: as a request names it; None: it has yet to be built.
        args: as they may be shown.
        hidden: texts in ``args`` that stand for what may be anything.
        env: names of the variables.
        secrets: names, each with the variable it is to be in.
        mounts: by name, as the policy has them; ``sources``: what each is in the document.
        lines: further lines of the policy, as ``commands.Fault.ask`` has them.
    """

    name: str
    image: str | None
    args: Sequence[str] = ()
    hidden: frozenset[str] = frozenset()
    env: Sequence[str] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    lines: Sequence[str] = ()

    def fields(self) -> dict[str, JsonValue]:
        """The rule."""
        rule: dict[str, JsonValue] = {"name": self.name}
        rule |= self._images()
        if self.args:
            rule["args"] = self._args()
        if self.env:
            rule["env"] = {"allow": [*sorted(self.env)]}
        if self.secrets:
            rule["secrets"] = {
                name: {"file": f"/run/secrets/{name}", "env": env} for name, env in sorted(self.secrets.items())
            }
        if self.mounts:
            rule["mounts"] = {name: dict(mount) for name, mount in sorted(self.mounts.items())}
        for line in self.lines:
            for key, value in policy_line(line).items():
                known = rule.get(key)
                if isinstance(known, dict) and isinstance(value, dict):
                    rule[key] = {**value, **known}
                else:
                    rule.setdefault(key, value)
        return rule

    def _images(self) -> dict[str, JsonValue]:
        image = UNBUILT if self.image is None else self.image
        if image == UNBUILT or "@" in image:
            return {"images": [image]}
        return {"images": [image if ":" in image.rpartition("/")[2] else f"{image}:latest"], "allow_tags": True}

    def _args(self) -> dict[str, JsonValue]:
        patterns = list(dict.fromkeys(pattern(arg, self.hidden) for arg in self.args))
        most = min(len(self.args), MAX_ARGS)
        if any(len(arg.encode()) > MAX_MATCHED_BYTES for arg in self.args) or any(
            len(text) > MAX_PATTERN_CHARS for text in patterns
        ):
            return {"any": True, "max": most}
        return {"patterns": [*patterns], "max": most}


def policy_line(line: str) -> dict[str, JsonValue]:
    """A line of a policy as its value; empty where it is none."""
    try:
        value: object = YAML(typ="safe").load(line)
    except (YAMLError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def pattern(text: str, hidden: frozenset[str]) -> str:
    """The pattern that matches ``text`` alone, with anything in the place of what is hidden."""
    parts = _any_of(hidden).split(text) if hidden else [text]
    return "".join(".+" if part in hidden else _SPECIAL.sub(r"\\\g<0>", part) for part in parts)


@functools.lru_cache(maxsize=1)
def _any_of(texts: frozenset[str]) -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, sorted(texts, key=len, reverse=True)))})")


def unique_names(requests: Sequence[RuleRequest]) -> list[RuleRequest]:
    """The same rules, with a number where a name would be there twice."""
    taken: set[str] = set()
    found: list[RuleRequest] = []
    for request in requests:
        name, number = request.name, 1
        while name in taken:
            number += 1
            name = f"{request.name[:58]}-{number}"
        taken.add(name)
        found.append(replace(request, name=name))
    return found


def to_yaml(requests: Sequence[RuleRequest]) -> str:
    """The rules as a part of a policy file, with the ``mount_roots`` that they need."""
    rules = [request.fields() for request in requests]
    roots = sorted({root for rule in rules for root in _roots(rule)})
    lines = [f"mount_roots: {flow([*roots])}"] if roots else []
    lines.append("rules: # add their names to the rules of your client as well")
    for request, rule in zip(requests, rules, strict=True):
        for at, (key, value) in enumerate(rule.items()):
            begin = "  - " if not at else "    "
            if key == "mounts" and isinstance(value, dict):
                lines.append(f"{begin}{key}: # read_only: false lets the server write there")
                for name, mount in value.items():
                    source = request.sources.get(name)
                    what = f" # {_scalar(source)}" if source is not None else ""
                    lines.append(f"      {_scalar(name)}: {flow(mount)}{what}")
            else:
                lines.append(f"{begin}{key}: {flow(value)}{_comment(key, value)}")
    return "".join(f"{line}\n" for line in lines)


def _comment(key: str, value: JsonValue) -> str:
    if key == "allow_tags":
        return " # better: the image's digest, repository@sha256:…"
    if key == "images" and value == [UNBUILT]:
        return " # which doogie-images build prints"
    return ""


def _roots(rule: Mapping[str, JsonValue]) -> Iterable[str]:
    mounts = rule.get("mounts")
    for mount in mounts.values() if isinstance(mounts, dict) else ():
        host = mount.get("host") if isinstance(mount, dict) else None
        if isinstance(host, str):
            yield MOUNT_ROOT if host.startswith(f"{MOUNT_ROOT}/") else host


def flow(value: JsonValue) -> str:
    """A value on one line."""
    match value:
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int() | float():
            return str(value)
        case str():
            return _scalar(value)
        case list():
            return f"[{', '.join(map(flow, value))}]"
        case dict():
            return f"{{{', '.join(f'{_scalar(key)}: {flow(item)}' for key, item in value.items())}}}"


def _scalar(text: str) -> str:
    """Plain where it can be nothing else, or in double quotes (YAML 1.2.2 section 5.7)."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_STRINGS:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = _UNPRINTABLE.sub(lambda found: rf"\U{ord(found[0]):08x}", escaped)
    return f'"{escaped}"'
