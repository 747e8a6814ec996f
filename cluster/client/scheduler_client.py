"""Asks a scheduler why a pod is where it is, and what it decided of late.

    answer = await scheduler.explain("default", "web-x7k2p")

The scheduler serves at the manager's `--listen` address; `podium cluster-info` names it.
"""

from __future__ import annotations

from cluster.pb.v1 import scheduler_pb2 as wire
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials
from cluster.rpc.stub import SchedulerStub

TIMEOUT_S = 30.0


class SchedulerClient:
    """A connection to one scheduler. Nothing is connected before the first call."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        """`address` is "host:port"."""
        self._channels = Channels(address, credentials)
        self._stub = SchedulerStub(self._channels)

    async def explain(
        self, namespace: str, pod: str, *, not_on: str = "", timeout_s: float = TIMEOUT_S
    ) -> wire.ExplainResponse:
        """The decision about a pod; see scheduler.proto. `not_on`: what would have to change for this node.

        Raises NotFound, and Unavailable if another manager schedules.
        """
        return await self._stub.explain(wire.ExplainRequest(namespace=namespace, pod=pod, not_on=not_on), timeout_s)

    async def decisions(
        self, *, since: int = 0, limit: int = 0, timeout_s: float = TIMEOUT_S
    ) -> wire.DecisionsResponse:
        """The last decisions, oldest first. Raises Unavailable if another manager schedules."""
        return await self._stub.decisions(wire.DecisionsRequest(since=since, limit=limit), timeout_s)

    async def close(self) -> None:
        """Ends the connection. Twice is fine."""
        await self._channels.close()
