"""The fold of the log, in memory: what exists now, and what existed at each revision of a window behind it.

The idea is etcd's mvcc index, without its tree: a dictionary per kind for now (most reads), and beside it, for the few
objects that changed lately, the older versions. Worked example, for one pod, `horizon` being the oldest revision that
can still be read:

    put at 7        live {pod: V7}    older {}
    put at 9        live {pod: V9}    older {pod: [V7]}
    delete at 12    live {}           older {pod: [V7, V9, tombstone 12]}
    forget to 9     live {}           older {pod: [V9, tombstone 12]}       nobody can ask for 7 or 8 any more
    forget to 12    live {}           older {}                              a tombstone says no more than absence

Pure: no disk, no waiting. The store feeds it durable changes only, so whatever is read here is durable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.api.errors import Expired
from cluster.api.meta import Key
from cluster.store.version import Change, Version

_NOTHING: dict[Key, Version] = {}


class State:
    """Versions of all objects, by key, kind, namespace and node."""

    def __init__(self) -> None:
        self.revision = 0
        """Of the newest change."""
        self.horizon = 0
        """The oldest revision that `list_at` can show."""
        self._live: dict[str, dict[Key, Version]] = {}
        self._by_namespace: dict[tuple[str, str], dict[Key, Version]] = {}
        self._by_node: dict[tuple[str, str], dict[Key, Version]] = {}
        self._older: dict[str, dict[Key, list[Version]]] = {}
        self._sorted: dict[tuple[str, str, str], list[Version]] = {}
        """Sorted lists that were asked for and still hold; dropped when one of theirs changes."""

    # --- now

    def get(self, key: Key) -> Version | None:
        """The object of that key, if it exists now."""
        return self._live.get(key.kind, _NOTHING).get(key)

    def list(self, kind: str, namespace: str = "", node: str = "") -> Sequence[Version]:
        """What exists now of a kind, sorted by namespace and name; of one namespace, of one node, or of both.

        Not to be modified; it does not change when the state does.
        """
        lane = (kind, namespace, node)
        found = self._sorted.get(lane)
        if found is None:
            versions = self._select(kind, namespace, node)
            found = sorted(versions, key=_key)
            self._sorted[lane] = found
        return found

    def _select(self, kind: str, namespace: str, node: str) -> Sequence[Version]:
        if node:
            of_node = self._by_node.get((kind, node), _NOTHING).values()
            return [version for version in of_node if not namespace or version.key.namespace == namespace]
        if namespace:
            return list(self._by_namespace.get((kind, namespace), _NOTHING).values())
        return list(self._live.get(kind, _NOTHING).values())

    def count(self, kind: str, namespace: str = "") -> int:
        """How many objects of a kind exist now, in a namespace or in all."""
        if namespace:
            return len(self._by_namespace.get((kind, namespace), _NOTHING))
        return len(self._live.get(kind, _NOTHING))

    def kinds(self) -> Sequence[str]:
        """Kinds of which something exists."""
        return [kind for kind, versions in self._live.items() if versions]

    # --- as of a revision

    def list_at(self, revision: int, kind: str, namespace: str = "", node: str = "") -> Sequence[Version]:
        """Like `list`, as of a revision. Raises Expired below the horizon; a revision to come is the caller's fault."""
        if revision == self.revision:
            return self.list(kind, namespace, node)
        if revision < self.horizon:
            raise Expired(f"revision {revision} is no longer kept; the oldest in memory is {self.horizon}")
        return sorted(self._at(revision, kind, namespace, node), key=_key)

    def get_at(self, revision: int, key: Key) -> Version | None:
        """Like `get`, as of a revision from the horizon on."""
        current = self.get(key)
        if current is not None and current.revision <= revision:
            return current
        for version in reversed(self._older.get(key.kind, {}).get(key, ())):
            if version.revision <= revision:
                return None if version.deleted else version
        return None

    def _at(self, revision: int, kind: str, namespace: str, node: str) -> Iterator[Version]:
        older = self._older.get(kind, {})
        live = self._live.get(kind, _NOTHING)
        for version in live.values():
            if version.revision <= revision and _wanted(version, namespace, node):
                yield version
        for key, versions in older.items():
            current = live.get(key)
            if current is not None and current.revision <= revision:
                continue
            for version in reversed(versions):
                if version.revision <= revision:
                    if not version.deleted and _wanted(version, namespace, node):
                        yield version
                    break

    # --- changing

    def load(self, version: Version) -> None:
        """Takes a version from the log, in order of revisions, without keeping what it replaces: for the start."""
        key = version.key
        old = self.get(key)
        if old is not None:
            self._remove(old)
        if not version.deleted:
            self._insert(version)
        self.revision = self.horizon = version.revision

    def apply(self, change: Change) -> None:
        """Takes the next change. The version before stays readable until it is forgotten."""
        old, new = change.old, change.new
        key = new.key
        self.revision = new.revision
        if old is None and not new.deleted:
            self._insert(new)
            return
        chains = self._older.get(key.kind)
        if chains is None:
            chains = self._older[key.kind] = {}
        chain = chains.get(key)
        if chain is None:
            chain = chains[key] = []
        if old is not None:
            chain.append(old)
            if not new.deleted and old.node == new.node:
                self._replace(new)  # as most changes are
                return
            self._remove(old)
        if new.deleted:
            chain.append(new)
        else:
            self._insert(new)

    def forget(self, change: Change) -> None:
        """Gives up what only revisions before this change could show. Changes are forgotten in their order."""
        key = change.key
        older = self._older.get(key.kind, {})
        chain = older.get(key)
        if chain is not None:
            while chain and chain[0].revision < change.revision:
                chain.pop(0)
            if chain and chain[0] is change.new and chain[0].deleted:
                chain.pop(0)
            if not chain:
                del older[key]
        self.horizon = max(self.horizon, change.revision)

    def _insert(self, version: Version) -> None:
        key = version.key
        self._live.setdefault(key.kind, {})[key] = version
        if key.namespace:
            self._by_namespace.setdefault((key.kind, key.namespace), {})[key] = version
        if version.node:
            self._by_node.setdefault((key.kind, version.node), {})[key] = version
        self._changed(version)

    def _replace(self, version: Version) -> None:
        """In the place of a version with the same key and node."""
        key = version.key
        kind, namespace, _ = key
        self._live[kind][key] = version
        if namespace:
            self._by_namespace[kind, namespace][key] = version
        if version.node:
            self._by_node[kind, version.node][key] = version
        if self._sorted:
            self._changed(version)

    def _remove(self, version: Version) -> None:
        key = version.key
        del self._live[key.kind][key]
        if key.namespace:
            _drop(self._by_namespace, (key.kind, key.namespace), key)
        if version.node:
            _drop(self._by_node, (key.kind, version.node), key)
        self._changed(version)

    def _changed(self, version: Version) -> None:
        if not self._sorted:
            return
        kind, namespace, _ = version.key
        for lane in ((kind, "", ""), (kind, namespace, ""), (kind, "", version.node), (kind, namespace, version.node)):
            self._sorted.pop(lane, None)


def _key(version: Version) -> Key:
    return version.key


def _wanted(version: Version, namespace: str, node: str) -> bool:
    return (not namespace or version.key.namespace == namespace) and (not node or version.node == node)


def _drop(index: dict[tuple[str, str], dict[Key, Version]], value: tuple[str, str], key: Key) -> None:
    keys = index[value]
    del keys[key]
    if not keys:
        del index[value]
