"""What authorization asks of the state: which node a pod is bound to, and whose hollow node a node is.

The second is asked for each status of each pod of a hollow node, and hardly ever changes. It is remembered for the very
version of the Node that was looked at. Pure.
"""

from __future__ import annotations

from typing import Protocol

from cluster.api.hollow import prefix_of
from cluster.api.meta import Key
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Version


class Reader(Protocol):
    """The state, durable or staged."""

    def get(self, key: Key) -> Version | None: ...


class Prefixes:
    """The prefix of each hollow node that was asked for: at most one entry for each name of a node."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Version, str]] = {}

    def of(self, name: str, version: Version | None) -> str | None:
        """The prefix whose process plays the node of that name, of which this is the version; empty: none does. None:
        there is no such node."""
        if version is None:
            self._known.pop(name, None)
            return None
        known = self._known.get(name)
        if known is None or known[0] is not version:
            node = version.parse()
            assert isinstance(node, core.Node)
            known = self._known[name] = (version, prefix_of(node))
        return known[1]


class Facts:
    """Implements `cluster.master.authorization.Known` on a state."""

    __slots__ = ("_prefixes", "_reader")

    def __init__(self, reader: Reader, prefixes: Prefixes) -> None:
        self._reader = reader
        self._prefixes = prefixes

    def bound_to(self, pod: Key) -> str | None:
        """See `Known`."""
        version = self._reader.get(pod)
        return None if version is None else version.node

    def hollow_prefix(self, node: str) -> str | None:
        """See `Known`."""
        return self._prefixes.of(node, self._reader.get(Key("Node", "", node)))
