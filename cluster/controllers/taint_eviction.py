"""Drives pods away from nodes with NoExecute taints: people's own, and those of failed nodes.

Which pods, and when, is decided in `evictions.py`; the rate was limited before, when the taint of a failed node was
granted. A pod is deleted with its own grace period, and only if it is still the one that was meant.
"""

from __future__ import annotations

from cluster.api.errors import NotFound
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.controllers.caches import NODE
from cluster.controllers.context import Context
from cluster.controllers.evictions import Evictions
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.taints import no_execute
from cluster.controllers.writes import cause, chunks
from cluster.pb.v1 import core_pb2 as core

WORKERS = 4


class TaintEviction:
    """The actor; its keys are names of nodes. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches = context.caches
        self._client = context.client
        self._nodes = caches.nodes
        self._pods = caches.pods
        self._events = context.events
        self._clock = context.clock
        self._evictions = Evictions()
        self._tainted: set[str] = set()
        self._reconciler: Reconciler[str] = Reconciler(
            "taint eviction", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        caches.nodes.add_handler(self._on_node)
        caches.pods.add_handler(self._on_pod)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    def _add_all(self) -> None:
        for name in self._tainted:
            self._reconciler.queue.add(name)

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        current = new or old
        assert current is not None
        before = no_execute(old.spec.taints) if old is not None else []
        after = no_execute(new.spec.taints) if new is not None else []
        name = current.metadata.name
        if after:
            self._tainted.add(name)
        else:
            self._tainted.discard(name)
        if before != after:
            self._reconciler.queue.add(name)

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        if new is None:
            assert old is not None
            self._evictions.forget(old.metadata.uid)
        elif new.spec.nodeName in self._tainted and (
            old is None or old.spec.nodeName != new.spec.nodeName or old.spec.tolerations != new.spec.tolerations
        ):
            self._reconciler.queue.add(new.spec.nodeName)

    async def _sync(self, name: str) -> bool:
        node = self._nodes.indexer.get(Key("Node", "", name))
        taints = no_execute(node.spec.taints) if node is not None else []
        pods = self._pods.indexer.by_index(NODE, name)
        verdict = self._evictions.judge(taints, pods, self._clock.monotonic())
        for pod in verdict.reprieved:
            self._tell(pod, "Cancelling deletion of Pod")
        if verdict.next_s is not None:
            self._reconciler.queue.add_after(name, verdict.next_s)
        done = True
        for some in chunks(verdict.leave):
            assert node is not None
            written = await self._client.write(
                [operations.delete(key_of(pod), uid=pod.metadata.uid) for pod in some],
                cause=cause(node, "taint-eviction"),
            )
            for pod, outcome in zip(some, written.outcomes, strict=True):
                if outcome.error is None:
                    self._evictions.accepted(pod.metadata.uid)
                    self._tell(pod, "Marking for deletion Pod")
                elif not isinstance(outcome.error, NotFound):
                    done = False
        return done

    def _tell(self, pod: core.Pod, words: str) -> None:
        text = f"{words} {pod.metadata.namespace}/{pod.metadata.name}"
        self._events.event(pod, "Normal", "TaintManagerEviction", text)
