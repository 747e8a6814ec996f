"""A world, and the news that follow when what it decides comes true: for tests that read like a story."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.deciding import Decisions
from cluster.scheduler.lots import State
from cluster.scheduler.world import World
from tests.unit.scheduler.build import make_node


@dataclass
class Play:
    """A world, what it decided, and the news that follow when everything that it writes comes true."""

    world: World
    now_s: float = 0.0
    pods: dict[str, core.Pod] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    nominated: dict[str, str] = field(default_factory=dict)
    evicted: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def nodes(self, count: int, amounts: dict[str, str] | None = None) -> None:
        for i in range(count):
            self.world.node_changed(None, make_node(f"n{i}", amounts))

    def add(self, *pods: core.Pod) -> None:
        for pod in pods:
            self.pods[pod.metadata.name] = pod
            self.world.pod_changed(None, pod)

    def change(self, name: str, **fields: object) -> None:
        old = self.pods[name]
        new = core.Pod()
        new.CopyFrom(old)
        if "node" in fields:
            new.spec.nodeName = str(fields["node"])
        if fields.get("going"):
            new.metadata.deletionTimestamp.seconds = 1
        if "phase" in fields:
            new.status.phase = str(fields["phase"])
        if fields.get("gates") == "none":
            del new.spec.schedulingGates[:]
        self.pods[name] = new
        self.world.pod_changed(old, new)

    def gone(self, *names: str) -> None:
        for name in names:
            self.world.pod_changed(self.pods.pop(name), None)

    def decide(self, limit: int = 1000) -> Decisions:
        """One round; what it says is kept, and nothing comes true yet."""
        decisions = self.world.decide(limit, self.now_s)
        for refused in decisions.refusals:
            for each in refused.waiting:
                if refused.message:
                    self.told[each.key.name] = refused.message
                self.nominated[each.key.name] = refused.node
        self.evicted += [eviction.victim.name for eviction in decisions.evictions]
        return decisions

    def settle(self, limit: int = 1000, rounds: int = 200) -> None:
        """Rounds until there is nothing to decide; bindings and evictions come true, and the evicted are gone."""
        for _ in range(rounds):
            if not self.world.has_work(self.now_s):
                return
            decisions = self.decide(limit)
            for binding in [*decisions.bindings, *(each for gang in decisions.gangs for each in gang)]:
                name = binding.waiting.key.name
                self.order.append(name)
                self.world.bound(binding.waiting.uid, self.now_s)
                self.change(name, node=binding.placement.node)
            for eviction in decisions.evictions:
                self.change(eviction.victim.name, going=True)
                self.gone(eviction.victim.name)
        raise AssertionError("it does not settle")

    def placed(self) -> dict[str, str]:
        return {name: pod.spec.nodeName for name, pod in self.pods.items() if pod.spec.nodeName}

    def state(self, name: str) -> State | None:
        return self.world.queue.state(self.pods[name].metadata.uid)

    def books(self) -> tuple[object, ...]:
        """Everything that the snapshot counts."""
        snapshot = self.world.snapshot
        tallies = {repr(interest): tally.counts.tolist() for interest, tally in snapshot.tallies._tallies.items()}
        return (
            snapshot.requested.tolist(),
            snapshot.scored.tolist(),
            {uid: (row, pod.name) for uid, (row, pod) in snapshot._pods.items()},
            {row: set(uids) for row, uids in snapshot._on_row.items()},
            {port: {row: dict(by) for row, by in users.items()} for port, users in snapshot._occupancy._ports.items()},
            {key: dict(placed.rows) for key, placed in snapshot.tallies._placed.items()},
            tallies,
            dict(snapshot.priorities),
            dict(snapshot._occupancy._directories),
        )
