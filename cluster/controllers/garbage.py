"""What is left over, and may go.

  dependents    objects whose every owner is gone: what a replication controller leaves behind when it is deleted, or
                an object of a kind that users define
  finished      pods that are done, above a threshold, oldest first (Kubernetes: 12500)
  orphaned      pods on nodes that are gone, after a quarantine: the node may only be registering again
  unscheduled   pods that are being deleted and were never placed: there is no agent to confirm their end
  expired       events older than their time to live

Pure functions over what is in view. Whether an owner or a node is really gone, the collector asks the master once more
before it acts.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from cluster.api.definitions import is_namespaced
from cluster.api.events import last_seen
from cluster.api.kinds import BY_NAME, AnyObject, Kind
from cluster.api.meta import Key, custom_key, from_time, is_terminating
from cluster.api.pods import is_finished
from cluster.pb.v1 import core_pb2 as core

FINISHED_PODS_THRESHOLD = 12_500
Define = Callable[[str, str], core.CustomResourceDefinition | None]
"""The definition of the kind of that name in that group, if it is known."""


def finished_beyond(pods: Iterable[core.Pod], threshold: int) -> list[core.Pod]:
    """The oldest finished pods, as many as there are too many."""
    finished = [pod for pod in pods if is_finished(pod) and not is_terminating(pod)]
    surplus = len(finished) - threshold
    if surplus <= 0:
        return []
    finished.sort(
        key=lambda pod: (from_time(pod.metadata.creationTimestamp), pod.metadata.namespace, pod.metadata.name)
    )
    return finished[:surplus]


def unscheduled_terminating(pods: Iterable[core.Pod]) -> list[core.Pod]:
    """Pods on their way out that no node knows of."""
    return [pod for pod in pods if is_terminating(pod) and not pod.spec.nodeName]


def expired_events(events: Iterable[core.Event], now_s: float, ttl_s: float) -> list[core.Event]:
    """Events that were last seen longer than `ttl_s` ago (wall clock)."""
    return [event for event in events if now_s - last_seen(event) >= ttl_s]


class Quarantine:
    """Pods on nodes that are not known, and since when each of those nodes has been missing."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._missing_since: dict[str, float] = {}

    def observe(self, bound_to: Iterable[str], known: Container[str], now: float) -> list[str]:
        """Nodes that pods are bound to and that have been missing for the whole period. `now`: monotonic seconds."""
        missing = {node for node in bound_to if node and node not in known}
        self._missing_since = {node: self._missing_since.get(node, now) for node in missing}
        return sorted(node for node, since in self._missing_since.items() if now - since >= self._period_s)

    def next_in(self, now: float) -> float | None:
        """Seconds until a further node will have been missing for long enough; None if there is none to wait for."""
        waits = [since + self._period_s - now for since in self._missing_since.values()]
        return min((wait for wait in waits if wait > 0), default=None)


def owners_to_look_up(obj: AnyObject, define: Define) -> list[tuple[Key, str]] | None:
    """Where the object's owners should be found, and the uid that each must have.

    None if it has no owner, or one that cannot be said to be gone: its kind is not known here, or it would have to be
    in a namespace while the object is in none.
    """
    found: list[tuple[Key, str]] = []
    for owner in obj.metadata.ownerReferences:
        key = _key_of_owner(owner, obj.metadata.namespace, define)
        if key is None:
            return None
        found.append((key, owner.uid))
    return found or None


def has_owner_of_unknown_kind(obj: AnyObject, define: Define) -> bool:
    """Whether one of its owners is of a kind that is neither one of our own nor known to have been defined."""
    return any(
        _own_kind(owner) is None and define(_group_of(owner), owner.kind) is None
        for owner in obj.metadata.ownerReferences
    )


def _group_of(owner: core.OwnerReference) -> str:
    return owner.apiVersion.rpartition("/")[0]


def _own_kind(owner: core.OwnerReference) -> Kind | None:
    kind = BY_NAME.get(owner.kind)
    return kind if kind is not None and kind.api_version.rpartition("/")[0] == _group_of(owner) else None


def _key_of_owner(owner: core.OwnerReference, namespace: str, define: Define) -> Key | None:
    kind = _own_kind(owner)
    if kind is not None:
        if kind.namespaced and not namespace:
            return None
        return Key(kind.name, namespace if kind.namespaced else "", owner.name)
    definition = define(_group_of(owner), owner.kind)
    if definition is None or (is_namespaced(definition) and not namespace):
        return None
    return custom_key(definition.metadata.name, namespace if is_namespaced(definition) else "", owner.name)
