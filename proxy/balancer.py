"""Who serves the next connection of one service port: the policy, and everything that comes before it.

    1  the client's own endpoint, if it sticks to one that is fit
    2  fit endpoints on the client's node, then in its zone, if the service prefers near ones and the client is known
    3  fit endpoints
    4  ready endpoints that are ejected or fail the health check: better than nobody
    5  endpoints whose pods are being deleted, but still serve

In each row the policy chooses, and whoever refused this very connection is left out. Fit is who is ready, not ejected
for failures (outlier.py), and not found unhealthy.

It knows nothing of sockets, services or time other than what it is handed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from proxy.outlier import OutlierDetector, OutlierTerms
from proxy.policies import (
    ConsistentHash,
    Dice,
    LeastConnections,
    Policy,
    PowerOfTwoChoices,
    RoundRobin,
    Target,
    Weighted,
)
from proxy.session import Affinity
from proxy.topology import Topology

__all__ = ["Balancer", "RoundRobin", "Target", "Terms"]

_DEFAULT_WEIGHT = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """How a service wants its connections spread."""

    policy: str = "RoundRobin"
    weights: Mapping[Target, int] = field(default_factory=dict)
    """Of those that have another one than 1."""
    prefer: str = ""
    """A trafficDistribution; empty: near and far are the same."""
    nodes: Mapping[Target, str] = field(default_factory=dict)
    """Where endpoints are, if near ones are preferred."""
    outliers: OutlierTerms = field(default_factory=OutlierTerms)


class _NoDice:
    """For whoever hands in none: always the first."""

    def randrange(self, stop: int, /) -> int:
        return 0


class Balancer:
    """Chooses a target for each connection of one service port."""

    __slots__ = (
        "_affinity",
        "_load",
        "_near",
        "_ready",
        "_rng",
        "_targets",
        "_terminating",
        "_topology",
        "outliers",
        "terms",
        "unhealthy",
    )

    def __init__(
        self,
        targets: Sequence[Target] = (),
        affinity: Affinity[Target] | None = None,
        *,
        terms: Terms | None = None,
        load: Callable[[Target], int] = lambda target: 0,
        rng: Dice | None = None,
        topology: Topology | None = None,
    ) -> None:
        """`load` tells how many connections a target has now."""
        self.terms = terms or Terms()
        self._load = load
        self._rng: Dice = rng or _NoDice()
        self._topology = topology
        self._affinity = affinity
        self._targets = tuple(targets)
        self._ready: Policy = self._new_policy(targets)
        self._near: _Near | None = None
        self._terminating = RoundRobin()
        self.outliers = OutlierDetector()
        self.unhealthy: frozenset[Target] = frozenset()
        """Those that fail the health check; whoever checks sets it."""
        self._settle()

    def __len__(self) -> int:
        """Everyone who may be chosen, those that are going included."""
        return len(self._targets) + len(self._terminating)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Ready endpoints."""
        return self._targets

    @property
    def affinity(self) -> Affinity[Target] | None:
        """The table of clients that stick, if they do."""
        return self._affinity

    def choose(self, client: str, now: float, avoid: Collection[Target] = ()) -> Target | None:
        """The target for a new connection of a client; None if there is none but those to avoid."""
        unfit = self.outliers.out(now)
        if self.unhealthy:
            unfit |= self.unhealthy
        if self._affinity is None:
            return self._pick(client, avoid, unfit)
        target = self._affinity.get(client, now)
        if target is None or target in avoid or target in unfit:
            target = self._pick(client, avoid, unfit)
            # One that is going serves once, while no other answers; nobody sticks to it if there is a ready one.
            if target is not None and (not self._targets or target in self._targets):
                self._affinity.put(client, target, now)
        return target

    def _pick(self, client: str, avoid: Collection[Target], unfit: Collection[Target]) -> Target | None:
        out = {*avoid, *unfit} if unfit else avoid
        if self._near is not None:
            for policy in self._near.of(client):
                target = policy.pick(client, out)
                if target is not None:
                    return target
        target = self._ready.pick(client, out)
        if target is None and unfit:
            target = self._ready.pick(client, avoid)
        return target if target is not None else self._terminating.pick(client, avoid)

    def connected(self, target: Target) -> None:
        """It answered."""
        self.outliers.connected(target)

    def failed(self, client: str, target: Target | None = None, now: float = 0.0) -> bool:
        """The client could not be connected to its target: it shall not stick to it. True: that ejects the target."""
        if self._affinity is not None:
            self._affinity.forget(client)
        return target is not None and self.outliers.failed(target, now)

    def replace(
        self,
        targets: Sequence[Target],
        affinity_timeout_s: float | None,
        affinity_entries: int,
        *,
        terms: Terms | None = None,
        terminating: Sequence[Target] = (),
    ) -> None:
        """New targets and new terms (affinity None: nobody sticks). Clients of targets that stay, stay with them."""
        before, self.terms = self.terms, terms or self.terms
        self._targets = tuple(targets)
        if before.policy != self.terms.policy:
            self._ready = self._new_policy(targets)
        elif isinstance(self._ready, Weighted):
            self._ready.reweigh(targets, self.terms.weights, _DEFAULT_WEIGHT)
        else:
            self._ready.replace(targets)
        self._terminating.replace(terminating)
        self._settle()
        if affinity_timeout_s is None:
            self._affinity = None
        elif self._affinity is None:
            self._affinity = Affinity(affinity_timeout_s, affinity_entries)
        else:
            self._affinity.timeout_s = affinity_timeout_s
            self._affinity.keep_only({*targets, *(() if targets else terminating)})

    def _settle(self) -> None:
        self.outliers.replace(self._targets, self.terms.outliers)
        self.unhealthy &= frozenset(self._targets)
        if self.terms.prefer and self._topology is not None:
            if self._near is None:
                self._near = _Near(self._topology, self._new_policy)
            self._near.replace(self._targets, self.terms)
        else:
            self._near = None

    def _new_policy(self, targets: Sequence[Target]) -> Policy:
        match self.terms.policy:
            case "LeastConnections":
                return LeastConnections(targets, self._load)
            case "PowerOfTwoChoices":
                return PowerOfTwoChoices(targets, self._load, self._rng)
            case "Weighted":
                return Weighted(targets, self.terms.weights, _DEFAULT_WEIGHT)
            case "ConsistentHash":
                return ConsistentHash(targets)
            case _:
                return RoundRobin(targets)


