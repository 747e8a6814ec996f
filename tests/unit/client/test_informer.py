"""Mirrors that stay true: initial states, changes, broken watches, lost history, rebuilt clusters, bad handlers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import pytest

from cluster.api.errors import DeadlineExceeded, Expired, Forbidden, StoreRewound, Unavailable
from cluster.api.meta import Key
from cluster.client import operations
from cluster.client.informer import Informer
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster


def pod(name: str, node: str = "", **labels: str) -> core.Pod:
    return core.Pod(
        metadata=core.ObjectMeta(name=name, namespace="default", labels=labels),
        spec=core.PodSpec(nodeName=node, containers=[core.Container(name="c", command=["true"])]),
    )


class Scene:
    """A cluster, an informer, and what its handler was told: "+a", "~a", "-a"."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.cluster = MemoryCluster(clock=self.clock, rng=random.Random(1))
        self.informer = Informer[core.Pod](
            self.cluster.client("test"),
            core.Pod,
            label_selector="app",
            indexes={"node": lambda found: [found.spec.nodeName]},
            clock=self.clock,
            rng=random.Random(2),
        )
        self.told: list[str] = []
        self.informer.add_handler(self.tell)

    def tell(self, old: core.Pod | None, new: core.Pod | None) -> None:
        if old is None:
            assert new is not None
            self.told.append(f"+{new.metadata.name}")
        elif new is None:
            self.told.append(f"-{old.metadata.name}")
        else:
            assert old.metadata.uid == new.metadata.uid
            self.told.append(f"~{new.metadata.name}")

    async def news(self, seconds: float = 0.0) -> list[str]:
        await self.clock.run_for(seconds)
        told, self.told = self.told, []
        return told

    def names(self) -> list[str]:
        return sorted(found.metadata.name for found in self.informer.indexer.list())


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.informer.stop()
    await scene.informer.stop()


async def test_first_the_state_then_the_changes(scene: Scene) -> None:
    scene.cluster.put(pod("a", "node-1", app="web"))
    scene.cluster.put(pod("other"))
    synced = []
    scene.informer.on_synced(lambda: synced.append(list(scene.told)))
    assert not scene.informer.has_synced
    await scene.informer.start()
    assert await scene.news() == ["+a"]
    assert synced == [["+a"]]
    await scene.informer.wait_synced(1.0)
    assert scene.informer.revision == 2
    stored = scene.cluster.put(pod("b", "node-1", app="web"))
    scene.cluster.put(pod("a", "node-2", app="web"))
    scene.cluster.remove(stored)
    assert await scene.news() == ["+b", "-a", "+a", "-b"]  # put() gave "a" another uid
    assert [found.metadata.name for found in scene.informer.indexer.by_index("node", "node-2")] == ["a"]
    assert scene.informer.revision == 5
    scene.informer.on_synced(lambda: synced.append(["late"]))
    assert synced[-1] == ["late"]


async def test_what_ceases_to_match_is_gone(scene: Scene) -> None:
    stored = scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    await scene.news()
    changed = core.Pod()
    changed.CopyFrom(stored)
    changed.metadata.labels["x"] = "y"
    scene.cluster.put(changed)
    assert await scene.news() == ["~a"]
    changed.metadata.ClearField("labels")
    scene.cluster.put(changed)
    assert await scene.news() == ["-a"]
    assert scene.names() == []


async def test_a_batch_handler_gets_the_same_changes_as_lists(scene: Scene) -> None:
    batches: list[list[str]] = []
    seen: list[list[str]] = []

    def tell(changes: Sequence[tuple[core.Pod | None, core.Pod | None]]) -> None:
        assert changes
        for old, new in changes:
            scene.tell(old, new)
        told, scene.told = scene.told, []
        batches.append(told)
        seen.append(scene.names())

    scene.informer = Informer[core.Pod](scene.cluster.client("test"), core.Pod, clock=scene.clock, rng=random.Random(2))
    scene.informer.add_batch_handler(tell)
    for name in ("a", "b", "c"):
        scene.cluster.put(pod(name))
    await scene.informer.start()
    await scene.news()
    scene.cluster.hold_watches()
    stored = scene.cluster.put(pod("d"))
    scene.cluster.remove(stored)
    scene.cluster.put(pod("e"))
    scene.cluster.release_watches()
    await scene.news()
    assert batches == [["+a", "+b", "+c"], ["+d", "-d", "+e"]]
    assert seen == [["a", "b", "c"], ["a", "b", "c", "e"]], "the indexer is where it is after the last of them"
    late: list[int] = []
    scene.informer.add_batch_handler(lambda changes: late.append(len(changes)))
    scene.informer.add_batch_handler(lambda changes: 1 / 0)  # type: ignore[arg-type]
    scene.cluster.put(pod("f"))
    await scene.news()
    assert late == [4, 1]
    assert batches[-1] == ["+f"]


