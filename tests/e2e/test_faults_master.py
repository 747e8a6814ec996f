"""The master dies or stops at any moment: what it acknowledged is there, and watchers see everything exactly once.

Writers keep what was acknowledged to them: which object, at which revision. Watchers keep every batch, over all the
connections they needed. Afterwards one quiet watch from the beginning says what happened, and everything is held
against it: etcd's guarantees (tests/kit/watch_validators.py), the acknowledgements, the objects.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from cluster.actor.tasks import Tasks
from cluster.api.conditions import is_node_ready
from cluster.api.errors import DeadlineExceeded, Unavailable
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.e2e.workloads import sleeper, wait_off
from tests.kit import watch_validators
from tests.kit.transcript import Transcript, removed
from tests.kit.watch_validators import Recording, Seen

R = TypeVar("R")
WRITERS = 4
VALUE = "tests/value"


async def patiently(call: Callable[[], Awaitable[R]], timeout_s: float = 30.0) -> R:
    """The answer of a call that may be repeated, from a master that may be dead at the moment."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await call()
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(0.05)


def page(name: str, value: str, labels: dict[str, str]) -> core.Pod:
    """A pod that no scheduler takes: nobody but its writer changes it."""
    return core.Pod(
        metadata=core.ObjectMeta(name=name, namespace="default", labels=labels, annotations={VALUE: value}),
        spec=core.PodSpec(schedulerName="nobody", containers=[core.Container(name="main", command=["true"])]),
    )


class Writer:
    """Creates, changes and deletes pods of its own, and keeps what it knows about them."""

    def __init__(self, client: ClusterClient, number: int, rng: random.Random) -> None:
        self._client, self._number, self._rng = client, number, rng
        self.acknowledged: list[Seen] = []
        self.certain: dict[str, str | None] = {}
        """Name -> content, None if it was deleted; only where every write was answered."""
        self.unanswered = 0
        self.stopping = False
        """Set it to have `run` return after the write that is on its way."""

    async def run(self) -> None:
        count = 0
        while not self.stopping:
            count += 1
            name = f"w{self._number}-{count}"
            labels = {"writer": str(self._number)}
            if not await self._write(name, f"{name} first", "ADDED", operations.create(page(name, name, labels))):
                continue
            self.certain[name] = name
            dice = self._rng.random()
            key = Key("Pod", "default", name)
            if dice < 0.5:
                value = f"{name} changed"
                change = operations.patch(key, {"metadata": {"annotations": {VALUE: value}}})
                if await self._write(name, value, "MODIFIED", change):
                    self.certain[name] = value
            elif dice < 0.75 and await self._write(name, "", "DELETED", operations.delete(key)):
                self.certain[name] = None

    async def _write(self, name: str, value: str, type: str, operation: wire.Operation) -> bool:
        """True if it was acknowledged; otherwise nothing is certain about the object any more."""
        try:
            written = await self._client.write([operation], timeout_s=2.0)
        except (Unavailable, DeadlineExceeded):
            self.unanswered += 1
            self.certain.pop(name, None)
            await asyncio.sleep(0.02)
            return False
        obj = written.outcomes[0].unwrap()
        self.acknowledged.append(Seen(type, written.revision, str(key_of(obj))))
        return True


class Watcher:
    """Records one watch over as many connections as it takes, each begun after the last revision that was seen."""

    def __init__(self, client: ClusterClient, after: int, selector: str = "") -> None:
        self._client, self._selector = client, selector
        self.recording = Recording(after)
        self.connections = 0

    async def run(self) -> None:
        while True:
            try:
                async with self._client.watch(
                    core.Pod, label_selector=self._selector, after_revision=self.recording.last_revision
                ) as stream:
                    self.connections += 1
                    async for batch in stream:
                        self.recording.add_events(batch)
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(0.02)

    async def until(self, revision: int) -> None:
        async with asyncio.timeout(30):
            while self.recording.last_revision < revision:
                await asyncio.sleep(0.02)


