"""The call Trace: how an object came to be what it is, as a chain of causes.

Every write carries what made it happen (`Cause`: an object, as it was at a revision). So the way back is in the log,
and nothing needs to be guessed. Worked example, for a pod of a replication controller, in the order of revisions:

    41  replicationcontrollers/default/web  Applied     by admin
    42  pods/default/web-x2k4p              Created     by controllers, because of the controller at 41
    44  pods/default/web-x2k4p              Scheduled   by scheduler
    47  pods/default/web-x2k4p              Started     by node:node-2
    47  pods/default/web-x2k4p              Ready       by node:node-2
    90  nodes/node-2                        Tainted     by controllers
    91  pods/default/web-x2k4p              Deleting    by controllers, because of the node at 90
The pod's own steps come from its own changes (`milestones.py`); from each of them the chain goes back to what caused
it, and to what caused that. Of other kinds than pods: how it was made, what was wished last, and what came of it; of a
service, its endpoints, too.

Where the log no longer goes back that far, the answer says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cluster.api.errors import NotFound
from cluster.api.meta import Key, called, key_of_path, path_of, to_time
from cluster.master.history import Past, steps
from cluster.master.lineage import ADDED, DELETED, Step
from cluster.master.milestones import Milestone, milestones
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

MAX_STEPS = 200
"""Steps that an answer has; of more, those in the middle are left out."""
MAX_CAUSES = 50
"""Causes that are followed."""
_SEARCHED = 500
"""Changes of one object that are looked at to find what a cause means."""

_WISHES = frozenset({"Applied", "Created", "Changed", "Scaled", "Undone", "Endpoints"})


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain."""

    key: Key
    revision: int
    """0: it is not known any more."""
    time_s: float
    actor: str
    cause: core.Cause
    milestone: Milestone

    @property
    def word(self) -> str:
        return self.milestone.word


def links_of(step: Step, secret: bytes) -> list[Link]:
    """What one change of one object was."""
    found = []
    for milestone in milestones(step, secret):
        known = step.is_known or step.type == DELETED
        revision = step.revision if known else 0
        actor, cause = (step.actor, step.cause) if known else ("", core.Cause())
        found.append(Link(step.key, revision, _moment(step, milestone), actor, cause, milestone))
    return found


def _moment(step: Step, milestone: Milestone) -> float:
    """When it happened: as the object says, if that is between the change before and this one."""
    written_s, claimed_s = step.record.time_s, milestone.claimed_s
    if claimed_s is None:
        return written_s
    if not step.is_known:
        return min(claimed_s, written_s)
    if step.time_before_s is None:
        return written_s
    return min(max(claimed_s, step.time_before_s), written_s)


def what_matters(key: Key, newest_first: Sequence[Link]) -> list[Link]:
    """Of a pod or node everything; of others how it was made, what was wished last, and what came of that."""
    if key.kind in ("Pod", "Node"):
        return list(newest_first)
    wishes = [place for place, link in enumerate(newest_first) if link.word in _WISHES]
    if not wishes:
        return list(newest_first)
    last, first = wishes[0], wishes[-1]
    return [*newest_first[: last + 1], *(newest_first[first : first + 1] if first > last else ())]


async def trace(past: Past, key: Key, secret: bytes) -> wire.TraceResponse:
    """Carries out the call; `secret` is the key of the words for hidden values. Raises NotFound."""
    return await _Tracer(past, secret).run(key)


