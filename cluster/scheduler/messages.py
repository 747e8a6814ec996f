"""Explanations and decisions as messages: what the service Scheduler sends, and what its callers make of it. Pure."""

from __future__ import annotations

from cluster.api.meta import to_time
from cluster.pb.v1 import scheduler_pb2 as wire
from cluster.scheduler.cycle import Placement
from cluster.scheduler.explain import Change, Check, Explanation, NodeVerdict, Score
from cluster.scheduler.records import Decision, Nominated


def explanation_message(explanation: Explanation) -> wire.ExplainResponse:
    """Without `basis` and `decision`, which it does not know."""
    message = wire.ExplainResponse(
        namespace=explanation.namespace,
        pod=explanation.pod,
        assigned_to=explanation.assigned_to,
        best=explanation.best,
        message=explanation.message,
    )
    for verdict in explanation.verdicts:
        into = message.verdicts.add(node=verdict.node)
        for check in verdict.checks:
            into.checks.add(filter=check.filter, passed=check.passed, detail=check.detail)
        for score in verdict.scores:
            into.scores.add(name=score.name, weight=score.weight, value=score.value, detail=score.detail)
    for change in explanation.changes:
        message.changes.add(node=change.node, filter=change.filter, text=change.text, effort=change.effort)
    return message


def explanation_of(message: wire.ExplainResponse) -> Explanation:
    """The inverse."""
    return Explanation(
        namespace=message.namespace,
        pod=message.pod,
        assigned_to=message.assigned_to,
        verdicts=tuple(
            NodeVerdict(
                each.node,
                tuple(Check(check.filter, check.passed, check.detail) for check in each.checks),
                tuple(Score(score.name, score.weight, score.value, score.detail) for score in each.scores),
            )
            for each in message.verdicts
        ),
        best=tuple(message.best),
        message=message.message,
        changes=tuple(Change(each.node, each.filter, each.text, each.effort) for each in message.changes),
    )


def decision_message(decision: Decision, tie_seed: int) -> wire.Decision:
    """`tie_seed`: that of the profile by which it was made."""
    message = wire.Decision(
        namespace=decision.key.namespace,
        pod=decision.key.name,
        uid=decision.uid,
        number=decision.number,
        revision=decision.stamp.revision,
        time=to_time(decision.stamp.wall_s),
        profile=decision.lot.profile,
        class_number=decision.class_number,
        priority=decision.lot.priority,
        tie_seed=tie_seed,
    )
    outcome = decision.outcome
    if isinstance(outcome, Placement):
        message.placed.node, message.placed.score = outcome.node, outcome.score
        message.placed.feasible, message.placed.ties = outcome.feasible, outcome.ties
    elif isinstance(outcome, Nominated):
        message.made_room.node, message.made_room.message = outcome.node, outcome.refusal.message
        message.made_room.victims.extend(outcome.victims)
    else:
        message.not_placed.message = outcome.message
        message.not_placed.filters.extend(sorted(outcome.filters))
    return message
