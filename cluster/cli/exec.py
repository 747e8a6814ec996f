"""`podium exec`: a command beside a container, with its environment and working directory."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import click

from cluster.cli.exits import CommandError
from cluster.cli.session import Session, cluster_option, namespace_option, run


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="\b\nExamples:\n"
    "  podium exec web-x2k4p -- env\n"
    "  podium exec -i web-x2k4p -- sh -c 'cat > note.txt' < note.txt\n"
    "  podium exec web-x2k4p -c sidecar -- ps",
)
@click.option("-i", "--stdin", "with_stdin", is_flag=True, help="Pass standard input on.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container; default: the first.")
@namespace_option
@cluster_option
@click.argument("pod")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARG...]")
@click.pass_context
def exec_command(
    ctx: click.Context, pod: str, command: tuple[str, ...], with_stdin: bool, container: str, namespace: str
) -> int:
    """Run a command beside a container of a pod. Its exit code is passed on (128+n for signal n)."""
    container, words = _container_option(container, list(command))
    if not words:
        raise click.UsageError("name the command: podium exec POD -- COMMAND")

    async def body(session: Session) -> int:
        from cluster.cli.logs import agent_of
        from cluster.client.agent_client import NodeAgentClient
        from cluster.pb.v1 import core_pb2 as core

        live = await session.client.get(core.Pod, pod.removeprefix("pod/").removeprefix("po/"), namespace)
        if not live.spec.nodeName:
            raise CommandError(
                f"pod/{live.metadata.name} is not placed on a node yet. See: podium why pod/{live.metadata.name}"
            )
        agents: dict[str, NodeAgentClient] = {}
        agent = await agent_of(session, live.spec.nodeName, agents)
        signals: asyncio.Queue[int] = asyncio.Queue(maxsize=16)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda n=number: signals.full() or signals.put_nowait(n))
        try:
            return await agent.exec(
                namespace,
                live.metadata.name,
                container or live.spec.containers[0].name,
                words,
                stdin=sys.stdin.fileno() if with_stdin else None,
                on_stdout=lambda data: _write_all(1, data),
                on_stderr=lambda data: _write_all(2, data),
                signals=signals,
            )
        finally:
            await agent.close()

    return run(ctx, body)


def _container_option(container: str, words: list[str]) -> tuple[str, list[str]]:
    """kubectl takes -c after the pod's name as well, before the `--`; click has swallowed that `--`."""
    if len(words) > 2 and words[0] in ("-c", "--container"):
        container, words = words[1], words[2:]
    if words and words[0] == "--":
        words = words[1:]
    return container, words


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
