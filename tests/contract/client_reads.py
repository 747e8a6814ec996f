"""The suite's part about lists, the past, pages and heartbeats."""

from __future__ import annotations

import asyncio

import pytest

from cluster.api.errors import (
    BadRequest,
    StoreRewound,
)
from cluster.api.meta import Key, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import (
    PATIENCE_S,
    create_pod,
    key,
    node,
    pod,
    write,
)


class ReadContract:
    """List and heartbeats."""

    # --- list

    async def test_a_list_is_sorted_and_selected(self, client: ClusterClient) -> None:
        await write(client, operations.create(core.Namespace(metadata=core.ObjectMeta(name="apart"))))
        for name, labels in (("c", {"tier": "fe"}), ("a", {"tier": "be"}), ("b", {"tier": "fe", "canary": "yes"})):
            await create_pod(client, name, **labels)
        apart = pod("z", tier="fe")
        apart.metadata.namespace = "apart"
        (last,) = await write(client, operations.create(apart))
        found = await client.list(core.Pod)
        assert [(f.metadata.namespace, f.metadata.name) for f in found.items] == [
            ("apart", "z"),
            ("default", "a"),
            ("default", "b"),
            ("default", "c"),
        ]
        assert found.revision == revision_of(last)
        assert (found.continue_token, found.remaining) == ("", 0)

        async def names(namespace: str = "", **selectors: str) -> list[str]:
            selected = await client.list(core.Pod, namespace, **selectors)  # type: ignore[arg-type]
            return [f.metadata.name for f in selected.items]

        assert await names("default") == ["a", "b", "c"]
        assert await names(label_selector="tier=fe") == ["z", "b", "c"]
        assert await names(label_selector="tier in (fe,be),!canary") == ["z", "a", "c"]
        assert await names("default", label_selector="tier=fe", field_selector="metadata.name!=c") == ["b"]
        assert await names(field_selector="spec.nodeName=node-1") == []

    async def test_what_may_be_stale_is_read_like_anything_else(self, client: ClusterClient) -> None:
        made = await create_pod(client, "a")
        assert await client.get(core.Pod, "a", "default", allow_stale=True) == made
        found = await client.list(core.Pod, allow_stale=True)
        assert (list(found.items), found.revision) == ([made], revision_of(made))
        async with client.watch(core.Pod, initial_state=True, allow_stale=True) as batches, asyncio.timeout(PATIENCE_S):
            async for batch in batches:
                assert batch[0].object == made
                break

    async def test_pages_show_one_snapshot(self, client: ClusterClient) -> None:
        for name in "abcde":
            await create_pod(client, name)
        first = await client.list(core.Pod, limit=2)
        assert [f.metadata.name for f in first.items] == ["a", "b"]
        assert (bool(first.continue_token), first.remaining) == (True, 3)
        await write(client, operations.delete(key("c")), operations.delete(key("a")))
        await create_pod(client, "bb")
        second = await client.list(core.Pod, limit=2, continue_token=first.continue_token)
        third = await client.list(core.Pod, limit=2, continue_token=second.continue_token)
        assert [f.metadata.name for f in (*second.items, *third.items)] == ["c", "d", "e"]
        assert (third.continue_token, third.remaining) == ("", 0)
        assert first.revision == second.revision == third.revision

    async def test_the_past_can_be_listed(self, client: ClusterClient) -> None:
        created = await create_pod(client, "a")
        await create_pod(client, "b")
        await write(
            client, operations.patch(key("a"), {"metadata": {"labels": {"x": "1"}}}), operations.delete(key("b"))
        )
        then = await client.list(core.Pod, revision=revision_of(created))
        assert then.items == [created]
        assert then.revision == revision_of(created)
        both = await client.list(core.Pod, revision=revision_of(created) + 1)
        assert [f.metadata.name for f in both.items] == ["a", "b"]
        for ahead in (client.get(core.Pod, "a", revision=99_999), client.list(core.Pod, revision=99_999)):
            with pytest.raises(StoreRewound) as refused:
                await ahead
            assert refused.value.revision == revision_of(created) + 3, "the error says how far the store is"

    async def test_a_long_list_comes_whole(self, client: ClusterClient) -> None:
        for start in range(0, 1200, 400):
            await write(client, *[operations.create(pod(f"p-{n:04}")) for n in range(start, start + 400)])
        found = await client.list(core.Pod)
        assert [f.metadata.name for f in found.items] == [f"p-{n:04}" for n in range(1200)]
        assert found.continue_token == ""

    async def test_requests_that_make_no_sense(self, client: ClusterClient) -> None:
        with pytest.raises(BadRequest):
            await client.list(core.Pod, label_selector="a in (")
        with pytest.raises(BadRequest):
            await client.list(core.Pod, field_selector="spec.hostPID=true")
        with pytest.raises(BadRequest):
            await client.list(core.Pod, continue_token="made up")

    # --- heartbeats

    async def test_heartbeats_are_told_and_make_no_revision(self, client: ClusterClient) -> None:
        await write(client, operations.create(node("node-1")))
        before = (await client.list(core.Node)).revision
        beats = [wire.NodeHeartbeat(node=name, sequence=1) for name in ("node-1", "stranger")]
        async with (
            client.heartbeats() as line,
            client.watch_heartbeats() as batches,
            asyncio.timeout(PATIENCE_S),
        ):
            assert list(await line.beat(beats)) == ["stranger"]
            heard: dict[str, int] = {}
            while heard.get("node-1") != 1:
                heard.update({beat.node: beat.sequence for beat in (await anext(batches)).heartbeats})
            assert list(await line.beat([wire.NodeHeartbeat(node="node-1", sequence=2)])) == []
            while heard["node-1"] != 2:
                heard.update({beat.node: beat.sequence for beat in (await anext(batches)).heartbeats})
        assert (await client.list(core.Node)).revision == before

    async def test_a_line_of_heartbeats_tells_of_nodes_that_went(self, client: ClusterClient) -> None:
        await write(client, operations.create(node("node-1")))
        beats = [wire.NodeHeartbeat(node="node-1", sequence=1)]
        async with client.heartbeats() as line, asyncio.timeout(PATIENCE_S):
            assert list(await line.beat(beats)) == []
            await write(client, operations.delete(Key("Node", "", "node-1")))
            while list(await line.beat(beats)) != ["node-1"]:
                await asyncio.sleep(0.01)
