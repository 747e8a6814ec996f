"""Who serves the next connection, one class for each policy; all keep what they know when the endpoints change.

    RoundRobin          whose turn it is; between two turns of an endpoint every other that stayed has exactly one
    LeastConnections    who has the fewest connections; among equals, whose turn it is
    PowerOfTwoChoices   the one of two drawn at random that has fewer: nearly as even, and nobody is flooded at once
    Weighted            in proportion to weights, and spread out: 5 to 1 is a a b a a a, not five in a row (nginx's way)
    ConsistentHash      the same client, the same endpoint; when one leaves, only its own clients move

Kubernetes' first proxy started again at the top of the list whenever the endpoints changed, and so gave the first
endpoint more than its share in every rollout. Here the ring keeps its order and its position: a newcomer joins behind
everyone who is waiting already.

    ring: a b c, next is b;   b leaves, d and e join;   ring: a d e c, next is c;   turns: c a d e c a d e ...

They know nothing of sockets, services or time. Whoever is to be avoided is never picked; who picks decides what to do
when nobody is left.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol


class Target(NamedTuple):
    """Where an endpoint listens; is a socket address as it stands."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class Dice(Protocol):
    """As much of random.Random as is needed."""

    def randrange(self, stop: int, /) -> int:
        """A whole number from 0 to one less than `stop`."""
        ...


class Policy(Protocol):
    """How the next one is chosen."""

    def pick(self, client: str, avoid: Collection[Target] = ()) -> Target | None:
        """The target of this client's next connection; None if nobody is left."""
        ...

    def replace(self, targets: Sequence[Target]) -> None:
        """From now on, these."""
        ...


class RoundRobin:
    """A ring of targets and whose turn it is."""

    __slots__ = ("_next", "_ring")

    def __init__(self, targets: Sequence[Target] = ()) -> None:
        self._ring: list[Target] = list(dict.fromkeys(targets))
        self._next = 0

    def __len__(self) -> int:
        return len(self._ring)

    def __contains__(self, target: Target) -> bool:
        return target in self._ring

    @property
    def targets(self) -> tuple[Target, ...]:
        """Everyone, in the order of the turns to come."""
        return (*self._ring[self._next :], *self._ring[: self._next])

    def pick(self, client: str = "", avoid: Collection[Target] = ()) -> Target | None:
        """Whose turn it is; None if nobody is left. Those to avoid lose their turn."""
        for _ in range(len(self._ring)):
            target = self._ring[self._next]
            self._next += 1
            if self._next == len(self._ring):
                self._next = 0
            if target not in avoid:
                return target
        return None

    def replace(self, targets: Sequence[Target]) -> None:
        """From now on, these. Those who stay keep their order and whose turn it is; the others join behind them."""
        wanted = dict.fromkeys(targets)
        waiting = [target for target in self.targets if target in wanted]
        newcomers = wanted.keys() - set(waiting)
        self._ring = [*waiting, *(target for target in wanted if target in newcomers)]
        self._next = 0


class LeastConnections:
    """Looks at everyone: what it costs grows with the number of endpoints; PowerOfTwoChoices is for thousands."""

    __slots__ = ("_load", "_turns")

    def __init__(self, targets: Sequence[Target], load: Callable[[Target], int]) -> None:
        self._turns = RoundRobin(targets)
        self._load = load

    def pick(self, client: str, avoid: Collection[Target] = ()) -> Target | None:
        """The first in the order of turns of those who have the fewest."""
        load = self._load
        best = min((target for target in self._turns.targets if target not in avoid), key=load, default=None)
        if best is not None:
            while self._turns.pick() != best:
                pass  # those before it have more, and wait for the next round
        return best

    def replace(self, targets: Sequence[Target]) -> None:
        """From now on, these; turns are kept."""
        self._turns.replace(targets)


