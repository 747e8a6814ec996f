"""Asks a node agent for what only it has: the logs of its pods, and a command run beside a container.

    async for data in agent.logs("default", "web-x7k2p", follow=True): ...
    async for output in agent.exec("default", "web-x7k2p", ["ls", "/"]): ...

Both end the call at the agent when the loop is left and the generator closed (use contextlib.aclosing).
"""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from typing import TypeAlias

from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials, Identity
from cluster.rpc.servicer import ON_BEHALF_OF
from cluster.rpc.stub import NodeAgentStub

STATS_TIMEOUT_S = 10.0

Input: TypeAlias = bytes | signal.Signals | agent_pb2.TerminalSize
"""What goes to a command: what it reads, signals, the new size of its terminal."""


def agent_address(node: core.Node) -> str:
    """Where a node's agent serves, "host:port"; empty if the node does not say."""
    host = next((each.address for each in node.status.addresses if each.type == "InternalIP"), "")
    port = node.status.daemonEndpoints.kubeletEndpoint.Port
    return f"{host}:{port}" if host and port else ""


class NodeAgentClient:
    """A connection to one node agent. Nothing is connected before the first call."""

    def __init__(self, address: str, credentials: Credentials, *, on_behalf_of: Identity | None = None) -> None:
        """`address` is the agent's "host:port", as the Node says: InternalIP and kubeletEndpoint. `on_behalf_of`: see
        GrpcClusterClient."""
        self._channels = Channels(address, credentials)
        metadata = [(ON_BEHALF_OF, str(on_behalf_of))] if on_behalf_of is not None else []
        self._stub = NodeAgentStub(self._channels, metadata)

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        follow: bool = False,
        one_run: bool = False,
        tail_lines: int | None = None,
        previous: bool = False,
        since_s: float | None = None,
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The log of one container, in pieces as they were written, oldest first.

        With `follow`, goes on until the container will not run any more; with `one_run` too, until the run has ended
        whose log it is. `since_s` is in seconds since 1970. `container` may be left out if the pod has one only.
        Raises NotFound, BadRequest (which container?), Unavailable.
        """
        request = agent_pb2.LogsRequest(namespace=namespace, pod=pod, container=container)
        if follow:
            request.follow = True
        if one_run:
            request.one_run = True
        if tail_lines is not None:
            request.tail_lines = tail_lines
        if previous:
            request.previous = True
        if since_s is not None:
            request.since_s = since_s
        if timestamps:
            request.timestamps = True
        if limit_bytes is not None:
            request.limit_bytes = limit_bytes
        stream = self._stub.logs(request)
        try:
            # No limit to silence: a program may have nothing to say for hours. A dead agent is noticed by keepalive.
            while (chunk := await stream.next()) is not None:
                yield chunk.data
        finally:
            await stream.close()

    async def exec(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        *,
        container: str = "",
        stdin: AsyncIterable[Input] | None = None,
        tty: bool = False,
        size: agent_pb2.TerminalSize | None = None,
        detached: bool = False,
        attach: bool = False,
    ) -> AsyncGenerator[agent_pb2.ExecOutput, None]:
        """Runs a command beside a container; yields its output and, last, its exit code.

        With `tty` it has a terminal, of that size. `detached`: the container need not run. `attach`: no command, but
        the container's own program.

        `stdin` gives what the command reads, and signals for it; when it ends, the command's standard input is closed.
        None: there is no input. Raises NotFound, Forbidden, BadRequest, Unavailable.
        """
        start = agent_pb2.ExecStart(namespace=namespace, pod=pod, container=container, command=command)
        start.tty, start.detached = tty, detached
        if size is not None:
            start.size.CopyFrom(size)
        inputs = _inputs(start, stdin)
        stream = self._stub.attach(inputs) if attach else self._stub.exec(inputs)
        try:
            while (output := await stream.next()) is not None:
                yield output
                if output.HasField("exit_code"):
                    return
        finally:
            await stream.close()

    async def stats(self, namespace: str = "") -> agent_pb2.StatsResponse:
        """What the pods of the node use, of one namespace or of all. Takes half a second. Raises Unavailable."""
        return await self._stub.stats(agent_pb2.StatsRequest(namespace=namespace), STATS_TIMEOUT_S)

    async def port_forward(
        self, namespace: str, pod: str, port: int, sent: AsyncIterable[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """One connection to a port of the pod: yields what the pod sends, to its end; b"" first, when it has accepted.

        What `sent` gives goes to the pod; its end closes that side. Raises NotFound, BadRequest (nobody listens).
        """
        start = agent_pb2.PortForwardStart(namespace=namespace, pod=pod, port=port)
        stream = self._stub.port_forward(_pieces(start, sent))
        try:
            while (output := await stream.next()) is not None and not output.HasField("closed"):
                yield output.data
        finally:
            await stream.close()

    async def close(self) -> None:
        """Ends all calls. Twice is fine."""
        await self._channels.close()

    aclose = close


async def _pieces(
    start: agent_pb2.PortForwardStart, sent: AsyncIterable[bytes]
) -> AsyncIterator[agent_pb2.PortForwardInput]:
    yield agent_pb2.PortForwardInput(start=start)
    async for data in sent:
        yield agent_pb2.PortForwardInput(data=data)
    yield agent_pb2.PortForwardInput(closed=True)


async def _inputs(start: agent_pb2.ExecStart, stdin: AsyncIterable[Input] | None) -> AsyncIterator[agent_pb2.ExecInput]:
    yield agent_pb2.ExecInput(start=start)
    if stdin is not None:
        async for item in stdin:
            if isinstance(item, signal.Signals):
                yield agent_pb2.ExecInput(signal=item.value)
            elif isinstance(item, agent_pb2.TerminalSize):
                yield agent_pb2.ExecInput(resize=item)
            else:
                yield agent_pb2.ExecInput(stdin=item)
    yield agent_pb2.ExecInput(stdin_closed=True)
