"""The suite's part about watches, and what closing ends."""

from __future__ import annotations

import asyncio

import pytest

from cluster.api.errors import (
    BadRequest,
    Unavailable,
)
from cluster.api.meta import revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient, EventType
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import (
    PATIENCE_S,
    ClusterClientFactory,
    controller,
    create_pod,
    key,
    node,
    pod,
    watching,
    write,
)


class WatchContract:
    """Watch, and close."""

    async def test_first_the_state_then_the_changes(self, client: ClusterClient) -> None:
        for name in "ba":
            await create_pod(client, name)
        async with watching(client, initial_state=True) as watcher:
            story = await watcher.until_marker()
            assert sorted(line.split("@")[0] for line in story[:-1]) == ["ADDED a", "ADDED b"]
            end = watcher.batches[-1][-1].revision
            assert end == (await client.list(core.Pod)).revision
            await create_pod(client, "c")
            await write(client, operations.patch(key("c"), {"metadata": {"labels": {"x": "1"}}}))
            await write(client, operations.delete(key("a")))
            story = await watcher.until(end + 3)
            assert story[3:] == [f"ADDED c@{end + 1}", f"MODIFIED c@{end + 2}", f"DELETED a@{end + 3}"]

    async def test_an_empty_state_has_its_marker_too(self, client: ClusterClient) -> None:
        async with watching(client, initial_state=True) as watcher:
            assert await watcher.until_marker() == ["|"]

    async def test_every_change_after_a_revision_once_and_in_order(self, client: ClusterClient) -> None:
        start = (await client.list(core.Pod)).revision
        for n in range(30):
            await create_pod(client, f"p-{n}")
        async with watching(client, after_revision=start) as watcher:
            story = await watcher.until(start + 30)
        assert story == [f"ADDED p-{n}@{start + n + 1}" for n in range(30)]
        async with watching(client, after_revision=start + 28) as watcher:
            assert await watcher.until(start + 30) == story[28:]

    async def test_a_deletion_shows_the_last_content_with_its_own_revision(self, client: ClusterClient) -> None:
        created = await create_pod(client, x="1")
        async with watching(client, after_revision=revision_of(created)) as watcher:
            written = await client.write([operations.delete(key())])
            await watcher.until(written.revision)
            (event,) = [event for batch in watcher.batches for event in batch if event.object is not None]
        assert event.type is EventType.DELETED
        assert event.object is not None
        assert event.object.metadata.uid == created.metadata.uid
        assert dict(event.object.metadata.labels) == {"x": "1"}
        assert revision_of(event.object) == event.revision == written.revision

    async def test_who_enters_a_selection_is_added_and_who_leaves_is_deleted(self, client: ClusterClient) -> None:
        created = await create_pod(client, app="other")
        at = revision_of(created)
        async with watching(client, label_selector="app=web", after_revision=at) as watcher:
            for labels in ({"app": "web"}, {"app": "web", "x": "1"}, {"app": "other"}, {"app": "more"}):
                await write(client, operations.patch(key(), {"metadata": {"labels": {"x": None, **labels}}}))
            await create_pod(client, "last", app="web")
            story = await watcher.until(at + 5)
            left = next(e for batch in watcher.batches for e in batch if e.type is EventType.DELETED)
        assert story == [f"ADDED a@{at + 1}", f"MODIFIED a@{at + 2}", f"DELETED a@{at + 3}", f"ADDED last@{at + 5}"]
        assert left.object is not None
        assert dict(left.object.metadata.labels) == {"app": "web", "x": "1"}

    async def test_a_node_sees_its_pods_come_and_go(self, client: ClusterClient) -> None:
        await write(client, operations.create(node("node-1")), operations.create(node("node-2")))
        start = (await client.list(core.Pod)).revision
        async with watching(client, field_selector="spec.nodeName=node-1", after_revision=start) as watcher:
            await write(client, operations.create(pod("a")), operations.create(pod("b")))
            await write(client, operations.bind(key("b"), "node-2"), operations.bind(key("a"), "node-1"))
            await write(client, operations.delete(key("a"), grace_period_s=0))
            assert await watcher.until(start + 5) == [f"ADDED a@{start + 4}", f"DELETED a@{start + 5}"]

    async def test_other_kinds_and_namespaces_are_not_told(self, client: ClusterClient) -> None:
        await write(client, operations.create(core.Namespace(metadata=core.ObjectMeta(name="apart"))))
        start = (await client.list(core.Pod)).revision
        async with watching(client, namespace="apart", after_revision=start) as watcher:
            apart = pod("z")
            apart.metadata.namespace = "apart"
            await write(client, operations.create(controller()), operations.create(pod()), operations.create(apart))
            assert await watcher.until(start + 3) == [f"ADDED z@{start + 3}"]

    async def test_one_revision_is_never_split(self, client: ClusterClient) -> None:
        start = (await client.list(core.Pod)).revision
        async with watching(client, after_revision=start) as watcher:
            for round_ in range(5):
                pods = [operations.create(pod(f"p-{round_}-{n}")) for n in range(20)]
                await client.write(pods, atomic=True)
            await watcher.until(start + 5)
        seen: set[int] = set()
        for revisions in watcher.revisions:
            assert revisions == sorted(revisions)
            assert not seen & set(revisions)
            seen |= set(revisions)
        assert len(watcher.story()) == 100

    async def test_a_watch_from_now_on(self, client: ClusterClient) -> None:
        await create_pod(client, "before")
        async with watching(client) as watcher:
            first = asyncio.ensure_future(watcher.until_news())
            number = 0
            async with asyncio.timeout(PATIENCE_S):
                # When "now" is, only the master knows: write until something is heard.
                while not first.done():
                    await create_pod(client, f"p-{number}")
                    number += 1
                    await asyncio.sleep(0.005)
            story = await first
        assert not any("before" in line for line in story)

    async def test_a_watch_names_its_store(self, client: ClusterClient) -> None:
        names = set()
        for _ in range(2):
            async with client.watch(core.Pod, initial_state=True) as batches, asyncio.timeout(PATIENCE_S):
                await anext(batches)
                names.add(batches.store_id)
        assert len(names) == 1
        assert names != {""}

    async def test_watches_that_make_no_sense(self, client: ClusterClient) -> None:
        with pytest.raises(BadRequest):
            await self._first_batch(client, after_revision=1, initial_state=True)
        with pytest.raises(BadRequest):
            await self._first_batch(client, label_selector="a in (")
        with pytest.raises(BadRequest):
            await self._first_batch(client, field_selector="spec.hostPID=true")

    @staticmethod
    async def _first_batch(
        client: ClusterClient,
        *,
        after_revision: int | None = None,
        initial_state: bool = False,
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        async with client.watch(
            core.Pod,
            after_revision=after_revision,
            initial_state=initial_state,
            label_selector=label_selector,
            field_selector=field_selector,
        ) as batches:
            async with asyncio.timeout(PATIENCE_S):
                await anext(batches)

    async def test_closing_ends_watches_and_calls(
        self, client: ClusterClient, cluster_client_factory: ClusterClientFactory
    ) -> None:
        other = cluster_client_factory("admin")
        async with watching(other, initial_state=True) as watcher:
            await watcher.until_marker()
            waiting = asyncio.ensure_future(watcher.until(1_000_000))
            await asyncio.sleep(0)
            await other.close()
            with pytest.raises(Unavailable):
                await waiting
        await other.close()
        for call in (other.get(core.Pod, "a"), other.list(core.Pod), other.write([])):
            with pytest.raises(Unavailable):
                await call
        with pytest.raises(Unavailable):
            async with other.heartbeats() as line:
                await line.beat([])
        assert (await client.list(core.Pod)).items == []
