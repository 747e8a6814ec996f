"""Runs a simulation: makes the changes in a fork, lets time pass until nothing changes any more, and reports.

    fork     the snapshot goes on in memory
    settle   what the cluster does at once, it does; new nodes join; no time has passed
    change   everything else is changed, in the order given
    watch    from one moment at which something happens to the next, until quiet (`quiet.py`), or a limit
    report   what has become of pods, nodes and services (`reckoning.py`)

The same snapshot, changes, seed and settings give the same report, on whatever machine; unless the deadline, which is
one of real time, cuts it short.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from secrets import token_bytes

from cluster.actor.clock import SystemClock
from cluster.api.diff import differences
from cluster.api.errors import DeadlineExceeded
from cluster.api.json import object_to_json
from cluster.api.kinds import AnyObject, kind_of
from cluster.api.secrets import HIDDEN, hide
from cluster.client.apply import Planned, apply_manifests, plan_manifests
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation.changes import AddNodes, Apply, Change, Cordon, NodeDown, Scale, check, operation_of
from cluster.simulation.fork import Fork
from cluster.simulation.hollow import node_like
from cluster.simulation.idle import run_idle
from cluster.simulation.reckoning import Reckoning
from cluster.simulation.report import AppliedObject, Report
from cluster.simulation.settings import SimulationSettings
from cluster.simulation.snapshot import Snapshot

_NOTED_ERRORS = 5
"""More say the same."""
QUIET, LIMIT, DEADLINE, REFUSED = "quiet", "limit", "deadline", "refused"


def simulate(
    snapshot: Snapshot,
    changes: Sequence[Change],
    seed: int = 0,
    *,
    settings: SimulationSettings | None = None,
) -> Report:
    """What would become of a cluster if these changes were made, all at one moment, and then nothing else.

    Takes a while (seconds for thousands of pods) and writes nothing anywhere. From a coroutine, call it by
    `asyncio.to_thread`. Raises NotFound, Conflict and Invalid for changes that make no sense (see `changes.check`),
    Invalid for manifests that are right in no cluster, and DeadlineExceeded if the time did not even suffice to begin.
    """
    check(snapshot, changes)
    settings = settings or SimulationSettings()
    fork = Fork(snapshot, seed=seed, settings=settings)
    passage = _Passage(fork)
    with _Errors.noted() as errors:
        report = run_idle(_simulate(fork, passage, changes, seed), passage.on_idle, passage.on_turn)
    return replace(report, notes=(*report.notes, *errors.notes))


async def _simulate(fork: Fork, passage: _Passage, changes: Sequence[Change], seed: int) -> Report:
    words = tuple(str(change) for change in changes)
    applied: list[AppliedObject] = []
    try:
        await fork.open()
        planned = [await _plan(fork, change) for change in changes if isinstance(change, Apply)]
        applied = [_applied(plan) for plans in planned for plan in plans]
        if any(plan.error is not None for plans in planned for plan in plans):
            return Report(fork.snapshot.revision, seed, words, REFUSED, applied=tuple(applied))
        await fork.start([change.node for change in changes if isinstance(change, NodeDown)])
        await _join(fork, passage, [change for change in changes if isinstance(change, AddNodes)])
        for change in changes:
            await _make(fork, change)
        ending = await passage.until_quiet()
    finally:
        passage.tidying = True
        await fork.stop()
    return _report(fork, ending, seed, words, applied)


async def _plan(fork: Fork, change: Apply) -> list[Planned]:
    return await plan_manifests(fork.client("admin"), change.manifests, namespace=change.namespace)


async def _join(fork: Fork, passage: _Passage, joining: Sequence[AddNodes]) -> None:
    taken = [node.metadata.name for node in fork.snapshot.of(core.Node)]
    for change in joining:
        model = fork.snapshot.find(core.Node, change.like)
        assert model is not None, "checked"
        for name in change.names(taken):
            taken.append(name)
            await fork.agents.register(node_like(model, name))
    await passage.settle()


async def _make(fork: Fork, change: Change) -> None:
    client = fork.client("admin")
    if isinstance(change, Apply):
        await apply_manifests(client, change.manifests, namespace=change.namespace)
    elif isinstance(change, Cordon | Scale):
        written = await client.write([operation_of(change)], cause=core.Cause(reason="what-if"))
        written.outcomes[0].unwrap()


class _Errors(logging.Handler):
    """Notes what parts of the cluster log as an error, and go on after: in a simulation that is a bug, and whoever
    reads the report shall know."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.notes) < _NOTED_ERRORS:
            error = record.exc_info[1] if record.exc_info else None
            what = f"{record.getMessage()}: {error!r}" if error is not None else record.getMessage()
            self.notes.append(f"something went wrong inside, so this report may be wrong: {what}")

    @classmethod
    @contextmanager
    def noted(cls) -> Iterator[_Errors]:
        """Within it, errors are noted."""
        errors = cls()
        logging.getLogger().addHandler(errors)
        try:
            yield errors
        finally:
            logging.getLogger().removeHandler(errors)


