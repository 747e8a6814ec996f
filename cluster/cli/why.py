"""`podium why`: the decision about a pod, replayed: every node, every filter with its numbers, every score.

The scheduler is asked, which knows its profiles and remembers its last decisions; when none answers, the decision is
computed here, by the scheduler's own functions (`cluster.scheduler.replay`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import one_target

if TYPE_CHECKING:
    from cluster.client.scheduler_client import SchedulerClient
    from cluster.pb.v1 import core_pb2 as core
    from cluster.pb.v1 import scheduler_pb2 as wire
    from cluster.scheduler.explain import Explanation

R = TypeVar("R")


@click.command(
    "why",
    epilog="\b\nExamples:\n  podium why pod/web-x2k4p\n  podium why web-x2k4p -n cache\n"
    "  podium why pod/web-x2k4p --not-on node-3\n  podium why pod/big -o json\n"
    "  podium why --last 20                 the last decisions, whatever they were about",
)
@click.argument("pod", metavar="pod/NAME", required=False)
@click.option("--not-on", default="", metavar="NODE", help="Why it is not on this node, and what would change that.")
@click.option("--last", type=click.IntRange(1, 10_000), metavar="N", help="The last N decisions instead.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@namespace_option
@cluster_option
@click.pass_context
def why_command(ctx: click.Context, pod: str | None, not_on: str, last: int | None, output: str, namespace: str) -> int:
    """Say why a pod is where it is, or why it is pending and what would change that.

    Exit code 5 if it cannot be placed."""
    if (pod is None) == (last is None) or (last is not None and not_on):
        raise click.UsageError("name one pod, or ask for --last N")
    if last is not None:
        return run(ctx, lambda session: _show_last(session, last, output))
    assert pod is not None
    kind, name = one_target(pod if "/" in pod else f"pod/{pod}")
    if kind.name != "Pod":
        raise click.UsageError("only pods are placed: podium why pod/NAME")

    async def body(session: Session) -> int:
        from cluster.pb.v1 import core_pb2 as core

        live = await session.client.get(core.Pod, name, namespace)
        explanation, basis, decision = await _explain(session, live, not_on)
        if output == "json":
            import json
            from dataclasses import asdict

            document = asdict(explanation) | {"advice": explanation.advice, "basis": basis}
            click.echo(json.dumps(document | {"decision": _plain(decision)}, indent=2))
        elif not_on:
            click.echo(_text_about(live, explanation, not_on, basis))
        else:
            click.echo(_text(live, explanation, basis, decision))
        unplaced = not live.spec.nodeName and not any(verdict.fits for verdict in explanation.verdicts)
        return ExitCode.UNSCHEDULABLE if unplaced else ExitCode.OK

    return run(ctx, body)


async def _ask(session: Session, question: Callable[[SchedulerClient], Awaitable[R]]) -> R | None:
    """The answer of the scheduler that works; None if none answers."""
    from cluster.api.errors import DeadlineExceeded, Unavailable
    from cluster.client.scheduler_client import SchedulerClient
    from cluster.rpc.identity import Credentials

    credentials = Credentials.load(session.directory.credentials("admin"))
    for process in session.state.processes:
        if process.role == "manager" and process.address:
            client = SchedulerClient(process.address, credentials)
            try:
                return await question(client)
            except (Unavailable, DeadlineExceeded):
                continue
            finally:
                await client.close()
    return None


async def _explain(session: Session, pod: core.Pod, not_on: str) -> tuple[Explanation, str, wire.Decision | None]:
    """The explanation, in words what it was computed from, and what the scheduler remembers.

    The scheduler knows its profiles and plug-ins; without it the decision is computed here, by what ships.
    """
    from cluster.scheduler.messages import explanation_of
    from cluster.scheduler.replay import replay

    meta = pod.metadata
    answer = await _ask(session, lambda scheduler: scheduler.explain(meta.namespace, meta.name, not_on=not_on))
    if answer is not None:
        decision = answer.decision if answer.HasField("decision") else None
        return explanation_of(answer), answer.basis, decision
    explanation, basis = await replay(session.client, pod, not_on=not_on)
    return explanation, f"{basis}; no scheduler answers, so this is by the profile that ships", None


async def _show_last(session: Session, last: int, output: str) -> int:
    answer = await _ask(session, lambda scheduler: scheduler.decisions(limit=last))
    if answer is None:
        raise CommandError("no scheduler answers; see: podium cluster-info", ExitCode.UNREACHABLE)
    if output == "json":
        import json

        click.echo(json.dumps([_plain(decision) for decision in answer.decisions], indent=2))
        return ExitCode.OK
    from cluster.cli.printers import align, clean

    rows = [["NUMBER", "REVISION", "PROFILE", "CLASS", "NAMESPACE", "POD", "OUTCOME"]]
    for each in answer.decisions:
        facts = (each.number, each.revision, each.profile, each.class_number, each.namespace, each.pod)
        rows.append([*map(str, facts), clean(_outcome(each))])
    click.echo(align(rows) if len(rows) > 1 else "nothing was decided yet")
    return ExitCode.OK


def _plain(decision: wire.Decision | None) -> dict[str, Any] | None:
    """For JSON."""
    from google.protobuf.json_format import MessageToDict

    return None if decision is None else MessageToDict(decision, preserving_proto_field_name=True)


def _outcome(decision: wire.Decision) -> str:
    match decision.WhichOneof("outcome"):
        case "placed":
            placed = decision.placed
            tied = f", {placed.ties} tied" if placed.ties > 1 else ""
            return f"{placed.node}: {placed.score} points, {placed.feasible} nodes fitted{tied}"
        case "made_room":
            return f"{decision.made_room.node}: makes {', '.join(decision.made_room.victims)} go"
        case _:
            return decision.not_placed.message


def _text_about(pod: core.Pod, explanation: Explanation, node: str, basis: str) -> str:
    """Why the pod is not on one node."""
    from cluster.cli.printers import align, clean

    name = f"pod/{pod.metadata.name}"
    verdict = next(each for each in explanation.verdicts if each.node == node)
    rows = [["FILTER", "", "COMPARED"]]
    rows += [[check.filter, "ok" if check.passed else "NO", clean(check.detail)] for check in verdict.checks]
    if not verdict.fits:
        refusing = ", ".join(check.filter for check in verdict.checks if not check.passed)
        lines = [f"{name} cannot be on {node}: {refusing}", f"smallest change: {explanation.advice}"]
        return "\n".join([*lines, f"computed from {basis}\n", align(rows)])
    if pod.spec.nodeName == node:
        return f"{name} is on {node}"
    best = explanation.verdicts[0]
    if verdict.total == best.total:
        lines = [f"{name} could be on {node}: it is as good as {best.node}, and another was taken"]
    else:
        lines = [f"{name} could be on {node}: {verdict.total} points, but {best.node} has {best.total}"]
    table = [["SCORE", node.upper(), best.node.upper()]]
    for mine, others in zip(verdict.scores, best.scores, strict=True):
        table.append([mine.name, f"{mine.value} x{mine.weight}", f"{others.value} x{others.weight}"])
    return "\n".join([*lines, f"computed from {basis}\n", align(rows), "", align(table)])


def _text(pod: core.Pod, explanation: Explanation, basis: str, decision: wire.Decision | None = None) -> str:
    from cluster.cli.printers import align, clean

    name = f"pod/{pod.metadata.name}"
    lines = []
    if pod.spec.nodeName:
        lines.append(f"{name} is on {pod.spec.nodeName}")
        if len(explanation.best) > 1 and pod.spec.nodeName in explanation.best:
            lines[0] += (
                f": {', '.join(explanation.best)} were equally good, and it had the fewest pods or the lowest draw"
            )
        elif explanation.best == (pod.spec.nodeName,):
            lines[0] += ": it has the highest score"
        elif not explanation.best:
            lines[0] += ", which would refuse it now"
    elif explanation.message:
        lines.append(f"{name} is pending: {explanation.message}")
        if explanation.advice:
            lines.append(f"smallest change: {explanation.advice}")
    else:
        lines.append(f"{name} is not placed yet, but it fits on {', '.join(explanation.best)}")
    lines.append(f"computed from {basis}")
    if decision is not None:
        lines.append(
            f"decision {decision.number} of profile {decision.profile}, class {decision.class_number}, ties by seed"
            f" {decision.tie_seed}: {_outcome(decision)}"
        )
    lines.append("")
    refusing = list(dict.fromkeys(c.filter for v in explanation.verdicts for c in v.checks if not c.passed))
    # A score that nobody gets says nothing.
    score_names = list(dict.fromkeys(s.name for v in explanation.verdicts for s in v.scores if s.value))
    rows = [["NODE", "FITS", *refusing]]
    for verdict in explanation.verdicts:
        passed = {check.filter: check.passed for check in verdict.checks}
        cells = ["ok" if passed[name] else "NO" for name in refusing]
        rows.append([verdict.node, "yes" if verdict.fits else "no", *cells])
    lines.append(align(rows) if len(rows) > 1 else "there are no nodes")
    details = [
        f"  {verdict.node}: {check.filter}: {clean(check.detail)}"
        for verdict in explanation.verdicts
        for check in verdict.checks
        if check.detail and check.filter in (*refusing, "Resources")
    ]
    if details:
        lines += ["", "compared:", *details]
    if score_names:
        rows = [["NODE", "TOTAL", *score_names]]
        for verdict in explanation.verdicts:
            if verdict.scores:
                marks = {score.name: f"{score.value} x{score.weight}" for score in verdict.scores}
                rows.append([verdict.node, str(verdict.total), *(marks[name] for name in score_names)])
        lines += ["", align(rows)]
    return "\n".join(lines)
