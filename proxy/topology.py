"""Where clients and endpoints are: which node has an address, and in which zone a node is.

A client is known by its source address alone: if that is of a node's pod range, or a node's own, the client is there.
Processes on one machine that bind nothing come from 127.0.0.1 and could be anywhere; they are nowhere, and get any
endpoint. Pure: nodes are told, addresses are asked about.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from typing import NamedTuple

from cluster.pb.v1 import core_pb2 as core

ZONE_LABEL = "topology.kubernetes.io/zone"
ANYBODY = "127.0.0.1"
"""Whoever binds nothing comes from there."""


class _Place(NamedTuple):
    """What is known of a node."""

    zone: str
    pods: tuple[int, int] | None
    """First and last pod address, as numbers."""
    addresses: tuple[str, ...]


class Topology:
    """All nodes, as far as connections need them."""

    __slots__ = ("_addresses", "_nodes", "_ranges", "version")

    def __init__(self) -> None:
        self._nodes: dict[str, _Place] = {}
        self._addresses: dict[str, str] = {}
        """Of nodes themselves."""
        self._ranges: list[tuple[int, int, str]] | None = []
        """First, last, node; None: to be sorted again when somebody asks."""
        self.version = 0
        """Grows with every change that matters."""

    def set_node(self, name: str, node: core.Node | None) -> bool:
        """The node is now this, or gone. True if that changes where anything is."""
        before, after = self._nodes.get(name), None if node is None else _place_of(node)
        if before == after:
            return False
        if before is not None:
            for address in before.addresses:
                self._addresses.pop(address, None)
        if after is None:
            del self._nodes[name]
        else:
            self._nodes[name] = after
            self._addresses.update(dict.fromkeys(after.addresses, name))
        self._ranges = None
        self.version += 1
        return True

    def node_of(self, address: str) -> str:
        """The node of a client with this address; empty if it could be anywhere."""
        if address in self._addresses:
            return self._addresses[address]
        if self._ranges is None:
            self._ranges = sorted((*place.pods, name) for name, place in self._nodes.items() if place.pods)
        number = int(ipaddress.ip_address(address))
        before = bisect_right(self._ranges, number, key=lambda entry: entry[0]) - 1
        if before >= 0:
            _, last, name = self._ranges[before]
            if number <= last:
                return name
        return ""

    def zone_of(self, node: str) -> str:
        """The zone of a node; empty if it is in none."""
        place = self._nodes.get(node)
        return "" if place is None else place.zone


def _place_of(node: core.Node) -> _Place:
    pods = None
    if node.spec.podCIDR:
        network = ipaddress.ip_network(node.spec.podCIDR)
        pods = (int(network.network_address), int(network.broadcast_address))
    return _Place(
        node.metadata.labels.get(ZONE_LABEL, ""),
        pods,
        tuple(
            address.address
            for address in node.status.addresses
            if address.type == "InternalIP" and address.address != ANYBODY
        ),
    )
