"""Who serves the next connection: round robin that keeps its place, and clients that stick to their endpoint.

Kubernetes' first proxy started again at the top of the list whenever the endpoints changed, and so gave the first
endpoint more than its share in every rollout. Here the ring keeps its order and its position, and the whole promise is
one sentence: between two turns of an endpoint, every other endpoint that stayed has exactly one turn. A newcomer
joins behind everyone who is waiting already.

    ring: a b c, next is b;   b leaves, d and e join;   ring: a d e c, next is c;   turns: c a d e c a d e ...

It knows nothing of sockets, services or time other than what it is handed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from proxy.session import Affinity


class Target(NamedTuple):
    """Where an endpoint listens; is a socket address as it stands."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


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

    def pick(self, avoid: Collection[Target] = ()) -> Target | None:
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


class Balancer:
    """Chooses a target for each connection of one service port: the client's own, or whose turn it is."""

    __slots__ = ("_affinity", "_ring")

    def __init__(self, targets: Sequence[Target] = (), affinity: Affinity[Target] | None = None) -> None:
        self._ring = RoundRobin(targets)
        self._affinity = affinity

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def affinity(self) -> Affinity[Target] | None:
        """The table of clients that stick, if they do."""
        return self._affinity

    def choose(self, client: str, now: float, avoid: Collection[Target] = ()) -> Target | None:
        """The target for a new connection of a client; None if there is none but those to avoid."""
        if self._affinity is None:
            return self._ring.pick(avoid)
        target = self._affinity.get(client, now)
        if target is None or target in avoid:
            target = self._ring.pick(avoid)
            if target is not None:
                self._affinity.put(client, target, now)
        return target

    def failed(self, client: str) -> None:
        """The client could not be connected to its target: it shall not stick to it."""
        if self._affinity is not None:
            self._affinity.forget(client)

    def replace(self, targets: Sequence[Target], affinity_timeout_s: float | None, affinity_entries: int) -> None:
        """New targets and new terms of affinity (None: nobody sticks). Clients of targets that stay, stay with them."""
        self._ring.replace(targets)
        if affinity_timeout_s is None:
            self._affinity = None
        elif self._affinity is None:
            self._affinity = Affinity(affinity_timeout_s, affinity_entries)
        else:
            self._affinity.timeout_s = affinity_timeout_s
            self._affinity.keep_only(set(targets))