class _Near:
    """A policy of its own for each node and zone that somebody came from, made when the first one does."""

    __slots__ = ("_make", "_policies", "_targets", "_terms", "_topology", "_version")

    def __init__(self, topology: Topology, make: Callable[[Sequence[Target]], Policy]) -> None:
        self._topology = topology
        self._make = make
        self._targets: tuple[Target, ...] = ()
        self._terms = Terms()
        self._policies: dict[tuple[str, str], Policy] = {}
        self._version = topology.version

    def replace(self, targets: tuple[Target, ...], terms: Terms) -> None:
        """Other endpoints, perhaps elsewhere."""
        if terms.policy != self._terms.policy or terms.weights != self._terms.weights:
            self._policies.clear()
        self._targets, self._terms = targets, terms
        for (level, place), policy in self._policies.items():
            policy.replace(self._at(level, place))

    def of(self, client: str) -> Iterator[Policy]:
        """Over the endpoints of the client's node, if that is asked for, then over those of its zone."""
        node = self._topology.node_of(client)
        if not node:
            return
        if self._version != self._topology.version:
            self._version = self._topology.version
            self._policies.clear()
        if self._terms.prefer == "PreferSameNode":
            yield self._policy("node", node)
        zone = self._topology.zone_of(node)
        if zone:
            yield self._policy("zone", zone)

    def _policy(self, level: str, place: str) -> Policy:
        policy = self._policies.get((level, place))
        if policy is None:
            policy = self._policies[level, place] = self._make(self._at(level, place))
        return policy

    def _at(self, level: str, place: str) -> list[Target]:
        nodes, zone_of = self._terms.nodes, self._topology.zone_of
        if level == "node":
            return [target for target in self._targets if nodes.get(target) == place]
        return [target for target in self._targets if zone_of(nodes.get(target, "")) == place]
