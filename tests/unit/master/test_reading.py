"""Get, list, watch and heartbeats through the door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from cluster.api.errors import BadRequest, Invalid, NotFound, StoreRewound, Unavailable
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key
from cluster.client import operations as ops
from cluster.master.paging import Asked, Place, Snapshots, page, read_token, write_token
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.identity import Identity
from tests.kit.watch_validators import Seen, check
from tests.unit.master.rig import Rig, pod, running
from tests.unit.store.rig import Watching, version

ADMIN = Identity("admin")


async def listed(rig: Rig, **request: object) -> wire.ListResponse:
    fields = {"kind": "Pod", **request}
    return wire.ListResponse.FromString(await rig.master.api.list(ADMIN, wire.ListRequest(**fields)))  # type: ignore[arg-type]


def names(response: wire.ListResponse) -> list[str]:
    return [item.pod.metadata.name for item in response.items]


async def test_a_watch_of_one_object_by_name_hears_of_it_alone(rig: Rig) -> None:
    for name in ("a", "b"):
        await rig.pod(name)
    for selector in ("metadata.name=a", "metadata.name=a,metadata.name!=b", "metadata.name=a,metadata.name=b"):
        request = wire.WatchRequest(kind="Pod", field_selector=selector, initial_state=True)
        batches = rig.master.api.watch(Identity("admin"), request)
        first = wire.WatchBatch.FromString(await anext(batches)).events
        expected = [] if selector.endswith("=b") and "!" not in selector else ["a"]
        assert [event.object.pod.metadata.name for event in first if event.HasField("object")] == expected
        await rig.write(ops.patch(Key("Pod", "default", "b"), {"metadata": {"labels": {"n": str(rig.revision)}}}))
        await rig.write(ops.patch(Key("Pod", "default", "a"), {"metadata": {"labels": {"n": str(rig.revision)}}}))
        if expected:
            (event,) = wire.WatchBatch.FromString(await anext(batches)).events
            assert (event.object.pod.metadata.name, event.revision) == ("a", rig.revision)
        await batches.aclose()
    assert rig.master.store.watchers == 0


async def test_get(rig: Rig) -> None:
    made = await rig.pod()
    request = wire.GetRequest(kind="Pod", namespace="default", name="web")
    answer = wire.GetResponse.FromString(await rig.master.api.get(ADMIN, request))
    assert (answer.object.pod, answer.revision, answer.store_id) == (made, rig.revision, "store")
    with pytest.raises(NotFound, match='pods "missing" not found'):
        await rig.master.api.get(ADMIN, wire.GetRequest(kind="Pod", name="missing"))
    with pytest.raises(Invalid):
        await rig.master.api.get(ADMIN, wire.GetRequest(kind="Dragon", name="x"))
    with pytest.raises(Invalid, match="have no namespace"):
        await rig.master.api.get(ADMIN, wire.GetRequest(kind="Node", namespace="default", name="x"))


async def test_list_with_selectors(rig: Rig) -> None:
    await rig.node()
    await rig.create(core.Namespace(metadata=core.ObjectMeta(name="team")))
    for name, app in (("c", "x"), ("a", "x"), ("b", "y")):
        await rig.create(pod(name, app=app))
    await rig.create(pod("d", namespace="team"))
    await rig.write(ops.bind(Key("Pod", "default", "a"), "n1"))
    assert names(await listed(rig)) == ["a", "b", "c", "d"]
    assert names(await listed(rig, namespace="team")) == ["d"]
    assert names(await listed(rig, label_selector="app=x")) == ["a", "c"]
    assert names(await listed(rig, field_selector="spec.nodeName=n1")) == ["a"]
    assert names(await listed(rig, field_selector="spec.nodeName=")) == ["b", "c", "d"]
    assert names(await listed(rig, field_selector="spec.nodeName=n1", label_selector="app=y")) == []
    assert names(await listed(rig, field_selector="metadata.name=c")) == ["c"]
    for bad in ({"label_selector": "a=b=c"}, {"field_selector": "spec.color=red"}, {"limit": -1}):
        with pytest.raises(BadRequest):
            await listed(rig, **bad)


async def test_pages_show_one_snapshot(rig: Rig) -> None:
    await rig.try_write(*[ops.create(pod(f"p{n:03}")) for n in range(100)])
    first = await listed(rig, limit=30)
    assert first.remaining_item_count == 70
    await rig.try_write(*[ops.delete(Key("Pod", "default", f"p{n:03}")) for n in range(20, 60)])
    await rig.create(pod("p045x"))
    found, page = names(first), first
    while token := getattr(page, "continue"):
        page = await listed(rig, limit=30, **{"continue": token})
        assert page.revision == first.revision
        found += names(page)
    assert found == [f"p{n:03}" for n in range(100)]
    assert len(names(await listed(rig))) == 61


async def test_pages_with_a_selector(rig: Rig) -> None:
    await rig.try_write(*[ops.create(pod(f"p{n:02}", app="x" if n % 3 else "y")) for n in range(30)])
    page = await listed(rig, limit=4, label_selector="app=y")
    found = names(page)
    while token := getattr(page, "continue"):
        page = await listed(rig, limit=4, label_selector="app=y", **{"continue": token})
        found += names(page)
    assert found == [f"p{n:02}" for n in range(0, 30, 3)]


async def test_pages_outlive_the_ring() -> None:
    async with running(ring_changes=5) as rig:
        await rig.try_write(*[ops.create(pod(f"p{n}")) for n in range(9)])
        first = await listed(rig, limit=5)
        for _ in range(5):
            await rig.pod("x")
            await rig.write(ops.delete(Key("Pod", "default", "x")))
            await rig.write(ops.delete(Key("Pod", "default", f"p{8 - _}")))
        assert rig.master.store.state.horizon > first.revision
        second = await listed(rig, limit=5, **{"continue": getattr(first, "continue")})
        assert names(second) == ["p5", "p6", "p7", "p8"]


async def test_a_list_as_of_a_revision(rig: Rig) -> None:
    await rig.pod("a")
    then = rig.revision
    await rig.pod("b")
    await rig.write(ops.delete(Key("Pod", "default", "a")))
    assert names(await listed(rig, revision=then)) == ["a"]
    assert names(await listed(rig, revision=0)) == []
    with pytest.raises(StoreRewound):
        await listed(rig, revision=then + 100)
    with pytest.raises(BadRequest, match="together"):
        await listed(rig, revision=then, **{"continue": write_token(Place(1, Key("Pod", "", "a")))})


@given(st.integers(0, 2**60), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_tokens_come_back(revision: int, namespace: str, name: str, store_id: str) -> None:
    place = Place(revision, Key("Pod", namespace, name), store_id)
    assert read_token(write_token(place), "Pod") == place
    with pytest.raises(BadRequest):
        read_token(write_token(place), "Node")


async def test_a_token_of_another_store_is_refused(rig: Rig) -> None:
    token = write_token(Place(1, Key("Pod", "", "a"), "store+9f"))
    with pytest.raises(StoreRewound, match="begin again"):
        await listed(rig, **{"continue": token})


@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1"))))
def test_tokens_that_were_made_up_are_refused(token: str) -> None:
    with pytest.raises(BadRequest):
        read_token(token, "Pod")


async def test_a_watch_by_selector_sees_pods_enter_and_leave(rig: Rig) -> None:
    request = wire.WatchRequest(kind="Pod", label_selector="app=web", initial_state=True)
    watching = Watching(rig.master.api.watch(ADMIN, request))
    await watching.until(1)
    await rig.pod("web")
    await rig.write(ops.patch(Key("Pod", "default", "web"), {"metadata": {"labels": {"app": "debug"}}}))
    await rig.write(ops.patch(Key("Pod", "default", "web"), {"metadata": {"labels": {"app": "web"}}}))
    await rig.write(ops.delete(Key("Pod", "default", "web")))
    types = ["ADDED", "DELETED", "ADDED", "DELETED"]
    log = [Seen(kind, 2 + n, "Pod/default/web") for n, kind in enumerate(types)]
    check(await watching.until(5), log)
    await watching.close()


async def test_watches_that_make_no_sense(rig: Rig) -> None:
    with pytest.raises(BadRequest, match="together"):
        await anext(rig.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", initial_state=True, after_revision=1)))
    with pytest.raises(BadRequest):
        await anext(rig.master.api.watch(ADMIN, wire.WatchRequest(kind="Pod", label_selector="((")))


async def test_watchers_of_one_selector_share_a_lane(rig: Rig) -> None:
    requests = [wire.WatchRequest(kind="Pod", label_selector="app=web") for _ in range(5)]
    watches = [Watching(rig.master.api.watch(ADMIN, request)) for request in requests]
    for watching in watches:
        await watching.until(1)
    assert (rig.master.store.watchers, rig.master.store._watchers.lanes) == (5, 1)
    for watching in watches:
        await watching.close()
    assert rig.master.store.watchers == 0


# --- heartbeats


async def test_heartbeats_come_in_batches(rig: Rig) -> None:
    for name in ("n1", "n2", "n3"):
        await rig.node(name)
    api = rig.master.api

    def beat(*nodes: str, sequence: int = 1) -> list[str]:
        beats = [wire.NodeHeartbeat(node=node, sequence=sequence) for node in nodes]
        return list(api.hear(ADMIN, wire.HeartbeatRequest(heartbeats=beats)).unknown_nodes)

    assert beat("n1", "n2", "ghost") == ["ghost"]
    revision = rig.revision
    batches = api.watch_heartbeats(ADMIN, wire.WatchHeartbeatsRequest())
    first = await anext(batches)
    assert ([b.node for b in first.heartbeats], first.store_id) == (["n1", "n2"], "store")
    following = asyncio.ensure_future(anext(batches))
    for sequence in (2, 3, 4):
        beat("n1", sequence=sequence)
    beat("n3")
    await rig.clock.run_for(0.15)
    second = await following
    assert [(b.node, b.sequence) for b in second.heartbeats] == [("n1", 4), ("n3", 1)], "only the latest matters"
    following = asyncio.ensure_future(anext(batches))
    await rig.clock.run_for(1.0)
    assert not (await following).heartbeats, "a sign of life"
    assert rig.revision == revision, "soft state"
    await rig.master.heartbeats.stop()
    with pytest.raises(Unavailable):
        await anext(batches)


async def test_a_node_that_was_deleted_is_forgotten(rig: Rig) -> None:
    await rig.node("n1")
    api, request = rig.master.api, wire.HeartbeatRequest(heartbeats=[wire.NodeHeartbeat(node="n1")])
    api.hear(ADMIN, request)
    await rig.write(ops.delete(Key("Node", "", "n1")))
    assert list(api.hear(ADMIN, request).unknown_nodes) == ["n1"]
    batches = api.watch_heartbeats(ADMIN, wire.WatchHeartbeatsRequest())
    assert not (await anext(batches)).heartbeats
    await batches.aclose()


def test_what_is_read_page_by_page_is_kept_for_its_readers_and_for_no_longer() -> None:
    snapshots = Snapshots()
    lists = {number: [version(number, f"x{number}")] for number in range(6)}
    shows = {number: Asked("store", number, "Pod", "", "") for number in lists}
    snapshots.keep(shows[0], lists[0], now_s=0.0)
    assert snapshots.find(shows[0], 29.0) is lists[0]
    assert snapshots.find(Asked("other", 0, "Pod", "", ""), 29.0) is None
    snapshots.keep(shows[0], lists[0], now_s=29.0)
    assert snapshots.find(shows[0], 58.0) is lists[0]
    assert snapshots.find(shows[0], 60.0) is None
    assert len(snapshots) == 0
    for number, show in shows.items():
        snapshots.keep(show, lists[number], now_s=61.0)
    assert [snapshots.find(show, 62.0) is not None for show in shows.values()] == [False, False, *[True] * 4]


@pytest.mark.parametrize("matches", [None, lambda _: True])
def test_a_page_of_large_objects_ends_before_its_limit(matches: Callable[[AnyObject], bool] | None) -> None:
    large = [version(number, f"x{number:02}", app="x" * 1_000_000) for number in range(1, 21)]
    after: Key | None = None
    sizes = []
    while True:
        found = page(large, 15, after, matches)
        sizes.append(len(found.versions))
        if found.last is None:
            break
        after = found.last
    assert sizes == [8, 8, 4]
    huge = [version(number, f"x{number}", app="x" * 9_000_000) for number in range(1, 4)]
    assert len(page(huge, 15, None, matches).versions) == 1
    assert len(page(huge, 0, None, matches).versions) == 3
