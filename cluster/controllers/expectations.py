"""What a controller has done and not yet seen.

After a write the cache is stale: the watch has not brought the new pods yet, and whoever counts now creates them a
second time. Kubernetes' answer is to expect what was done and to decide nothing until it was seen. There a count of
adds is awaited, and given up after five minutes; here a created pod is awaited by the revision of its creation, which
a watch is bound to pass, so there is nothing to give up. A deletion is awaited by uid: the pod is gone, is another
one, or is on its way out.

Worked example: 2 pods created at revisions 7 and 8, pod "c" deleted.
  seen up to 6, c active        -> waiting for 3 things
  seen up to 8, c active        -> waiting for c
  seen up to 9, c terminating   -> settled: the next decision may be made

Knows nothing of clocks, clients and controllers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.api.meta import Key, is_terminating, key_of, revision_of
from cluster.pb.v1 import core_pb2 as core

FindPod = Callable[[Key], core.Pod | None]
"""Looks a pod up in the cache."""


class Expectations:
    """The open expectations of one owner."""

    __slots__ = ("_created", "_deleted", "_written")

    def __init__(self) -> None:
        self._created: dict[Key, tuple[str, int]] = {}
        self._written: dict[Key, tuple[str, int]] = {}
        self._deleted: dict[Key, str] = {}

    def expect_created(self, pods: Iterable[core.Pod]) -> None:
        """These pods were created, in the version given."""
        self._created.update({key_of(pod): (pod.metadata.uid, revision_of(pod)) for pod in pods})

    def expect_written(self, pods: Iterable[core.Pod]) -> None:
        """These pods were there before, and were changed to the version given."""
        self._written.update({key_of(pod): (pod.metadata.uid, revision_of(pod)) for pod in pods})

    def expect_deleted(self, pods: Iterable[core.Pod]) -> None:
        """The deletion of these pods was accepted."""
        self._deleted.update({key_of(pod): pod.metadata.uid for pod in pods})

    def settle(self, find: FindPod, seen_revision: int) -> bool:
        """Drops what has been seen by now; True if nothing is left to wait for.

        `seen_revision`: the cache holds every change to pods up to this revision.
        """
        for awaited in (self._created, self._written):
            for key, (uid, revision) in list(awaited.items()):
                if revision <= seen_revision or _is_seen(find(key), uid, revision):
                    del awaited[key]
        for key, uid in list(self._deleted.items()):
            if not _is_staying(find(key), uid):
                del self._deleted[key]
        return not self._created and not self._written and not self._deleted

    @property
    def unseen_creations(self) -> int:
        """How many created pods the cache does not hold yet, as of the last `settle`."""
        return len(self._created)

    def staying(self, pods: Iterable[core.Pod]) -> list[core.Pod]:
        """The pods without those whose deletion was accepted, though the cache does not show it yet."""
        return [pod for pod in pods if self._deleted.get(key_of(pod)) != pod.metadata.uid]


def _is_seen(pod: core.Pod | None, uid: str, revision: int) -> bool:
    return pod is not None and pod.metadata.uid == uid and revision_of(pod) >= revision


def _is_staying(pod: core.Pod | None, uid: str) -> bool:
    return pod is not None and pod.metadata.uid == uid and not is_terminating(pod)
