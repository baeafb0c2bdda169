"""What is legal in a policy and unwise: each warning says where, and why. Pure."""

import re
from collections.abc import Iterator

from doogie_proxy.patterns import full_match
from doogie_proxy.policy import DANGEROUS_ENV, Policy, Rule

_INTERPRETER = re.compile(
    "alpine|ash|bash|bun|busybox|dash|debian|deno|env|fedora|golang|java|julia|lua|node|npx|perl|php|pwsh|python[0-9.]*"
    "|ruby|rust|sh|ubuntu|uvx?|zsh"
)
_PROBE = "-\u2603 anything, ../at/all?"
"""An argument that nobody means to allow; a pattern that matches it allows everything."""


def warnings(policy: Policy) -> Iterator[str]:
    """One line for each."""
    for rule in policy.rules:
        for about in (_images, _arguments, _environment, _mounts, _network):
            yield from (f"rules.{rule.name}.{warning}" for warning in about(rule))


def _images(rule: Rule) -> Iterator[str]:
    for ref in rule.listed_images:
        if ref.digest is None:
            yield f"images: {ref} is a tag without a digest: whoever can move the tag decides what runs"
    if rule.image_patterns and rule.allow_tags:
        yield "image_patterns: with allow_tags, whoever can tag an image on the engine decides what runs"
    if rule.image_patterns and rule.pull == "missing":
        yield "image_patterns: with pull: missing, clients choose what the engine downloads, as far as they match"


def _arguments(rule: Rule) -> Iterator[str]:
    anything = rule.args.any or any(full_match(pattern, _PROBE) for pattern in rule.args.patterns)
    if not anything:
        return
    programs = [ref.repo for ref in rule.listed_images] if rule.entrypoint is None else rule.entrypoint
    names = {program.rpartition("/")[2] for program in programs}
    if found := sorted(filter(_INTERPRETER.fullmatch, names)):
        yield f"args: any argument of {', '.join(found)} is allowed: the client can run any program in the container"
    else:
        yield "args: any argument is allowed: none may make the program run others, or read what it should not"


def _environment(rule: Rule) -> Iterator[str]:
    for name in rule.env.allow:
        if DANGEROUS_ENV.fullmatch(name):
            yield f"env.allow: {name} changes what runs or whom it talks to: fix its value if you can"


def _mounts(rule: Rule) -> Iterator[str]:
    for name, mount in rule.mounts.items():
        if mount.host is not None and not mount.read_only:
            yield f"mounts.{name}: {mount.host} is writable: what a hostile container leaves there, the host may trust"


def _network(rule: Rule) -> Iterator[str]:
    if rule.network != "none":
        yield f"network: over {rule.network} the container may reach others and be a way out for what it was told"
