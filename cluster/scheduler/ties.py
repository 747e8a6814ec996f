"""Which of several nodes with the same score is taken: the rule, and the seed that makes it repeatable.

    1  the node with the fewest pods; under weights that pack, the one with the most
    2  then the node with the lowest draw: a number that is made of the seed and the node's name

So equal nodes fill evenly (or one after the other), no name is favoured over the years, and whoever knows the seed and
the state gets the same node again, in whatever order nodes were heard of and however many pods were decided together.
Kubernetes throws dice instead.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from cluster.scheduler.snapshot import PODS, IntArray, Rows, Snapshot

RANK_BITS = 20
"""Up to a million nodes are told apart."""
CROWD_BITS = 18
"""Nodes with more than 262,143 pods count as having so many."""
KEY_BITS = RANK_BITS + CROWD_BITS
MAX_CROWD = (1 << CROWD_BITS) - 1


def draw(seed: int, node_name: str) -> int:
    """What a node has drawn under a seed: from 0 to 2 ** 63 - 1."""
    digest = blake2b(node_name.encode(), digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") >> 1


class TieBreak:
    """The order of nodes that are equally good. A lower key comes first."""

    def __init__(self, seed: int, *, packs: bool) -> None:
        self.seed = seed
        self.packs = packs
        self._draws: dict[str, int] = {}
        self._ranks: IntArray = np.zeros(0, np.int64)
        self._rows: list[int] = []
        self._ranked: tuple[Snapshot | None, int] = (None, 0)
        """What the ranks are of: a snapshot, and the version of its names."""

    def ranks(self, snapshot: Snapshot) -> IntArray:
        """The place of every row in the order of the draws, from 0. It is computed anew when a node comes or goes."""
        if self._ranked[0] is not snapshot or self._ranked[1] != snapshot.names_version:
            self._ranked = (snapshot, snapshot.names_version)
            if len(self._draws) > 2 * len(snapshot.names):
                self._draws.clear()  # mostly names of nodes long gone
            for name in snapshot.names:
                if name not in self._draws:
                    self._draws[name] = draw(self.seed, name)
            order = np.argsort(np.array([self._draws[name] for name in snapshot.names], np.int64), kind="stable")
            self._ranks = np.empty(len(order), np.int64)
            self._ranks[order] = np.arange(len(order))
            self._rows = order.tolist()
        return self._ranks

    def rows(self, snapshot: Snapshot) -> list[int]:
        """The row of each rank."""
        self.ranks(snapshot)
        return self._rows

    def key(self, snapshot: Snapshot, row: int, pods: int) -> int:
        """The key of a row that has so many pods."""
        pods = min(pods, MAX_CROWD)
        crowd = MAX_CROWD - pods if self.packs else pods
        return (crowd << RANK_BITS) | self.ranks(snapshot).item(row)

    def keys(self, snapshot: Snapshot, rows: Rows) -> IntArray:
        """The same of many rows, all different; below 2 ** KEY_BITS."""
        pods = np.minimum(snapshot.requested[rows][:, PODS], MAX_CROWD)
        crowd = MAX_CROWD - pods if self.packs else pods
        keys: IntArray = (crowd << RANK_BITS) | self.ranks(snapshot)[rows]
        return keys
