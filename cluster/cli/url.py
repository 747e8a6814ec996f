"""`podium url`: where a service answers."""

from __future__ import annotations

import click

from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, one_target, run


@click.command(
    "url",
    epilog="\b\nExamples:\n"
    "  podium url svc/frontend\n  curl $(podium url svc/frontend)\n"
    "  podium url svc/redis -n cache",
)
@click.argument("service", metavar="svc/NAME")
@namespace_option
@cluster_option
@click.pass_context
def url_command(ctx: click.Context, service: str, namespace: str) -> int:
    """Print the URL of a service, one line per port."""
    kind, name = one_target(service if "/" in service else f"svc/{service}")
    if kind.name != "Service":
        raise click.UsageError("only services have a URL: podium url svc/NAME")

    async def body(session: Session) -> int:
        from cluster.cli.waiting import urls_of
        from cluster.pb.v1 import core_pb2 as core

        urls = urls_of(await session.client.get(core.Service, name, namespace))
        if not urls:
            raise CommandError(
                f"svc/{name} is headless: it has no address of its own. See: podium get endpoints {name}"
            )
        click.echo("\n".join(urls))
        return ExitCode.OK

    return run(ctx, body)
