"""Pods whose binding was decided here and not yet seen in the watch.

    assume -> (write succeeded) bound -> (watch shows it) confirm
           \\-> (write failed) forget      \\-> (not shown within the time) expired

From `assume` on the snapshot counts the pod on its node, so that the next decision does not give the room away twice.
The words and the thirty seconds are those of the scheduler cache of Kubernetes. A table without a clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from cluster.api.meta import Key


@dataclass(frozen=True, slots=True)
class AssumedPod:
    """A binding under way."""

    uid: str
    key: Key
    node: str


class Assumed:
    """Bindings under way, by pod uid. It holds at most the pods of the writes in flight and of the last seconds."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._writing: dict[str, AssumedPod] = {}
        self._written: OrderedDict[str, tuple[float, AssumedPod]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._writing) + len(self._written)

    def __contains__(self, uid: str) -> bool:
        return uid in self._writing or uid in self._written

    def assume(self, pod: AssumedPod) -> None:
        """The decision is made; the write is under way, however long it takes."""
        if pod.uid in self:
            raise ValueError(
                f"pod {pod.key} ({pod.uid}) is assumed already, on {self._get(pod.uid)}; now on {pod.node}"
            )
        self._writing[pod.uid] = pod

    def bound(self, uid: str, now_s: float) -> None:
        """The write has ended well, or may have: from now on the watch has the time to live to show it."""
        pod = self._writing.pop(uid, None)
        if pod is not None:  # else the watch was faster than the answer
            self._written[uid] = (now_s + self._ttl_s, pod)

    def confirm(self, uid: str) -> AssumedPod | None:
        """The watch shows the pod bound (somewhere). None if it was not assumed."""
        return self._take(uid)

    def forget(self, uid: str) -> AssumedPod | None:
        """The binding failed, or the pod is gone. None if it was not assumed."""
        return self._take(uid)

    def expired(self, now_s: float) -> list[AssumedPod]:
        """Takes out the pods whose binding was not shown in time."""
        late = []
        while (due_s := self.next_expiry_s()) is not None and due_s <= now_s:
            late.append(self._written.popitem(last=False)[1][1])
        return late

    def next_expiry_s(self) -> float | None:
        """When `expired` next has something to say."""
        return next(iter(self._written.values()))[0] if self._written else None

    def _get(self, uid: str) -> str:
        pod = self._writing.get(uid) or self._written[uid][1]
        return pod.node

    def _take(self, uid: str) -> AssumedPod | None:
        pod = self._writing.pop(uid, None)
        if pod is None and uid in self._written:
            pod = self._written.pop(uid)[1]
        return pod
