"""Which address each pod has: handing out the addresses of the node's podCIDR. Pure.

Each pod gets a loopback address of its own, so that every replica may listen on the same port. Addresses are handed out
in turn, so that one that was just freed (and may still be in somebody's connection table) comes back as late as
possible. The first and the last address of the block are left out.
"""

from __future__ import annotations

import ipaddress


class PodAddresses:
    """The addresses of a block and who has them."""

    def __init__(self, cidr: str) -> None:
        """Raises ValueError if `cidr` is not a block of IPv4 addresses with room for a pod."""
        self.cidr = cidr
        block = ipaddress.IPv4Network(cidr)
        if block.num_addresses < 4:
            raise ValueError(f"{cidr} has no room for pods")
        self._first, self._count = int(block.network_address) + 1, block.num_addresses - 2
        self._next = 0
        self._by_uid: dict[str, str] = {}
        self._taken: set[str] = set()

    def __len__(self) -> int:
        return len(self._by_uid)

    def allocate(self, uid: str, wish: str = "") -> str:
        """The pod's address: the one it has, else the wish if it is free and ours, else the next free one.

        Empty if all are taken.
        """
        if uid in self._by_uid:
            return self._by_uid[uid]
        if self._is_ours(wish) and wish not in self._taken:
            return self._take(uid, wish)
        for step in range(self._count):
            index = (self._next + step) % self._count
            address = str(ipaddress.IPv4Address(self._first + index))
            if address not in self._taken:
                self._next = index + 1
                return self._take(uid, address)
        return ""

    def release(self, uid: str) -> None:
        """The pod is gone. Nothing happens if it had no address."""
        address = self._by_uid.pop(uid, None)
        if address is not None:
            self._taken.discard(address)

    def _take(self, uid: str, address: str) -> str:
        self._by_uid[uid] = address
        self._taken.add(address)
        return address

    def _is_ours(self, address: str) -> bool:
        try:
            return 0 <= int(ipaddress.IPv4Address(address)) - self._first < self._count
        except ValueError:
            return False
