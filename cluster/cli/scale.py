"""`podium scale`."""

from __future__ import annotations

import click

from cluster.cli.durations import timeout_option
from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import targets


@click.command(
    "scale",
    epilog="\b\nExamples:\n  podium scale rc/web --replicas 5\n  podium scale rc web --replicas 0 --wait\n"
    "  podium scale rc/web --replicas 5 --current-replicas 3",
)
@click.argument("what", nargs=-1, required=True, metavar="rc/NAME...")
@click.option("--replicas", required=True, type=click.IntRange(0), help="How many there shall be.")
@click.option("--current-replicas", type=click.IntRange(0), help="Only if there are so many now.")
@click.option("--wait", is_flag=True, help="Return when so many are ready.")
@timeout_option("With --wait.")
@namespace_option
@cluster_option
@click.pass_context
def scale_command(
    ctx: click.Context,
    what: tuple[str, ...],
    replicas: int,
    current_replicas: int | None,
    wait: bool,
    timeout: float,
    namespace: str,
) -> int:
    """Set the number of replicas of replication controllers."""
    wanted = targets(what)
    for kind, name in wanted:
        if kind.name != "ReplicationController" or not name:
            raise click.UsageError("only replication controllers can be scaled: podium scale rc/NAME --replicas N")

    async def body(session: Session) -> int:
        from cluster.api.meta import key_of
        from cluster.cli.waiting import wait_until_ready
        from cluster.client import operations
        from cluster.pb.v1 import core_pb2 as core

        scaled = []
        for _, name in wanted:
            live = await session.client.get(core.ReplicationController, name, namespace)
            version = ""
            if current_replicas is not None:
                if live.spec.replicas != current_replicas:
                    raise CommandError(f"rc/{name} has {live.spec.replicas} replicas, not {current_replicas}")
                version = live.metadata.resourceVersion
            patch = operations.patch(key_of(live), {"spec": {"replicas": replicas}}, version=version)
            written = await session.client.write([patch], cause=core.Cause(reason="scale"))
            scaled.append(written.outcomes[0].unwrap())
            click.echo(f"replicationcontroller/{name} scaled")
        if wait:
            slow = await wait_until_ready(session.client, scaled, timeout)
            if slow:
                raise CommandError(f"not ready after {timeout:g} s:\n  " + "\n  ".join(slow), ExitCode.TIMEOUT)
        return ExitCode.OK

    return run(ctx, body)
