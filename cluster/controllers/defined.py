"""Which kinds users have defined: those that there are, and those that went, of which something may be left.

Whoever has just started has seen no definition go. But what names an owner of a kind that nobody defines was made when
there was such a kind, or never an owner at all: so the master is asked what was defined at that time. A kind that was
not, or of which the history no longer knows, stays unknown, and what is owned so stays: as in Kubernetes, for which a
kind may come back that it cannot see.
"""

from __future__ import annotations

from cluster.api.errors import Expired
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.controllers.caches import DEFINES
from cluster.pb.v1 import core_pb2 as core

ENDED_MAX = 200
"""Definitions that are gone and remembered: the ones that went, or were found, last."""
ASKED_MAX = 10_000
"""Times that are remembered to have been asked about."""


class Defined:
    """See above. `define` is asked by whoever looks for owners."""

    def __init__(self, client: ClusterClient, definitions: Informer[core.CustomResourceDefinition]) -> None:
        self._client = client
        self._definitions = definitions
        self._ended: dict[tuple[str, str], core.CustomResourceDefinition] = {}
        """By group and kind."""
        self._asked: set[int] = set()

    def define(self, group: str, kind: str) -> core.CustomResourceDefinition | None:
        """The definition of the kind of that name in that group; if there is none, the last one that is known."""
        found = self._definitions.indexer.by_index(DEFINES, f"{kind}.{group}")
        return found[0] if found else self._ended.get((group, kind))

    def ended(self, definition: core.CustomResourceDefinition) -> None:
        """This one is gone."""
        name = (definition.spec.group, definition.spec.names.kind)
        self._ended.pop(name, None)
        self._ended[name] = definition
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def was_asked(self, second: int) -> bool:
        """Whether `look_back` has been there."""
        return second in self._asked

    async def look_back(self, second: int) -> bool:
        """Learns what was defined at the end of that second since 1970; whether that is more than was known. Raises
        what the client does, and then knows as much as before."""
        try:
            listed = await self._client.list(core.CustomResourceDefinition, time_s=second + 1.0)
            then = listed.items
        except Expired:
            then = []
        if len(self._asked) >= ASKED_MAX:
            self._asked.clear()
        self._asked.add(second)
        unknown = [each for each in then if self.define(each.spec.group, each.spec.names.kind) is None]
        for definition in unknown:
            self.ended(definition)
        return bool(unknown)
