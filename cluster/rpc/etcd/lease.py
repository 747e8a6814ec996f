"""Holds a lease: renews it, and knows until when it may be believed.

A lease counts as held for two thirds of its time after the moment at which the last renewal that was confirmed was
*sent*: by then etcd cannot have let it expire, unless it is broken (some versions are; the right to write is therefore
proved with each write, and never by a lease). It is renewed every third of its time. Whoever holds it was suspended for
longer, or hears nothing for longer, has lost it, also if a renewal should succeed afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.rpc.etcd.errors import EtcdError, LeaseNotFound, Unreachable
from cluster.rpc.etcd.model import Lease

if TYPE_CHECKING:
    from cluster.rpc.etcd.client import EtcdClient

TRUSTED = 2 / 3
RENEWED_EVERY = 1 / 3
_TRY = 1 / 4
"""Of the lease's time: how long one endpoint may take, so that there is time for another."""
_RETRY_S = 0.1


class LeaseKeeper:
    """A lease that is renewed until it is lost or closed; see EtcdClient.hold_lease."""

    def __init__(self, client: EtcdClient, lease: Lease, asked_s: float, clock: Clock) -> None:
        """`asked_s`: monotonic time at which the lease was asked for."""
        self.lease = lease
        self._client, self._clock = client, clock
        self._trusted_until_s = asked_s + lease.ttl_s * TRUSTED
        self._reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_close: Callable[[LeaseKeeper], None] | None = None
        self._tasks = Tasks(f"lease {lease.id:x}")
        self._tasks.spawn(self._renew(), name="renewals")

    @property
    def trusted_until_s(self) -> float:
        """Monotonic time until which it is certainly held, unless it is renewed before."""
        return self._trusted_until_s

    def is_held(self) -> bool:
        """At this moment."""
        return not self._reason.done() and self._clock.monotonic() < self._trusted_until_s

    async def lost(self) -> str:
        """Returns when it is no longer held, with the reason."""
        return await asyncio.shield(self._reason)

    def on_close(self, callback: Callable[[LeaseKeeper], None]) -> None:
        """Called once, by `close`."""
        self._on_close = callback

    async def close(self, *, revoke: bool = False) -> None:
        """Renews it no more; with `revoke` its keys go at once, if etcd can be reached. Twice is fine."""
        await self._tasks.cancel_all()
        self._lose("it was given back")
        callback, self._on_close = self._on_close, None
        if callback is not None:
            callback(self)
            if revoke:
                try:
                    await self._client.lease_revoke(self.lease.id)
                except EtcdError:
                    pass  # it expires

    async def _renew(self) -> None:
        ttl_s = self.lease.ttl_s
        pause_s = ttl_s * RENEWED_EVERY
        while True:
            await self._clock.sleep(min(pause_s, max(0.0, self._trusted_until_s - self._clock.monotonic())))
            sent_s = self._clock.monotonic()
            left_s = self._trusted_until_s - sent_s
            if left_s <= 0:
                self._lose(f"no renewal was confirmed for {ttl_s * TRUSTED:.1f} s")
                return
            try:
                granted_s = await self._client.lease_keep_alive(
                    self.lease.id, timeout_s=min(left_s, ttl_s * _TRY), try_s=ttl_s * _TRY
                )
            except LeaseNotFound as error:
                self._lose(str(error))
                return
            except Unreachable:
                pause_s = _RETRY_S
                continue
            except EtcdError as error:
                self._lose(str(error))
                return
            if self._clock.monotonic() >= self._trusted_until_s:
                self._lose(f"the answer to a renewal took until after {ttl_s * TRUSTED:.1f} s")
                return
            self._trusted_until_s = sent_s + min(granted_s, ttl_s) * TRUSTED
            pause_s = ttl_s * RENEWED_EVERY

    def _lose(self, reason: str) -> None:
        if not self._reason.done():
            self._reason.set_result(reason)
