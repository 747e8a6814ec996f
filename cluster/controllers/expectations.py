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

    __slots__ = ("_created", "_deleted")

    def __init__(self) -> None:
        self._created: dict[Key, tuple[str, int]] = {}
        self._deleted: dict[Key, str] = {}

    def expect_created(self, pods: Iterable[core.Pod]) -> None:
        """These pods were created, in the version given."""
        self._created.update({key_of(pod): (pod.metadata.uid, revision_of(pod)) for pod in pods})

    def expect_deleted(self, pods: Iterable[core.Pod]) -> None:
        """The deletion of these pods was accepted."""
        self._deleted.update({key_of(pod): pod.metadata.uid for pod in pods})

    def settle(self, find: FindPod, seen_revision: int) -> bool:
        """Drops what has been seen by now; True if nothing is left to wait for.

        `seen_revision`: the cache holds every change to pods up to this revision.
        """
        self._created = {
            key: (uid, revision)
            for key, (uid, revision) in self._created.items()
            if revision > seen_revision and not _is_there(find(key), uid)
        }
        self._deleted = {key: uid for key, uid in self._deleted.items() if _is_staying(find(key), uid)}
        return not self._created and not self._deleted

    @property
    def unseen_creations(self) -> int:
        """How many created pods the cache does not hold yet, as of the last `settle`."""
        return len(self._created)


def _is_there(pod: core.Pod | None, uid: str) -> bool:
    return pod is not None and pod.metadata.uid == uid


def _is_staying(pod: core.Pod | None, uid: str) -> bool:
    return pod is not None and pod.metadata.uid == uid and not is_terminating(pod)
