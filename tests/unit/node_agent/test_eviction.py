"""Pods that have to go when a node runs short: thresholds, order, words, and the loop in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.config.profiles import PROFILES
from node_agent.eviction import (
    DISK_LEFT,
    MEMORY_LEFT,
    PROCESSES_LEFT,
    Reading,
    Share,
    Threshold,
    message,
    met,
    parse_thresholds,
    refuses,
    victims,
)
from node_agent.pressure import Hands, read_node, watch_pressure
from tests.kit.clock import VirtualClock
from tests.unit.node_agent.kit import make_pod

MIB = 1 << 20


def test_thresholds_are_amounts_or_shares() -> None:
    assert parse_thresholds("memory.available<100Mi, nodefs.available<10%") == (
        Threshold(MEMORY_LEFT, 100 * MIB),
        Threshold(DISK_LEFT, share=0.1),
    )
    assert Threshold(DISK_LEFT, share=0.1).of(500) == 50
    assert parse_thresholds("none") == ()
    for profile in PROFILES.values():
        assert parse_thresholds(profile.eviction_hard)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memory.available", "write SIGNAL<AMOUNT"),
        ("", "write SIGNAL<AMOUNT"),
        ("imagefs.available<5%", "with a signal of memory.available"),
        ("memory.available<0", "greater than 0"),
        ("memory.available<100%", "between 0% and 100%"),
        ("memory.available<5%,memory.available<1Gi", "already"),
        ("memory.available<lots", "lots"),
        ("memory.available<x%", "x"),
    ],
)
def test_bad_thresholds_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_thresholds(text)


def test_memory_comes_first() -> None:
    thresholds = parse_thresholds("pid.available<5,nodefs.available<10%,memory.available<100Mi")
    readings = {
        MEMORY_LEFT: Reading(99 * MIB, 1000 * MIB),
        DISK_LEFT: Reading(10, 100),
        PROCESSES_LEFT: Reading(4, 100),
    }
    assert [threshold.signal for threshold in met(thresholds, readings)] == [MEMORY_LEFT, PROCESSES_LEFT]
    assert met(thresholds, {}) == [], "what cannot be read is not short"


def test_who_uses_more_than_it_asked_for_goes_first() -> None:
    modest, greedy = Share("modest", 900, 1000), Share("greedy", 300, 100)
    greedier, idle = Share("greedier", 301, 100), Share("idle", 0, 0)
    assert victims([modest, idle, greedy, greedier]) == [greedier, greedy, modest]


def test_among_those_the_least_important_goes_first() -> None:
    cheap, dear = Share("cheap", 110, 100, priority=-1), Share("dear", 900, 100, priority=1000)
    modest = Share("modest", 90, 100, priority=-5)
    assert victims([dear, modest, cheap]) == [cheap, dear, modest]


def test_a_node_under_pressure_takes_what_is_critical() -> None:
    critical, important = make_pod("a"), make_pod("b")
    critical.spec.priority, important.spec.priority = 2_000_000_000, 1_000_000_000
    assert refuses(["DiskPressure"], critical) is None
    assert refuses(["MemoryPressure"], critical) is None
    assert refuses(["DiskPressure"], important) is not None


def test_the_words_are_kubernetes() -> None:
    share = Share("x", 300 * MIB, 0, (("main", 300 * MIB, 0), ("side", MIB, 2 * MIB)))
    assert message(Threshold(MEMORY_LEFT, 100 * MIB), Reading(50 * MIB, 1000 * MIB), share) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 300Mi, request is 0, has larger consumption of memory. "
    )


def test_whom_a_node_under_pressure_still_takes() -> None:
    careless, careful, tolerant = make_pod("a"), make_pod("b"), make_pod("c")
    careful.spec.containers[0].resources.requests["memory"].string = "1Mi"
    tolerant.spec.tolerations.add(key="node.kubernetes.io/memory-pressure", operator="Exists")
    assert refuses([], careless) is None
    rejection = refuses(["MemoryPressure"], careless)
    assert rejection is not None
    assert (rejection.reason, rejection.message) == ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert refuses(["MemoryPressure"], careful) is None
    assert refuses(["MemoryPressure"], tolerant) is None
    assert refuses(["DiskPressure", "MemoryPressure"], tolerant) is not None


class Node:
    """A node with so much memory left, and pods that hold some."""

    def __init__(self, left: int, **pods: int) -> None:
        self.left, self.pods = left, pods
        self.ending: list[str] = []
        self.told: list[tuple[str, ...]] = []
        self.blind = False

    def read(self) -> dict[str, Reading]:
        if self.blind:
            raise OSError("no /proc")
        return {MEMORY_LEFT: Reading(self.left, 1000)}

    async def evict(self, uid: str, text: str) -> None:
        assert text.startswith("The node was low on resource: memory. Threshold quantity: 100, available: ")
        self.ending.append(uid)

    def end(self, uid: str) -> None:
        self.left += self.pods.pop(uid)

    def watch(self, clock: VirtualClock) -> asyncio.Task[None]:
        hands = Hands(
            read=self.read,
            shares=lambda signal: [Share(uid, used, 0) for uid, used in self.pods.items()],
            evict=self.evict,
            is_gone=lambda uid: uid not in self.pods,
            on_conditions=self.told.append,
        )
        thresholds = (Threshold(MEMORY_LEFT, 100),)
        return asyncio.create_task(watch_pressure(thresholds, hands, clock=clock, period_s=1, transition_s=10))


async def test_one_pod_at_a_time_until_enough_is_left() -> None:
    clock, node = VirtualClock(), Node(50, small=20, large=40, medium=30)
    task = node.watch(clock)
    await clock.run_for(3)
    assert node.ending == ["large"], "the next one only when this one is gone"
    assert node.told == [("MemoryPressure",)]
    node.end("large")
    node.end("small")  # by itself
    await clock.run_for(1)
    assert node.ending == ["large"], "that was enough"
    await clock.run_for(8)
    assert node.told == [("MemoryPressure",)], "the condition stays for a while"
    await clock.run_for(3)
    assert node.told == [("MemoryPressure",), ()]
    node.left = 10
    await clock.run_for(1)
    assert node.ending == ["large", "medium"]
    node.end("medium")
    node.blind = True
    await clock.run_for(20)
    assert node.told[-1] == ()
    task.cancel()


async def test_nobody_to_blame() -> None:
    clock, node = VirtualClock(), Node(50, idle=0)
    task = node.watch(clock)
    await clock.run_for(5)
    assert (node.ending, node.told) == ([], [("MemoryPressure",)])
    task.cancel()


def test_what_this_machine_has_left() -> None:
    readings = read_node(Path("/"), 1 << 62, lambda: 0)
    assert 0 < readings[MEMORY_LEFT].left < readings[MEMORY_LEFT].whole
    assert 0 < readings[PROCESSES_LEFT].left < readings[PROCESSES_LEFT].whole
    given = read_node(Path("/"), 1000, lambda: 400)
    assert given[MEMORY_LEFT] == Reading(600, 1000), "a node that was given a part has what its pods leave of that"
