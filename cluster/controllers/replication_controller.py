"""Keeps the wanted number of pods of every replication controller alive.

Decisions are in `replication.py`; this actor awaits what they ask for: claim the pods, wait for what was done before to
show in the cache, create or delete, report. It is woken by changes of controllers and of pods; nothing is polled.

What happens to one controller object, in order, at each look:

  newest     the cached object, or what our own last write returned if that is newer
  recount    if somebody else has created pods, and the cache is behind: read them past it, and wait until it has them
  claim      adopt matching orphans (after asking the master whether the controller still exists), release strays
  act        create in batches of 1, 2, 4 ... each one atomic and fenced; or delete the least useful
  report     status, at most every 20 ms unless it goes with a batch
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.errors import ApiError, Conflict, NotFound
from cluster.api.labels import selector_from_map
from cluster.api.meta import Key, is_terminating, key_of, revision_of
from cluster.api.owners import controller_of, is_controlled_by
from cluster.client import operations
from cluster.client.interface import WriteOutcome
from cluster.controllers.caches import NAMESPACE, ORPHANS, OWNER
from cluster.controllers.context import Context
from cluster.controllers.reconciler import AGAIN, Reconciler
from cluster.controllers.replication import (
    Failure,
    Ledger,
    batch_status,
    claim,
    new_pod,
    next_available_in,
    owners_with,
    owners_without,
    plan,
    significant_change,
    slow_start,
    status_of,
    with_status,
)
from cluster.controllers.writes import cause, patch_owners, root_error
from cluster.pb.v1 import core_pb2 as core

KIND = "ReplicationController"
WORKERS = 5
STATUS_INTERVAL_S = 0.02
"""A status that goes alone waits so long after the one before: a hundred ready pods are not a hundred writes."""
RECHECK_S = 1.0
"""Looks again after this long if what we did has not shown up. A safety net: the watch normally wakes us."""


@dataclass(slots=True)
class _Work:
    """One look at one controller object."""

    controller: core.ReplicationController
    ledger: Ledger
    active: list[core.Pod]
    failure: Failure | None = None
    again: bool = False
    """Something was not as the cache shows it: look again soon."""


class ReplicationManager:
    """The actor. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches = context.caches
        self._client = context.client
        self._controllers = caches.controllers
        self._pods = caches.pods
        self._namespaces = caches.namespaces
        self._events = context.events
        self._clock = context.clock
        self._ledgers: dict[Key, Ledger] = {}
        # What made the next creation or deletion necessary; one per controller object.
        self._causes: dict[Key, core.Cause] = {}
        self._reconciler: Reconciler[Key] = Reconciler(
            "replication", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        caches.controllers.add_handler(self._on_controller)
        caches.pods.add_handler(self._on_pod)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    # --- what wakes us

    def _add_all(self) -> None:
        for controller in self._controllers.indexer.list():
            self._reconciler.queue.add(key_of(controller))

    def _on_controller(self, old: core.ReplicationController | None, new: core.ReplicationController | None) -> None:
        current = new or old
        assert current is not None
        key = key_of(current)
        if new is None:
            self._ledgers.pop(key, None)
            self._causes.pop(key, None)
            return
        if old is None or old.spec != new.spec:
            self._causes[key] = cause(new, "scale")
        ledger = self._ledgers.get(key)
        if ledger is not None and ledger.is_echo(new):
            return
        self._reconciler.queue.add(key)

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        significant = significant_change(old, new)
        for pod in (old, new):
            if pod is None:
                continue
            owner = controller_of(pod)
            if owner is not None:
                if owner.kind == KIND:
                    self._wake(Key(KIND, pod.metadata.namespace, owner.name), pod, significant, owner.uid)
            elif significant:
                self._wake_matching(pod)

    def _wake(self, key: Key, pod: core.Pod, significant: bool, uid: str) -> None:
        controller = self._controllers.indexer.get(key)
        if controller is None or controller.metadata.uid != uid:
            return
        if significant:
            self._causes[key] = cause(pod, "replace")
        self._reconciler.queue.add(key)

    def _wake_matching(self, orphan: core.Pod) -> None:
        for controller in self._controllers.indexer.by_index(NAMESPACE, orphan.metadata.namespace):
            selector = selector_from_map(controller.spec.selector)
            if not selector.is_empty and selector.matches(orphan.metadata.labels):
                self._reconciler.queue.add(key_of(controller))

    # --- one look

    async def _sync(self, key: Key) -> bool:
        cached = self._controllers.indexer.get(key)
        if cached is None:
            return True
        ledger = self._ledgers.get(key)
        if ledger is None or ledger.uid != cached.metadata.uid:
            ledger = self._ledgers[key] = Ledger(cached.metadata.uid)
        try:
            return await self._look(key, ledger.newest(cached), ledger)
        except Conflict:
            ledger.latest = None  # Somebody else has written: what we remember is not the newest.
            raise

    async def _look(self, key: Key, controller: core.ReplicationController, ledger: Ledger) -> bool:
        if ledger.must_recount(controller):
            await self._recount(controller, ledger)
        settled = ledger.expectations.settle(self._pods.indexer.get, self._pods.revision)
        work = _Work(controller, ledger, [])
        claimed = await self._claim(work, may_write=settled)
        if not settled:
            self._reconciler.queue.add_after(key, RECHECK_S)
        elif claimed and not self._is_namespace_terminating(key.namespace):
            await self._act(work)
        await self._report(work)
        return claimed and not work.again and work.failure is None

    async def _recount(self, controller: core.ReplicationController, ledger: Ledger) -> None:
        """Somebody else has created pods: nothing is decided before the cache shows all there are now.

        They were created in one write with the count in the controller's status. So a cache of pods that has come as
        far as this version of the controller holds them; only one that lags behind has to ask.
        """
        if self._pods.revision < revision_of(controller):
            listed = await self._client.list(
                core.Pod,
                controller.metadata.namespace,
                label_selector=str(selector_from_map(controller.spec.selector)),
            )
            ledger.expectations.expect_created(pod for pod in listed.items if is_controlled_by(pod, ledger.uid))
        ledger.created = controller.status.createdReplicas

    async def _claim(self, work: _Work, *, may_write: bool) -> bool:
        """Fills `work.active`. False if a pod could not be adopted or released, so that the count may be wrong."""
        controller, meta = work.controller, work.controller.metadata
        claims = claim(
            controller,
            self._pods.indexer.by_index(OWNER, meta.uid),
            self._pods.indexer.by_index(ORPHANS, meta.namespace),
        )
        work.active = work.ledger.expectations.staying(claims.kept)
        if not may_write or not (claims.adopt or claims.release):
            return True
        adopt = claims.adopt
        if adopt and not await self._may_adopt(controller):
            adopt = []
        patches = [patch_owners(pod, owners_with(pod, controller)) for pod in adopt]
        patches += [patch_owners(pod, owners_without(pod, meta.uid)) for pod in claims.release]
        if not patches:
            return True
        written = await self._client.write(patches, cause=cause(controller, "claim"))
        changed = [outcome.object for outcome in written.outcomes if isinstance(outcome.object, core.Pod)]
        work.ledger.expectations.expect_written(changed)
        work.active += [pod for pod in changed if is_controlled_by(pod, meta.uid)]
        return all(outcome.error is None for outcome in written.outcomes)

    async def _may_adopt(self, controller: core.ReplicationController) -> bool:
        """Asks the master, past the cache, whether this very controller still exists and is to stay."""
        meta = controller.metadata
        try:
            fresh = await self._client.get(core.ReplicationController, meta.name, meta.namespace)
        except NotFound:
            return False
        return fresh.metadata.uid == meta.uid and not is_terminating(fresh)

    def _is_namespace_terminating(self, name: str) -> bool:
        namespace = self._namespaces.indexer.get(Key("Namespace", "", name))
        return namespace is not None and is_terminating(namespace)

    async def _act(self, work: _Work) -> None:
        todo = plan(work.controller, work.active)
        key = key_of(work.controller)
        if todo.create:
            await self._create(work, todo.create, self._causes.get(key) or cause(work.controller, "scale"))
        elif todo.delete:
            why = cause(work.controller, "scale-down")
            await self._delete(work, list(todo.delete), why)
        if work.failure is None:
            self._causes.pop(key, None)

    async def _create(self, work: _Work, count: int, why: core.Cause) -> None:
        """Creates pods in batches; each is all or nothing, and only if nobody else has written the controller."""
        expectations = work.ledger.expectations
        for size in slow_start(count):
            controller = work.controller
            status = status_of(controller, work.active, now_s=self._clock.wall(), unseen=expectations.unseen_creations)
            batch = [
                *(operations.create(new_pod(controller)) for _ in range(size)),
                operations.update_status(with_status(controller, batch_status(status, size))),
            ]
            try:
                written = await self._client.write(batch, atomic=True, cause=why)
                error = root_error(written)
                if error is not None:
                    if written.outcomes[-1].error is error:
                        raise Conflict(str(error))  # The controller has changed, or is gone: not the pods' fault.
                    raise error
            except AGAIN:
                raise
            except ApiError as error:
                self._events.event(controller, "Warning", "FailedCreate", f"Error creating: {error}")
                work.failure = Failure("FailedCreate", str(error))
                return
            pods = [outcome.object for outcome in written.outcomes if isinstance(outcome.object, core.Pod)]
            expectations.expect_created(pods)
            self._took(work, written)
            for pod in pods:
                self._events.event(controller, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

    async def _delete(self, work: _Work, pods: list[core.Pod], why: core.Cause) -> None:
        """Deletes pods in one write, each only if it is still the one that was meant."""
        written = await self._client.write(
            [operations.delete(key_of(pod), uid=pod.metadata.uid) for pod in pods], cause=why
        )
        accepted = []
        for pod, outcome in zip(pods, written.outcomes, strict=True):
            name, error = pod.metadata.name, outcome.error
            if error is None:
                accepted.append(pod)
                self._events.event(work.controller, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
            elif isinstance(error, NotFound):
                accepted.append(pod)  # It is gone already; the cache will show it.
            elif isinstance(error, Conflict):
                work.again = True
            else:
                self._events.event(work.controller, "Warning", "FailedDelete", f"Error deleting: {error}")
                work.failure = Failure("FailedDelete", str(error))
        work.ledger.expectations.expect_deleted(accepted)
        work.active = work.ledger.expectations.staying(work.active)
        self._reconciler.queue.add_after(key_of(work.controller), RECHECK_S)

    async def _report(self, work: _Work) -> None:
        controller, ledger, wall_s = work.controller, work.ledger, self._clock.wall()
        key = key_of(controller)
        wait_s = next_available_in(work.active, controller.spec.minReadySeconds, wall_s)
        if wait_s is not None:
            self._reconciler.queue.add_after(key, wait_s + 0.001)
        status = status_of(
            controller,
            work.active,
            now_s=wall_s,
            unseen=ledger.expectations.unseen_creations,
            failure=work.failure,
        )
        if status == controller.status:
            return
        early_s = ledger.status_written_at + STATUS_INTERVAL_S - self._clock.monotonic()
        if early_s > 0 and work.failure is None:
            self._reconciler.queue.add_after(key, early_s)
            return
        written = await self._client.write(
            [operations.update_status(with_status(controller, status))], cause=cause(controller, "status")
        )
        written.outcomes[0].unwrap()
        self._took(work, written)

    def _took(self, work: _Work, written: WriteOutcome) -> None:
        """A write that ended with the controller's status was accepted: that is the controller now."""
        controller = written.outcomes[-1].object
        assert isinstance(controller, core.ReplicationController)
        work.controller = work.ledger.latest = controller
        work.ledger.created = controller.status.createdReplicas
        work.ledger.status_written_at = self._clock.monotonic()
