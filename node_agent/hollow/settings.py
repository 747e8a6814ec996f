"""What a process that plays hollow nodes is told: the flags of `python -m node_agent.hollow`, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.api import hollow
from cluster.config.profiles import Profile
from cluster.pb.v1 import core_pb2 as core

ZONE_LABEL, RACK_LABEL = "topology.kubernetes.io/zone", "podium.dev/rack"


@dataclass(frozen=True, slots=True)
class HollowSettings:
    """Settings of one process."""

    master: str
    """host:port of the master; of several with commas between."""
    listen: str
    """host:port at which it says that hollow pods have no logs; the host is also the address of all its nodes."""
    credentials: Path
    """Directory with ca.crt, tls.crt, tls.key, of the identity hollow:PREFIX."""
    profile: Profile
    prefix: str = "hollow"
    first: int = 1
    """Number of the first node that this process plays ..."""
    count: int = 1
    """... and how many it plays."""
    cpu: str = "8"
    """Capacity of each node, as a quantity; also memory and storage."""
    memory: str = "32Gi"
    storage: str = "100Gi"
    pods: int = 110
    resources: Mapping[str, str] = field(default_factory=dict)
    """Further resources of each node, and how many of each there are."""
    zones: int = 0
    """So many zones, over which the nodes are spread in turn; 0: none is said."""
    racks: int = 0
    """So many racks in all, each in one zone; 0: none is said."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[core.Taint, ...] = ()
    """What each node is registered with."""
    start_delay_s: tuple[float, float] = (0.0, 0.0)
    """How long a container takes to start: at least, at most."""
    seed: int = 0
    """Of the dice: start delays are the same each time, if pods come in the same order."""
    events: bool = False
    """Tell everything that real agents tell in events, not only what went wrong."""
    keep: bool = False
    """Leave the nodes behind when it stops."""
    status_tick_s: float = 0.02
    """Shortest time between two writes of statuses: what changes in between goes in one write."""
    metrics_socket: Path | None = None
    """Unix socket that serves metrics and health."""

    @property
    def host(self) -> str:
        """The address of all its nodes."""
        return self.listen.rpartition(":")[0]

    @property
    def numbers(self) -> range:
        """Of its nodes."""
        return range(self.first, self.first + self.count)

    def labels_of(self, number: int) -> dict[str, str]:
        """What a node is registered with, beside what every node says of itself: it depends on its number alone, so
        that it does not matter how many processes play a prefix. A rack lies in one zone."""
        place: dict[str, str] = {}
        rack = (number - 1) % self.racks if self.racks else number - 1
        if self.racks:
            place[RACK_LABEL] = f"rack-{rack + 1}"
        if self.zones:
            place[ZONE_LABEL] = f"zone-{rack % self.zones + 1}"
        return {**place, **self.labels, **hollow.labels_of(self.prefix)}
