"""Numbers that the master gives out once each: addresses and node ports of services, blocks of pod addresses.

What is taken is rebuilt from the objects whenever a master begins to lead, so there is nothing that could disagree with
them. The next number is the one after that given out last, so that a number just freed is not at once somebody else's.
Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.api.services import NODE_PORTS


@dataclass(slots=True)
class Pool:
    """The numbers first, first + 1, ..., first + size - 1."""

    first: int
    size: int
    _taken: set[int] = field(default_factory=set)
    _next: int = 0

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.first + self.size

    @property
    def free(self) -> int:
        """How many are left."""
        return self.size - len(self._taken)

    def is_taken(self, number: int) -> bool:
        return number in self._taken

    def take(self, number: int) -> None:
        """Takes this one. It may not be taken already, nor be outside of the pool."""
        assert number in self, f"{number} is not of this pool"
        assert number not in self._taken, f"{number} is taken already"
        self._taken.add(number)

    def start_at(self, number: int) -> None:
        """The next one that is given out, if it is free."""
        assert number in self, f"{number} is not of this pool"
        self._next = number - self.first

    def take_next(self) -> int | None:
        """Takes one that is free; None if there is none."""
        if not self.free:
            return None
        while self.first + self._next in self._taken:
            self._next = (self._next + 1) % self.size
        number = self.first + self._next
        self._taken.add(number)
        self._next = (self._next + 1) % self.size
        return number

    def clear(self) -> None:
        """Nothing is taken."""
        self._taken.clear()

    def give_back(self, number: int) -> None:
        """It can be taken again. Numbers that are not taken are ignored."""
        self._taken.discard(number)


class ServiceAddresses:
    """Addresses of services: those of a network, but for its first 256, where master and node agents are."""

    SKIPPED = 256

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        if network.num_addresses <= self.SKIPPED:
            raise ValueError(f"{network} has no more than {self.SKIPPED} addresses; give a bigger network for services")
        self.network = network
        self.pool = Pool(int(network.network_address) + self.SKIPPED, network.num_addresses - self.SKIPPED)

    def number(self, address: str) -> int | None:
        """The pool's number of an address; None if it is not of this pool."""
        try:
            number = int(ipaddress.IPv4Address(address))
        except ValueError:
            return None
        return number if number in self.pool else None

    @staticmethod
    def text(number: int) -> str:
        """The address of a number."""
        return str(ipaddress.IPv4Address(number))

    def rebuild(self, addresses: Iterable[str]) -> None:
        """Takes what services have."""
        _rebuild(self.pool, map(self.number, addresses))


class NodePorts:
    """Ports of the machine for services of type NodePort; all clusters on it share them.

    As in Kubernetes the first 86 are given to nobody who did not ask for one, as long as there are others. Where a
    cluster begins to give out the others depends on its block of addresses, ten ports further for each, so that
    clusters side by side are not in each other's way, as long as each has but a few.
    """

    CHOSEN = 86
    _APART = 10

    def __init__(self, block: int) -> None:
        """`block`: the cluster's number, 7 if its addresses begin with 127.7."""
        self.pool = Pool(NODE_PORTS.start, len(NODE_PORTS))
        others = len(NODE_PORTS) - self.CHOSEN
        self.pool.start_at(NODE_PORTS.start + self.CHOSEN + block * self._APART % others)

    def rebuild(self, ports: Iterable[int]) -> None:
        """Takes what services have."""
        _rebuild(self.pool, (port if port in self.pool else None for port in ports))


class PodBlocks:
    """A block of 128 addresses for the pods of each node."""

    PREFIX = 25

    def __init__(self, base: ipaddress.IPv4Address, within: int = 16) -> None:
        """From a base address to the end of the network of that length (a /16) in which it is."""
        size = 1 << 32 - self.PREFIX
        if int(base) % size:
            raise ValueError(f"{base} is not the beginning of a block of {size} addresses")
        end = (int(base) | (1 << 32 - within) - 1) + 1
        self.base = base
        self._size = size
        self.pool = Pool(int(base) // size, (end - int(base)) // size)

    def number(self, block: str) -> int | None:
        """The pool's number of a block; None if it is not of this pool."""
        try:
            network = ipaddress.IPv4Network(block)
        except ValueError:
            return None
        number = int(network.network_address) // self._size
        return number if network.prefixlen == self.PREFIX and number in self.pool else None

    def text(self, number: int) -> str:
        """The block of a number, such as 127.7.16.128/25."""
        return f"{ipaddress.IPv4Address(number * self._size)}/{self.PREFIX}"

    def rebuild(self, blocks: Iterable[str]) -> None:
        """Takes what nodes have."""
        _rebuild(self.pool, map(self.number, blocks))


def _rebuild(pool: Pool, numbers: Iterable[int | None]) -> None:
    pool.clear()
    for number in numbers:
        if number is not None and not pool.is_taken(number):
            pool.take(number)
