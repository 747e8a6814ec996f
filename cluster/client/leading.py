"""A client for who leads: it writes only as long as its holder does lead.

    client = leading(client, term)      # of the term that has just begun; the next term has another one

A process that was suspended goes on where it stood, and may be about to write what it decided long ago. Its lease says
nothing about that, but its clock does, and it is looked at before each write. What was sent before the term ended may
still arrive: see docs/decisions/11-controllers-run-once.md for why that does no harm. All else is passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from cluster.client.interface import DEFAULT_TIMEOUT_S, ClusterClient, WriteOutcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core


class Checks(Protocol):
    """What says whether somebody may act."""

    def check(self) -> None:
        """Raises Conflict if it may not (any longer)."""
        ...


class _Leading:
    """See the head of this file."""

    def __init__(self, client: ClusterClient, term: Checks) -> None:
        self._client = client
        self._term = term

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def write(
        self,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> WriteOutcome:
        """As `ClusterClient.write`. Raises Conflict, and has not written, when it is not the term's time."""
        self._term.check()
        return await self._client.write(operations, atomic=atomic, cause=cause, dry_run=dry_run, timeout_s=timeout_s)


def leading(client: ClusterClient, term: Checks) -> ClusterClient:
    """The same client, but that it refuses to write (Conflict) once `term` is over."""
    return cast(ClusterClient, _Leading(client, term))
