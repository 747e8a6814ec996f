from __future__ import annotations

import pytest

from cluster.api.errors import ApiError, Expired
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.store.ring import Ring
from cluster.store.version import Change
from cluster.store.watchers import (
    BATCH_BYTES,
    IMPATIENT_S,
    STALL_S,
    UNREAD_LIMIT,
    Interest,
    Lane,
    Watcher,
    Watchers,
    bookmark_interval_s,
    join,
)
from tests.unit.store.rig import version


def changes(first: int, last: int, node: str = "") -> list[Change]:
    return [Change(None, version(n, f"p{n}", node=node), 0.0) for n in range(first, last + 1)]


def joined(watchers: Watchers, interest: Interest, woken: list[str] | None = None) -> Watcher:
    watcher = watchers.enter(0, lambda: woken.append("!") if woken is not None else None)
    watchers.join(watcher, interest)
    return watcher


def revisions(batch: bytes | None) -> list[int]:
    assert batch is not None
    return [event.revision for event in wire.WatchBatch.FromString(batch).events]


def test_a_change_wakes_only_those_whom_it_concerns() -> None:
    watchers, woken = Watchers(), {name: list[str]() for name in ("all", "n1", "n2", "ns", "services")}
    joined(watchers, Interest("Pod"), woken["all"])
    joined(watchers, Interest("Pod", node="n1"), woken["n1"])
    joined(watchers, Interest("Pod", node="n2"), woken["n2"])
    joined(watchers, Interest("Pod", "default"), woken["ns"])
    joined(watchers, Interest("Service"), woken["services"])
    watchers.publish(changes(1, 3, node="n1"))
    assert {name: len(wakes) for name, wakes in woken.items()} == {"all": 1, "n1": 1, "n2": 0, "ns": 1, "services": 0}


def test_equal_interests_share_a_lane_and_even_the_batch() -> None:
    watchers = Watchers()
    first, second = joined(watchers, Interest("Pod")), joined(watchers, Interest("Pod"))
    assert watchers.lanes == 1
    watchers.publish(changes(1, 3))
    one, other = first.read(3), second.read(3)
    assert revisions(one) == [1, 2, 3]
    assert one is other
    watchers.leave(first)
    watchers.leave(second)
    watchers.leave(second)
    assert (watchers.lanes, len(watchers)) == (0, 0)
    assert not watchers._index


def test_five_hundred_nodes_cost_what_their_own_events_cost() -> None:
    watchers = Watchers()
    all_nodes = [joined(watchers, Interest("Pod", node=f"n{n}")) for n in range(500)]
    looked_at: list[Interest] = []
    original = Interest.event

    def counting(self: Interest, change: Change) -> bytes | None:
        looked_at.append(self)
        return original(self, change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interest, "event", counting)
        for number in range(1, 101):
            watchers.publish([Change(None, version(number, f"p{number}", node=f"n{number}"), 0.0)])
    assert len(looked_at) == 100
    assert sum(watcher.behind for watcher in all_nodes) == 100


def test_who_watches_one_object_costs_what_its_own_events_cost() -> None:
    watchers = Watchers()
    everywhere = [joined(watchers, Interest("Pod", name=f"p{n}")) for n in range(500)]
    here = joined(watchers, Interest("Pod", "default", name="p7"))
    elsewhere = joined(watchers, Interest("Pod", "other", name="p7"))
    looked_at: list[Interest] = []
    original = Interest.event

    def counting(self: Interest, change: Change) -> bytes | None:
        looked_at.append(self)
        return original(self, change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interest, "event", counting)
        for number in range(1, 11):
            watchers.publish([Change(None, version(number, f"p{number}"), 0.0)])
    assert len(looked_at) == 11
    assert sum(watcher.behind for watcher in everywhere) == 10
    assert (revisions(here.read(10)), elsewhere.behind) == ([7], False)
    for watcher in (*everywhere, here, elsewhere):
        watchers.leave(watcher)
    assert not watchers._index


def test_binding_a_pod_shows_it_to_the_watcher_of_its_node() -> None:
    watchers = Watchers()
    of_node = joined(watchers, Interest("Pod", node="n1"))
    unbound, bound = version(1, "a"), version(2, "a", node="n1")
    watchers.publish([Change(None, unbound, 0.0), Change(unbound, bound, 0.0)])
    batch = of_node.read(2)
    assert batch is not None
    (event,) = wire.WatchBatch.FromString(batch).events
    assert (event.type, event.revision) == (wire.WatchEvent.ADDED, 2)


def test_who_is_behind_the_ring_is_closed_with_its_last_revision() -> None:
    watchers, ring = Watchers(), Ring(limit_changes=5, limit_bytes=1 << 20)
    slow, quick = joined(watchers, Interest("Pod")), joined(watchers, Interest("Pod"))
    idle = joined(watchers, Interest("Service"))
    for number in range(1, 10):
        (change,) = changes(number, number)
        ring.push(change)
        ring.trim()
        watchers.publish([change])
        assert revisions(quick.read(number)) == [number]
        watchers.sweep(ring.horizon, 0.0)
    with pytest.raises(Expired, match="what came next, up to 1,"):
        slow.read(9)
    assert quick.read(9) is None
    assert idle.read(9) is None
    assert slow.lane is not None
    assert quick.lane is not None
    assert len(slow.lane._entries) <= 5
    watchers.leave(slow)
    watchers.sweep(ring.horizon, 0.0)
    assert not quick.lane._entries, "what everyone has read is let go"


