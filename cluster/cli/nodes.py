"""`podium cordon`, `uncordon` and `drain`: taking a node out of service and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, run

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject


@click.command(
    "cordon", epilog="\b\nExamples:\n  podium cordon node-2\n  podium cordon node-2 node-3\n  podium get nodes"
)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@cluster_option
@click.pass_context
def cordon_command(ctx: click.Context, nodes: tuple[str, ...]) -> int:
    """Take no new pods on nodes; those that run there stay."""
    return _set_unschedulable(ctx, nodes, True)


@click.command(
    "uncordon", epilog="\b\nExamples:\n  podium uncordon node-2\n  podium uncordon node-2 node-3\n  podium get nodes"
)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@cluster_option
@click.pass_context
def uncordon_command(ctx: click.Context, nodes: tuple[str, ...]) -> int:
    """Take new pods on nodes again."""
    return _set_unschedulable(ctx, nodes, False)


def _set_unschedulable(ctx: click.Context, nodes: tuple[str, ...], value: bool) -> int:
    async def body(session: Session) -> int:
        for name in nodes:
            await mark(session, name, value)
        return ExitCode.OK

    return run(ctx, body)


async def mark(session: Session, name: str, value: bool) -> AnyObject:
    """Cordons or uncordons one node, says so, and returns it."""
    from cluster.api.meta import Key
    from cluster.client import operations
    from cluster.pb.v1 import core_pb2 as core

    patch = operations.patch(Key("Node", "", name.removeprefix("node/")), {"spec": {"unschedulable": value}})
    cause = core.Cause(reason="cordon" if value else "uncordon")
    result = (await session.client.write([patch], cause=cause)).outcomes[0]
    node = result.unwrap()
    word = "cordoned" if value else "uncordoned"
    click.echo(f"node/{node.metadata.name} {'already ' if result.unchanged else ''}{word}")
    return node


@click.command(
    "drain",
    epilog="\b\nExamples:\n"
    "  podium drain node-2\n"
    "  podium drain node-2 --force       also pods that nobody will replace\n"
    "  podium uncordon node-2            when it shall take pods again",
)
@click.argument("node")
@click.option("--force", is_flag=True, help="Also delete pods that no controller will replace.")
@click.option("--grace-period", type=click.IntRange(0), metavar="SECONDS", help="Default: each pod's own.")
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="For the pods to be gone.")
@cluster_option
@click.pass_context
def drain_command(ctx: click.Context, node: str, force: bool, grace_period: int | None, timeout: float) -> int:
    """Cordon a node, delete its pods, and wait until they are gone. Their controllers replace them elsewhere."""

    async def body(session: Session) -> int:
        from cluster.api.meta import key_of, revision_of
        from cluster.api.owners import controller_of
        from cluster.api.pods import is_finished
        from cluster.cli.delete import _wait_gone
        from cluster.client import operations
        from cluster.pb.v1 import core_pb2 as core

        name = node.removeprefix("node/")
        await session.client.get(core.Node, name)
        pods = (await session.client.list(core.Pod, field_selector=f"spec.nodeName={name}")).items
        alone = [pod.metadata.name for pod in pods if controller_of(pod) is None and not is_finished(pod)]
        if alone and not force:
            raise CommandError(
                f"no controller would replace {', '.join(alone)}; to delete them all the same, add --force"
            )
        marked = await mark(session, name, True)
        if not pods:
            say(f"node/{name} has no pods")
            return ExitCode.OK
        outcome = await session.client.write(
            [operations.delete(key_of(pod), uid=pod.metadata.uid, grace_period_s=grace_period) for pod in pods],
            cause=core.Cause(revision=revision_of(marked), object=f"nodes/{name}", reason="drain"),
        )
        for pod, result in zip(pods, outcome.outcomes, strict=True):
            result.unwrap()
            click.echo(f"pod/{pod.metadata.name} evicted")
        await _wait_gone(session, {key_of(pod): pod.metadata.uid for pod in pods}, timeout)
        click.echo(f"node/{name} drained")
        return ExitCode.OK

    return run(ctx, body)
