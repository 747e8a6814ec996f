"""What the scheduler answers: why a pod is where it is, and what was decided of late.

An implementation of `cluster.rpc.handlers.SchedulerHandler`; it knows nothing of gRPC. Who may call is in one table. Of
several managers one schedules: the `Desk` has its world as long as it does, and the others say that they do not.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message

from cluster.api.errors import Forbidden, Invalid, Unavailable
from cluster.api.rights import calls_of
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import scheduler_pb2 as wire
from cluster.rpc.identity import Identity
from cluster.scheduler.messages import decision_message, explanation_message
from cluster.scheduler.records import Decision
from cluster.scheduler.replay import replay
from cluster.scheduler.settings import DEFAULT_SCHEDULER
from cluster.scheduler.world import World

DEFAULT_LIMIT, MAX_LIMIT = 100, 10_000
"""Of decisions in one answer."""

RULES: Mapping[str, frozenset[str]] = {
    "/cluster.pb.v1.Scheduler/Explain": frozenset({"admin"}),
    "/cluster.pb.v1.Scheduler/Decisions": frozenset({"admin"}),
    **calls_of("cluster.pb.v1.Scheduler"),
}
"""Method -> kinds of identity that may call it; a method without a row is refused to all."""


def authorize(identity: Identity, method: str, request: Message | None) -> None:
    """Raises Forbidden unless the table lets this identity call this method."""
    if identity.kind not in RULES.get(method, frozenset()):
        raise Forbidden(f"{identity} may not call {method.rpartition('/')[2]} on a scheduler")


class Desk:
    """Where the scheduler that works at the moment leaves its world for those who ask."""

    def __init__(self) -> None:
        self.world: World | None = None

    def working(self) -> World:
        """Raises Unavailable if none works here."""
        if self.world is None:
            raise Unavailable("no scheduler works here now: another manager schedules, or this one is starting")
        return self.world


class SchedulerService:
    """Explains and tells. It reads through `client`, which may read nodes, pods, services and events."""

    def __init__(self, client: ClusterClient, desk: Desk) -> None:
        self._client = client
        self._desk = desk

    async def explain(self, identity: Identity, request: wire.ExplainRequest) -> wire.ExplainResponse:
        """See scheduler.proto. Raises NotFound, Unavailable."""
        world = self._desk.working()
        pod = await self._client.get(core.Pod, request.pod, request.namespace)
        cycle = world.cycles.get(pod.spec.schedulerName or DEFAULT_SCHEDULER)
        rules = None if cycle is None else cycle.rules
        explanation, basis = await replay(self._client, pod, rules, not_on=request.not_on)
        answer = explanation_message(explanation)
        answer.basis = basis
        decision = world.records.latest(pod.metadata.uid)
        if decision is not None:
            answer.decision.CopyFrom(_message(world, decision))
        return answer

    async def decisions(self, identity: Identity, request: wire.DecisionsRequest) -> wire.DecisionsResponse:
        """See scheduler.proto. Raises Invalid, Unavailable."""
        world = self._desk.working()
        limit = request.limit or DEFAULT_LIMIT
        if not 0 < limit <= MAX_LIMIT:
            raise Invalid(f"limit must be from 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}: {request.limit}")
        kept = world.records.since(request.since)[-limit:]
        answer = wire.DecisionsResponse(made=world.records.made)
        answer.decisions.extend(_message(world, each) for each in kept)
        return answer


def _message(world: World, decision: Decision) -> wire.Decision:
    return decision_message(decision, world.cycles[decision.lot.profile].seed)
