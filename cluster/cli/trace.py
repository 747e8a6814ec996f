"""`podium trace`: how an object came to be what it is, as a timeline of causes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cluster.cli.exits import ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import WantedOne

if TYPE_CHECKING:
    from cluster.pb.v1 import cluster_pb2 as wire

_TOLD_BY_THE_STEP = ("apply", "scale", "schedule", "observed")
"""Reasons that say no more than the step's own word."""


@click.command(
    "trace",
    epilog="\b\nExamples:\n"
    "  podium trace pod/web-x2k4p      from apply to ready; of a deleted pod also what ended it\n"
    "  podium trace rc/web\n"
    "  podium trace svc/web            and its endpoints\n"
    "  podium trace pod/web-x2k4p -o json",
)
@click.argument("what", metavar="KIND/NAME")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", help="Format.")
@namespace_option
@cluster_option
@click.pass_context
def trace_command(ctx: click.Context, what: str, output: str, namespace: str) -> int:
    """Show the chain of causes that made an object what it is, with the time each step took.

    AT counts from the first step, TOOK from the step before."""
    target = what if "/" in what else f"pod/{what}"
    wanted = WantedOne(target)

    async def body(session: Session) -> int:
        kind, name = await wanted.target(session.client)
        where = namespace if kind.namespaced else ""
        traced = await session.client.trace(kind.message, name, where)
        if output == "text":
            click.echo(text(traced.steps, where))
        else:
            from cluster.cli.past import as_document

            click.echo(as_document(document(traced), output))
        if traced.gap:
            say(f"not everything is known: {traced.gap}")
        return ExitCode.OK

    return run(ctx, body)


def text(steps: Sequence[wire.TraceStep], namespace: str) -> str:
    """A line per step, and how long it took from the first to the last."""
    from cluster.api.columns import NONE
    from cluster.api.meta import from_time
    from cluster.cli import past
    from cluster.cli.printers import align, clean

    if not steps:
        return "nothing is known of how it came to be"
    rows = [["REVISION", "AT", "TOOK", "STEP", "OBJECT", "WHO", "WHAT"]]
    begin_s = previous_s = from_time(steps[0].time)
    for step in steps:
        now_s = from_time(step.time)
        tells = step.cause.object or step.cause.reason not in _TOLD_BY_THE_STEP
        why = past.cause_text(step.cause, namespace) if tells else ""
        rows.append(
            [
                str(step.revision) if step.HasField("revision") else "-",
                duration(now_s - begin_s),
                f"+{duration(now_s - previous_s)}",
                step.step,
                clean(past.object_text(step.object, namespace)),
                clean(step.actor) or NONE,
                clean("; ".join(part for part in (step.message, why) if part)),
            ]
        )
        previous_s = max(previous_s, now_s)
    lines = [f"begins {past.time_text(steps[0].time, 3)}", "", align(rows)]
    if len(steps) > 1:
        whole = duration(max(from_time(step.time) for step in steps) - begin_s)
        lines += ["", f"{whole} from {steps[0].step} to {steps[-1].step}"]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """With the digits that matter: 0, 4ms, 1.25s, 3m20s, 2h."""
    from cluster.api.columns import age

    if seconds <= 0:
        return "0"
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    return f"{seconds:.2f}s" if seconds < 60 else age(seconds)


def document(traced: wire.TraceResponse) -> dict[str, Any]:
    """The same for programs."""
    from cluster.cli import past

    steps = []
    for step in traced.steps:
        one: dict[str, Any] = {"step": step.step, "object": step.object, "time": past.time_text(step.time, 6)}
        if step.HasField("revision"):
            one["revision"] = step.revision
        one |= {"actor": step.actor, "cause": past.cause_document(step.cause), "message": step.message}
        steps.append(one)
    return {"steps": steps, "gap": traced.gap, "revision": traced.revision}
