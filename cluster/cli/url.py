"""`podium url`: where a service answers, for a program on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cluster.cli.exits import CommandError, ExitCode
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import one_target

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core


@click.command(
    "url",
    epilog="\b\nExamples:\n"
    "  podium url svc/frontend\n  curl $(podium url frontend --port-name http)\n"
    "  podium url svc/redis -n cache",
)
@click.argument("service", metavar="svc/NAME")
@click.option("--port-name", default="", metavar="NAME", help="Of this port only: its name, or its number.")
@namespace_option
@cluster_option
@click.pass_context
def url_command(ctx: click.Context, service: str, port_name: str, namespace: str) -> int:
    """Print the URL of a service, one line per port: at its address, or at 127.0.0.1 and its node port.

    Of a headless service, one line per ready endpoint; of an ExternalName, at the name that it stands for."""
    kind, name = one_target(service if "/" in service else f"svc/{service}")
    if kind.name != "Service":
        raise click.UsageError("only services have a URL: podium url svc/NAME")

    async def body(session: Session) -> int:
        from cluster.cli.urls import is_headless, urls_of
        from cluster.pb.v1 import core_pb2 as core

        found = await session.client.get(core.Service, name, namespace)
        ports = _chosen(found, port_name)
        urls = await _endpoint_urls(session, found, ports) if is_headless(found) else urls_of(found, ports=ports)
        if not urls:
            raise CommandError(f"svc/{name} has no ports, and so no URL. See: podium describe svc/{name}")
        click.echo("\n".join(urls))
        return ExitCode.OK

    return run(ctx, body)


def _chosen(service: core.Service, wanted: str) -> list[core.ServicePort]:
    ports = [port for port in service.spec.ports if wanted in ("", port.name, str(port.port))]
    if wanted and not ports:
        known = ", ".join(port.name or str(port.port) for port in service.spec.ports) or "none"
        raise CommandError(f'svc/{service.metadata.name} has no port "{wanted}"; it has: {known}')
    return ports


async def _endpoint_urls(session: Session, service: core.Service, ports: list[core.ServicePort]) -> list[str]:
    from cluster.api.errors import NotFound
    from cluster.cli.urls import endpoint_urls
    from cluster.pb.v1 import core_pb2 as core

    name, namespace = service.metadata.name, service.metadata.namespace
    try:
        endpoints = await session.client.get(core.Endpoints, name, namespace)
    except NotFound:
        endpoints = core.Endpoints()
    urls = endpoint_urls(endpoints, ports)
    if ports and not urls:
        raise CommandError(f"no endpoint of svc/{name}, which is headless, is ready. See: podium describe svc/{name}")
    return urls
