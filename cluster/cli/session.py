"""What most commands share: which cluster, a client of it, the namespace. The words KIND and KIND/NAME: `words.py`.

A command is a click function that calls `run(ctx, body)`, where `body(session)` is a coroutine. The client's connection
is made and closed around it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cluster.cli.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from cluster.client.interface import ClusterClient
    from cluster.up.layout import ClusterDir, ClusterState

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Session:
    """A command's connection to its cluster."""

    client: ClusterClient
    directory: ClusterDir
    state: ClusterState

    def check_running(self) -> None:
        """Raises CommandError if the cluster was stopped meanwhile: then there is nothing to wait for."""
        state = self.directory.read_state()
        if state is None or not state.is_running():
            raise CommandError(f'cluster "{self.directory.name}" has been stopped', ExitCode.UNREACHABLE)


def cluster_option(command: F) -> F:
    """Adds --cluster, so that it may stand behind the verb as well."""
    return click.option(
        "--cluster", "cluster", metavar="NAME", expose_value=False, callback=_keep_cluster, help="Which cluster."
    )(command)


def _keep_cluster(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["cluster"] = value


def namespace_options(command: F) -> F:
    """Adds -n and -A as the parameters `namespace` and `all_namespaces`."""
    command = click.option("-A", "--all-namespaces", is_flag=True, help="In all namespaces.")(command)
    return namespace_option(command)


def namespace_option(command: F) -> F:
    """Adds -n as the parameter `namespace`."""
    return click.option("-n", "--namespace", default="default", show_default=True, metavar="NAME", help="Namespace.")(
        command
    )


def chosen_cluster(ctx: click.Context) -> str | None:
    """The cluster that the user named, if any."""
    name: str | None = (ctx.find_object(dict) or {}).get("cluster") or os.environ.get("PODIUM_CLUSTER")
    return name or None


def run(ctx: click.Context, body: Callable[[Session], Awaitable[R]]) -> R:
    """Connects to the chosen cluster as admin and runs the body."""
    from cluster.client.grpc_client import GrpcClusterClient
    from cluster.rpc.identity import Credentials
    from cluster.up.layout import find_cluster

    directory, state = find_cluster(chosen_cluster(ctx))

    async def connected() -> R:
        client = GrpcClusterClient(state.master, Credentials.load(directory.credentials("admin")))
        try:
            return await body(Session(client, directory, state))
        finally:
            await client.close()

    return asyncio.run(connected())
