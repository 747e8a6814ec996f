"""Controllers and scheduler die or stop at any moment: never more pods than asked for, none bound twice or evicted."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from cluster.api.conditions import is_node_ready
from cluster.client.interface import ClusterClient
from cluster.testing import Cluster
from tests.e2e.workloads import sleeper, wait_off
from tests.kit.transcript import Transcript, bound_once, never_too_many, removed


def kill_manager(cluster: Cluster) -> None:
    """Kills the controllers and the scheduler, as soon as there is a process of them."""
    cluster.wait_until(lambda: cluster.kill_process("manager"), "there is a manager to kill")


@pytest.mark.podium(nodes=2)
def test_never_more_pods_than_asked_for_whenever_the_manager_dies(podium_cluster: Cluster) -> None:
    rng = random.Random(11)

    async def scenario(client: ClusterClient) -> None:
        transcript = Transcript(client)
        await transcript.start()
        await asyncio.to_thread(podium_cluster.apply, sleeper("web", 0, command="exec sleep 1000"))
        for replicas in (12, 25, 6, 30):
            await asyncio.to_thread(podium_cluster.scale, "web", replicas)
            await asyncio.sleep(rng.uniform(0.0, 0.1))
            await asyncio.to_thread(kill_manager, podium_cluster)
            # The next one is met while it starts, reads, or creates the rest.
            await asyncio.sleep(rng.uniform(0.0, 0.6))
        await asyncio.to_thread(podium_cluster.wait, "rc/web", ready=30, timeout_s=80.0)
        changes = await transcript.stop()
        assert never_too_many(changes) >= 30
        assert bound_once(changes) >= 30

    podium_cluster.run(scenario, timeout_s=150.0)


@pytest.mark.podium(nodes=3)
def test_a_suspended_manager_evicts_nobody_when_it_wakes(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 6))
    podium_cluster.wait("rc/web", ready=6)

    async def scenario(client: ClusterClient) -> None:
        transcript = Transcript(client)
        await transcript.start()
        await asyncio.to_thread(podium_cluster.kill_process, "manager", signal.SIGSTOP)
        # Twice the grace after which a silent node counts as dead: long enough to mistake them all for dead.
        await asyncio.sleep(4.0)
        await asyncio.to_thread(podium_cluster.kill_process, "manager", signal.SIGCONT)
        # Once this dead node is noticed and its pods are replaced, it is certain that nodes are judged again.
        await asyncio.to_thread(podium_cluster.kill_node, "node-3")
        await asyncio.to_thread(
            podium_cluster.wait_until,
            lambda: not is_node_ready(podium_cluster.get("node", "node-3")),
            "the dead node is noticed",
        )
        await asyncio.to_thread(wait_off, podium_cluster, "node-3")
        await asyncio.to_thread(podium_cluster.wait, "rc/web", ready=6)
        gone = removed(await transcript.stop())
        assert {pod.spec.nodeName for pod in gone.values()} == {"node-3"}, gone
        assert len(gone) == 2

    podium_cluster.run(scenario, timeout_s=90.0)
