"""A local copy of some of the cluster's objects, found by key and by whatever else is asked for often.

An index is a function from an object to the words it is found under, such as the node of a pod:
`Indexer(indexes={"node": lambda pod: [pod.spec.nodeName]})`, then `by_index("node", "node-1")`. Objects in here are
shared with everyone who asks: they are read, never changed.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, key_of

T = TypeVar("T", bound=AnyObject)
IndexFunction = Callable[[T], Iterable[str]]


class Indexer(Generic[T]):
    """Objects by key, and by named indexes. Not thread-safe: it lives on one event loop."""

    def __init__(self, indexes: Mapping[str, IndexFunction[T]] | None = None) -> None:
        self._functions: dict[str, IndexFunction[T]] = dict(indexes or {})
        self._objects: dict[Key, T] = {}
        self._indexes: dict[str, dict[str, dict[Key, T]]] = {name: {} for name in self._functions}

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: object) -> bool:
        return key in self._objects

    def get(self, key: Key) -> T | None:
        """The object of that key, or None."""
        return self._objects.get(key)

    def keys(self) -> builtins.list[Key]:
        """All keys, in no promised order."""
        return list(self._objects)

    def list(self) -> list[T]:
        """All objects, in no promised order; the list is the caller's own."""
        return list(self._objects.values())

    def by_index(self, name: str, value: str) -> builtins.list[T]:
        """The objects that the index of that name files under `value`. Raises KeyError for an unknown index."""
        found = self._indexes[name].get(value)
        return list(found.values()) if found else []

    def index_values(self, name: str) -> builtins.list[str]:
        """All words under which the index of that name files anything."""
        return list(self._indexes[name])

    def put(self, obj: T, key: Key | None = None) -> T | None:
        """Keeps an object, in place of the one with the same key, which is returned. `key`: if it is known already."""
        if key is None:
            key = key_of(obj)
        old = self._objects.get(key)
        if old is not None and self._indexes:
            self._unfile(key, old)
        self._objects[key] = obj
        for name, function in self._functions.items():
            index = self._indexes[name]
            for value in function(obj):
                index.setdefault(value, {})[key] = obj
        return old

    def remove(self, key: Key) -> T | None:
        """Forgets an object and returns it; None if there was none."""
        old = self._objects.pop(key, None)
        if old is not None:
            self._unfile(key, old)
        return old

    def _unfile(self, key: Key, obj: T) -> None:
        for name, function in self._functions.items():
            index = self._indexes[name]
            for value in function(obj):
                filed = index.get(value)
                if filed is not None:
                    filed.pop(key, None)
                    if not filed:
                        del index[value]
