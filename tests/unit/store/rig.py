"""What the store's tests are built from: pods in a few bytes, changes, watches read to where they wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from cluster.store.store import Store
from cluster.store.version import Change, Version
from tests.kit.watch_validators import Recording, check_alone


def key(name: str, namespace: str = "default", kind: str = "Pod") -> Key:
    return Key(kind, namespace, name)


def version(
    revision: int, name: str, *, namespace: str = "default", node: str = "", app: str = "", deleted: bool = False
) -> Version:
    labels = {"app": app} if app else {}
    meta = core.ObjectMeta(name=name, namespace=namespace, labels=labels, resourceVersion=str(revision))
    pod = core.Pod(metadata=meta, spec=core.PodSpec(nodeName=node))
    data = pod.SerializeToString(deterministic=True)
    return Version(key(name, namespace), revision, data, node=node, deleted=deleted)


class Script:
    """Writes to a store, one revision after the other, and remembers what a perfect watcher would see."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def change(
        self, name: str, revision: int = 0, *, node: str = "", app: str = "", deleted: bool = False, namespace: str = ""
    ) -> Change:
        """The change that puts (or deletes) a pod at a revision (the next one)."""
        namespace = namespace or "default"
        old = self.store.get(key(name, namespace))
        if old is not None:
            labels = old.object.metadata.labels
            # A deletion shows what was there last.
            node = old.node if deleted else node or old.node
            app = labels.get("app", "") if deleted else app or labels.get("app", "")
        new = version(
            revision or self.store.revision + 1, name, namespace=namespace, node=node, app=app, deleted=deleted
        )
        return Change(old, new, time_s=float(new.revision))

    async def put(self, name: str, *, node: str = "", app: str = "", namespace: str = "") -> int:
        await self.store.commit([self.change(name, node=node, app=app, namespace=namespace)])
        return self.store.revision

    async def delete(self, name: str, namespace: str = "") -> int:
        await self.store.commit([self.change(name, deleted=True, namespace=namespace)])
        return self.store.revision


class Watching:
    """A watch that is read in the background, as fast as it comes. When it ends, it must have kept the guarantees."""

    def __init__(self, batches: AsyncGenerator[bytes, None], after: int | None = None) -> None:
        self.recording = Recording(after)
        self.error: Exception | None = None
        self._batches = batches
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for batch in self._batches:
                self.recording.add(batch)
                self._news.set()
        except Exception as error:
            self.error = error
        finally:
            self._news.set()
            await self._batches.aclose()

    async def until(self, revision: int) -> Recording:
        """What was heard when that revision, or a later one, has been heard of."""

        def heard() -> bool:
            return bool(self.recording.batches) and self.recording.last_revision >= revision

        async with asyncio.timeout(20):
            while not heard() and not self._task.done():
                self._news.clear()
                await self._news.wait()
        return self.recording

    async def end(self) -> Exception | None:
        """Waits until the watch ends by itself, and says by what."""
        async with asyncio.timeout(20):
            await self._task
        check_alone(self.recording)
        return self.error

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        check_alone(self.recording)
