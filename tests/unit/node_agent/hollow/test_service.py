"""Who asks a hollow node for what only processes have is told that there are none, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.api.errors import BadRequest
from cluster.pb.v1 import agent_pb2
from cluster.rpc.identity import Identity
from node_agent.hollow.service import HollowService

ADMIN = Identity("admin")


async def one(message: Any) -> AsyncIterator[Any]:
    yield message


@pytest.mark.parametrize(
    ("call", "request_", "said"),
    [
        ("logs", agent_pb2.LogsRequest(pod="web", follow=True), "there is no log"),
        ("exec", one(agent_pb2.ExecInput(start=agent_pb2.ExecStart(pod="web"))), "run a command beside"),
        ("attach", one(agent_pb2.ExecInput(start=agent_pb2.ExecStart(pod="web"))), "nothing to attach to"),
        (
            "port_forward",
            one(agent_pb2.PortForwardInput(start=agent_pb2.PortForwardStart(pod="web", port=80))),
            "nobody to connect to",
        ),
    ],
)
async def test_streams(call: str, request_: Any, said: str) -> None:
    answers = getattr(HollowService(), call)(ADMIN, request_)
    with pytest.raises(BadRequest, match=rf'pod "web" runs on a hollow node: it has no processes, so .*{said}'):
        await anext(answers)


async def test_usage() -> None:
    with pytest.raises(BadRequest, match="hollow node"):
        await HollowService().stats(ADMIN, agent_pb2.StatsRequest())
