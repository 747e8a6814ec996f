"""Gets the right to append: stands for leader until it is one.

`election.next_move` decides; here is the asking. Nothing is remembered between two looks but the lease: what is in etcd
says where a candidate is, so an answer that was lost costs one look more. While another leads, the key is watched, and
looked at now and then all the same.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.rpc.etcd import (
    Delete,
    EtcdError,
    Lease,
    LeaseNotFound,
    NoSpace,
    Put,
    created_at,
)
from cluster.store import failpoints
from cluster.store.etcd.election import Move, Tenure, next_move
from cluster.store.etcd.engine import Etcd
from cluster.store.etcd.front import Front, Seen
from cluster.store.etcd.keys import Keys
from cluster.store.etcd.settings import EtcdSettings
from cluster.store.interface import Unreachable

_log = logging.getLogger("podium.store.etcd")

_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_PAST_TOKENS = 16


class Candidate:
    """Stands for leader, as often as it is asked to."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        settings: EtcdSettings,
        clock: Clock,
        rng: random.Random,
        front: Front,
        on_space: Callable[[bool], None],
    ) -> None:
        self._etcd = etcd
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._front = front
        self._on_space = on_space
        self._past: deque[int] = deque(maxlen=_PAST_TOKENS)
        """Tokens of former terms: a key that has one of them is a leftover, nobody leads by it."""
        self._lease: Lease | None = None
        self._granted_s = 0.0

    async def stand(self, address: str) -> tuple[Tenure, Seen]:
        """Returns when this process leads: its tenure, and the log as it was read after that had begun."""
        pauses = Backoff(_PAUSE_S, _LONGEST_PAUSE_S, jitter=0.5, rng=self._rng)
        try:
            while True:
                try:
                    seen = await self._front.read()
                    lease = self._lease.id if self._lease is not None else 0
                    move = next_move(seen.holder, lease, self._past)
                    if move is Move.LEAD:
                        tenure = await self._take_office(seen)
                        if tenure is not None:
                            return tenure, seen
                    elif move is Move.CLAIM:
                        await self._claim(address)
                    elif move is Move.REMOVE:
                        assert seen.holder is not None
                        guard = created_at(self._keys.leader, seen.holder.token)
                        await self._etcd.txn([guard], [Delete(self._keys.leader)], timeout_s=self._timeout_s)
                    else:
                        await self._give_back()
                        pauses.reset()
                        await self._until_free(seen)
                except (EtcdError, Unreachable) as error:
                    if isinstance(error, NoSpace):
                        self._on_space(False)
                    _log.info("standing for leader waits: %s", error)
                    await self._clock.sleep(pauses.next())
        finally:
            # Cancelled with a lease, and maybe with the key: both run out by themselves.
            self._lease = None

    def retire(self, token: int) -> None:
        """That term is over."""
        self._past.append(token)

    @property
    def _timeout_s(self) -> float:
        return self._settings.call_timeout_s

    async def _claim(self, address: str) -> None:
        """Gets a lease, and creates the key with it, if it is not there. The next look says whether that worked."""
        if self._lease is None or self._clock.monotonic() - self._granted_s > self._lease.ttl_s / 3:
            asked_s = self._clock.monotonic()
            failpoints.hit("etcd.before_grant")
            self._lease = await self._etcd.lease_grant(self._settings.lease_ttl_s, timeout_s=self._timeout_s)
            failpoints.hit("etcd.after_grant")
            self._granted_s = asked_s
        failpoints.hit("etcd.before_claim")
        put = Put(self._keys.leader, address.encode(), lease=self._lease.id)
        try:
            await self._etcd.txn([created_at(self._keys.leader, 0)], [put], timeout_s=self._timeout_s)
        except LeaseNotFound:
            self._lease = None
        failpoints.hit("etcd.after_claim")

    async def _take_office(self, seen: Seen) -> Tenure | None:
        """The tenure of a claim that succeeded; None: its lease is gone by now."""
        assert self._lease is not None
        assert seen.holder is not None
        confirmed_s = self._granted_s
        if self._clock.monotonic() - confirmed_s > self._lease.ttl_s / 3:  # it took long to learn of it
            confirmed_s = self._clock.monotonic()
            try:
                await self._etcd.lease_keep_alive(self._lease.id, timeout_s=self._timeout_s)
            except LeaseNotFound:
                self._lease = None
                return None
        return Tenure(seen.holder.token, self._lease.id, float(self._lease.ttl_s), confirmed_s)

    async def _give_back(self) -> None:
        """Another was faster: the lease is not needed."""
        if self._lease is not None:
            lease, self._lease = self._lease, None
            try:
                await self._etcd.lease_revoke(lease.id, timeout_s=self._timeout_s)
            except EtcdError:
                pass  # it runs out

    async def _until_free(self, seen: Seen) -> None:
        """Returns when the key has gone, or after a while."""
        until_s = self._clock.monotonic() + self._settings.poll_s
        async with self._etcd.watch(self._keys.leader, start_revision=seen.revision + 1) as watch:
            while (left_s := until_s - self._clock.monotonic()) > 0:
                batch = await watch.next(left_s)
                if batch is not None and any(event.deleted for event in batch.events):
                    return
