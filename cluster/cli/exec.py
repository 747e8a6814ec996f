"""`podium exec`: a command beside a container, with its environment and working directory."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing

import click

from cluster.cli.exits import CommandError
from cluster.cli.session import Session, cluster_option, namespace_option, run

_PIECES = 16


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
        try:
            async with aclosing(
                agent.exec(
                    namespace,
                    live.metadata.name,
                    words,
                    container=container or live.spec.containers[0].name,
                    stdin=_Stdin().items() if with_stdin else None,
                )
            ) as outputs:
                async for output in outputs:
                    if output.HasField("exit_code"):
                        return int(output.exit_code)
                    _write_all(*((1, output.stdout) if output.HasField("stdout") else (2, output.stderr)))
            raise CommandError("the node agent ended the call without an exit code")
        finally:
            await agent.close()

    return run(ctx, body)


class _Stdin:
    """What goes to the command with -i: our standard input, and our signals as long as that is open.

    Otherwise, and after its end, Ctrl-C ends the call, and the node agent ends the command.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | signal.Signals | None] = asyncio.Queue()
        # Room for a few pieces; the reading thread waits when they are used up.
        self._room = threading.Semaphore(_PIECES)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._queue.put_nowait, number)
        # A thread, because a file cannot be polled; a daemon, because a read from a terminal never ends.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            self._room.acquire()
            try:
                data = os.read(0, 65536)
            except OSError:
                data = b""
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, data or None)
            except RuntimeError:
                return  # the command has ended, and the loop with it
            if not data:
                return

    async def items(self) -> AsyncIterator[bytes | signal.Signals]:
        """Bytes and signals as they come; ends with standard input."""
        while (item := await self._queue.get()) is not None:
            yield item
            if isinstance(item, bytes):
                self._room.release()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)


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
