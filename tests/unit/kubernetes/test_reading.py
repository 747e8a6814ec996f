"""get and list: objects, tables, pages, selectors, versions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.actor.clock import SystemClock
from cluster.api.kinds import KINDS
from cluster.api.meta import to_time
from cluster.kubernetes import reading
from cluster.kubernetes.resources import RESOURCES
from cluster.pb.v1 import core_pb2 as core
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryClient, MemoryCluster
from tests.unit.kubernetes.conftest import Api, Reply, pod

PODS = "/api/v1/namespaces/default/pods"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}

METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}


async def test_an_object(api: Api, cluster: MemoryCluster) -> None:
    stored = cluster.put(pod("web", app="web"))
    reply = await api.get(f"{PODS}/web")
    assert reply.code == 200
    assert reply.body["kind"] == "Pod"
    assert reply.body["apiVersion"] == "v1"
    assert reply.body["metadata"]["labels"] == {"app": "web"}
    assert reply.body["metadata"]["resourceVersion"] == stored.metadata.resourceVersion


async def test_no_object(api: Api) -> None:
    reply = await api.get(f"{PODS}/web")
    assert (reply.code, reply.reason) == (404, "NotFound")
    assert reply.body["message"] == 'pods "web" not found'
    assert reply.body["details"] == {"name": "web", "kind": "pods"}
    reply = await api.get("/apis/policy/v1/namespaces/default/poddisruptionbudgets/web")
    assert reply.body["message"] == 'poddisruptionbudgets.policy "web" not found'
    assert reply.body["details"]["group"] == "policy"


async def test_lists_of_every_kind(api: Api) -> None:
    own = [row for row in RESOURCES if row.view is None]
    assert len(own) == len(KINDS) - 1, "how objects of users' kinds are kept is nothing to be served"
    for row in RESOURCES:
        root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        for headers in ({}, TABLE):
            reply = await api.get(f"{root}/{row.plural}", headers=headers)
            assert reply.code == 200, row.plural
            assert reply.body["kind"] == ("Table" if headers else f"{row.kind.name}List")
            assert reply.body["metadata"]["resourceVersion"].isdigit()


async def test_selectors(api: Api, cluster: MemoryCluster) -> None:
    for number, tier in enumerate(("front", "back", "front")):
        cluster.put(pod(f"p{number}", tier=tier))
    cluster.put(pod("elsewhere", "other", tier="front"))

    async def names(query: str) -> list[str]:
        reply = await api.get(f"/api/v1/pods?{query}")
        assert reply.code == 200, reply.body
        return [item["metadata"]["name"] for item in reply.body["items"]]

    assert await names("labelSelector=tier%3Dfront") == ["p0", "p2", "elsewhere"]
    assert await names("labelSelector=tier%3Dfront&labelSelector=!absent") == ["p0", "p2", "elsewhere"]
    assert await names("labelSelector=tier+in+(back),tier") == ["p1"]
    assert await names("fieldSelector=metadata.name%3Dp1") == ["p1"]
    assert await names("fieldSelector=metadata.namespace%21%3Ddefault") == ["elsewhere"]
    assert (await api.get("/api/v1/pods?fieldSelector=spec.nope%3D1")).code == 400
    assert (await api.get("/api/v1/pods?labelSelector=%3D%3D")).code == 400


async def test_pages_are_of_one_snapshot(api: Api, cluster: MemoryCluster) -> None:
    for number in range(5):
        cluster.put(pod(f"p{number}"))
    first = (await api.get(f"{PODS}?limit=2")).body
    assert first["metadata"]["remainingItemCount"] == 3
    cluster.put(pod("a-new-one"))
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        reply = await api.get(PODS, params={"limit": "2", "continue": token})
        assert reply.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in reply.body["items"]]
        token = reply.body["metadata"].get("continue")
    assert names == [f"p{number}" for number in range(5)]


@pytest.mark.parametrize("headers", [{}, TABLE, METADATA], ids=["plain", "table", "metadata"])
async def test_a_long_list_is_of_one_snapshot_too(
    api: Api, cluster: MemoryCluster, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 3)
    monkeypatch.setattr(reading, "_ENCODE_AT_ONCE", 2)
    for number in range(9):
        cluster.put(pod(f"p{number}"))
    version = cluster.store.revision
    found: list[str] = []
    listed = MemoryClient.list

    async def list_and_write(self: MemoryClient, *arguments: Any, **options: Any) -> Any:
        page: Any = await listed(self, *arguments, **options)
        cluster.put(pod(f"p{len(found)}-new"))
        found.extend(item.metadata.name for item in page.items)
        return page

    monkeypatch.setattr(MemoryClient, "list", list_and_write)
    reply = await api.get(PODS, headers=headers)
    assert found == [f"p{number}" for number in range(9)]
    shown = [row["object"] for row in reply.body["rows"]] if headers is TABLE else reply.body["items"]
    assert [item["metadata"]["name"] for item in shown] == found
    assert reply.body["metadata"] == {"resourceVersion": str(version)}
    assert int(reply.headers["Content-Length"]) > 0


async def test_a_long_list_that_fails_in_the_middle_is_an_error(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 3)
    for number in range(9):
        cluster.put(pod(f"p{number}"))
    listed = MemoryClient.list

    async def list_and_forget(self: MemoryClient, *arguments: Any, **options: Any) -> Any:
        page: Any = await listed(self, *arguments, **options)
        cluster.put(pod("new"))
        cluster.compact()
        return page

    monkeypatch.setattr(MemoryClient, "list", list_and_forget)
    reply = await api.get(PODS)
    assert (reply.code, reply.reason) == (410, "Expired")

    async def list_slowly(self: MemoryClient, *arguments: Any, **options: Any) -> Any:
        if options["continue_token"]:
            await asyncio.Event().wait()
        return await listed(self, *arguments, **options)

    monkeypatch.setattr(MemoryClient, "list", list_slowly)
    late = await api.get(f"{PODS}?timeout=50ms")
    assert (late.code, late.reason) == (504, "Timeout")
    assert "took longer than 0.05 s" in late.body["message"]


async def test_versions(api: Api, cluster: MemoryCluster) -> None:
    version = int(cluster.put(pod("web")).metadata.resourceVersion)
    cluster.put(pod("later"))

    async def count(**query: str) -> int:
        return len((await api.get(PODS, params=query)).body["items"])

    assert await count() == await count(resourceVersion="0") == await count(resourceVersion=str(version)) == 2
    assert await count(resourceVersion=str(version), resourceVersionMatch="Exact") == 1
    for query in ({"resourceVersion": "x"}, {"limit": "-1"}, {"limit": "many"}):
        assert (await api.get(PODS, params=query)).code == 400, query


async def until_answered(api: Api, clock: VirtualClock, path: str, **query: str) -> Reply:
    asking = asyncio.ensure_future(api.get(path, params=query))
    while not asking.done():
        clock.advance_to_next()
        await asyncio.sleep(0)
    return await asking


@pytest.mark.parametrize("path", [PODS, f"{PODS}/web", f"{PODS}/none"])
async def test_a_version_that_has_not_happened_is_waited_for(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    clock = VirtualClock()
    monkeypatch.setattr(api.server, "_clock", clock)
    began_s, version = clock.monotonic(), int(cluster.put(pod("web")).metadata.resourceVersion)
    ahead = await until_answered(api, clock, path, resourceVersion=str(version + 9))
    assert clock.monotonic() == began_s + 3.0
    assert (ahead.code, ahead.reason, ahead.headers["Retry-After"]) == (504, "Timeout", "1")
    assert ahead.body["message"] == f"Timeout: Too large resource version: {version + 9}, current: {version}"
    assert ahead.body["details"]["retryAfterSeconds"] == 1
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    assert ahead.body["details"]["causes"] == [cause]
    impatient = await until_answered(api, clock, path, resourceVersion=str(version + 9), timeout="1s")
    assert (impatient.code, clock.monotonic()) == (504, began_s + 4.0)


@pytest.mark.parametrize(("path", "code"), [(PODS, 200), (f"{PODS}/web", 200), (f"{PODS}/none", 404)])
async def test_until_it_has_happened(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch, path: str, code: int
) -> None:
    clock = VirtualClock()
    monkeypatch.setattr(api.server, "_clock", clock)
    version = int(cluster.put(pod("web")).metadata.resourceVersion)
    asking = asyncio.ensure_future(api.get(path, params={"resourceVersion": str(version + 1)}))
    while clock.next_due_s() is None:
        await asyncio.sleep(0)
    cluster.put(pod("later"))
    clock.advance_to_next()
    reply = await asking
    assert reply.code == code
    if path == PODS:
        assert reply.body["metadata"]["resourceVersion"] == str(version + 1)


async def test_a_table(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    reply = await api.get(PODS, headers=TABLE)
    names = [column["name"] for column in reply.body["columnDefinitions"]]
    assert names == [
        *("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates"),
    ]
    assert [column["priority"] for column in reply.body["columnDefinitions"]] == [0] * 5 + [1] * 4
    (row,) = reply.body["rows"]
    assert row["cells"][:4] == ["web", "0/1", "Pending", "0"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == "web"
    assert "spec" not in row["object"]
    plain = await api.get(f"{PODS}/web?includeObject=Object", headers=TABLE)
    assert plain.body["rows"][0]["object"]["kind"] == "Pod"
    bare = await api.get(f"{PODS}/web?includeObject=None", headers=TABLE)
    assert bare.body["rows"][0]["object"] is None


async def test_restarts_say_when_the_last_run_ended(api: Api, cluster: MemoryCluster) -> None:
    crashing = pod("web")
    ended = core.ContainerState(
        terminated=core.ContainerStateTerminated(exitCode=3, finishedAt=to_time(SystemClock().wall() - 3000))
    )
    crashing.status.containerStatuses.add(name="main", restartCount=5, lastState=ended)
    cluster.put(crashing)
    (row,) = (await api.get(PODS, headers=TABLE)).body["rows"]
    assert row["cells"][3] == "5 (50m ago)"


async def test_metadata_alone(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    reply = await api.get(PODS, headers=METADATA)
    assert reply.body["kind"] == "PartialObjectMetadataList"
    assert list(reply.body["items"][0]) == ["kind", "apiVersion", "metadata"]


async def test_what_is_encoded_once_is_not_shown_for_another_version(api: Api, cluster: MemoryCluster) -> None:
    stored = cluster.put(pod("web"))
    for phase in ("Running", "Succeeded"):
        changed = core.Pod()
        changed.CopyFrom(stored)
        changed.status.phase = phase
        cluster.put(changed)
        assert (await api.get(f"{PODS}/web")).body["status"]["phase"] == phase
        assert (await api.get(f"{PODS}/web", headers=TABLE)).body["rows"][0]["cells"][2] == phase


@pytest.mark.parametrize("accept", ["text/html", "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io"])
async def test_forms_that_are_not_served(api: Api, accept: str) -> None:
    reply = await api.get(PODS, headers={"Accept": accept})
    assert reply.code == 406
