"""What the API answers with, made of what is held here and what the policy says today. Pure."""

from doogie_contract.models import (
    Admission,
    Limits,
    PolicyArgs,
    PolicyRule,
    ServerState,
    ServerStatus,
    StdioStatus,
)
from doogie_proxy.admission import Admitted, plan_hash
from doogie_proxy.http import problem_of_failure
from doogie_proxy.identity import Identity
from doogie_proxy.pending import FAILURE_KEPT, Start
from doogie_proxy.policy import Policy, Rule
from doogie_proxy.references import ImageRef
from doogie_proxy.server import Server
from doogie_proxy.servers import View


def server_status(view: View, policy: Policy) -> ServerStatus:
    """A server's status: of its container, or of the start that has none yet, or failed."""
    name, start = view.key.name, view.start
    known = ServerStatus(name=name, state=view.state)
    if view.server is not None:
        known = _of_server(view.state, view.server, policy)
    elif start is not None:
        known = _of_start(view.state, start)
    if start is None or start.failure is None:
        return known
    problem = problem_of_failure(start.failure).to_problem(start.wanted.request_id)
    return known.model_copy(update={"problem": problem})


def _of_server(state: ServerState, server: Server, policy: Policy) -> ServerStatus:
    lease = server.lease_end()
    return ServerStatus(
        name=server.identity.server,
        state=state,
        rule=server.identity.rule,
        image=server.identity.image,
        image_digest=server.container.image_id,
        container_id=server.container.id,
        created_at=server.container.created_at,
        started_at=server.container.started_at,
        exit=server.exit,
        outdated=_outdated(server.identity, policy),
        stdio=StdioStatus(attached=server.hub.attached, half_close=server.hub.can_half_close),
        expires_at=lease[0] if lease else server.removal_due(),
    )


def _of_start(state: ServerState, start: Start) -> ServerStatus:
    admitted = start.wanted.admitted
    return ServerStatus(
        name=start.key.name,
        state=state,
        rule=admitted.rule.name,
        image=str(admitted.image),
        pull=None if start.pull is None else start.pull.status,
        expires_at=None if start.failed_at is None else start.failed_at + FAILURE_KEPT,
    )


def _outdated(identity: Identity, policy: Policy) -> bool:
    rule = next((rule for rule in policy.rules_of(identity.client) if rule.name == identity.rule), None)
    image = rule.resolve(ImageRef.parse(identity.image)) if rule else None
    return rule is None or image is None or plan_hash(rule, image) != identity.plan


def admission(admitted: Admitted) -> Admission:
    """What a dry run answers."""
    return Admission(
        rule=admitted.rule.name, image=str(admitted.image), args=list(admitted.args), limits=_limits(admitted.rule)
    )


def policy_rule(rule: Rule) -> PolicyRule:
    """A rule as its clients may see it."""
    return PolicyRule(
        name=rule.name,
        images=rule.images,
        image_patterns=rule.image_patterns,
        args=PolicyArgs(prefix=rule.args.prefix, any=rule.args.any, patterns=rule.args.patterns, max=rule.args.max),
        env_allow=rule.env.allow,
        env_patterns=rule.env.patterns,
        env_fixed=sorted(rule.env.fixed),
        secrets=sorted(rule.secrets),
        mounts=sorted(rule.mounts),
        limits=_limits(rule),
    )


def _limits(rule: Rule) -> Limits:
    return Limits(
        memory_bytes=rule.resources.memory,
        cpus=rule.resources.cpus,
        pids=rule.resources.pids,
        tmp_bytes=rule.resources.tmp,
        shm_bytes=rule.resources.shm,
        nofile=rule.resources.nofile,
        max_message_bytes=rule.stdio.max_message,
        buffer_bytes=rule.stdio.buffer,
        replay=rule.stdio.replay,
        network=rule.network,
        user=rule.user,
        runtime=rule.runtime,
        **rule.lifetime.model_dump(),
    )
