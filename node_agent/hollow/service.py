"""What hollow nodes answer when they are asked for what only processes have: that there are none.

An implementation of `cluster.rpc.handlers.NodeAgentHandler`, one for all nodes that a process plays. Who may call is as
for any node agent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from cluster.api.errors import BadRequest
from cluster.pb.v1 import agent_pb2
from cluster.rpc.identity import Identity


class HollowService:
    """Refuses everything, in words: every call raises BadRequest."""

    async def logs(self, identity: Identity, request: agent_pb2.LogsRequest) -> AsyncIterator[agent_pb2.LogsChunk]:
        """There is no log."""
        for nothing in list[agent_pb2.LogsChunk]():
            yield nothing
        raise _hollow(request.pod, "no log")

    async def exec(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """There is nothing to run a command beside."""
        for nothing in list[agent_pb2.ExecOutput]():
            yield nothing
        raise _hollow(await _pod_of(inputs), "nothing to run a command beside")

    async def attach(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.ExecInput]
    ) -> AsyncIterator[agent_pb2.ExecOutput]:
        """There is nothing to attach to."""
        for nothing in list[agent_pb2.ExecOutput]():
            yield nothing
        raise _hollow(await _pod_of(inputs), "nothing to attach to")

    async def stats(self, identity: Identity, request: agent_pb2.StatsRequest) -> agent_pb2.StatsResponse:
        """Nothing is used."""
        raise BadRequest("this is a hollow node: its pods have no processes, and use nothing")

    async def port_forward(
        self, identity: Identity, inputs: AsyncIterator[agent_pb2.PortForwardInput]
    ) -> AsyncIterator[agent_pb2.PortForwardOutput]:
        """There is nobody to connect to."""
        for nothing in list[agent_pb2.PortForwardOutput]():
            yield nothing
        first = await anext(aiter(inputs), None)
        raise _hollow(first.start.pod if first is not None else "", "nobody to connect to")


async def _pod_of(inputs: AsyncIterator[agent_pb2.ExecInput]) -> str:
    first = await anext(aiter(inputs), None)
    return first.start.pod if first is not None else ""


def _hollow(pod: str, what: str) -> BadRequest:
    return BadRequest(f'pod "{pod}" runs on a hollow node: it has no processes, so there is {what}')
