"""`podium drain`: takes the pods off a node, as far and as fast as their disruption budgets allow.

Pods are evicted, all that may go at once. Those whose budget allows none for now are tried again, until the time is
over; the user is told which budget holds which pod, once, and again when the reason changes. Budgets open as
replacements become ready elsewhere, so a drain goes on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click

from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, run

if TYPE_CHECKING:
    from cluster.actor.clock import Clock
    from cluster.api.errors import ApiError
    from cluster.api.meta import Key
    from cluster.client.interface import ClusterClient
    from cluster.pb.v1 import core_pb2 as core

FIRST_RETRY_S, MAX_RETRY_S = 0.25, 2.0
"""How long to wait before a pod that had to stay is tried again; it doubles."""


@click.command(
    "drain",
    epilog="\b\nExamples:\n"
    "  podium drain node-2\n"
    "  podium drain node-2 --force               also pods that nobody will replace\n"
    "  podium drain node-2 --timeout 10m         give disruption budgets ten minutes\n"
    "  podium drain node-2 --disable-eviction    whatever the budgets say\n"
    "  podium uncordon node-2                    when it shall take pods again",
)
@click.argument("node")
@click.option("--force", is_flag=True, help="Also pods that no controller will replace.")
@click.option("--grace-period", type=click.IntRange(0), metavar="SECONDS", help="Default: each pod's own.")
@timeout_option("For the pods to be gone.")
@click.option("--disable-eviction", is_flag=True, help="Delete the pods: disruption budgets are not asked.")
@cluster_option
@click.pass_context
def drain_command(
    ctx: click.Context, node: str, force: bool, grace_period: int | None, timeout: float, disable_eviction: bool
) -> int:
    """Cordon a node, evict its pods, and wait until they are gone. Their controllers replace them elsewhere.

    A pod whose disruption budget allows no eviction is tried again until the time is over."""

    async def body(session: Session) -> int:
        from cluster.actor.clock import SystemClock
        from cluster.api.meta import revision_of
        from cluster.cli.delete import wait_gone
        from cluster.cli.nodes import mark
        from cluster.pb.v1 import core_pb2 as core

        name = node.removeprefix("node/")
        await session.client.get(core.Node, name)
        await _pods_of(session, name, force)  # before anything is changed
        marked = await mark(session, name, True)
        pods = await _pods_of(session, name, force)
        if not pods:
            say(f"node/{name} has no pods")
            return ExitCode.OK
        cause = core.Cause(revision=revision_of(marked), object=f"nodes/{name}", reason="drain")
        clock = SystemClock()
        deadline = clock.monotonic() + timeout
        drain = Drain(session.client, clock, name, cause, grace_period, by_eviction=not disable_eviction)
        leaving = await drain.evict(pods, timeout)
        await wait_gone(session, leaving, max(0.0, deadline - clock.monotonic()))
        click.echo(f"node/{name} drained")
        return ExitCode.OK

    return run(ctx, body)


async def _pods_of(session: Session, node: str, force: bool) -> Sequence[core.Pod]:
    """The pods on a node. Raises CommandError if there are some that nobody would replace, but for `force`."""
    from cluster.api.owners import controller_of
    from cluster.api.pods import is_finished
    from cluster.pb.v1 import core_pb2 as core

    pods = (await session.client.list(core.Pod, field_selector=f"spec.nodeName={node}")).items
    alone = [pod.metadata.name for pod in pods if controller_of(pod) is None and not is_finished(pod)]
    if alone and not force:
        raise CommandError(f"no controller would replace {', '.join(alone)}; to delete them all the same, add --force")
    return pods


class Drain:
    """Asks for the pods' end until all of them are on their way. `tell` gets what is done, `warn` what is held up."""

    def __init__(
        self,
        client: ClusterClient,
        clock: Clock,
        node: str,
        cause: core.Cause,
        grace_period_s: int | None,
        *,
        by_eviction: bool,
        tell: Callable[[str], None] = click.echo,
        warn: Callable[[str], None] = say,
    ) -> None:
        self._client = client
        self._clock = clock
        self._node = node
        self._cause = cause
        self._grace_period_s = grace_period_s
        self._by_eviction = by_eviction
        self._tell = tell
        self._warn = warn
        self._held: dict[Key, str] = {}
        """Pods that have to stay for now, and why."""

    async def evict(self, pods: Sequence[core.Pod], timeout_s: float) -> dict[Key, str]:
        """Returns the uids of the pods that are on their way out, by key. Raises CommandError when pods have to stay:
        with TIMEOUT if more time would help, at once (when all others are on their way) if it would not."""
        from cluster.api.errors import Conflict, NotFound, TooManyRequests
        from cluster.api.meta import key_of

        deadline = self._clock.monotonic() + timeout_s
        waiting = {key_of(pod): pod.metadata.uid for pod in pods}
        leaving: dict[Key, str] = {}
        failed: dict[Key, ApiError] = {}
        delay_s = FIRST_RETRY_S
        while True:
            for key, error in await self._ask(waiting):
                if isinstance(error, TooManyRequests):
                    self._hold(key, error)
                    continue
                uid = waiting.pop(key)
                self._held.pop(key, None)
                if error is None:
                    self._tell(f"pod/{key.name} evicted")
                    leaving[key] = uid
                elif not isinstance(error, NotFound | Conflict):  # Conflict: another pod has that name by now
                    failed[key] = error
            left_s = deadline - self._clock.monotonic()
            if not waiting or left_s <= 0:
                break
            await self._clock.sleep(min(delay_s, left_s))
            delay_s = min(2 * delay_s, MAX_RETRY_S)
        if failed:
            raise CommandError(self._story("not drained", ((key, reason_of(error)) for key, error in failed.items())))
        if waiting:
            story = self._story(f"not drained after {timeout_s:g} s", self._held.items())
            raise CommandError(
                f"{story}\nSee: podium get pdb -A; give it longer: --timeout; or, whatever the budgets say:"
                f" podium drain {self._node} --disable-eviction",
                ExitCode.TIMEOUT,
            )
        return leaving

    async def _ask(self, pods: dict[Key, str]) -> list[tuple[Key, ApiError | None]]:
        from cluster.client import operations

        order = operations.evict if self._by_eviction else operations.delete
        asked = [order(key, uid=uid, grace_period_s=self._grace_period_s) for key, uid in pods.items()]
        written = await self._client.write(asked, cause=self._cause)
        return [(key, outcome.error) for key, outcome in zip(list(pods), written.outcomes, strict=True)]

    def _hold(self, key: Key, error: ApiError) -> None:
        why = reason_of(error)
        if self._held.get(key) != why:
            self._held[key] = why
            self._warn(f"pod/{key.name} stays for now: {why}")

    def _story(self, what: str, left: Iterable[tuple[Key, str]]) -> str:
        lines = [f"node/{self._node} is cordoned, but {what}:"]
        return "\n".join([*lines, *(f"  pod/{key.name} of namespace {key.namespace}: {why}" for key, why in left)])


def reason_of(error: ApiError) -> str:
    """The causes, which name the budget; else what the error says."""
    return "; ".join(cause.message for cause in error.causes) or error.message
