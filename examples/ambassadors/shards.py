"""A policy of one's own: each tenant has its shard, and says its name in the first line.

    podium up -d --policies examples/ambassadors
    podium apply -f examples/ambassadors/shards.yaml

The proxy reads this file when a service names `shards:ByTenant`, and again whenever it changes; connections that run
keep the class they began with. docs/ambassadors.md describes the interface.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from random import Random

from proxy.ambassadors.policy import Choose, ConnectionInfo, Decision, Endpoint, NeedMore, Policy, Refuse, Wait


class ByTenant(Policy):
    """Options: shards (how many there are). Endpoints say with the label `shard` which one they serve, from 0 on."""

    def __init__(self, options: Mapping[str, str], rng: Random) -> None:
        super().__init__(options, rng)
        self.shards = int(options.get("shards", "2"))
        if self.shards < 1:
            raise ValueError("shards: there must be at least one")

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        line, end, _ = first.partition(b"\n")
        if not end:
            return NeedMore() if len(first) < 200 else Refuse(b"the name of the tenant comes first\n")
        tenant = line.strip()
        if not tenant:
            return Refuse(b"the name of the tenant comes first\n")
        shard = str(zlib.crc32(tenant) % self.shards)
        found = [each for each in endpoints if each.labels.get("shard") == shard]
        return Choose(found) if found else Wait()
