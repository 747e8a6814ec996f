"""`podium port-forward`: local ports that lead to a pod's, through its node agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from cluster.cli.exits import CommandError, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import one_target

if TYPE_CHECKING:
    from cluster.client.agent_client import NodeAgentClient
    from cluster.pb.v1 import core_pb2 as core

_CHUNK_BYTES = 65536
MOST_CONNECTIONS = 256
"""At a time; more wait in the kernel's queue."""


@click.command(
    "port-forward",
    epilog="\b\nExamples:\n"
    "  podium port-forward pod/web-x2k4p 8080\n"
    "  podium port-forward svc/web 8080:80 8443:443\n"
    "  podium port-forward rc/web :8080 --address 127.0.0.1",
)
@click.argument("what", metavar="KIND/NAME")
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]REMOTE...")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@namespace_option
@cluster_option
@click.pass_context
def port_forward_command(ctx: click.Context, what: str, ports: tuple[str, ...], address: str, namespace: str) -> int:
    """Forward local ports to a pod, or to one ready pod of a service or controller, until Ctrl-C.

    A local port that is empty or 0 is chosen."""
    pairs = [_pair(text) for text in ports]
    kind, name = one_target(what if "/" in what else f"pod/{what}")

    async def body(session: Session) -> int:
        from cluster.actor.tasks import Tasks
        from cluster.cli.logs import agent_of

        pod, remotes = await _choose(session, kind.name, name, namespace, [remote for _, remote in pairs])
        agents: dict[str, NodeAgentClient] = {}
        agent = await agent_of(session, pod.spec.nodeName, agents)
        tasks = Tasks("port forward")
        room = asyncio.Semaphore(MOST_CONNECTIONS)
        servers = []
        try:
            for (local, _), remote in zip(pairs, remotes, strict=True):

                async def serve(
                    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: int = remote
                ) -> None:
                    async with room:
                        await _forward(agent, pod, remote, reader, writer)

                try:
                    server = await asyncio.start_server(serve, address, local)
                except OSError as error:
                    raise CommandError(f"cannot listen on {address}:{local}: {error.strerror}") from error
                servers.append(server)
                port = server.sockets[0].getsockname()[1]
                say(f"Forwarding from {address}:{port} -> {pod.metadata.name}:{remote}")
            while True:
                await asyncio.sleep(1.0)
                session.check_running()
        finally:
            for server in servers:
                server.close()
            await tasks.cancel_all()
            await agent.close()

    return run(ctx, body)


def _pair(text: str) -> tuple[int, int]:
    local, colon, remote = text.rpartition(":")
    try:
        pair = int(local or 0) if colon else int(remote), int(remote)
    except ValueError:
        pair = (-1, -1)
    if not (0 <= pair[0] < 65536 and 0 < pair[1] < 65536):
        raise click.UsageError(f'"{text}": write LOCAL:REMOTE, :REMOTE or PORT, numbers up to 65535')
    return pair


async def _choose(
    session: Session, kind: str, name: str, namespace: str, wanted: list[int]
) -> tuple[core.Pod, list[int]]:
    """The pod, and its ports for the ones that were named. Raises CommandError."""
    from cluster.api.conditions import is_pod_ready
    from cluster.api.labels import selector_from_map
    from cluster.api.meta import is_terminating
    from cluster.api.pods import find_port
    from cluster.pb.v1 import core_pb2 as core

    if kind == "Pod":
        return await session.client.get(core.Pod, name, namespace), wanted
    if kind not in ("Service", "ReplicationController"):
        raise click.UsageError("name a pod, a service or a replication controller")
    owner: core.Service | core.ReplicationController
    if kind == "Service":
        owner = await session.client.get(core.Service, name, namespace)
    else:
        owner = await session.client.get(core.ReplicationController, name, namespace)
    if not owner.spec.selector:
        raise CommandError(f"{kind.lower()}/{name} is defined without a selector: there are no pods to forward to")
    selector = str(selector_from_map(owner.spec.selector))
    pods = [
        pod
        for pod in (await session.client.list(core.Pod, namespace, label_selector=selector)).items
        if is_pod_ready(pod) and not is_terminating(pod)
    ]
    if not pods:
        raise CommandError(f"no pod of {kind.lower()}/{name} is ready. See: podium get pods -l {selector}")
    if not isinstance(owner, core.Service):
        return pods[0], wanted
    remotes = []
    for port in wanted:
        target = next((each.targetPort for each in owner.spec.ports if each.port == port), None)
        if target is None:
            raise CommandError(f"service/{name} has no port {port}")
        remotes.append((find_port(pods[0], target.strVal) or 0) if target.strVal else target.intVal)
    return pods[0], remotes


async def _forward(
    agent: NodeAgentClient, pod: core.Pod, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    from cluster.api.errors import ApiError

    async def sent() -> AsyncIterator[bytes]:
        while data := await reader.read(_CHUNK_BYTES):
            yield data

    try:
        answers = agent.port_forward(pod.metadata.namespace, pod.metadata.name, port, sent())
        async with aclosing(answers):
            async for data in answers:
                writer.write(data)
                await writer.drain()
        writer.write_eof()
    except ApiError as error:
        say(f"error: {error}")
    except OSError:
        pass  # whoever connected has gone
    finally:
        writer.close()
