"""`podium why`: the decision about a pod, replayed: every node, every filter with its numbers, every score.

For a pod that is placed, the nodes and pods are read as of the revision just before its binding (the Scheduled event
knows it), so the scheduler's own functions see what the scheduler saw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli.exits import ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, one_target, run

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core
    from cluster.scheduler.explain import Explanation


@click.command(
    "why",
    epilog="\b\nExamples:\n  podium why pod/web-x2k4p\n  podium why web-x2k4p -n cache\n  podium why pod/big -o json",
)
@click.argument("pod", metavar="pod/NAME")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@namespace_option
@cluster_option
@click.pass_context
def why_command(ctx: click.Context, pod: str, output: str, namespace: str) -> int:
    """Say why a pod is where it is, or why it is pending and what would change that.

    Exit code 5 if it cannot be placed."""
    kind, name = one_target(pod if "/" in pod else f"pod/{pod}")
    if kind.name != "Pod":
        raise click.UsageError("only pods are placed: podium why pod/NAME")

    async def body(session: Session) -> int:
        from cluster.pb.v1 import core_pb2 as core

        live = await session.client.get(core.Pod, name, namespace)
        explanation, basis = await _replay(session, live)
        if output == "json":
            import json
            from dataclasses import asdict

            document = asdict(explanation) | {"advice": explanation.advice, "basis": basis}
            click.echo(json.dumps(document, indent=2))
        else:
            click.echo(_text(live, explanation, basis))
        unplaced = not live.spec.nodeName and not any(verdict.fits for verdict in explanation.verdicts)
        return ExitCode.UNSCHEDULABLE if unplaced else ExitCode.OK

    return run(ctx, body)


async def _replay(session: Session, pod: core.Pod) -> tuple[Explanation, str]:
    """The decision, and in words what it was computed from."""
    from cluster.api.errors import Expired
    from cluster.pb.v1 import core_pb2 as core
    from cluster.scheduler.explain import explain

    client = session.client
    revision: int | None = None
    basis = "the cluster as it is now"
    if pod.spec.nodeName:
        selector = f"involvedObject.uid={pod.metadata.uid},reason=Scheduled"
        events = (await client.list(core.Event, pod.metadata.namespace, field_selector=selector)).items
        if events:
            revision = int(events[0].involvedObject.resourceVersion or 1) - 1
            basis = f"the cluster as it was at revision {revision}, just before the binding"
        else:
            basis = "the cluster as it is now (its binding was not recorded)"
    while True:
        try:
            nodes = (await client.list(core.Node, revision=revision)).items
            pods = (await client.list(core.Pod, revision=revision)).items
            services = (await client.list(core.Service, revision=revision)).items
            controllers = (await client.list(core.ReplicationController, revision=revision)).items
            namespaces = (await client.list(core.Namespace, revision=revision)).items
            return (
                explain(pod, nodes, pods, services=services, controllers=controllers, namespaces=namespaces),
                basis,
            )
        except Expired:
            basis = f"the cluster as it is now (revision {revision} is no longer kept)"
            revision = None


def _text(pod: core.Pod, explanation: Explanation, basis: str) -> str:
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
    lines.append(f"computed from {basis}\n")
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
