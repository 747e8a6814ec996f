"""The versioned state of the in-memory cluster: what the master promises about writes, without a disk.

It is the second implementation of the rules, on purpose a short one, and `tests/contract` holds it to the same suite as
the real master. Left out is what only the master's own tests need: addresses from pools, taints and tolerations added
by admission, authorisation. Worked example:

    write(create a)                  revision 1: a@1
    write(update a, same content)    no revision: unchanged
    write(update a, version "0")     no revision: Conflict
    atomic(create b, update a)       revision 2: b@2 and a@2, or nothing at all
    write(delete a)                  revision 3: the history has DELETED a with its last content, version "3"
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from cluster.actor.clock import Clock, new_uid
from cluster.api.errors import (
    Aborted,
    ApiError,
    Expired,
    NotFound,
    StoreRewound,
)
from cluster.api.kinds import AnyObject, Kind, kind_of
from cluster.api.meta import Key, called, key_of, to_time
from cluster.client.interface import OperationOutcome, WriteOutcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.kit.memory_rules import own_copy
from tests.kit.memory_transaction import Change, Transaction

T = TypeVar("T", bound=AnyObject)


class MemoryStore:
    """Objects, their history, and the rules of writing. Objects that were handed out are never modified."""

    def __init__(self, clock: Clock, rng: random.Random, store_id: str) -> None:
        self.store_id = store_id
        self.revision = 0
        self.objects: dict[Key, AnyObject] = {}
        self.history: list[Change] = []
        self.compacted = 0
        """Changes up to this revision are no longer kept."""
        self._clock = clock
        self._rng = rng
        self._next_address = 0

    def get(self, kind: Kind, namespace: str, name: str, revision: int | None = None) -> AnyObject:
        key = Key(kind.name, namespace if kind.namespaced else "", name)
        objects = self.objects
        if revision is not None:
            self.check_kept(revision)
            objects = self.at(revision)
        obj = objects.get(key)
        if obj is None:
            raise NotFound(f"{called(key)} not found")
        return obj

    def check_kept(self, revision: int) -> None:
        """Raises StoreRewound for a revision to come, Expired for one that is too old."""
        if revision > self.revision:
            ahead = StoreRewound(f"revision {revision} has not happened: this store is at {self.revision}")
            ahead.revision = self.revision
            raise ahead
        if revision < self.compacted:
            error = Expired(f"revision {revision} is no longer kept; the oldest is {self.compacted}")
            error.oldest_revision = self.compacted
            raise error

    def revision_at(self, time_s: float) -> int:
        """The newest revision that was made at or before a wall time. Raises Expired if that is before what is kept."""
        for change in reversed(self.history):
            if change.time_s <= time_s:
                return change.revision
        if self.compacted:
            raise Expired(f"nothing that old is kept; the oldest revision is {self.compacted}")
        return 0

    def at(self, revision: int) -> dict[Key, AnyObject]:
        """The objects as they were at that revision."""
        objects = dict(self.objects)
        for change in reversed(self.history):
            if change.revision <= revision:
                break
            if change.old is None:
                objects.pop(change.key, None)
            else:
                objects[change.key] = change.old
        return objects

    def put(self, obj: T) -> T:
        """Stores an object exactly as it is (but for its version and, if empty, its uid): for setting a scene."""
        stored = own_copy(obj)
        kind = kind_of(obj)
        if kind.namespaced and not stored.metadata.namespace:
            stored.metadata.namespace = "default"
        if not stored.metadata.uid:
            stored.metadata.uid = new_uid(self._rng)
        self.revision += 1
        stored.metadata.resourceVersion = str(self.revision)
        key = key_of(stored)
        self.history.append(Change(self.revision, key, self.objects.get(key), stored, self.wall_s))
        self.objects[key] = stored
        return stored

    def remove(self, key: Key) -> None:
        """Takes an object away, whatever the rules of deletion say."""
        transaction = Transaction(self, "test", None, self.revision + 1)
        transaction.remove(transaction.need(key))
        self._commit(transaction)

    def write(
        self,
        actor: str,
        operations: Sequence[wire.Operation],
        *,
        atomic: bool = False,
        cause: core.Cause | None = None,
        dry_run: bool = False,
    ) -> WriteOutcome:
        before = (self.revision, dict(self.objects), len(self.history)) if dry_run else None
        outcomes: list[OperationOutcome] = []
        transaction = Transaction(self, actor, cause, self.revision + 1)
        failed = False
        for operation in operations:
            if not atomic:
                transaction = Transaction(self, actor, cause, self.revision + 1)
            try:
                outcomes.append(transaction.apply(operation))
            except ApiError as error:
                failed = True
                outcomes.append(OperationOutcome(error, None))
                continue
            if not atomic:
                self._commit(transaction)
        if atomic:
            if failed:
                aborted = Aborted("another operation of this all-or-nothing write failed; nothing was written")
                outcomes = [o if o.error else OperationOutcome(aborted, None) for o in outcomes]
            else:
                self._commit(transaction)
        if before is not None:
            self.revision, self.objects = before[0], before[1]
            del self.history[before[2] :]
        return WriteOutcome(outcomes, self.revision)

    def next_address(self, prefix: str) -> str:
        self._next_address += 1
        return f"{prefix}{self._next_address // 250}.{self._next_address % 250 + 1}"

    def _commit(self, transaction: Transaction) -> None:
        if not transaction.changes:
            return
        self.revision = transaction.revision
        for change in transaction.changes.values():
            if change.old is None and change.new is None:
                continue
            self.history.append(change)
            if change.new is None:
                self.objects.pop(change.key, None)
            else:
                self.objects[change.key] = change.new

    @property
    def now(self) -> core.Time:
        return to_time(self._clock.wall())

    @property
    def wall_s(self) -> float:
        return self._clock.wall()

    @property
    def rng(self) -> random.Random:
        return self._rng
