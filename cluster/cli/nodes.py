"""`podium cordon` and `uncordon`: taking a node out of service and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli.exits import ExitCode
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
