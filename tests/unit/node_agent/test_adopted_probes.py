"""An agent that begins takes over many containers at once, and does not probe all of them at once."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.api.conditions import is_pod_ready
from cluster.pb.v1 import core_pb2 as core
from node_agent import prober
from node_agent.prober import Outcome, Result, Target
from tests.unit.node_agent.kit import make_pod
from tests.unit.node_agent.virtual import World, world

__all__ = ["world"]

PODS = 20


async def test_probes_of_what_is_well_are_spread_over_a_period(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[float] = []
    sick = {"sick"}

    async def probe(handler: core.Handler, target: Target, timeout_s: float) -> Result:
        if target.container.name != "sick":
            probed.append(world.clock.monotonic())
        return Result(Outcome.FAILURE if target.container.name in sick else Outcome.SUCCESS)

    def is_ready(name: str) -> bool:
        pod = world.pod(name)
        return pod is not None and is_pod_ready(pod)

    monkeypatch.setattr(prober, "probe_once", probe)
    for number in range(PODS):
        pod = make_pod(f"web-{number}")
        container = pod.spec.containers[0]
        container.readinessProbe.handler.tcpSocket.port.intVal = 80
        container.livenessProbe.handler.tcpSocket.port.intVal = 80
        container.livenessProbe.initialDelaySeconds = 5
        await world.run(pod)
    unwell = make_pod("unwell")
    unwell.spec.containers[0].name = "sick"
    unwell.spec.containers[0].readinessProbe.handler.tcpSocket.port.intVal = 80
    await world.run(unwell)
    await world.clock.run_for(30.0)
    assert (is_ready("web-0"), is_ready("unwell")) == (True, False)
    await world.leave()
    probed.clear()
    began = world.clock.monotonic()
    await world.come_back()
    sick.clear()
    await world.clock.run_for(0.6)
    assert is_ready("unwell"), "who was not well is asked at once"
    await world.clock.run_for(9.4)
    seconds = Counter(int(at - began) for at in probed)
    assert sum(seconds.values()) >= 2 * PODS, "all are probed within a period, whatever their initial delay was"
    assert max(seconds.values()) <= PODS // 2, "and they are not probed together"
