"""watch: what is told, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any, cast

import aiohttp
import pytest

from cluster.api.errors import Forbidden
from cluster.client.interface import EventType, WatchEvent
from cluster.kubernetes import outgoing, watching
from cluster.kubernetes.call import Call
from cluster.kubernetes.catalog import OWN
from cluster.kubernetes.encoding import Encoder
from cluster.kubernetes.negotiation import PLAIN
from cluster.kubernetes.paths import target_of
from cluster.kubernetes.sharing import Hub, News
from cluster.kubernetes.tables import Tables
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, pod

PODS = "/api/v1/namespaces/default/pods"


async def events(response: Any, count: int) -> list[dict[str, Any]]:
    """So many events."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            line = await response.content.readline()
            assert line, f"the watch ended after {found}"
            found.append(json.loads(line))
    return found


def told(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in found]


def relabelled(stored: core.Pod, **labels: str) -> core.Pod:
    changed = core.Pod()
    changed.CopyFrom(stored)
    changed.metadata.labels.clear()
    changed.metadata.labels.update(labels)
    return changed


async def test_what_there_is_and_then_what_happens(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    async with api.stream(f"{PODS}?watch=1") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert told(await events(response, 1)) == [("ADDED", "a")]
        stored = cluster.put(pod("b"))
        cluster.put(relabelled(stored, x="y"))
        cluster.put(pod("elsewhere", "other"))
        cluster.remove(stored)
        found = await events(response, 3)
    assert told(found) == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "b")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in found]
    assert versions == sorted(versions)
    assert versions[-1] == cluster.store.revision, "a deletion has the version of the deletion"


