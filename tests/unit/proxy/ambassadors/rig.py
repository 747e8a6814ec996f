"""A port with an ambassador, on real sockets: which policy answers, and what its endpoints are, is the test's word."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cluster.actor.clock import SystemClock
from cluster.pb.v1 import core_pb2 as core
from proxy.ambassadors.ambassador import Ambassadors
from proxy.ambassadors.policy import Policy
from proxy.routing import Address, Named, RouteKey
from proxy.settings import DataPathSettings
from tests.unit.proxy.rig import DEADLINE_S, Endpoint, Rig


class AmbassadorRig(Rig):
    """A data path that serves one port through a policy."""

    def __init__(
        self, settings: DataPathSettings, policies: Mapping[str, type[Policy]], directory: Path | None
    ) -> None:
        super().__init__(settings)
        self.events: list[tuple[str, str]] = []
        """Reason and message."""
        built_in = {name: (lambda found=found: found) for name, found in policies.items()}
        self.ambassadors = Ambassadors(directory, built_in, clock=SystemClock(), rng=random.Random(7), tell=self._told)

    def serve(self, policy: str, **options: str) -> None:
        """From now on, this one answers."""
        named = Named(policy, tuple(sorted(options.items())))
        self.frontend.update(replace(self.frontend.route, ambassador=named))
        self.ambassadors.serve(self.frontend)

    def label(self, *endpoints: tuple[Endpoint, dict[str, str]]) -> None:
        """The endpoints, with their labels."""
        addresses = tuple(
            Address(endpoint.target, core.EndpointAddress(ip=endpoint.target.ip, labels=labels))
            for endpoint, labels in endpoints
        )
        targets = tuple(address.target for address in addresses)
        self.frontend.update(replace(self.frontend.route, targets=targets, addresses=addresses))
        self.ambassadors.serve(self.frontend)

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]

    def close(self) -> None:
        super().close()
        self.ambassadors.close()

    def _told(self, key: RouteKey, kind: str, reason: str, message: str) -> None:
        self.events.append((reason, message))


@asynccontextmanager
async def ambassador_rig(
    policies: Mapping[str, type[Policy]] | None = None,
    *,
    directory: Path | None = None,
    hold_s: float = DEADLINE_S,
    dial_timeouts_s: Sequence[float] = (DEADLINE_S,),
) -> AsyncIterator[AmbassadorRig]:
    settings = DataPathSettings(hold_s=hold_s, dial_timeouts_s=tuple(dial_timeouts_s))
    made = AmbassadorRig(settings, policies or {}, directory)
    try:
        yield made
    finally:
        made.close()
    assert made.stats.active == 0, "every connection said that it is over"


@asynccontextmanager
async def served_by(policy: type[Policy]) -> AsyncIterator[tuple[AmbassadorRig, Endpoint]]:
    """A port that this policy answers for, with one endpoint."""
    async with ambassador_rig({"policy": policy}) as made:
        endpoint = made.endpoint()
        made.serve("policy")
        made.label((endpoint, {}))
        yield made, endpoint