def test_who_takes_nothing_is_closed_and_interrupted() -> None:
    watchers, told = Watchers(), list[ApiError]()
    stalled = watchers.enter(0, lambda: None, told.append)
    watchers.join(stalled, Interest("Pod"))
    watchers.publish(changes(1, 2))
    assert revisions(stalled.read(2)) == [1, 2]
    watchers.handing(stalled, 90.0)
    watchers.taken(stalled)
    watchers.publish(changes(3, 4))
    assert revisions(stalled.read(4)) == [3, 4]
    watchers.handing(stalled, 100.0)
    watchers.sweep(0, 100.0 + STALL_S)
    assert (stalled.ended, told) == (None, [])
    watchers.sweep(0, 100.1 + STALL_S)
    with pytest.raises(Expired, match=r"last revision is 2, and it has taken nothing for 4\.6 s") as caught:
        stalled.read(4)
    assert caught.value.last_revision == 2, "3 and 4 were handed to it, but nobody knows whether it has them"
    assert told == [caught.value]
    watchers.leave(stalled)
    assert (watchers.pending, len(watchers), watchers.lanes) == (0, 0, 0)


def test_who_takes_nothing_while_much_waits_is_closed_sooner() -> None:
    watchers = Watchers()
    for count, ended in ((UNREAD_LIMIT - 1, False), (UNREAD_LIMIT, True)):
        stalled = joined(watchers, Interest("Pod"))
        watchers.publish(changes(1, 1))
        stalled.read(1)
        watchers.handing(stalled, 100.0)
        watchers.publish(changes(2, count + 1))
        watchers.sweep(0, 100.0 + IMPATIENT_S)
        assert stalled.ended is None, "a burst is no slowness"
        watchers.sweep(0, 100.1 + IMPATIENT_S)
        assert (stalled.ended is not None) is ended
        watchers.leave(stalled)


def test_what_nobody_waits_for_costs_nothing() -> None:
    watchers = Watchers()
    for number in range(5000):
        joined(watchers, Interest("Pod", node=f"n{number}"))
    watchers.publish([Change(None, version(1, "a", node="n7"), 0.0)])
    looked_at: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "drop_before", lambda self, number: looked_at.append(self))
        watchers.sweep(0, 1.0)
    assert len(looked_at) == 1, "of 5,000 lanes, the one in which something is"


def test_bookmarks_go_round() -> None:
    watchers, woken = Watchers(), list[int]()
    for number in range(10):
        watchers.join(watchers.enter(0, lambda number=number: woken.append(number)), Interest("Pod"))  # type: ignore[misc]
    for _ in range(5):
        watchers.mark_bookmarks(4)
    assert woken == [*range(10), *range(10)]


def test_bookmarks_come_less_often_when_there_are_many_watchers_but_often_enough() -> None:
    assert [bookmark_interval_s(5.0, count) for count in (1, 1000, 1500, 5000, 10**6)] == [5.0, 5.0, 7.5, 10.0, 10.0]
    assert bookmark_interval_s(12.0, 10**6) == 12.0, "as it was asked for"


def test_bookmarks_go_to_those_who_have_nothing_to_read() -> None:
    watchers, woken = Watchers(), list[str]()
    idle, busy = joined(watchers, Interest("Service"), woken), joined(watchers, Interest("Pod"))
    watchers.publish(changes(1, 2))
    watchers.mark_bookmarks(2)
    assert woken == ["!"]
    batch = idle.read(2)
    assert batch is not None
    (event,) = wire.WatchBatch.FromString(batch).events
    assert (event.type, event.revision) == (wire.WatchEvent.BOOKMARK, 2)
    assert idle.read(2) is None
    assert revisions(busy.read(2)) == [1, 2]
    assert busy.read(2) is None


def test_a_batch_ends_after_its_size_but_never_within_a_revision() -> None:
    big = b"x" * (BATCH_BYTES // 2 + 1)
    entries = [(1, big), (2, big), (2, big), (2, b"y"), (3, b"z")]
    end, revision, batch = join(entries, 0)
    assert (end, revision, len(batch)) == (4, 2, 3 * len(big) + 1)
    assert join(entries, 4) == (5, 3, b"z")


def test_the_ring_lets_go_of_whole_revisions() -> None:
    ring = Ring(limit_changes=3, limit_bytes=1 << 20)
    atomic = [Change(None, version(2, name), 0.0) for name in ("a", "b", "c")]
    for change in (*changes(1, 1), *atomic, *changes(3, 3)):
        ring.push(change)
    assert [change.revision for change in ring.trim()] == [1, 2, 2, 2]
    assert ring.horizon == 2
    assert [change.revision for change in ring.after(2)] == [3]


def test_the_ring_is_bounded_in_bytes_too() -> None:
    ring = Ring(limit_changes=1000, limit_bytes=5000)
    for change in changes(1, 100):
        ring.push(change)
        ring.trim()
    assert ring.size_bytes <= 5000
    assert ring.horizon > 80


def test_leaving_a_selector_shows_the_old_content_with_the_new_revision() -> None:
    interest = Interest("Pod", selector="x", matches=lambda obj: obj.metadata.labels.get("app") == "x")
    old, new = version(4, "a", app="x"), version(9, "a", app="y")
    event = interest.event(Change(old, new, 0.0))
    assert event is not None
    (seen,) = wire.WatchBatch.FromString(event).events
    assert (seen.type, seen.revision) == (wire.WatchEvent.DELETED, 9)
    assert dict(seen.object.pod.metadata.labels) == {"app": "x"}
    assert seen.object.pod.metadata.resourceVersion == "9"
    assert interest.event(Change(new, version(10, "a", app="z"), 0.0)) is None
