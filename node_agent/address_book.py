"""Which pod of this node has which address, over the blocks that the master gives to the node. Pure.

A node that was registered anew may get another block: pods keep the addresses that they have, and give them back to the
block that they had them from.
"""

from __future__ import annotations

from cluster.api.pod_addresses import PodAddresses


class AddressBook:
    """The addresses of one node's pods."""

    def __init__(self) -> None:
        self._block: PodAddresses | None = None
        self._of: dict[str, PodAddresses] = {}  # by uid: where its address is from

    @property
    def block(self) -> str:
        """From which addresses are handed out now; empty if there is none yet."""
        return self._block.cidr if self._block is not None else ""

    def open(self, cidr: str) -> bool:
        """Addresses are of this block from now on. False if they were already. Raises ValueError if it is none."""
        if not cidr or cidr == self.block:
            return False
        self._block = PodAddresses(cidr)
        return True

    def allocate(self, uid: str, wish: str) -> str:
        """An address for the pod, its wish if that can be; empty if all are taken. There must be a block."""
        assert self._block is not None
        address = self._block.allocate(uid, wish)
        if address:
            self._of[uid] = self._block
        return address

    def note(self, uid: str, address: str) -> None:
        """The pod has this address already. Nothing happens if that is known, or before there is a block."""
        if address and uid not in self._of and self._block is not None:
            self._block.allocate(uid, address)
            self._of[uid] = self._block

    def release(self, uid: str) -> None:
        """The pod is gone. Nothing happens if it had no address."""
        if block := self._of.pop(uid, None):
            block.release(uid)
