"""Asks a node agent for what only it has: the logs of its pods, and a command run beside a container.

    async for data in agent.logs("default", "web-x7k2p", follow=True): ...
    async for output in agent.exec("default", "web-x7k2p", ["ls", "/"]): ...

Both end the call at the agent when the loop is left and the generator closed (use contextlib.aclosing).
"""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence

from cluster.pb.v1 import agent_pb2
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials
from cluster.rpc.stub import NodeAgentStub


class NodeAgentClient:
    """A connection to one node agent. Nothing is connected before the first call."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        """`address` is the agent's "host:port", as the Node says: InternalIP and kubeletEndpoint."""
        self._channels = Channels(address, credentials)
        self._stub = NodeAgentStub(self._channels)

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        follow: bool = False,
        tail_lines: int | None = None,
        previous: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """The log of one container, in pieces as they were written, oldest first.

        With `follow`, goes on until the container is gone. `container` may be left out if the pod has one only.
        Raises NotFound, BadRequest (which container?), Unavailable.
        """
        request = agent_pb2.LogsRequest(namespace=namespace, pod=pod, container=container)
        if follow:
            request.follow = True
        if tail_lines is not None:
            request.tail_lines = tail_lines
        if previous:
            request.previous = True
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
        stdin: AsyncIterable[bytes | signal.Signals] | None = None,
    ) -> AsyncGenerator[agent_pb2.ExecOutput, None]:
        """Runs a command beside a container; yields its output and, last, its exit code.

        `stdin` gives what the command reads, and signals for it; when it ends, the command's standard input is closed.
        None: there is no input. Raises NotFound, Forbidden, BadRequest, Unavailable.
        """
        start = agent_pb2.ExecStart(namespace=namespace, pod=pod, container=container, command=command)
        stream = self._stub.exec(_inputs(start, stdin))
        try:
            while (output := await stream.next()) is not None:
                yield output
                if output.HasField("exit_code"):
                    return
        finally:
            await stream.close()

    async def close(self) -> None:
        """Ends all calls. Twice is fine."""
        await self._channels.close()

    aclose = close


async def _inputs(
    start: agent_pb2.ExecStart, stdin: AsyncIterable[bytes | signal.Signals] | None
) -> AsyncIterator[agent_pb2.ExecInput]:
    yield agent_pb2.ExecInput(start=start)
    if stdin is not None:
        async for item in stdin:
            if isinstance(item, signal.Signals):
                yield agent_pb2.ExecInput(signal=item.value)
            else:
                yield agent_pb2.ExecInput(stdin=item)
    yield agent_pb2.ExecInput(stdin_closed=True)
