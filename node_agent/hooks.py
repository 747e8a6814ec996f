"""Hooks of a container: what is done right after its start, and before it is told to end.

They are carried out like probes (`node_agent.prober`): a command beside the container, or a question to the pod's own
address and nowhere else; or just some time. One that fails is told in an event; what follows from it is decided in
`node_agent.pod_lifecycle`, which also sees to it that a preStop hook does not outlast the grace period.
"""

from __future__ import annotations

from cluster.actor.clock import Clock
from cluster.pb.v1 import core_pb2 as core
from node_agent import prober

LIMIT_S = 600.0
"""No hook runs longer; one that has to is a program of its own."""


async def run_hook(handler: core.LifecycleHandler, target: prober.Target, clock: Clock) -> str:
    """Carries a hook out; empty if it went well, else what went wrong. An HTTP hook fails by a status from 400 on."""
    if handler.HasField("sleep"):
        await clock.sleep(min(float(handler.sleep.seconds), LIMIT_S))
        return ""
    action = core.Handler()
    if handler.HasField("exec"):
        action.exec.CopyFrom(handler.exec)
    elif handler.HasField("httpGet"):
        action.httpGet.CopyFrom(handler.httpGet)
    else:
        action.tcpSocket.CopyFrom(handler.tcpSocket)
    result = await prober.probe_once(action, target, LIMIT_S)
    return "" if result.outcome is prober.Outcome.SUCCESS else result.message or "it could not be carried out"
