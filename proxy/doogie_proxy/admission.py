"""The decision: does a rule of this client admit this request? Pure, and the only place that decides."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemDetail
from doogie_proxy.patterns import full_match
from doogie_proxy.policy import Args, Client, Mount, Policy, Rule, Secret
from doogie_proxy.references import ImageRef

MAX_PATTERN_ARG_BYTES = 1024
"""An argument that a pattern must match is at most this long."""

_ONLY_DECIDES = {"name", "images", "image_patterns", "allow_tags", "pull", "args", "env", "max_running"}
"""Fields of a rule that say who gets in, and change nothing about what then runs."""


@dataclass(frozen=True)
class Admitted:
    """What will be run: the rule, the image it pins, the whole argument vector, environment, secrets and mounts."""

    client: Client
    rule: Rule
    image: ImageRef
    args: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    secrets: tuple[Secret, ...] = ()
    mounts: tuple[Mount, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """What the engine is asked for, one after the other until it has it.

        A digest says more than a tag, so the tag gives way to it. An image that was built on this host has no
        repository digest: where the operator listed the image, its digest may be the image's id.
        """
        if self.image.digest is None:
            return (str(self.image),)
        by_digest = f"{self.image.repo}@{self.image.digest}"
        return (by_digest, self.image.digest) if self.image in self.rule.listed_images else (by_digest,)

    @property
    def plan(self) -> str:
        """SHA-256 (hex) of everything the policy contributes; differs when the policy would build it differently."""
        return plan_hash(self.rule, self.image)


@dataclass(frozen=True)
class Denied:
    """No rule admits the request; ``errors`` holds, rule by rule, everything that stood in the way."""

    errors: list[ProblemDetail]


def admit(policy: Policy, client: str, request: StartRequest) -> Admitted | Denied:
    """The first rule of ``client`` that admits the whole of ``request`` decides."""
    try:
        asked = ImageRef.parse(request.image)
    except ValueError as exc:
        return Denied([ProblemDetail(loc="image", msg=str(exc))])
    errors: list[ProblemDetail] = []
    for rule in policy.rules_of(client):
        image = rule.resolve(asked)
        faults = [_image_fault(rule, request.image)] if image is None else list(_faults(rule, request))
        if image is not None and not faults:
            return Admitted(
                client=policy.clients[client],
                rule=rule,
                image=image,
                args=(*rule.args.prefix, *request.args),
                env={**request.env, **rule.env.fixed},
                secrets=tuple(rule.secrets[name] for name in request.secrets),
                mounts=tuple(rule.mounts[name] for name in request.mounts),
            )
        errors += [ProblemDetail(loc=f"rules.{rule.name}", msg=fault) for fault in faults]
    return Denied(errors or [ProblemDetail(loc="rules", msg=f"client {client!r} has no rules: add some to the policy")])


def plan_hash(rule: Rule, image: ImageRef) -> str:
    """See ``Admitted.plan``."""
    shape = rule.model_dump(mode="json", exclude=_ONLY_DECIDES)
    shape |= {"image": str(image), "prefix": rule.args.prefix, "fixed": rule.env.fixed}
    return hashlib.sha256(json.dumps(shape, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _faults(rule: Rule, request: StartRequest) -> Iterator[str]:
    yield from _args_faults(rule.args, request.args)
    yield from _env_faults(rule, request.env)
    yield from _unknown("secret", request.secrets, rule.secrets)
    yield from _unknown("mount", request.mounts, rule.mounts)


def _image_fault(rule: Rule, asked: str) -> str:
    offered = [*rule.images, *(f"what matches {pattern!r}" for pattern in rule.image_patterns)]
    return f"image {asked!r} is not one of {', '.join(offered)}"


def _args_faults(rule: Args, args: list[str]) -> Iterator[str]:
    if args and not rule.any and not rule.patterns:
        yield "takes no arguments"
        return
    if len(args) > rule.max:
        yield f"takes at most {rule.max} arguments, not {len(args)}"
    if rule.any:
        return
    for index, arg in enumerate(args):
        if not _arg_matches(rule, arg):
            yield f"argument {index}{_shown(rule, arg)} matches none of {', '.join(map(repr, rule.patterns))}"


def _arg_matches(rule: Args, arg: str) -> bool:
    if len(arg.encode()) > MAX_PATTERN_ARG_BYTES:
        return False
    return any(full_match(pattern, arg) for pattern in rule.patterns)


def _env_faults(rule: Rule, env: Iterable[str]) -> Iterator[str]:
    taken = {*rule.env.fixed, *(secret.env for secret in rule.secrets.values())}
    for name in env:
        if name in taken:
            yield f"environment variable {name} is set by the rule"
        elif not rule.env.admits(name):
            allowed = [*rule.env.allow, *(f"what matches {pattern!r}" for pattern in rule.env.patterns)]
            yield f"environment variable {name} is not allowed (allowed: {', '.join(allowed) or 'none'})"


def _unknown(what: str, names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"has no {what} {name!r} (it has: {', '.join(known) or 'none'})"


def _shown(rule: Args, arg: str) -> str:
    """An argument in a message that is logged too; nothing where the rule keeps arguments out of the log."""
    if len(arg.encode()) > MAX_PATTERN_ARG_BYTES:
        return f" ({len(arg.encode())} bytes, more than the {MAX_PATTERN_ARG_BYTES} that patterns apply to)"
    if rule.audit == "hashed":
        return ""
    return f" ({arg if len(arg) <= 64 else arg[:61] + '…'!r})"
