"""The ConfigMaps and Secrets that the pods of a node use, each read once for all of them.

A container that starts reads anew: it must not find values that were replaced before it was asked for. Keeping the
files of running containers up to date may use what another pod's look has just brought: a node with a hundred pods of
one ConfigMap asks the master once a period, not a hundred times, and a master that does not answer is waited for once.

    start of a container     get(..., max_age_s=0)        asks
    a look at volumes        get(..., max_age_s=KEEP_S)   takes an answer that is young enough, or asks

What nobody asked for during FORGET_S is forgotten, so values of secrets do not stay in memory longer than the pods that
use them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeAlias

from cluster.actor.clock import Clock
from cluster.api.errors import ApiError
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

FORGET_S = 30.0
TIMEOUT_S = 5.0
"""How long the master may take to answer a read."""

Configured: TypeAlias = core.ConfigMap | core.Secret
_Name: TypeAlias = tuple[str, str, str]


@dataclass(slots=True, eq=False)
class _Entry:
    used_at_s: float
    asked_at_s: float = float("-inf")
    """When the question was asked that this is the answer to."""
    answer: Configured | ApiError | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the master is asked by someone who would share the answer."""


class ConfigurationReader:
    """Reads through the client. It holds what pods of this node used lately."""

    def __init__(self, client: ClusterClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._entries: dict[_Name, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, kind: str, namespace: str, name: str, *, max_age_s: float) -> Configured:
        """The object as it was at most `max_age_s` before this call; shared, so not to be changed.

        Raises NotFound, and any other ApiError when the master does not answer.
        """
        now_s = self._clock.monotonic()
        self._forget(now_s)
        entry = self._entries.setdefault((kind, namespace, name), _Entry(now_s))
        entry.used_at_s = now_s
        if max_age_s <= 0:
            answer = await self._ask(entry, kind, namespace, name)
        else:
            async with entry.asking:
                young = entry.asked_at_s >= now_s - max_age_s
                answer = entry.answer if young and entry.answer else await self._ask(entry, kind, namespace, name)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def _ask(self, entry: _Entry, kind: str, namespace: str, name: str) -> Configured | ApiError:
        asked_at_s = self._clock.monotonic()
        answer: Configured | ApiError
        try:
            if kind == "ConfigMap":
                answer = await self._client.get(core.ConfigMap, name, namespace, timeout_s=TIMEOUT_S)
            else:
                answer = await self._client.get(core.Secret, name, namespace, timeout_s=TIMEOUT_S)
        except ApiError as error:
            answer = error
        if asked_at_s >= entry.asked_at_s:
            entry.asked_at_s, entry.answer = asked_at_s, answer
        return answer

    def _forget(self, now_s: float) -> None:
        for key in [key for key, entry in self._entries.items() if now_s - entry.used_at_s > FORGET_S]:
            del self._entries[key]