async def live_through(client: ClusterClient, faults: Callable[[], Awaitable[None]]) -> int:
    """Writes and watches while the faults happen, then checks everything. Returns how many writes were acknowledged."""
    start = (await patiently(lambda: client.list(core.Pod))).revision
    tasks = Tasks("fault test")
    writers = [Writer(client, number, random.Random(number)) for number in range(WRITERS)]
    watchers = [Watcher(client, start, selector) for selector in ("", "", "writer=1", "writer in (0,2)")]
    for watcher in watchers:
        tasks.spawn(watcher.run(), name="watcher")
    transcript = Transcript(client)  # reads the state once; that it never reads it again is checked when it stops
    await transcript.start()
    running = [tasks.spawn(writer.run(), name="writer") for writer in writers]
    try:
        await faults()
        await asyncio.sleep(0.2)
        for writer in writers:
            writer.stopping = True
        await asyncio.gather(*running)  # raises what a writer could not explain by a lost connection
        # A write whose answer was lost may still be on its way; this one comes after all of them.
        last = await patiently(
            lambda: client.write([operations.create(page(f"last-{random.randrange(10**6)}", "", {"writer": "1"}))])
        )
        listed = await patiently(lambda: client.list(core.Pod))
        assert listed.revision >= last.revision
        for watcher in watchers:
            # What a selector leaves out is told by bookmarks.
            await watcher.until(listed.revision)
        await transcript.stop()
        for watcher in watchers:
            quiet = Watcher(client, start, watcher._selector)
            tasks.spawn(quiet.run(), name="quiet watcher")
            await quiet.until(listed.revision)
            watch_validators.check(quiet.recording, quiet.recording.changes)
            watch_validators.check(watcher.recording, quiet.recording.changes)
            if not watcher._selector:
                log = set(quiet.recording.changes)
    finally:
        await tasks.cancel_all()
    present = {obj.metadata.name: obj.metadata.annotations[VALUE] for obj in listed.items}
    for writer in writers:
        for ack in writer.acknowledged:
            assert ack in log, f"{ack} was acknowledged, and is not in the history"
        for name, content in writer.certain.items():
            assert present.get(name) == content, f"pod/{name}: {content!r} was acknowledged last"
    return sum(len(writer.acknowledged) for writer in writers)


@pytest.mark.podium(nodes=1)
def test_acknowledged_writes_and_watches_survive_kills_of_the_master(podium_cluster: Cluster) -> None:
    rng = random.Random(7)

    async def kill_again_and_again() -> None:
        last = 0
        for _ in range(5):
            await asyncio.sleep(rng.uniform(0.05, 0.6))
            last = await asyncio.to_thread(kill_master, podium_cluster, last)

    def scenario(client: ClusterClient) -> Awaitable[int]:
        return live_through(client, kill_again_and_again)

    assert podium_cluster.run(scenario, timeout_s=240.0) > 20
    assert next(p for p in podium_cluster.info()["processes"] if p["name"] == "master")["restarts"] == 5
    podium_cluster.apply(sleeper("web", 2))
    podium_cluster.wait("rc/web", ready=2)


def kill_master(cluster: Cluster, last: int = 0) -> int:
    """Kills the master that runs now, or is just starting: any moment is a good one. Returns its pid; `last` is that of
    the one that was killed before, which is not killed again when nobody has noticed its death yet."""
    cluster.wait_until(lambda: cluster.pid("master") != last, "there is a master to kill")
    return cluster.kill_process("master")


@pytest.mark.podium(
    nodes=1,
    environment={"PODIUM_FAILPOINTS": "store.before_commit=exit:1in60;store.after_commit=exit:1in60"},
)
def test_acknowledged_writes_survive_deaths_around_the_commit(podium_cluster: Cluster) -> None:
    """Each time the master dies between the moment it decides and the moment it answers."""

    async def wait_for_deaths() -> None:
        async with asyncio.timeout(180):
            while await asyncio.to_thread(restarts, podium_cluster) < 4:
                await asyncio.sleep(0.1)

    def scenario(client: ClusterClient) -> Awaitable[int]:
        return live_through(client, wait_for_deaths)

    assert podium_cluster.run(scenario, timeout_s=360.0) > 20


def restarts(cluster: Cluster) -> int:
    """How often the master was started again."""
    return int(next(p for p in cluster.info()["processes"] if p["name"] == "master")["restarts"])


@pytest.mark.podium(nodes=3)
def test_a_suspended_master_loses_nothing_and_evicts_nobody(podium_cluster: Cluster) -> None:
    podium_cluster.apply(sleeper("web", 6))
    podium_cluster.wait("rc/web", ready=6)

    async def scenario(client: ClusterClient) -> None:
        transcript = Transcript(client)
        await transcript.start()
        await asyncio.to_thread(podium_cluster.kill_process, "master", signal.SIGSTOP)
        refused = 0
        async with asyncio.timeout(30):
            # Silent for twice the grace of a node.
            while refused < 4:
                try:
                    await client.get(core.Pod, "nobody", "default", timeout_s=1.0)
                except (Unavailable, DeadlineExceeded):
                    refused += 1
        await asyncio.to_thread(podium_cluster.kill_process, "master", signal.SIGCONT)
        await patiently(lambda: client.list(core.Pod))
        # Once this dead node is noticed, it is certain that nodes are judged again.
        await asyncio.to_thread(podium_cluster.kill_node, "node-3")
        await asyncio.to_thread(podium_cluster.wait_until, lambda: silent(podium_cluster, "node-3"), "it is noticed")
        await asyncio.to_thread(wait_off, podium_cluster, "node-3")
        await asyncio.to_thread(podium_cluster.wait, "rc/web", ready=6)
        gone = removed(await transcript.stop())
        assert {pod.spec.nodeName for pod in gone.values()} == {"node-3"}, gone
        assert len(gone) == 2

    podium_cluster.run(scenario, timeout_s=120.0)
    assert all(pod.status.containerStatuses[0].restartCount == 0 for pod in podium_cluster.pods("app=web"))


def silent(cluster: Cluster, node: str) -> bool:
    """The node counts as dead."""
    return not is_node_ready(cluster.get("node", node))