async def test_of_a_trimmed_object_nothing_else_is_kept_or_told(scene: Scene) -> None:
    told: list[core.Pod | None] = []
    informer = Informer[core.Pod](
        scene.cluster.client("test"),
        core.Pod,
        trim=lambda found: core.Pod(metadata=found.metadata),
        clock=scene.clock,
        rng=random.Random(2),
    )
    informer.add_handler(lambda old, new: told.extend((old, new)))
    scene.cluster.put(pod("a", "node-1"))
    await informer.start()
    await scene.clock.run_for(0.0)
    stored = scene.cluster.put(pod("b", "node-1"))
    scene.cluster.remove(stored)
    await scene.clock.run_for(0.0)
    await informer.stop()
    assert [found.metadata.name for found in told if found is not None] == ["a", "b", "b"]
    assert not any(found.HasField("spec") for found in (*told, *informer.indexer.list()) if found is not None)


async def test_a_broken_watch_goes_on_where_it_was(scene: Scene) -> None:
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    await scene.news()
    scene.cluster.break_watches()
    scene.cluster.fail_next(Unavailable("down"), times=3)
    scene.cluster.put(pod("b", app="web"))
    assert await scene.news() == []
    # 50, 100, 200 and 400 ms, each stretched by up to a half.
    assert await scene.news(1.2) == ["+b"]
    assert scene.informer.relists == 1


async def test_a_bookmark_moves_the_place_to_resume_from(scene: Scene) -> None:
    await scene.informer.start()
    await scene.news()
    scene.cluster.put(pod("not-ours"))
    assert await scene.news() == []
    scene.cluster.bookmark()
    await scene.news()
    assert scene.informer.revision == 1
    scene.cluster.compact()
    scene.cluster.break_watches()
    await scene.news(0.2)
    scene.cluster.put(pod("a", app="web"))
    assert await scene.news() == ["+a"]
    assert scene.informer.relists == 1


async def test_lost_history_means_reading_everything_again_and_only_differences_are_told(scene: Scene) -> None:
    kept = scene.cluster.put(pod("kept", app="web"))
    gone = scene.cluster.put(pod("gone", app="web"))
    again = scene.cluster.put(pod("again", app="web"))
    await scene.informer.start()
    await scene.news()
    scene.cluster.hold_watches()
    scene.cluster.remove(gone)
    scene.cluster.remove(again)
    scene.cluster.put(pod("again", app="web"))
    scene.cluster.put(pod("new", app="web"))
    scene.cluster.compact()
    scene.cluster.release_watches()
    assert await scene.news(1.0) == ["-gone", "-again", "+again", "+new"]
    assert scene.informer.relists == 2
    assert scene.informer.indexer.get(Key("Pod", "default", "kept")) == kept


async def test_a_rebuilt_cluster_is_noticed_although_its_revisions_fit(scene: Scene) -> None:
    for name in "ab":
        scene.cluster.put(pod(name, app="web"))
    await scene.informer.start()
    assert await scene.news() == ["+a", "+b"]
    scene.cluster.replace_store()
    for name in "cdef":
        scene.cluster.put(pod(name, app="web"))
    told = await scene.news(1.0)
    assert sorted(told) == ["+c", "+d", "+e", "+f", "-a", "-b"]
    assert scene.names() == ["c", "d", "e", "f"]
    scene.cluster.put(pod("g", app="web"))
    assert await scene.news() == ["+g"]


async def test_deleted_and_made_again_is_gone_and_then_new(scene: Scene) -> None:
    first = scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    await scene.news()
    scene.cluster.hold_watches()
    scene.cluster.remove(first)
    scene.cluster.put(pod("a", app="web"))
    scene.cluster.release_watches()
    assert await scene.news() == ["-a", "+a"]


async def test_the_last_content_is_told_with_a_deletion(scene: Scene) -> None:
    seen: list[core.Pod] = []
    stored = scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    await scene.news()
    scene.informer.add_handler(lambda old, new: seen.append(old) if old is not None and new is None else None)
    client = scene.cluster.client("admin")
    await client.write([operations.delete(Key("Pod", "default", "a"), uid=stored.metadata.uid)])
    await scene.news()
    assert [found.metadata.resourceVersion for found in seen] == ["2"]


