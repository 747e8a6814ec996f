"""One term of leading: keeps the lease, and says when it is over.

What is decided is in `election`. A term ends when no renewal was confirmed for two thirds of the lease's time, when
etcd says that the lease or the key is gone, when an append's fate is unknown, or when it is resigned; whatever comes
first, once, and for good. Nothing that is written depends on this being noticed in time: each write is guarded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.rpc.etcd import Delete, EtcdError, LeaseNotFound, created_at
from cluster.store import failpoints
from cluster.store.etcd.election import Tenure, lost
from cluster.store.etcd.engine import Etcd
from cluster.store.etcd.front import Front
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.interface import JournalFailed, NotLeading, Unreachable

_log = logging.getLogger("podium.store.etcd")
_RETRY_S = 0.1


class EtcdTerm:
    """See interface.Term."""

    def __init__(
        self, etcd: Etcd, keys: Keys, settings: EtcdSettings, clock: Clock, front: Front, tenure: Tenure
    ) -> None:
        self.tenure = tenure
        self.reason = ""
        """Why it is over; empty: it is not."""
        self._etcd = etcd
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._front = front
        self._over = asyncio.Event()
        self._tasks = Tasks("etcd.term")
        self._resigned = False

    def start(self) -> None:
        """Begins to renew the lease."""
        self._tasks.spawn(self._renew(), name="renew")

    def also(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Work that is done as long as the term lasts."""
        self._tasks.spawn(work, name=name)

    async def ended(self) -> str:
        await self._over.wait()
        return self.reason

    async def resign(self) -> None:
        self.end("resigned")
        if self._resigned:
            return
        self._resigned = True
        await self._tasks.cancel_all()
        timeout_s = min(1.0, self._settings.call_timeout_s)
        try:
            failpoints.hit("etcd.before_resign")
            guard = created_at(self._keys.leader, self.tenure.token)
            await self._etcd.txn([guard], [Delete(self._keys.leader)], timeout_s=timeout_s)
            failpoints.hit("etcd.after_resign")
            await self._etcd.lease_revoke(self.tenure.lease, timeout_s=timeout_s)
        except EtcdError as error:
            _log.info("the lease is left to run out: %s", error)

    def end(self, reason: str) -> None:
        """It is over; the first reason counts."""
        if not self.reason:
            self.reason = reason
            self._over.set()

    def check(self) -> None:
        """Raises NotLeading if it is over, or if time says so before anybody else has noticed."""
        if not self.reason:
            self.end_if(self.tenure.verdict(self._clock.monotonic()))
        if self.reason:
            raise NotLeading(self.reason)

    def end_if(self, reason: str) -> None:
        """Ends it, if there is a reason."""
        if reason:
            self.end(reason)

    async def close(self) -> None:
        """Stops renewing, and what else is done during the term."""
        await self._tasks.cancel_all()

    async def _renew(self) -> None:
        pause_s = self.tenure.renew_every_s
        while not self._over.is_set():
            left_s = self.tenure.until_s - self._clock.monotonic()
            await self._clock.sleep(max(0.0, min(pause_s, left_s)))
            asked_s = self._clock.monotonic()
            self.end_if(self.tenure.verdict(asked_s))
            if self._over.is_set():
                return
            try:
                await self._ask(min(self._settings.call_timeout_s, self.tenure.until_s - asked_s))
            except LeaseNotFound:
                self.end("the lease is gone")
            except (EtcdError, Unreachable, JournalFailed) as error:
                _log.warning("the lease was not renewed: %s", error)
                pause_s = min(_RETRY_S, self.tenure.renew_every_s)
            else:
                self.tenure = replace(self.tenure, confirmed_s=asked_s)
                pause_s = self.tenure.renew_every_s

    async def _ask(self, timeout_s: float) -> None:
        failpoints.hit("etcd.before_renew")
        await self._etcd.lease_keep_alive(self.tenure.lease, timeout_s=timeout_s)
        failpoints.hit("etcd.after_renew")
        # Some releases of etcd confirm the renewal of a lease that was revoked: look whether the key is still there.
        seen = await self._front.read()
        self.end_if(lost(seen.holder, self.tenure.token))