class PowerOfTwoChoices:
    """The dice are the caller's."""

    __slots__ = ("_load", "_rng", "_targets")

    def __init__(self, targets: Sequence[Target], load: Callable[[Target], int], rng: Dice) -> None:
        self._targets = list(dict.fromkeys(targets))
        self._load = load
        self._rng = rng

    def pick(self, client: str, avoid: Collection[Target] = ()) -> Target | None:
        """The less loaded of two different ones."""
        targets = self._targets
        if avoid:
            targets = [target for target in targets if target not in avoid]
        count = len(targets)
        if count < 2:
            return targets[0] if targets else None
        first = self._rng.randrange(count)
        second = self._rng.randrange(count - 1)
        one, other = targets[first], targets[second + (second >= first)]
        return other if self._load(other) < self._load(one) else one

    def replace(self, targets: Sequence[Target]) -> None:
        """From now on, these."""
        self._targets = list(dict.fromkeys(targets))


class Weighted:
    """Everyone earns its weight at each turn; who has earned most has the turn, and pays what all have earned.

    A weight of 0 means: only if there is nobody else.
    """

    __slots__ = ("_earned", "_rest", "_weights")

    def __init__(self, targets: Sequence[Target], weights: Mapping[Target, int], default: int) -> None:
        self._earned: dict[Target, int] = {}
        self._weights: dict[Target, int] = {}
        self._rest = RoundRobin()
        self.reweigh(targets, weights, default)

    def pick(self, client: str, avoid: Collection[Target] = ()) -> Target | None:
        """Whose turn it is."""
        earned, best, total, most = self._earned, None, 0, 0
        for target, weight in self._weights.items():
            if target in avoid:
                continue
            total += weight
            now = earned[target] = earned[target] + weight
            if best is None or now > most:
                best, most = target, now
        if best is None:
            return self._rest.pick(client, avoid)
        earned[best] -= total
        return best

    def replace(self, targets: Sequence[Target]) -> None:
        """From now on, these, with the weights known of them."""
        self.reweigh(targets, dict(self._weights) | dict.fromkeys(self._rest.targets, 0), 1)

    def reweigh(self, targets: Sequence[Target], weights: Mapping[Target, int], default: int) -> None:
        """From now on, these with these weights. Those who stay keep what they have earned."""
        known = {target: weights.get(target, default) for target in targets}
        self._weights = {target: weight for target, weight in known.items() if weight > 0}
        self._earned = {target: self._earned.get(target, 0) for target in self._weights}
        self._rest.replace([target for target, weight in known.items() if weight <= 0])


class ConsistentHash:
    """A ring of hashes, many for each target; a client belongs to the next one on the ring after its own hash."""

    __slots__ = ("_hashes", "_owners", "_points", "_targets")

    _BLOCKS = 8
    _POINTS_PER_BLOCK = 16
    """128 points make shares even to about a tenth."""

    def __init__(self, targets: Sequence[Target] = ()) -> None:
        self._targets: tuple[Target, ...] = ()
        self._points: dict[Target, tuple[int, ...]] = {}
        self._hashes: list[int] | None = []
        """None: to be made again, when somebody picks."""
        self._owners: list[Target] = []
        self.replace(targets)

    def pick(self, client: str, avoid: Collection[Target] = ()) -> Target | None:
        """The client's own; if that is to be avoided, the next one on the ring, which is another for each client."""
        hashes = self._hashes if self._hashes is not None else self._arrange()
        if not hashes:
            return None
        start = bisect_left(hashes, int.from_bytes(hashlib.blake2b(client.encode(), digest_size=4).digest(), "little"))
        owners, count = self._owners, len(hashes)
        if not avoid:
            return owners[start % count]
        for step in range(count):
            target = owners[(start + step) % count]
            if target not in avoid:
                return target
        return None

    def replace(self, targets: Sequence[Target]) -> None:
        """From now on, these."""
        self._targets = tuple(dict.fromkeys(targets))
        self._hashes = None

    def _arrange(self) -> list[int]:
        self._points = {target: self._points.get(target) or self._points_of(target) for target in self._targets}
        ring = sorted((point, target) for target, points in self._points.items() for point in points)
        self._hashes = [point for point, _ in ring]
        self._owners = [target for _, target in ring]
        return self._hashes

    def _points_of(self, target: Target) -> tuple[int, ...]:
        blocks = b"".join(hashlib.blake2b(f"{target} {block}".encode()).digest() for block in range(self._BLOCKS))
        return struct.unpack(f"<{self._BLOCKS * self._POINTS_PER_BLOCK}I", blocks)