class _Passage:
    """How time passes, and until when."""

    def __init__(self, fork: Fork) -> None:
        self._fork = fork
        self._settings = fork.settings
        self._real = SystemClock()
        self._deadline_s = self._real.monotonic() + fork.settings.deadline_s
        self._settled: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[str] | None = None
        self.tidying = False
        """Nobody is waited for any more."""

    async def settle(self) -> None:
        """Returns when everything has been done that takes no time."""
        self._settled = asyncio.get_running_loop().create_future()
        await self._settled

    async def until_quiet(self) -> str:
        """Lets time pass until the cluster is quiet, or a limit is reached; returns which."""
        self._ended = asyncio.get_running_loop().create_future()
        return await self._ended

    def on_turn(self) -> None:
        """At each turn of the loop."""
        if self.tidying:
            return
        if self._fork.crash is not None:
            raise self._fork.crash
        if self._real.monotonic() > self._deadline_s and not self._end(DEADLINE):
            raise DeadlineExceeded(
                f"within {self._settings.deadline_s:g} s the simulation had not even begun: "
                "the cluster is too large for this machine, or for this time"
            )

    def on_idle(self) -> None:
        """When everybody waits."""
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
            return
        if self._ended is not None and not self._ended.done() and self._look():
            return
        if not self._fork.clock.advance_to_next():
            raise AssertionError("everybody waits, and nobody for time to pass")

    def _look(self) -> bool:
        if self._fork.is_quiet:
            return self._end(QUIET)
        return self._fork.elapsed_s >= self._settings.limit_s and self._end(LIMIT)

    def _end(self, why: str) -> bool:
        """False if nobody waits for the end yet."""
        if self._ended is None:
            return False
        if not self._ended.done():
            self._ended.set_result(why)
        return True


# --- the report


def _report(fork: Fork, ending: str, seed: int, words: tuple[str, ...], applied: Sequence[AppliedObject]) -> Report:
    snapshot, log = fork.snapshot, fork.log
    found = Reckoning(snapshot, log, snapshot.taken_at_s)
    return Report(
        snapshot.revision,
        seed,
        words,
        ending,
        quiet_at_s=fork.changed_at_s,
        elapsed_s=fork.elapsed_s,
        revisions=(log[-1].revision if log else snapshot.revision) - snapshot.revision,
        applied=tuple(applied),
        nodes=found.nodes(),
        placed=found.placed(),
        removed=found.removed(),
        pending=found.pending(),
        stuck=found.stuck(),
        outages=found.outages(),
        passing=found.passing(),
        restless=() if ending == QUIET else found.restless(),
        notes=tuple(_notes(snapshot)),
    )


def _notes(snapshot: Snapshot) -> list[str]:
    if not snapshot.unread:
        return []
    kinds = ", ".join(snapshot.unread)
    return [f"you may not list these kinds, so the simulation knows nothing of them: {kinds}"]


def _applied(planned: Planned) -> AppliedObject:
    return AppliedObject(
        *planned.key,
        planned.verb,
        _differences(planned.before, planned.after) if planned.before is not None and planned.after is not None else (),
        str(planned.error) if planned.error is not None else "",
        planned.manifest.source,
        planned.manifest.line,
    )


def _differences(before: AnyObject, after: AnyObject) -> tuple[str, ...]:
    """Field by field; of secret values it is said only that they differ."""
    key = token_bytes(16)
    old, new = (hide(kind_of(obj).name, object_to_json(obj), key) for obj in (before, after))
    lines = []
    for difference in differences(old, new):
        is_secret = HIDDEN in f"{difference.old}{difference.new}"
        lines.append(f"{difference.path}: (hidden)" if is_secret else str(difference))
    return tuple(lines)
