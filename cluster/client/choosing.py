"""Which endpoint serves the next call of a client that chooses by itself.

    RoundRobin   whoever has waited longest; a newcomer waits like the others, so nobody is flooded when it comes
    PowerOfTwo   of two drawn at random, the one with fewer calls under way: near the best, and no herd runs to one
    ByKey        the same one for a key as long as it is there; when one goes, its keys alone move (rendezvous hashing)

An endpoint is known by its host name, or by its pod, or by its address: a pod that comes again under its name gets its
keys again. Pure: loads and dice are handed in. A choice costs as much as there are candidates, but for PowerOfTwo.

The sources: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001); Thaler and Ravishankar, Using
Name-Based Mappings to Increase Hit Rates (1998).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol

from cluster.client.resolved import Endpoint

Load = Callable[[Endpoint], int]
"""How many calls are under way at an endpoint."""


class Dice(Protocol):
    """What PowerOfTwo needs of a random.Random."""

    def randrange(self, stop: int, /) -> int: ...


class Choice(Protocol):
    """A policy. `candidates` is never empty; `key` is what the call is about, empty if it does not say."""

    def choose(self, candidates: Sequence[Endpoint], load: Load, key: str) -> Endpoint: ...


def identity_of(endpoint: Endpoint) -> str:
    """What an endpoint is known by."""
    return endpoint.hostname or endpoint.pod or endpoint.address


class RoundRobin:
    """See the head of this file."""

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}
        """When each had its last turn, or came; of those that were candidates lately."""
        self._now = 0

    def choose(self, candidates: Sequence[Endpoint], load: Load, key: str) -> Endpoint:
        turns = self._turns
        for endpoint in candidates:
            turns.setdefault(identity_of(endpoint), self._now)
        chosen = min(candidates, key=lambda endpoint: turns[identity_of(endpoint)])
        self._now += 1
        turns[identity_of(chosen)] = self._now
        if len(turns) > 2 * len(candidates) + 64:  # those that went are forgotten, now and then
            kept = {identity_of(endpoint) for endpoint in candidates}
            self._turns = {name: turn for name, turn in turns.items() if name in kept}
        return chosen


class PowerOfTwo:
    """See the head of this file."""

    def __init__(self, rng: Dice) -> None:
        self._rng = rng

    def choose(self, candidates: Sequence[Endpoint], load: Load, key: str) -> Endpoint:
        if len(candidates) == 1:
            return candidates[0]
        first = self._rng.randrange(len(candidates))
        second = self._rng.randrange(len(candidates) - 1)
        one, other = candidates[first], candidates[second + (second >= first)]
        return other if load(other) < load(one) else one


class ByKey:
    """See the head of this file. Calls without a key all go to one endpoint: name what they are about."""

    def choose(self, candidates: Sequence[Endpoint], load: Load, key: str) -> Endpoint:
        word = key.encode()
        return max(candidates, key=lambda endpoint: (_weight(word, identity_of(endpoint)), endpoint.address))


def _weight(key: bytes, name: str) -> bytes:
    return blake2b(key, digest_size=8, key=blake2b(name.encode(), digest_size=16).digest()).digest()
