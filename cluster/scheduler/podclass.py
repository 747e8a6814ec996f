"""Whose pod it is and what it needs: the class of a pod. Pods of one class are placed alike.

    class = (shape, namespace, labels, owner)

Two pods of one class can't be told apart by any filter or score, neither when they are placed nor when they are there
already and others are placed near them. So what is computed for one of them holds for all, and counting how many of a
class are on each node is all that has to be known of them. Classes are interned: equal pods get the identical object,
which makes it a cheap key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.api.owners import controller_of
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.shape import Shape, shape_of

Terms = frozenset[tuple[str, str]]
"""Labels, each as (key, value)."""


@dataclass(frozen=True, slots=True, eq=False)
class PodClass:
    """What pods have in common that are placed alike. Compared by identity; see `PodClasses`."""

    shape: Shape
    namespace: str
    labels: Terms
    owner_uid: str
    """Of their controller; empty if they have none."""
    label_map: Mapping[str, str]
    """The labels once more, to be asked by key."""


def terms_of(labels: Iterable[tuple[str, str]]) -> Terms:
    """Labels as a set; of a map field, pass `.items()`."""
    return frozenset(labels)


def class_of(pod: core.Pod, *, placed: bool = False) -> PodClass:
    """A fresh class. With `placed`, spec.nodeName is where the pod is and no longer a wish, and is left out."""
    meta, owner = pod.metadata, controller_of(pod)
    return PodClass(
        shape_of(pod, placed=placed),
        meta.namespace,
        terms_of(meta.labels.items()),
        owner.uid if owner is not None else "",
        dict(meta.labels),
    )


class PodClasses:
    """Interns classes: the same object for equal pods, whether they wait or have a node.

    Shapes are found by the encoded spec, because computing the facts costs more than comparing bytes: pods of one
    template have the same. Bounded: when a table is full it is emptied and fills again; classes in use then merely lose
    their identity with later equals, which costs time and changes no result.
    """

    def __init__(self, limit: int = 16384) -> None:
        self._limit = limit
        self._by_spec: dict[tuple[str, bytes], Shape] = {}
        self._by_facts: dict[tuple[object, ...], Shape] = {}
        self._classes: dict[tuple[Shape, str, Terms, str], PodClass] = {}

    def of(self, pod: core.Pod, *, placed: bool = False) -> PodClass:
        """The class of a pod."""
        meta = pod.metadata
        labels = frozenset(meta.labels.items())
        owner = controller_of(pod) if meta.ownerReferences else None
        key = (self._shape(pod, meta.namespace, placed), meta.namespace, labels, "" if owner is None else owner.uid)
        known = self._classes.get(key)
        if known is None:
            if len(self._classes) >= self._limit:
                self._classes.clear()
            known = self._classes[key] = PodClass(*key, dict(labels))
        return known

    def _shape(self, pod: core.Pod, namespace: str, placed: bool) -> Shape:
        spec = pod.spec
        if placed and spec.nodeName:
            spec = core.PodSpec()
            spec.CopyFrom(pod.spec)
            spec.ClearField("nodeName")
        encoded = (namespace, spec.SerializeToString(deterministic=True))
        shape = self._by_spec.get(encoded)
        if shape is None:
            if len(self._by_facts) >= self._limit:
                self._by_facts.clear()
            if len(self._by_spec) >= self._limit:
                self._by_spec.clear()
            fresh = shape_of(pod, placed=placed)
            shape = self._by_spec[encoded] = self._by_facts.setdefault(fresh.facts, fresh)
        return shape