class _Tracer:
    """One call. Grows a set of links until there are no more causes to follow."""

    def __init__(self, past: Past, secret: bytes) -> None:
        self._past = past
        self._secret = secret
        self._head = past.revision
        self._links: dict[tuple[Key, int, str], Link] = {}
        self._gaps: list[str] = []
        self._to_follow: list[tuple[Key, core.Cause]] = []
        self._followed: set[tuple[Key, int]] = set()

    async def run(self, key: Key) -> wire.TraceResponse:
        if not await self._life(key):
            raise NotFound(f"{called(key)} not found, and nothing of it is kept in the history")
        if key.kind == "Service":
            await self._life(Key("Endpoints", key.namespace, key.name))
        while self._to_follow:
            effect, cause = self._to_follow.pop(0)
            await self._follow(effect, cause)
        links = sorted(
            self._links.values(), key=lambda link: (link.revision, link.time_s if not link.revision else 0.0)
        )
        left_out = len(links) - MAX_STEPS
        if left_out > 0:
            begin = MAX_STEPS // 4
            self._gaps.append(
                f"{left_out} steps between revisions {links[begin].revision} and "
                f"{links[begin + left_out - 1].revision} are left out"
            )
            del links[begin : begin + left_out]
        return wire.TraceResponse(
            steps=[_step(link) for link in links],
            gap="; ".join(self._gaps),
            revision=self._head,
            store_id=self._past.store_id,
        )

    async def _life(self, key: Key) -> bool:
        """The links of an object's own changes, back to its making. False: nothing is kept of it."""
        newest_first: list[Link] = []
        seen = False
        async with aclosing(steps(self._past, key, self._head)) as found:
            async for step in found:
                if seen and step.type == DELETED:
                    break  # an earlier object of that name
                seen = True
                newest_first += reversed(links_of(step, self._secret))
                self._note_gap(step)
                if step.type == ADDED:
                    break
        for link in reversed(what_matters(key, newest_first)):
            self._add(link)
        return seen

    async def _follow(self, effect: Key, cause: core.Cause) -> None:
        """Adds what a cause means: the change of its object that was acted on."""
        key = key_of_path(cause.object)
        if key is None or key == effect or not cause.revision or (key, cause.revision) in self._followed:
            return
        if len(self._followed) >= MAX_CAUSES:
            self._gap(f"only the first {MAX_CAUSES} causes were followed")
            return
        self._followed.add((key, cause.revision))
        looked_at = 0
        async with aclosing(steps(self._past, key, cause.revision)) as found:
            async for step in found:
                looked_at += 1
                links = self._meant(step)
                for link in links:
                    self._add(link)
                if links:
                    self._note_gap(step)
                # Why an object is gone, its tombstone may not say: the change before does.
                if links and not (step.type == DELETED and not step.cause.object):
                    return
                if not step.is_known or looked_at >= _SEARCHED:
                    self._note_gap(step)
                    return
                if step.type == ADDED:
                    return
        if not looked_at:
            self._gap(
                f"{path_of(key)} at revision {cause.revision}, which caused a write of {path_of(effect)}, is no longer "
                f"kept: the history begins at revision {self._past.oldest}"
            )

    def _meant(self, step: Step) -> list[Link]:
        """What of this change somebody may have acted on; nothing: look further back."""
        links = links_of(step, self._secret)
        if step.key.kind in ("ReplicationController", "Service"):  # their status is bookkeeping
            links = [link for link in links if link.word in _WISHES or link.word in ("Deleting", "Deleted")]
        return links

    def _add(self, link: Link) -> None:
        self._links.setdefault((link.key, link.revision, link.word), link)
        if link.cause.object:
            self._to_follow.append((link.key, link.cause))

    def _note_gap(self, step: Step) -> None:
        if not step.is_known and step.type != DELETED:
            self._gap(
                f"what {path_of(step.key)} went through before revision {step.revision} is no longer kept change by "
                f"change: the history begins at revision {self._past.oldest}"
            )

    def _gap(self, text: str) -> None:
        if text not in self._gaps:
            self._gaps.append(text)


def _step(link: Link) -> wire.TraceStep:
    step = wire.TraceStep(
        step=link.word,
        object=path_of(link.key),
        time=to_time(link.time_s),
        actor=link.actor,
        message=link.milestone.message,
    )
    if link.revision:
        step.revision = link.revision
    if link.cause.ListFields():
        step.cause.CopyFrom(link.cause)
    return step
