"""`podium top`: what pods and nodes use, looked at now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from cluster.cli.durations import Duration
from cluster.cli.exits import ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_options, run

if TYPE_CHECKING:
    from cluster.client.agent_client import NodeAgentClient
    from cluster.pb.v1 import agent_pb2
    from cluster.pb.v1 import core_pb2 as core


@click.command(
    "top",
    epilog="\b\nExamples:\n  podium top pods\n  podium top pods -A --containers\n  podium top nodes\n"
    "  podium top services --endpoints",
)
@click.argument("what", type=click.Choice(["pods", "pod", "nodes", "node", "services", "service", "svc"]))
@click.option("--containers", is_flag=True, help="A line for each container.")
@click.option("--endpoints", is_flag=True, help="Of services: a line for each endpoint.")
@click.option(
    "--interval",
    type=Duration(),
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Of services: to reckon rates from.",
)
@namespace_options
@cluster_option
@click.pass_context
def top_command(
    ctx: click.Context,
    what: str,
    containers: bool,
    endpoints: bool,
    interval: float,
    namespace: str,
    all_namespaces: bool,
) -> int:
    """Show what pods, or the pods of each node, use: processor time over half a second, and memory. Of services: what
    goes through the proxy."""
    if containers and not what.startswith("pod"):
        raise click.UsageError("--containers is about pods")
    if endpoints and not what.startswith("s"):
        raise click.UsageError("--endpoints is about services")
    if what.startswith("s"):
        return _services(ctx, "" if all_namespaces else namespace, interval, by_endpoint=endpoints)

    async def body(session: Session) -> int:
        from cluster.api.hollow import is_hollow
        from cluster.cli.printers import align
        from cluster.pb.v1 import core_pb2 as core

        every = (await session.client.list(core.Node)).items
        nodes = [node for node in every if not is_hollow(node)]
        if len(nodes) < len(every):
            say(f"{len(every) - len(nodes):,} hollow nodes are left out: they run no processes, and use nothing")
        space = "" if all_namespaces or what.startswith("node") else namespace
        answers = await asyncio.gather(*(_ask(session, node, space) for node in nodes))
        if what.startswith("node"):
            rows = _of_nodes(nodes, answers)
        else:
            rows = _of_pods(answers, by_container=containers, namespaces=all_namespaces)
        click.echo(align(rows))
        return ExitCode.OK if all(answer is not None for answer in answers) else ExitCode.ERROR

    return run(ctx, body)


def _services(ctx: click.Context, namespace: str, interval_s: float, *, by_endpoint: bool) -> int:
    if not 0 < interval_s <= 3600:
        raise click.UsageError("--interval: must be greater than 0, and at most an hour")

    async def body(session: Session) -> int:
        from cluster.cli.exits import CommandError
        from cluster.cli.printers import align
        from cluster.cli.top_services import fetch, read, rows

        socket = session.directory.metrics_socket("proxy")
        loop = asyncio.get_running_loop()
        try:
            begun, before = loop.time(), read(await fetch(socket))
            await asyncio.sleep(interval_s)
            after = read(await fetch(socket))
        except (OSError, TimeoutError) as error:
            raise CommandError(
                f"the proxy does not answer: {error or 'no answer in time'}", ExitCode.UNREACHABLE
            ) from error
        table = rows(before, after, loop.time() - begun, namespace=namespace, by_endpoint=by_endpoint)
        if len(table) == 1:
            say("no service is served" if not namespace else f'no service of namespace "{namespace}" is served')
        else:
            click.echo(align(table))
        return ExitCode.OK

    return run(ctx, body)


async def _ask(session: Session, node: core.Node, namespace: str) -> agent_pb2.StatsResponse | None:
    """None, and a word about it, if the node does not answer."""
    from cluster.api.errors import ApiError
    from cluster.cli.logs import agent_of

    agents: dict[str, NodeAgentClient] = {}
    agent = await agent_of(session, node.metadata.name, agents)
    try:
        return await agent.stats(namespace)
    except ApiError as error:
        say(f"node/{node.metadata.name}: {error}")
        return None
    finally:
        await agent.close()


def _of_pods(answers: list[agent_pb2.StatsResponse | None], *, by_container: bool, namespaces: bool) -> list[list[str]]:
    head = ["NAMESPACE"] if namespaces else []
    rows = [[*head, *(["POD", "NAME"] if by_container else ["NAME"]), "CPU(cores)", "MEMORY(bytes)", "PROCESSES"]]
    pods = [pod for answer in answers if answer is not None for pod in answer.pods if pod.containers]
    for pod in sorted(pods, key=lambda pod: (pod.namespace, pod.pod)):
        first = [pod.namespace] if namespaces else []
        if by_container:
            rows += [[*first, pod.pod, each.name, *_cells([each.usage])] for each in pod.containers]
        else:
            rows.append([*first, pod.pod, *_cells([each.usage for each in pod.containers])])
    return rows


def _of_nodes(nodes: list[core.Node], answers: list[agent_pb2.StatsResponse | None]) -> list[list[str]]:
    """Shares are of what the node has to give."""
    from cluster.api.pods import CPU, MEMORY, amount

    rows = [["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", "PROCESSES"]]
    for node, answer in zip(nodes, answers, strict=True):
        if answer is None:
            rows.append([node.metadata.name, *["<unknown>"] * 5])
            continue
        usages = [each.usage for pod in answer.pods for each in pod.containers]
        cpu, memory, count = _cells(usages)
        room = node.status.allocatable
        cpu_share = sum(usage.cpu_cores for usage in usages) * 1000 / max(1, amount(CPU, room[CPU]))
        memory_share = sum(usage.memory_bytes for usage in usages) / max(1, amount(MEMORY, room[MEMORY]))
        rows.append([node.metadata.name, cpu, f"{cpu_share:.0%}", memory, f"{memory_share:.0%}", count])
    return rows


def _cells(usages: list[agent_pb2.Usage]) -> list[str]:
    cpu_milli = round(sum(usage.cpu_cores for usage in usages) * 1000)
    memory = sum(usage.memory_bytes for usage in usages)
    return [f"{cpu_milli}m", f"{round(memory / 2**20)}Mi", str(sum(usage.processes for usage in usages))]
