"""`podium logs`: of one pod, of a controller's pods, or of all that match; following joins pods that come later."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cluster.actor.clock import SystemClock
from cluster.cli.durations import Duration
from cluster.cli.exits import CommandError, ExitCode, say
from cluster.cli.session import Session, cluster_option, namespace_option, run
from cluster.cli.words import one_target

if TYPE_CHECKING:
    from cluster.client.agent_client import NodeAgentClient
    from cluster.pb.v1 import core_pb2 as core


@click.command(
    "logs",
    epilog="\b\nExamples:\n  podium logs web-x2k4p\n  podium logs -f rc/web\n  podium logs -l app=web --tail 20\n"
    "  podium logs --previous web-x2k4p",
)
@click.argument("what", required=False, metavar="POD | KIND/NAME")
@click.option("-l", "--selector", default="", metavar="SEL", help="All pods that match.")
@click.option("-f", "--follow", is_flag=True, help="Go on as the pods write; pods that come later are joined.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines; default: all that is kept.")
@click.option("--since", type=Duration(), metavar="TIME", help="Only what is not older: 30s, 5m, 2h.")
@click.option("--timestamps", is_flag=True, help="When each line was written, before it.")
@click.option("--limit-bytes", type=click.IntRange(1), metavar="N", help="At most so many bytes of each container.")
@click.option("--previous", "-p", is_flag=True, help="The run before the last restart.")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container; default: all of them.")
@click.option(
    "--prefix/--no-prefix",
    default=None,
    help="The pod's name before each line; default: with several pods or containers.",
)
@namespace_option
@cluster_option
@click.pass_context
def logs_command(
    ctx: click.Context,
    what: str | None,
    selector: str,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
    limit_bytes: int | None,
    previous: bool,
    container: str,
    prefix: bool | None,
    namespace: str,
) -> int:
    """Print the logs of pods."""
    if bool(what) == bool(selector):
        raise click.UsageError("name a pod, rc/NAME, or give -l SELECTOR")

    wish: dict[str, Any] = {"follow": follow, "tail_lines": tail, "previous": previous}
    wish |= {
        "timestamps": timestamps,
        "limit_bytes": limit_bytes,
        "since_s": None if since is None else SystemClock().wall() - since,
    }

    async def body(session: Session) -> int:
        from cluster.api.labels import selector_from_map
        from cluster.pb.v1 import core_pb2 as core

        label_selector, field_selector = selector, ""
        several, mixed = True, False
        if what:
            kind, name = one_target(what if "/" in what else f"pod/{what}")
            if kind.name == "Pod":
                pod = await session.client.get(core.Pod, name, namespace)
                field_selector, several = f"metadata.name={name}", False
                mixed = not container and len(pod.spec.containers) > 1
            elif kind.name in ("ReplicationController", "Service"):
                owner = await session.client.get(kind.message, name, namespace)
                label_selector = str(selector_from_map(owner.spec.selector))  # type: ignore[union-attr, arg-type]
            else:
                raise click.UsageError(f"{kind.plural} have no logs")
        reader = _Reader(session, wish, container, several or mixed if prefix is None else prefix)
        try:
            if follow and several:
                await reader.follow_matching(namespace, label_selector)
            else:
                listed = await session.client.list(
                    core.Pod, namespace, label_selector=label_selector, field_selector=field_selector
                )
                if not listed.items:
                    say(f"no pods match {label_selector}")
                for pod in listed.items:
                    await reader.read(pod)
        finally:
            await reader.close()
        return ExitCode.ERROR if reader.failed else ExitCode.OK

    return run(ctx, body)


async def print_logs(session: Session, pod: core.Pod) -> None:
    """Prints what a pod has written, all of it."""
    reader = _Reader(session, {}, "", prefix=False)
    try:
        await reader.read(pod)
    finally:
        await reader.close()


class _Reader:
    """Prints logs of pods from their nodes' agents, one connection per node."""

    def __init__(self, session: Session, wish: dict[str, Any], container: str, prefix: bool) -> None:
        from cluster.actor.tasks import Tasks

        self._session = session
        self._wish = wish
        self._colours: dict[str, int] = {}
        self._container, self._prefix = container, prefix
        self._agents: dict[str, NodeAgentClient] = {}
        self._tasks = Tasks("logs")
        self._running: set[str] = set()
        self.failed = False

    async def close(self) -> None:
        await self._tasks.cancel_all()
        for agent in self._agents.values():
            await agent.close()

    async def follow_matching(self, namespace: str, label_selector: str) -> None:
        """Follows each pod that matches, now or later. Raises CommandError when the cluster has been stopped."""
        from cluster.client.informer import Informer
        from cluster.pb.v1 import core_pb2 as core

        informer: Informer[core.Pod] = Informer(
            self._session.client, core.Pod, namespace, label_selector=label_selector
        )

        def on_change(_: core.Pod | None, new: core.Pod | None) -> None:
            if new is not None and new.metadata.uid not in self._running and _has_started(new):
                self._running.add(new.metadata.uid)
                self._tasks.spawn(self.read(new), name=f"logs {new.metadata.name}")

        informer.add_handler(on_change)
        await informer.start()
        try:
            while True:
                await asyncio.sleep(1.0)
                self._session.check_running()
        finally:
            await informer.stop()

    async def read(self, pod: core.Pod) -> None:
        """Prints the logs of one pod."""
        from cluster.api.errors import ApiError

        name = pod.metadata.name
        if not pod.spec.nodeName:
            say(f"pod/{name} is not placed on a node yet. See: podium why pod/{name}")
            self.failed = True
            return
        containers = [self._container] if self._container else [c.name for c in pod.spec.containers]

        async def read_one(container: str) -> None:
            label = name if len(pod.spec.containers) == 1 else f"{name}/{container}"
            try:
                await self._print(pod, container, self._prefix_of(label) if self._prefix else b"")
            except ApiError as error:
                say(f"error: pod/{name}: {error}")
                self.failed = True

        if self._wish.get("follow"):
            await asyncio.gather(*map(read_one, containers))
        else:
            for container in containers:
                await read_one(container)

    def _prefix_of(self, label: str) -> bytes:
        """On a terminal each pod has a colour of its own, in turn."""
        if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
            return f"[{label}] ".encode()
        colour = self._colours.setdefault(label, 31 + len(self._colours) % 6)
        return f"\x1b[{colour}m[{label}]\x1b[0m ".encode()

    async def _print(self, pod: core.Pod, container: str, prefix: bytes) -> None:
        """Writes whole lines with the prefix; bytes as they come without one."""
        out = sys.stdout.buffer
        agent = await agent_of(self._session, pod.spec.nodeName, self._agents)
        rest = b""
        async for data in agent.logs(
            pod.metadata.namespace,
            pod.metadata.name,
            container=container,
            **self._wish,
        ):
            if not prefix:
                out.write(data)
            else:
                *lines, rest = (rest + data).split(b"\n")
                out.write(b"".join(prefix + line + b"\n" for line in lines))
            out.flush()
        if rest:
            out.write(prefix + rest + b"\n")
            out.flush()


def _has_started(pod: core.Pod) -> bool:
    return bool(pod.spec.nodeName) and any(
        status.state.HasField("running") or status.state.HasField("terminated")
        for status in pod.status.containerStatuses
    )


async def agent_of(session: Session, node_name: str, known: dict[str, NodeAgentClient]) -> NodeAgentClient:
    """The client of a node's agent; made once. Raises CommandError if the node tells no address."""
    from cluster.client.agent_client import NodeAgentClient, agent_address
    from cluster.pb.v1 import core_pb2 as core
    from cluster.rpc.identity import Credentials

    if node_name not in known:
        address = agent_address(await session.client.get(core.Node, node_name))
        if not address:
            raise CommandError(f"node {node_name} tells no address of its agent")
        known[node_name] = NodeAgentClient(address, Credentials.load(session.directory.credentials("admin")))
    return known[node_name]
