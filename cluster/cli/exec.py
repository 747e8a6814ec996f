"""`podium exec`, `attach` and `debug`: a command beside a container, its own program, a command in its place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from cluster.cli.dashes import CommandWithDashes
from cluster.cli.exits import CommandError
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.terminal import Stdin, raw_terminal, terminal_size, write_all

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core

_stdin = click.option("-i", "--stdin", "with_stdin", is_flag=True, help="Pass standard input on.")
_tty = click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
_container = click.option("-c", "--container", default="", metavar="NAME", help="Which container; default: the first.")
_words = click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARG...]")


@click.command(
    "exec",
    cls=CommandWithDashes,
    epilog="\b\nExamples:\n"
    "  podium exec web-x2k4p -- env\n"
    "  podium exec -it web-x2k4p -- bash\n"
    "  podium exec -i web-x2k4p -- sh -c 'cat > note.txt' < note.txt\n"
    "  podium exec web-x2k4p -c sidecar -- ps",
)
@_stdin
@_tty
@_container
@namespace_option
@cluster_option
@click.argument("pod")
@_words
@click.pass_context
def exec_command(
    ctx: click.Context, pod: str, command: tuple[str, ...], with_stdin: bool, tty: bool, container: str, namespace: str
) -> int:
    """Run a command beside a container of a pod. Its exit code is passed on (128+n for signal n)."""
    return _talk(ctx, pod, namespace, container, command, with_stdin=with_stdin, tty=tty)


@click.command(
    "debug",
    cls=CommandWithDashes,
    epilog="\b\nExamples:\n"
    "  podium debug -it web-x2k4p -- bash\n"
    "  podium debug web-x2k4p -- env\n"
    "  podium debug web-x2k4p -c main -- ls -la",
)
@_stdin
@_tty
@_container
@namespace_option
@cluster_option
@click.argument("pod")
@_words
@click.pass_context
def debug_command(
    ctx: click.Context, pod: str, command: tuple[str, ...], with_stdin: bool, tty: bool, container: str, namespace: str
) -> int:
    """Run a command as a container would run: its environment, directory, volumes and limits, whether it runs or not.

    For containers that crash before anybody can look: what is run while the container waits for its next start goes on
    through that. Beside a container that runs it ends with it, like exec."""
    return _talk(ctx, pod, namespace, container, command, with_stdin=with_stdin, tty=tty, detached=True)


@click.command(
    "attach",
    epilog="\b\nExamples:\n"
    "  podium attach web-x2k4p\n"
    "  podium attach -it shell-1\n"
    "  podium attach -i web-x2k4p -c main",
)
@_stdin
@_tty
@_container
@namespace_option
@cluster_option
@click.argument("pod")
@click.pass_context
def attach_command(ctx: click.Context, pod: str, with_stdin: bool, tty: bool, container: str, namespace: str) -> int:
    """Show what a container's program writes from now on; with -i, type to it.

    It reads only if its spec says `stdin: true`. Ctrl-C leaves it running."""
    return _talk(ctx, pod, namespace, container, (), with_stdin=with_stdin, tty=tty, attach=True)


def _talk(
    ctx: click.Context,
    pod: str,
    namespace: str,
    container: str,
    words: Sequence[str],
    *,
    with_stdin: bool,
    tty: bool,
    detached: bool = False,
    attach: bool = False,
) -> int:
    """Runs the call to its end; the exit code of what ran."""

    async def body(session: Session) -> int:
        from cluster.pb.v1 import core_pb2 as core

        live = await session.client.get(core.Pod, pod.removeprefix("pod/").removeprefix("po/"), namespace)
        return await converse(
            session, live, container, words, with_stdin=with_stdin, tty=tty, detached=detached, attach=attach
        )

    return run(ctx, body)


async def converse(
    session: Session,
    live: core.Pod,
    container: str,
    words: Sequence[str],
    *,
    with_stdin: bool,
    tty: bool,
    detached: bool = False,
    attach: bool = False,
) -> int:
    """Passes everything on, both ways, until what runs has ended; its exit code. Raises CommandError."""
    from cluster.cli.logs import agent_of
    from cluster.client.agent_client import NodeAgentClient

    if not live.spec.nodeName:
        raise CommandError(
            f"pod/{live.metadata.name} is not placed on a node yet. See: podium why pod/{live.metadata.name}"
        )
    name = container or live.spec.containers[0].name
    if attach and with_stdin and not any(c.name == name and c.stdin for c in live.spec.containers):
        raise CommandError(f"container {name} reads nothing: its spec does not say `stdin: true`")
    agents: dict[str, NodeAgentClient] = {}
    agent = await agent_of(session, live.spec.nodeName, agents)
    try:
        with raw_terminal(with_stdin and tty):
            outputs = agent.exec(
                live.metadata.namespace,
                live.metadata.name,
                words,
                container=name,
                stdin=Stdin(tty=tty, read=with_stdin).items() if with_stdin or tty else None,
                tty=tty,
                size=terminal_size() if tty else None,
                detached=detached,
                attach=attach,
            )
            async with aclosing(outputs):
                async for output in outputs:
                    if output.HasField("exit_code"):
                        return int(output.exit_code)
                    write_all(*((1, output.stdout) if output.HasField("stdout") else (2, output.stderr)))
        raise CommandError("the node agent ended the call without an exit code")
    finally:
        await agent.close()
