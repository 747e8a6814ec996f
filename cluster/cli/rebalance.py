"""`podium rebalance`: moves pods that had better be elsewhere, one at a time, within disruption budgets.

What had better move is decided by `cluster.scheduler.rebalance`, from the cluster as it is. A move is an eviction; the
pod's controller makes a replacement, and the scheduler places it. The next pod goes only when as many replicas are
ready as before, so that one that does not come up stops the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, run

if TYPE_CHECKING:
    from cluster.actor.clock import Clock
    from cluster.client.interface import ClusterClient
    from cluster.pb.v1 import core_pb2 as core
    from cluster.scheduler.rebalance import Limits, Move, Plan

LOOK_S = 0.1


@click.command(
    "rebalance",
    epilog="\b\nExamples:\n"
    "  podium rebalance --dry-run              what would move, and why\n"
    "  podium rebalance                        after a node came back, or was added\n"
    "  podium rebalance -n shop --max-moves 5\n"
    "  podium rebalance --min-gain 10          also for a little",
)
@click.option("--dry-run", is_flag=True, help="Say what would move; move nothing.")
@click.option("--max-moves", type=click.IntRange(1), default=100, show_default=True, metavar="N")
@click.option(
    "--min-gain",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    metavar="POINTS",
    help="How much better, of the weighted total that `podium why` shows, another node must be.",
)
@click.option("-n", "--namespace", default="", metavar="NAME", help="Only pods of this one; default: of all.")
@click.option("--delete-emptydir-data", is_flag=True, help="Also pods with an emptyDir or hostPath; they begin anew.")
@timeout_option("For each pod to be replaced.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Format.")
@cluster_option
@click.pass_context
def rebalance_command(
    ctx: click.Context,
    dry_run: bool,
    max_moves: int,
    min_gain: int,
    namespace: str,
    delete_emptydir_data: bool,
    timeout: float,
    output: str,
) -> int:
    """Move pods that had better be on other nodes, one after the other.

    Pods that no controller would replace, that keep data on their node, or whose disruption budget allows none to go
    stay where they are."""

    async def body(session: Session) -> int:
        from cluster.actor.clock import SystemClock
        from cluster.scheduler.rebalance import Limits

        plan = await make_plan(session.client, Limits(max_moves, min_gain, namespace, delete_emptydir_data))
        if output == "json":
            _print_json(plan)
        else:
            _print_plan(plan)
        if dry_run or not plan.moves:
            return ExitCode.OK
        mover = Mover(session.client, SystemClock(), timeout)
        for move in plan.moves:
            node = await mover.carry_out(move)
            say(f"pod/{move.key.name} moved from {move.source} to {node}")
        return ExitCode.OK

    return run(ctx, body)


async def make_plan(client: ClusterClient, limits: Limits) -> Plan:
    """What had better move now. All is read as of one revision."""
    from cluster.pb.v1 import core_pb2 as core
    from cluster.scheduler.rebalance import plan
    from cluster.scheduler.replay import read_picture
    from cluster.scheduler.settings import Weights

    budgets = await client.list(core.PodDisruptionBudget)
    picture = await read_picture(client, budgets.revision)
    return plan(picture, budgets.items, Weights(), limits)


def _print_plan(plan: Plan) -> None:
    from cluster.cli.printers import align

    if not plan.moves:
        click.echo("no pod had better be elsewhere")
    else:
        rows = [["NAMESPACE", "POD", "FROM", "TO", "WHY"]]
        rows += [[m.key.namespace, m.key.name, m.source, m.target, m.why] for m in plan.moves]
        click.echo(align(rows))
    reasons: dict[str, list[str]] = {}
    for key, why in plan.held:
        reasons.setdefault(why, []).append(key.name)
    for why, names in sorted(reasons.items()):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        say(f"left alone: {shown}: {why}")


def _print_json(plan: Plan) -> None:
    import json

    moves = [
        {
            "namespace": m.key.namespace,
            "pod": m.key.name,
            "from": m.source,
            "to": m.target,
            "why": m.why,
            "gain": m.gain,
        }
        for m in plan.moves
    ]
    held = [{"namespace": key.namespace, "pod": key.name, "why": why} for key, why in plan.held]
    click.echo(json.dumps({"moves": moves, "held": held}, indent=2))


class Mover:
    """Evicts a pod and waits for its replacement."""

    def __init__(
        self, client: ClusterClient, clock: Clock, timeout_s: float, *, warn: Callable[[str], None] = say
    ) -> None:
        self._client = client
        self._clock = clock
        self._timeout_s = timeout_s
        self._warn = warn

    async def carry_out(self, move: Move) -> str:
        """Returns the node that the replacement is on. Raises CommandError: with TIMEOUT if the pod is held by its
        budget, or its replacement is not ready, for too long; the moves after it are not begun then."""
        deadline = self._clock.monotonic() + self._timeout_s
        before = await self._replicas(move)
        await self._evict(move, deadline)
        wanted = sum(_is_ready(pod) for pod in before)
        known = {pod.metadata.uid for pod in before}
        while True:
            now = await self._replicas(move)
            fresh = [pod for pod in now if pod.metadata.uid not in known]
            ready = sum(_is_ready(pod) for pod in now)
            if ready >= wanted and fresh:
                return str(fresh[0].spec.nodeName)
            if self._clock.monotonic() >= deadline:
                raise CommandError(
                    f"pod/{move.key.name} was evicted, but only {ready} of {wanted} pods of {move.owner.name} are ready"
                    f" after {self._timeout_s:g} s; what was to move after it stays."
                    f" See: podium get pods -n {move.key.namespace} -o wide; podium why pod/NAME",
                    ExitCode.TIMEOUT,
                )
            await self._clock.sleep(LOOK_S)

    async def _evict(self, move: Move, deadline: float) -> None:
        from cluster.api.errors import NotFound, TooManyRequests
        from cluster.cli.drain import MAX_RETRY_S, reason_of
        from cluster.client import operations
        from cluster.pb.v1 import core_pb2 as core

        told = ""
        while True:
            order = operations.evict(move.key, uid=move.uid)
            outcome = (await self._client.write([order], cause=core.Cause(reason="rebalance"))).outcomes[0]
            if not isinstance(outcome.error, TooManyRequests):
                if not isinstance(outcome.error, NotFound):  # gone by itself: it is replaced all the same
                    outcome.unwrap()
                return
            why = reason_of(outcome.error)
            if why != told:
                self._warn(f"pod/{move.key.name} stays for now: {why}")
                told = why
            if self._clock.monotonic() >= deadline:
                raise CommandError(
                    f"pod/{move.key.name} was not moved after {self._timeout_s:g} s: {why}. See: podium get pdb -A",
                    ExitCode.TIMEOUT,
                )
            await self._clock.sleep(min(MAX_RETRY_S, 0.25))

    async def _replicas(self, move: Move) -> list[core.Pod]:
        """The pods of the controller that are not on their way out."""
        from cluster.api.meta import is_terminating
        from cluster.api.owners import controller_of
        from cluster.pb.v1 import core_pb2 as core

        pods = (await self._client.list(core.Pod, move.key.namespace)).items
        found = []
        for pod in pods:
            owner = controller_of(pod)
            is_its = owner is not None and (owner.kind, owner.name) == (move.owner.kind, move.owner.name)
            if is_its and not is_terminating(pod):
                found.append(pod)
        return found


def _is_ready(pod: core.Pod) -> bool:
    from cluster.api.conditions import is_pod_ready

    return is_pod_ready(pod)
