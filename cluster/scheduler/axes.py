"""What pools of nodes are made of: axes, along which nodes differ for a class of pods, and the pools themselves.

Plain data, shared by who moves nodes between pools (`pools`) and who chooses among them (`choosing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from cluster.scheduler.ties import KEY_BITS, RANK_BITS

MAX_BASE = (1 << 22) - 1
"""The weighted sum of the scores that look at one node alone is not greater."""
MISSING = -1
"""The place of a node that is in no domain; counts have a 0 at this index."""
NOWHERE = -(1 << 62)
"""The same where a place is a count."""

RANK_MASK = (1 << RANK_BITS) - 1
TIE_MASK = (1 << KEY_BITS) - 1


class Role(Enum):
    """What the counts of an axis are for."""

    HARD = auto()
    """Even spreading that must be kept."""
    NEAR = auto()
    """There must be one."""
    APART = auto()
    """There must be none."""
    SOFT = auto()
    """The fewer the better."""
    LIKED = auto()
    """The more the better."""


@dataclass(slots=True, eq=False)
class Axis:
    """Counts of pods per domain. A node's place is the number of its domain; or, where every node is a domain of its
    own, the count itself."""

    role: Role
    by_node: bool
    step: int
    """What one more pod of the class adds."""
    max_skew: int = 0
    """HARD and SOFT."""
    domains_wanted: int = 0
    """HARD: while there are fewer, the least is 0."""
    counts: list[int] = field(default_factory=list)
    """Per domain, and a 0 at the end; empty if places are counts."""
    levels: dict[int, int] = field(default_factory=dict)
    """HARD: how many domains have each count."""
    least: int = 0
    """HARD: the smallest of them."""

    def settle(self) -> None:
        """HARD: the levels have changed."""
        levels = self.levels
        self.least = min(levels) if levels and sum(levels.values()) >= self.domains_wanted else 0

    def raise_level(self, value: int, by: int) -> None:
        """HARD: a domain had this count and has another one now. `settle` it, unless that was not the least."""
        levels = self.levels
        levels[value + by] = levels.get(value + by, 0) + 1
        left = levels[value] - 1
        if left:
            levels[value] = left
        else:
            del levels[value]


class Pool:
    """Nodes that are equal in all that depends on others."""

    __slots__ = (
        "at",
        "bases",
        "heap",
        "ignored",
        "intolerable",
        "is_live",
        "liked",
        "places",
        "size",
        "stale",
        "successor",
        "top",
    )

    def __init__(self, at: int, places: tuple[int, ...], intolerable: int, liked: int, ignored: bool) -> None:
        self.at = at
        """Its number."""
        self.places = places
        self.intolerable = intolerable
        """Taints that the pod would rather not have."""
        self.liked = liked
        """Weight of the preferred node affinity."""
        self.ignored = ignored
        """Soft spreading leaves these nodes out."""
        self.heap: list[int] = []
        """The keys of its nodes: base (the higher, the smaller the key), then the order of ties."""
        self.bases: dict[int, int] = {}
        """How many nodes have each base."""
        self.size = 0
        self.top = 0
        """The highest base."""
        self.is_live = False
        """It has nodes."""
        self.stale = False
        """The heap may have keys of nodes that are elsewhere by now."""
        self.successor: Pool | None = None
        """Where a node of this pool is when it has got a pod."""


@dataclass(slots=True, eq=False)
class Field:
    """All pools of a class, and what it minds: what a choice is made from."""

    axes: Sequence[Axis]
    strict: bool
    """Soft spreading leaves out nodes that lack one of its labels."""
    pools: list[Pool] = field(default_factory=list)
    live: list[Pool] = field(default_factory=list)
    """Those that have nodes."""
    nodes: int = 0
    """How many nodes they have."""
    version: int = 0
    """Grows whenever one becomes live or ceases to be."""
    begins: bool = False
    """No pod of the affinity is there, and the class means itself: its first may go anywhere."""
    minds_taints: bool = False
    minds_nodes: bool = False

    def of_role(self, role: Role) -> list[tuple[int, Axis]]:
        """The axes of a role, with their numbers."""
        return [(i, axis) for i, axis in enumerate(self.axes) if axis.role is role]


Chosen = tuple[Pool, int, int, int]
"""Which pool gives the next node; its score, how many nodes may be taken, and how many of them have this score."""


class Chooser:
    """Makes choices, and hears of what has changed."""

    listens = False
    """It wants to hear."""

    def choose(self) -> Chosen | None:
        """The pool that has the best node; None: no node may be taken."""
        raise NotImplementedError

    def changed(self, pool: Pool) -> None:
        """Its top or size is another one."""

    def risen(self, number: int, place: int, step: int) -> None:
        """A domain of an axis has so many more."""


def first_of_tie(pool: Pool) -> int:
    """The smaller, the sooner the first node of a pool is taken among nodes of the same score."""
    return pool.heap[0] & TIE_MASK