async def test_a_handler_that_raises_hurts_nobody(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def bad(old: core.Pod | None, new: core.Pod | None) -> None:
        raise RuntimeError("oh no")

    scene.informer.add_handler(bad)
    scene.informer.on_synced(lambda: bad(None, None))
    later: list[str] = []
    scene.informer.add_handler(lambda old, new: later.append("told"))
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    assert await scene.news() == ["+a"]
    scene.cluster.put(pod("b", app="web"))
    assert await scene.news() == ["+b"]
    assert later == ["told", "told"]
    assert "Pod/default/a" in caplog.text


async def test_a_late_handler_is_told_what_is_known(scene: Scene) -> None:
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    await scene.news()
    scene.informer.add_handler(scene.tell)
    assert await scene.news() == ["+a"]


async def test_who_may_not_watch_tries_again_slowly(scene: Scene) -> None:
    scene.cluster.fail_next(Forbidden("no rule"), times=2)
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    assert await scene.news(3.9) == []
    assert await scene.news(0.2) == ["+a"]


async def test_expired_again_and_again_is_retried_ever_more_slowly(scene: Scene) -> None:
    scene.cluster.fail_next(Expired("too slow"), times=1000)
    await scene.informer.start()
    await scene.news(60.0)
    assert 20 < 1000 - len(scene.cluster._failures) < 60


async def test_a_bug_in_the_transport_does_not_end_the_mirror(scene: Scene) -> None:
    original = scene.cluster.check
    calls = iter([True])

    def check() -> None:
        if next(calls, False):
            raise ZeroDivisionError
        original()

    scene.cluster.check = check  # type: ignore[method-assign]
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    assert await scene.news() == []
    assert await scene.news(2.1) == ["+a"]


async def test_waiting_for_a_sync_that_does_not_come_ends(scene: Scene) -> None:
    with pytest.raises(DeadlineExceeded, match="informer Pod"):
        await scene.informer.wait_synced(0.01)


async def test_a_random_history_with_faults_ends_in_the_same_state(scene: Scene) -> None:
    rng = random.Random(7)
    await scene.informer.start()
    for _ in range(400):
        name, what = rng.choice("abcdef"), rng.random()
        found = scene.cluster.find(core.Pod, name)
        if what < 0.5:
            scene.cluster.put(pod(name, rng.choice(["n1", "n2"]), app=rng.choice("xy")))
        elif what < 0.7 and found is not None:
            scene.cluster.remove(found)
        elif what < 0.8 and found is not None:
            changed = core.Pod()
            changed.CopyFrom(found)
            changed.metadata.ClearField("labels")
            scene.cluster.put(changed)
        elif what < 0.85:
            scene.cluster.break_watches()
        elif what < 0.9:
            scene.cluster.compact()
        elif what < 0.92:
            scene.cluster.hold_watches()
        elif what < 0.95:
            scene.cluster.release_watches()
        else:
            await scene.clock.run_for(rng.random())
    scene.cluster.release_watches()
    await scene.clock.run_for(10.0)
    expected = [found for found in scene.cluster.objects(core.Pod) if "app" in found.metadata.labels]
    assert sorted(scene.informer.indexer.list(), key=lambda found: found.metadata.name) == expected
    # The handler's story adds up to the same state, too.
    alive: set[str] = set()
    for what_told in scene.told:
        sign, name = what_told[0], what_told[1:]
        assert (name in alive) == (sign != "+"), what_told
        if sign == "-":
            alive.discard(name)
        else:
            alive.add(name)
    assert sorted(alive) == scene.names()


async def test_a_watch_that_was_too_slow_is_resumed_once_before_all_is_read_again(scene: Scene) -> None:
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    assert await scene.news(1.0) == ["+a"]
    slow = Expired("too slow")
    slow.last_revision = scene.cluster.store.revision

    scene.cluster.fail_next(slow)
    scene.cluster.break_watches()
    scene.cluster.put(pod("b", app="web"))
    assert await scene.news(5.0) == ["+b"]
    assert scene.informer.relists == 1, "it went on after what it had seen"

    scene.cluster.fail_next(slow, times=2)
    scene.cluster.break_watches()
    scene.cluster.put(pod("c", app="web"))
    assert await scene.news(10.0) == ["+c"]
    assert scene.informer.relists == 2, "twice at one place: it cannot keep up from there"


async def test_a_store_that_was_rewound_is_read_again(scene: Scene) -> None:
    scene.cluster.put(pod("a", app="web"))
    await scene.informer.start()
    assert await scene.news(1.0) == ["+a"]
    scene.cluster.fail_next(StoreRewound("another one"))
    scene.cluster.break_watches()
    scene.cluster.put(pod("b", app="web"))
    assert await scene.news(5.0) == ["+b"]
    assert scene.informer.relists == 2
