"""What goes wrong with this node on purpose: it stands still, or is cut off from the cluster, for a while.

A fault ends by the time that was set when it began: nothing can be heard meanwhile, or nobody is awake to hear it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from cluster.actor.clock import Clock
from cluster.api.meta import from_time
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.partition import Partition
from node_agent.standstill import stand_still

log = get_logger("node_agent")


class NodeFaults:
    """Carries out the faults of one node."""

    def __init__(
        self,
        name: str,
        client: ClusterClient,
        *,
        partition: Partition | None,
        processes: Callable[[], Sequence[int]],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """`partition` cuts the client off; None: such faults are not carried out. `processes` are those of all pods."""
        self._name, self._partition, self._processes, self._clock = name, partition, processes, clock
        self._known: set[str] = set()  # uids; bounded by the faults that there are
        self._faults = Informer(client, core.Fault, clock=clock, rng=rng)
        self._faults.add_handler(self._on_fault)

    async def start(self) -> None:
        """From now on faults are carried out."""
        await self._faults.start()

    async def stop(self) -> None:
        """What has begun goes on to its end. Twice is fine."""
        await self._faults.stop()

    def _on_fault(self, old: core.Fault | None, new: core.Fault | None) -> None:
        fault = new if new is not None else old
        assert fault is not None
        if fault.spec.target.node != self._name:
            return
        if new is None:
            self._known.discard(fault.metadata.uid)
            return
        left_s = from_time(new.status.endsAt) - self._clock.wall()
        if new.metadata.uid in self._known or left_s <= 0:
            return
        self._known.add(new.metadata.uid)
        if new.spec.pause:
            log.warning("stands still on purpose", fault=new.metadata.name, seconds=round(left_s, 1))
            try:
                stand_still(left_s, self._processes)
            except OSError as error:
                log.error("cannot stand still", error=str(error))
            left_s = from_time(new.status.endsAt) - self._clock.wall()
        if new.spec.partition and self._partition is not None and left_s > 0:
            log.warning("is cut off on purpose", fault=new.metadata.name, seconds=round(left_s, 1))
            self._partition.begin(left_s)
