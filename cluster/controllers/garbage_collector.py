"""Removes what is left over.

Dependents of a vanished owner go as soon as its deletion is seen, those of one that is deleted in the foreground before
it (`foreground.py`); the rest is swept every 20 s. The kinds of garbage and how each is told are in `garbage.py`. The
cache only gives the suspicion: before anything is deleted because something else is gone, the master is asked whether
it is. Deletions name the uid, and for dependents the version too, so that a pod that was adopted meanwhile survives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from cluster.api.errors import NotFound
from cluster.api.events import last_seen
from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.meta import Key, from_time, is_terminating, key_of, path_of
from cluster.api.owners import is_in_foreground
from cluster.client import operations
from cluster.client.informer import Informer
from cluster.controllers.caches import NODE, OWNER
from cluster.controllers.context import Context
from cluster.controllers.defined import Defined
from cluster.controllers.foreground import step
from cluster.controllers.garbage import (
    FINISHED_PODS_THRESHOLD,
    Quarantine,
    expired_events,
    finished_beyond,
    has_owner_of_unknown_kind,
    owners_to_look_up,
    unscheduled_terminating,
)
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.writes import cause, chunks
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

WORKERS = 3
SWEEP_PERIOD_S = 20.0
FIRST_EVENT_SWEEP_S = 30.0
EVENT_SWEEP_MIN_S, EVENT_SWEEP_MAX_S = 60.0, 3600.0
GATHER_S = 0.02
"""Waits so long after a kind was defined before all objects are looked through: many come at once."""
PAGE = 500
SETTLE_S = 0.1
"""So long an owner that is deleted in the foreground must have seemed free: each kind is watched by itself, and what
the owner got just before may be seen just after."""

Sweep = Literal["owners", "pods", "events"]


class Owner(NamedTuple):
    """An owner that may be gone: where it should be found, and who it should be."""

    key: Key
    uid: str


class GarbageCollector:
    """The actor. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches, profile = context.caches, context.profile
        self._client = context.client
        self._pods = caches.pods
        self._nodes = caches.nodes
        self._clock = context.clock
        self._event_ttl_s = profile.event_ttl_s
        # As long as a silent node has to come back, so long a vanished one has to register again (Kubernetes: 40 s).
        self._quarantine = Quarantine(profile.node_monitor_grace_s)
        self._defined = Defined(context.client, caches.definitions)
        self._owners: dict[str, Informer[Any]] = caches.by_kind
        self._dependents: list[Informer[Any]] = caches.owned
        self._causes: dict[Owner, core.Cause] = {}
        self._free_since: dict[Owner, float] = {}
        """Owners in the foreground that nothing holds, and since when (monotonic seconds)."""
        self._orphans: Reconciler[Owner] = Reconciler(
            "garbage of owners", self._sync_owner, workers=WORKERS, context=context, resync=self._add_all
        )
        self._seconds: Reconciler[int] = Reconciler(
            "garbage of unknown kinds", self._look_back, workers=1, context=context, resync=self._add_all
        )
        """Seconds since 1970 in which something was made whose owner is of a kind that is not known."""
        self._sweeps: Reconciler[Sweep] = Reconciler(
            "garbage sweep", self._sweep, workers=1, context=context, resync=lambda: None
        )
        for informer in self._owners.values():
            informer.add_handler(self._on_owner)
        for informer in self._dependents:
            informer.add_handler(self._on_dependent)
        caches.nodes.add_handler(self._on_node)
        caches.definitions.add_handler(self._on_definition)

    async def start(self) -> None:
        await self._orphans.start()
        await self._seconds.start()
        await self._sweeps.start()
        self._sweeps.queue.add("owners")  # while the caches filled, not every kind was known
        self._sweeps.queue.add("pods")
        self._sweeps.queue.add_after("events", FIRST_EVENT_SWEEP_S)

    async def stop(self) -> None:
        await self._sweeps.stop()
        await self._seconds.stop()
        await self._orphans.stop()

    # --- what wakes us

    def _add_all(self) -> None:
        for informer in self._owners.values():
            for obj in informer.indexer.list():
                self._on_owner(None, obj)
        for informer in self._dependents:
            for obj in informer.indexer.list():
                self._on_dependent(None, obj)

    def _on_owner(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is None and old is not None and any(self._owned_by(old.metadata.uid)):
            owner = Owner(key_of(old), old.metadata.uid)
            self._causes[owner] = cause(old, "owner-deleted")
            self._orphans.queue.add(owner)
        elif new is not None and is_in_foreground(new) and not (old is not None and is_in_foreground(old)):
            self._orphans.queue.add(Owner(key_of(new), new.metadata.uid))

    def _on_dependent(self, old: AnyObject | None, new: AnyObject | None) -> None:
        obj = new if new is not None else old
        if obj is None or not obj.metadata.ownerReferences:
            return
        if (
            old is not None
            and new is not None
            and list(old.metadata.ownerReferences) == list(new.metadata.ownerReferences)
            and is_in_foreground(old) == is_in_foreground(new)
        ):
            return
        owners = self._owners_of(obj)
        if owners is None and new is not None and has_owner_of_unknown_kind(new, self._defined.define):
            second = int(from_time(new.metadata.creationTimestamp))
            if not self._defined.was_asked(second):
                self._seconds.queue.add(second)
        for owner in owners or ():
            found = self._in_view(owner)
            if (found is None and new is not None) or (found is not None and is_in_foreground(found)):
                self._orphans.queue.add(owner)

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        if new is None:
            self._sweeps.queue.add("pods")

    def _on_definition(
        self, old: core.CustomResourceDefinition | None, new: core.CustomResourceDefinition | None
    ) -> None:
        if old is None:  # owners of that kind can be looked up from now on
            self._sweeps.queue.add_after("owners", GATHER_S)
        elif new is None:
            self._defined.ended(old)

    # --- dependents

    def _owners_of(self, obj: AnyObject) -> list[Owner] | None:
        """The owners of an object; None if it has none, or one that cannot be looked up."""
        found = owners_to_look_up(obj, self._defined.define)
        return [Owner(key, uid) for key, uid in found] if found is not None else None

    async def _look_back(self, second: int) -> None:
        """What was made then may have had an owner of a kind that was defined."""
        if await self._defined.look_back(second):
            self._sweeps.queue.add_after("owners", GATHER_S)

    def _owned_by(self, uid: str) -> list[AnyObject]:
        return [obj for informer in self._dependents for obj in informer.indexer.by_index(OWNER, uid)]

    def _in_view(self, owner: Owner) -> AnyObject | None:
        informer = self._owners.get(owner.key.kind)
        found: AnyObject | None = informer.indexer.get(owner.key) if informer is not None else None
        return found if found is not None and found.metadata.uid == owner.uid else None

    async def _exists(self, owner: Owner) -> bool:
        """Whether the owner is there; if the cache does not say so, the master is asked."""
        if self._in_view(owner) is not None:
            return True
        try:
            found = await self._client.get(BY_NAME[owner.key.kind].message, owner.key.name, owner.key.namespace)
        except NotFound:
            return False
        return found.metadata.uid == owner.uid

    async def _sync_owner(self, owner: Owner) -> bool:
        found = self._in_view(owner)
        if found is not None and is_in_foreground(found):
            return await self._sync_foreground(owner, found)
        self._free_since.pop(owner, None)
        dependents = [obj for obj in self._owned_by(owner.uid) if not is_terminating(obj)]
        if not dependents or await self._exists(owner):
            self._causes.pop(owner, None)
            return True
        doomed = [obj for obj in dependents if not await self._has_another_owner(obj, owner)]
        why = self._causes.get(owner) or core.Cause(object=path_of(owner.key), reason="owner-deleted")
        done = await self._delete(doomed, why, with_version=True)
        if done:
            self._causes.pop(owner, None)
        return done

    async def _sync_foreground(self, owner: Owner, found: AnyObject) -> bool:
        dependents = [obj for obj in self._owned_by(owner.uid) if not await self._has_another_owner(obj, owner)]
        what = step(owner.uid, dependents, self._owned_by)
        why = cause(found, "owner-deleted")
        done = await self._delete(what.delete, why, with_version=True)
        done &= await self._delete(what.delete_in_foreground, why, with_version=True, propagation="Foreground")
        if not what.may_go:
            self._free_since.pop(owner, None)
            return done
        now = self._clock.monotonic()
        free_s = now - self._free_since.setdefault(owner, now)
        if free_s < SETTLE_S:
            self._orphans.queue.add_after(owner, SETTLE_S - free_s)
            return done
        # In the background: that takes the finalizer from it.
        done &= await self._delete([found], core.Cause(reason="dependents-gone"), propagation="Background")
        self._free_since.pop(owner, None)
        return done

    async def _has_another_owner(self, obj: AnyObject, gone: Owner) -> bool:
        """One that stays."""
        owners = self._owners_of(obj)
        if owners is None:
            return True
        for owner in owners:
            found = self._in_view(owner)
            going = found is not None and is_in_foreground(found)
            if owner.uid != gone.uid and not going and await self._exists(owner):
                return True
        return False

    async def _delete(
        self,
        objects: Sequence[AnyObject],
        why: core.Cause,
        *,
        with_version: bool = False,
        at_once: bool = False,
        propagation: str = "",
    ) -> bool:
        """Deletes objects; False if some have changed meanwhile and should be looked at again."""
        done = True
        for some in chunks(objects):
            writes: list[wire.Operation] = [
                operations.delete(
                    key_of(obj),
                    uid=obj.metadata.uid,
                    version=obj.metadata.resourceVersion if with_version else "",
                    grace_period_s=0 if at_once else None,
                    propagation=propagation,
                )
                for obj in some
            ]
            written = await self._client.write(writes, cause=why)
            errors = [outcome.error for outcome in written.outcomes]
            done = done and all(error is None or isinstance(error, NotFound) for error in errors)
        return done

    # --- sweeps

    async def _sweep(self, what: Sweep) -> bool:
        if what == "owners":
            self._add_all()
            return True
        return await (self._sweep_pods() if what == "pods" else self._sweep_events())

    async def _sweep_pods(self) -> bool:
        pods = self._pods.indexer.list()
        done = await self._delete(
            finished_beyond(pods, FINISHED_PODS_THRESHOLD), core.Cause(reason="too-many-finished")
        )
        unscheduled = unscheduled_terminating(pods)
        done &= await self._delete(unscheduled, core.Cause(reason="never-scheduled"), at_once=True)
        known = {node.metadata.name for node in self._nodes.indexer.list()}
        now = self._clock.monotonic()
        for node in self._quarantine.observe(self._pods.indexer.index_values(NODE), known, now):
            if not await self._node_exists(node):
                stranded = self._pods.indexer.by_index(NODE, node)
                done &= await self._delete(
                    stranded, core.Cause(object=f"nodes/{node}", reason="node-gone"), at_once=True
                )
        self._sweeps.queue.add_after("pods", min(SWEEP_PERIOD_S, self._quarantine.next_in(now) or SWEEP_PERIOD_S))
        return done

    async def _node_exists(self, name: str) -> bool:
        try:
            await self._client.get(core.Node, name)
        except NotFound:
            return False
        return True

    async def _sweep_events(self) -> bool:
        """Events are not watched: they are many, and nobody here needs them. They are read page by page."""
        now_s = self._clock.wall()
        oldest_s, token, done = now_s, "", True
        while True:
            page = await self._client.list(core.Event, limit=PAGE, continue_token=token)
            expired = expired_events(page.items, now_s, self._event_ttl_s)
            done &= await self._delete(expired, core.Cause(reason="expired"))
            gone = {event.metadata.uid for event in expired}
            oldest_s = min([oldest_s, *(last_seen(event) for event in page.items if event.metadata.uid not in gone)])
            token = page.continue_token
            if not token:
                break
        wait_s = oldest_s + self._event_ttl_s - now_s
        self._sweeps.queue.add_after("events", max(EVENT_SWEEP_MIN_S, min(wait_s, EVENT_SWEEP_MAX_S)))
        return done