async def test_after_a_version_each_change_is_told_once(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    version = (await api.get(PODS)).body["metadata"]["resourceVersion"]
    cluster.put(pod("b"))
    async with api.stream(f"{PODS}?watch=true&resourceVersion={version}") as response:
        assert told(await events(response, 1)) == [("ADDED", "b")]
        cluster.put(pod("c"))
        assert told(await events(response, 1)) == [("ADDED", "c")]


async def test_selectors(api: Api, cluster: MemoryCluster) -> None:
    stored = cluster.put(pod("a", tier="back"))
    async with api.stream(f"{PODS}?watch=1&labelSelector=tier%3Dfront") as response:
        stored = cluster.put(relabelled(stored, tier="front"))
        stored = cluster.put(relabelled(stored, tier="front", x="y"))
        cluster.put(relabelled(stored, tier="back"))
        assert told(await events(response, 3)) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


@pytest.mark.parametrize("accept", ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"])
async def test_what_an_object_was_is_not_taken_for_what_it_became(
    api: Api, cluster: MemoryCluster, accept: str
) -> None:
    """Who is told that it ceased to be chosen gets its last content with the version of what it became."""

    def labels(event: dict[str, Any]) -> Any:
        found = event["object"]
        return (found["rows"][0]["object"] if "rows" in found else found)["metadata"]["labels"]

    stored = cluster.put(pod("a", tier="front"))
    path = f"{PODS}?watch=1&labelSelector=tier%3Dfront&resourceVersion={stored.metadata.resourceVersion}"
    cluster.put(relabelled(stored, tier="back"))
    for _ in range(2):  # before and after somebody has read it
        async with api.stream(path, headers={"Accept": accept}) as response:
            (left,) = await events(response, 1)
        assert (left["type"], labels(left)) == ("DELETED", {"tier": "front"})
        assert labels({"object": (await api.get(f"{PODS}/a", headers={"Accept": accept})).body}) == {"tier": "back"}


async def test_one_object(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    cluster.put(pod("b"))
    async with api.stream(f"{PODS}/b?watch=1") as response:
        assert told(await events(response, 1)) == [("ADDED", "b")]


async def test_a_version_that_is_no_longer_kept(api: Api, cluster: MemoryCluster) -> None:
    version = cluster.put(pod("a")).metadata.resourceVersion
    cluster.put(pod("b"))
    cluster.compact()
    async with api.stream(f"{PODS}?watch=1&resourceVersion={version}") as response:
        assert response.status == 200, "kopf, kr8s and the official client look for the event, and begin anew"
        (event,) = await events(response, 1)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert await response.content.readline() == b""


async def test_when_the_store_is_another_one_the_list_begins_anew(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    async with api.stream(f"{PODS}?watch=1") as response:
        await events(response, 1)
        cluster.break_watches()
        assert await response.content.readline() == b"", "it ends, and the client goes on from what it has seen"


async def test_it_ends_when_its_time_is_over(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    async with api.stream(f"{PODS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true") as response:
        found = await events(response, 2)
        assert told(found) == [("ADDED", "a"), ("BOOKMARK", "")]
        assert found[1]["object"]["metadata"]["resourceVersion"] == str(cluster.store.revision)
        assert await response.content.readline() == b""


async def test_the_end_of_what_there_is_can_be_marked(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.stream(f"{PODS}?{query}") as response:
        found = await events(response, 2)
    assert told(found) == [("ADDED", "a"), ("BOOKMARK", "")]
    assert found[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    since = f"{query}&resourceVersion={cluster.store.revision}"
    async with api.stream(f"{PODS}?{since}") as response:
        assert told(await events(response, 2)) == [("ADDED", "a"), ("BOOKMARK", "")], "as client-go begins anew"


async def test_what_there_is_shall_not_be_older_than_the_reader_knows(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Kubernetes: after a while it is said that there is no such version yet, as a list would say it."""
    clock = VirtualClock()
    monkeypatch.setattr(api.server, "_clock", clock)
    version = int(cluster.put(pod("a")).metadata.resourceVersion)
    query = f"watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={version + 9}"
    asking = asyncio.ensure_future(api.get(f"{PODS}?{query}"))
    while not asking.done():
        clock.advance_to_next()
        await asyncio.sleep(0)
    reply = await asking
    assert (reply.code, reply.reason) == (504, "Timeout")
    assert [cause["reason"] for cause in reply.body["details"]["causes"]] == ["ResourceVersionTooLarge"]


async def test_nobody_is_told_of_what_there_is_who_does_not_want_it(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    query = "watch&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
    for version in ("", "&resourceVersion=0"):
        async with api.stream(f"{PODS}?{query}{version}") as response:
            cluster.put(pod(f"b{len(version)}"))
            assert told(await events(response, 1)) == [("ADDED", f"b{len(version)}")]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("watch=1&sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ("watch=1&resourceVersionMatch=NotOlderThan", "is forbidden for watch unless sendInitialEvents is provided"),
        ("sendInitialEvents=true", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Exact&resourceVersion=0", 'is forbidden for resourceVersion "0"'),
        (
            "resourceVersionMatch=Odd&resourceVersion=1",
            'Unsupported value: "Odd": supported values: "Exact", "NotOlder',
        ),
    ],
)
async def test_options_that_do_not_go_together(api: Api, words: str, complaint: str) -> None:
    reply = await api.get(f"{PODS}?{words}")
    assert (reply.code, reply.reason) == (422, "Invalid")
    assert reply.body["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')
    assert complaint in reply.body["message"]


async def test_as_tables_with_one_head(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    async with api.stream(f"{PODS}?watch=1", headers=headers) as response:
        (first,) = await events(response, 1)
        cluster.put(pod("b"))
        (second,) = await events(response, 1)
    assert first["object"]["kind"] == second["object"]["kind"] == "Table"
    assert first["object"]["columnDefinitions"]
    assert second["object"]["columnDefinitions"] == []
    assert second["object"]["rows"][0]["cells"][0] == "b"


async def test_who_may_not_watch_is_told_before_anything_else(api: Api, cluster: MemoryCluster) -> None:
    cluster.fail_next(Forbidden("not you"))
    reply = await api.get(f"{PODS}?watch=1")
    assert (reply.code, reply.reason) == (403, "Forbidden")


async def test_a_thousand_watches_of_one_client(api: Api, cluster: MemoryCluster) -> None:
    api.session.connector._limit = 0  # type: ignore[union-attr]
    # aiohttp's clock for a request goes on while the others are opened.
    patience = aiohttp.ClientTimeout(240)
    streams = [
        api.stream(f"{PODS}?watch=1&labelSelector=n%3D{number % 10}", timeout=patience) for number in range(1000)
    ]
    async with asyncio.timeout(240):
        responses = [
            response
            for start in range(0, 1000, 100)
            for response in await asyncio.gather(*(stream.__aenter__() for stream in streams[start : start + 100]))
        ]
        assert {response.status for response in responses} == {200}
        cluster.put(pod("a", n="3"))
        chosen = responses[3::10]
        assert len(chosen) == 100
        lines = await asyncio.gather(*(response.content.readline() for response in chosen))
        assert len(set(lines)) == 1
        for response in responses:
            response.close()
        while api.server.watches:
            await asyncio.sleep(0.01)


async def test_a_reader_that_takes_nothing_is_cut_off(api: Api, cluster: MemoryCluster, monkeypatch: Any) -> None:
    monkeypatch.setattr(watching, "MAX_WAITING", 100)
    async with api.stream(f"{PODS}?watch=1") as response:
        cluster.put(pod("a"))
        await events(response, 1)
        cluster.hold_watches()
        stored = pod("b")
        stored.metadata.annotations["x"] = "y" * 20_000
        for number in range(300):
            stored.metadata.labels["n"] = str(number)
            stored = cluster.put(stored)
        cluster.release_watches()
        async with asyncio.timeout(20):
            while line := await response.content.readline():
                assert json.loads(line)["type"] in ("ADDED", "MODIFIED")
    assert not api.server.watches


async def test_nothing_more_waits_for_a_reader_that_is_to_be_cut_off(monkeypatch: Any) -> None:
    monkeypatch.setattr(watching, "MAX_WAITING", 2)
    target = target_of(["api", "v1", "namespaces", "default", "pods"], OWN)
    clock = VirtualClock()
    call = Call(target, {"resourceVersion": "1"}, PLAIN, cast(Any, None), Encoder(), Tables(Encoder()), 0.0, clock)
    slow = watching.Watching(call, Hub(clock), clock, random.Random(1))
    news = News(WatchEvent(EventType.ADDED, 2, pod("a")))
    slow.heard([news, news])
    assert len(slow._waiting) == 2
    for _ in range(3):
        slow.heard([news])
        assert not slow._waiting


async def test_a_reader_whose_connection_takes_nothing_for_long_is_cut_off(
    api: Api, cluster: MemoryCluster, monkeypatch: Any
) -> None:
    monkeypatch.setattr(outgoing, "WRITE_TIMEOUT_S", 0.05)
    async with api.stream(f"{PODS}?watch=1") as response:
        cluster.put(pod("a"))
        await events(response, 1)
        response.content._protocol.transport.pause_reading()
        stored = pod("b")
        stored.metadata.annotations["x"] = "y" * 200_000
        async with asyncio.timeout(20):
            number = 0
            while api.server.watches:
                number += 1
                stored.metadata.labels["n"] = str(number)
                stored = cluster.put(stored)
                await asyncio.sleep(0.001)


async def test_watches_in_several_forms_share_what_they_are_told(api: Api, cluster: MemoryCluster) -> None:
    stored = cluster.put(pod("a"))
    version = stored.metadata.resourceVersion
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    partial = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    wanted: list[tuple[str, dict[str, str]]] = [
        *(("", {}), ("", {}), ("", table), ("&includeObject=None", table), ("", partial)),
    ]
    async with contextlib.AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(api.stream(f"{PODS}?watch=1&resourceVersion={version}{more}", headers=form))
            for more, form in wanted
        ]
        for number in range(3):
            stored = cluster.put(relabelled(stored, n=str(number)))
        cluster.remove(stored)
        told_to = [await events(stream, 4) for stream in streams]
        (source,) = api.server._hub._common.values()
        assert len(source.readers) == len(wanted)
    plain, again, rows, bare, metadata = told_to
    assert plain == again
    assert [event["type"] for event in plain] == ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
    assert [event["object"]["metadata"]["labels"] for event in metadata[:3]] == [{"n": str(n)} for n in range(3)]
    for shown in (rows, bare):
        assert [bool(event["object"]["columnDefinitions"]) for event in shown] == [True, False, False, False]
    assert all(event["object"]["rows"][0]["object"] is None for event in bare)
    assert rows[3]["object"]["rows"][0]["object"]["metadata"] == plain[3]["object"]["metadata"]
