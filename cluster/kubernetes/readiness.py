"""Whether the API can serve, which it cannot without a master: /readyz."""

from __future__ import annotations

import asyncio
import math

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

KNOWN_S = 1.0
"""How long it is known whether there is a master."""
ASK_S = 2.0
"""How long a master may take to say anything."""


class Readiness:
    """Asks the master, for all who want to know at that time: anybody may ask, as often as it likes."""

    def __init__(self, own: ClusterClient, clock: Clock) -> None:
        self._own = own
        self._clock = clock
        self._problem = ""
        self._until_s = -math.inf
        self._asking = asyncio.Lock()

    async def problem(self) -> str:
        """What keeps it from serving; empty: nothing."""
        async with self._asking:
            if self._clock.monotonic() >= self._until_s:
                try:
                    await self._own.list(core.CustomResourceDefinition, limit=1, timeout_s=ASK_S)
                    self._problem = ""
                except ApiError as error:
                    self._problem = error.message
                self._until_s = self._clock.monotonic() + KNOWN_S
            return self._problem
