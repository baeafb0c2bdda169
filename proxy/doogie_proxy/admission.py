"""The decision: does a rule of this client admit this request? Pure, and the only place that decides."""

import hashlib
import json
from dataclasses import dataclass

from doogie_contract.models import StartRequest
from doogie_contract.problems import ProblemDetail
from doogie_proxy.policy import MAX_PATTERN_ARG_BYTES, Args, Env, ImageRef, Policy, Rule, full_match


@dataclass(frozen=True)
class Admitted:
    """What will be run: the rule, the image it pins, the whole argument vector and the whole environment."""

    rule: Rule
    image: ImageRef
    args: tuple[str, ...]
    env: dict[str, str]

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
        if image is None:
            faults = [f"image {request.image!r} is not one of {', '.join(rule.images)}"]
        else:
            faults = _args_faults(rule.args, request.args) + _env_faults(rule.env, request.env)
            if not faults:
                return Admitted(rule, image, (*rule.args.prefix, *request.args), {**request.env, **rule.env.fixed})
        errors += [ProblemDetail(loc=f"rules.{rule.name}", msg=fault) for fault in faults]
    return Denied(errors or [ProblemDetail(loc="rules", msg=f"client {client!r} has no rules: add some to the policy")])


def plan_hash(rule: Rule, image: ImageRef) -> str:
    """See ``Admitted.plan``. What only admits (patterns, allowed names) is left out."""
    shape = rule.model_dump(mode="json", include={"network", "user", "resources", "stdio", "lifetime"})
    shape |= {"image": str(image), "prefix": rule.args.prefix, "fixed": rule.env.fixed}
    return hashlib.sha256(json.dumps(shape, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _args_faults(rule: Args, args: list[str]) -> list[str]:
    if not args:
        return []
    if not rule.any and not rule.patterns:
        return ["takes no arguments"]
    faults = []
    if len(args) > rule.max:
        faults.append(f"takes at most {rule.max} arguments, not {len(args)}")
    if not rule.any:
        faults += [
            f"argument {index} ({_shorten(arg)}) matches none of {', '.join(map(repr, rule.patterns))}"
            for index, arg in enumerate(args)
            if not _arg_matches(rule, arg)
        ]
    return faults


def _arg_matches(rule: Args, arg: str) -> bool:
    if len(arg.encode()) > MAX_PATTERN_ARG_BYTES:
        return False
    return any(full_match(pattern, arg) for pattern in rule.patterns)


def _env_faults(rule: Env, env: dict[str, str]) -> list[str]:
    faults = []
    for name in env:
        if name in rule.fixed:
            faults.append(f"environment variable {name} is fixed by the rule")
        elif name not in rule.allow:
            allowed = ", ".join(rule.allow) or "none"
            faults.append(f"environment variable {name} is not allowed (allowed: {allowed})")
    return faults


def _shorten(arg: str) -> str:
    if len(arg.encode()) > MAX_PATTERN_ARG_BYTES:
        return f"{len(arg.encode())} bytes, more than the {MAX_PATTERN_ARG_BYTES} that patterns apply to"
    return repr(arg if len(arg) <= 64 else arg[:61] + "…")
