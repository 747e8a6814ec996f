"""Which address each pod has: handing out the addresses of the node's podCIDR. Pure.

Each pod gets a loopback address of its own, so that every replica may listen on the same port. Addresses are handed out
in turn, so that one that was just freed (and may still be in somebody's connection table) comes back as late as
possible. The first and the last address of the block are left out.
"""

from __future__ import annotations

import ipaddress


class Block:
    """The addresses of a block, and which are taken: a bit of each."""

    __slots__ = ("_count", "_first", "_next", "_taken", "cidr")

    def __init__(self, cidr: str) -> None:
        """Raises ValueError if `cidr` is not a block of IPv4 addresses with room for a pod."""
        self.cidr = cidr
        block = ipaddress.IPv4Network(cidr)
        if block.num_addresses < 4:
            raise ValueError(f"{cidr} has no room for pods")
        self._first, self._count = int(block.network_address) + 1, block.num_addresses - 2
        self._next = self._taken = 0

    def take(self, wish: str = "") -> str:
        """The wish if it is free and ours, else the next free one; empty if all are taken."""
        number = self._number(wish)
        if number is None or self._taken >> number & 1:
            number = next((n for step in range(self._count) if not self._taken >> (n := self._turn(step)) & 1), None)
            if number is None:
                return ""
            self._next = number + 1
        self._taken |= 1 << number
        address = self._first + number
        return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"

    def mark(self, address: str) -> None:
        """Somebody has this address. Nothing happens if it is not ours."""
        number = self._number(address)
        if number is not None:
            self._taken |= 1 << number

    def give_back(self, address: str) -> None:
        """It is free again. Nothing happens if it is not ours."""
        number = self._number(address)
        if number is not None:
            self._taken &= ~(1 << number)

    def _turn(self, step: int) -> int:
        return (self._next + step) % self._count

    def _number(self, address: str) -> int | None:
        if not address:
            return None
        try:
            number = int(ipaddress.IPv4Address(address)) - self._first
        except ValueError:
            return None
        return number if 0 <= number < self._count else None


class PodAddresses:
    """The addresses of a block and who has them."""

    def __init__(self, cidr: str) -> None:
        """Raises ValueError if `cidr` is not a block of IPv4 addresses with room for a pod."""
        self.cidr = cidr
        self._block = Block(cidr)
        self._by_uid: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._by_uid)

    def allocate(self, uid: str, wish: str = "") -> str:
        """The pod's address: the one it has, else the wish if it is free and ours, else the next free one.

        Empty if all are taken.
        """
        if uid in self._by_uid:
            return self._by_uid[uid]
        address = self._block.take(wish)
        if address:
            self._by_uid[uid] = address
        return address

    def release(self, uid: str) -> None:
        """The pod is gone. Nothing happens if it had no address."""
        address = self._by_uid.pop(uid, None)
        if address is not None:
            self._block.give_back(address)
