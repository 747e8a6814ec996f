"""What a pod waits for elsewhere in the cluster: when it counts as ready, and how it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.errors import Unavailable
from cluster.pb.v1 import core_pb2 as core
from node_agent.dependencies import LONGEST_S, is_ready, wait_for_dependencies
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster


def controller(*, replicas: int = 2, ready: int = 2, generation: int = 3, seen: int = 3) -> core.ReplicationController:
    rc = core.ReplicationController()
    rc.metadata.name, rc.metadata.namespace, rc.metadata.generation = "db", "default", generation
    rc.spec.replicas = replicas
    rc.status.readyReplicas, rc.status.observedGeneration = ready, seen
    return rc


def endpoints(name: str = "db", *, ready: int = 1, not_ready: int = 0) -> core.Endpoints:
    found = core.Endpoints()
    found.metadata.name, found.metadata.namespace = name, "default"
    if ready or not_ready:
        subset = found.subsets.add()
        subset.addresses.extend(core.EndpointAddress(ip=f"127.0.0.{number}") for number in range(ready))
        subset.notReadyAddresses.extend(core.EndpointAddress(ip=f"127.0.1.{number}") for number in range(not_ready))
    return found


@pytest.mark.parametrize(
    ("obj", "ready"),
    [
        (controller(), True),
        (controller(replicas=1, ready=1), True),
        (controller(ready=3), True),
        (controller(ready=1), False),
        (controller(replicas=0, ready=0), False),
        # Its status speaks of what was asked for before.
        (controller(generation=4), False),
        (endpoints(), True),
        (endpoints(ready=3, not_ready=2), True),
        (endpoints(ready=0), False),
        (endpoints(ready=0, not_ready=2), False),
        (core.Service(), False),
        (None, False),
    ],
)
def test_when_a_dependency_is_ready(obj: object, ready: bool) -> None:
    assert is_ready(obj) is ready


class Waiting:
    """`wait_for_dependencies` on a clock of its own, and what it told."""

    def __init__(self) -> None:
        self.clock, self.cluster, self.tasks = VirtualClock(), MemoryCluster(), Tasks("test")
        self.told: list[tuple[str, ...]] = []
        self.done = False

    def start(self, *names: str) -> None:
        async def run() -> None:
            client = self.cluster.client("node:node-1")
            await wait_for_dependencies(client, self.clock, "default", names, self._on_change)
            self.done = True

        self.tasks.spawn(run(), name="wait for dependencies")

    async def _on_change(self, missing: tuple[str, ...]) -> None:
        self.told.append(missing)

    async def a_look(self) -> tuple[list[tuple[str, ...]], bool]:
        """What was told, and whether it is over, after the longest time between two looks."""
        await self.clock.run_for(LONGEST_S)
        return self.told, self.done


@pytest.fixture
async def waiting() -> AsyncIterator[Waiting]:
    waiting = Waiting()
    yield waiting
    await waiting.tasks.cancel_all()


async def test_it_waits_until_all_are_ready_and_tells_what_is_missing(waiting: Waiting) -> None:
    waiting.start("replicationcontroller/db", "service/queue")
    assert await waiting.a_look() == ([], False)
    waiting.cluster.put(controller(ready=1))
    waiting.cluster.put(endpoints("queue", ready=0, not_ready=1))
    assert await waiting.a_look() == ([], False)
    waiting.cluster.put(endpoints("queue"))
    assert await waiting.a_look() == ([("replicationcontroller/db",)], False)
    waiting.cluster.put(controller())
    assert await waiting.a_look() == ([("replicationcontroller/db",), ()], True)


async def test_what_fails_before_the_others_are_ready_is_waited_for_again(waiting: Waiting) -> None:
    waiting.start("rc/db", "svc/queue")
    waiting.cluster.put(controller())
    assert await waiting.a_look() == ([("svc/queue",)], False)
    waiting.cluster.put(controller(ready=0))
    assert await waiting.a_look() == ([("svc/queue",), ("rc/db", "svc/queue")], False)
    waiting.cluster.put(endpoints("queue"))
    assert await waiting.a_look() == ([("svc/queue",), ("rc/db", "svc/queue"), ("rc/db",)], False)
    waiting.cluster.put(controller())
    assert await waiting.a_look() == ([("svc/queue",), ("rc/db", "svc/queue"), ("rc/db",), ()], True)


async def test_of_another_kind_or_namespace_is_another(waiting: Waiting) -> None:
    waiting.start("service/db")
    elsewhere = endpoints()
    elsewhere.metadata.namespace = "other"
    waiting.cluster.put(elsewhere)
    waiting.cluster.put(controller())
    assert await waiting.a_look() == ([], False)
    waiting.cluster.put(endpoints())
    assert await waiting.a_look() == ([()], True)


async def test_while_the_master_is_away_it_waits_and_says_nothing(waiting: Waiting) -> None:
    waiting.cluster.put(controller())
    waiting.cluster.fail_next(Unavailable("the master is away"), times=10_000)
    waiting.start("rc/db")
    await waiting.clock.run_for(60)
    assert (waiting.told, waiting.done) == ([], False)
    asked = 10_000 - len(waiting.cluster._failures)
    assert 60 / LONGEST_S <= asked < 80, "it asks about once a second in the end"
    waiting.cluster._failures.clear()
    assert await waiting.a_look() == ([()], True)


async def test_who_depends_on_nothing_waits_for_nothing(waiting: Waiting) -> None:
    waiting.start()
    await waiting.clock.settle()
    assert (waiting.told, waiting.done) == ([], True)
