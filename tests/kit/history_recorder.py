"""Clients that do random things to a few objects and keep what they were told: the evidence for both checkers.

Each `RecordingClient` does one operation at a time: get, list, create, update, delete, most writes with a precondition
on the version it saw last. Values are unique. A `Door` carries an operation out: `OneAttempt` sends exactly one call,
so that an operation without an answer is one call without an answer; `WithRetries` uses the client library, which gives
a write an id and may send it several times, and it must still happen once.

The objects are pods that no scheduler takes. Their value is an annotation, and a label changes along, so that watches
with a selector see them come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from cluster.api.errors import AlreadyExists, ApiError, Conflict, DeadlineExceeded, NotFound, Unavailable
from cluster.api.kinds import unwrap
from cluster.api.meta import Key, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.channel import Channels
from cluster.rpc.outcome import from_status
from cluster.rpc.stub import ClusterStub
from tests.kit.recorded import NEVER, End, Entry, Held, Operation, Refusal, Step, Verb
from tests.kit.watch_validators import Recording, Seen

NAMESPACE = "default"
VALUE = "tests/value"
COLOUR = "colour"
COLOURS = ("red", "blue")
ROUND = "round"
"""A label that all objects of a run have; lists and logs look at nothing else."""


class Answer(NamedTuple):
    """What a door brings back."""

    revision: int
    store_id: str
    objects: Sequence[core.Pod]


class Door(Protocol):
    """Carries out one operation; raises ApiError."""

    async def get(self, name: str, timeout_s: float) -> Answer: ...

    async def list(self, selector: str, timeout_s: float) -> Answer: ...

    async def write(self, operation: wire.Operation, timeout_s: float) -> Answer: ...


class OneAttempt:
    """One call to one of several masters; the next one has its turn after a call that was not answered."""

    def __init__(self, channels: Sequence[Channels], first: int = 0) -> None:
        self._stubs = [ClusterStub(one) for one in channels]
        self._at = first % len(self._stubs)

    async def get(self, name: str, timeout_s: float) -> Answer:
        request = wire.GetRequest(kind="Pod", namespace=NAMESPACE, name=name)
        with self._turn() as stub:
            found = await stub.get(request, timeout_s)
        return Answer(found.revision, found.store_id, [found.object.pod])

    async def list(self, selector: str, timeout_s: float) -> Answer:
        request = wire.ListRequest(kind="Pod", namespace=NAMESPACE, label_selector=selector)
        with self._turn() as stub:
            found = await stub.list(request, timeout_s)
        return Answer(found.revision, found.store_id, [item.pod for item in found.items])

    async def write(self, operation: wire.Operation, timeout_s: float) -> Answer:
        with self._turn() as stub:
            written = await stub.write(wire.WriteRequest(operations=[operation]), timeout_s)
        (result,) = written.results
        error = from_status(result.status)
        if error is not None:
            raise error
        obj = unwrap(result.object)
        assert isinstance(obj, core.Pod)
        return Answer(written.revision, written.store_id, [obj])

    @contextlib.contextmanager
    def _turn(self) -> Iterator[ClusterStub]:
        try:
            yield self._stubs[self._at]
        except (Unavailable, DeadlineExceeded):
            self._at = (self._at + 1) % len(self._stubs)
            raise


PATIENCE = 8
"""How many times as long a write may take that is sent again."""


class WithRetries:
    """Writes through the client library, once for the caller, whatever it takes; reads by another door."""

    def __init__(self, client: ClusterClient, reads: Door) -> None:
        self._client = client
        self.get = reads.get
        self.list = reads.list

    async def write(self, operation: wire.Operation, timeout_s: float) -> Answer:
        written = await self._client.write([operation], timeout_s=timeout_s * PATIENCE)
        obj = written.outcomes[0].unwrap()
        assert isinstance(obj, core.Pod)
        return Answer(written.revision, "", [obj])


def page(name: str, value: str, colour: str, round_: str) -> core.Pod:
    """One of the objects."""
    return core.Pod(
        metadata=core.ObjectMeta(
            name=name, namespace=NAMESPACE, labels={COLOUR: colour, ROUND: round_}, annotations={VALUE: value}
        ),
        spec=core.PodSpec(schedulerName="nobody", containers=[core.Container(name="main", command=["true"])]),
    )


def held(pod: core.Pod) -> Held:
    """What a checker needs to know of an object."""
    return Held(revision_of(pod), pod.metadata.annotations[VALUE])


class RecordingClient:
    """One client. `operations` grows as it runs; calls that are under way when it stops are waited for."""

    def __init__(
        self,
        number: int,
        door: Door,
        keys: Sequence[str],
        rng: random.Random,
        *,
        round_: str,
        timeout_s: float = 1.0,
        pause_s: float = 0.0,
    ) -> None:
        self.operations: list[Operation] = []
        self._number = number
        self._door = door
        self._keys = keys
        self._rng = rng
        self._round = round_
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._seen: dict[str, core.Pod] = {}
        self._values = 0

    async def run(self, stopping: Callable[[], bool]) -> None:
        """One operation after the other, until it is time to stop."""
        while not stopping():
            operation = await self.step()
            # A server that is away answers at once: do not spin.
            await asyncio.sleep(0.1 if operation.end is End.UNKNOWN else self._pause_s)

    async def step(self) -> Operation:
        """One operation, drawn, done and recorded."""
        verb = self._rng.choices(list(Verb), [5, 1, 3, 5, 2])[0]
        key = "" if verb is Verb.LIST else self._rng.choice(self._keys)
        seen = self._seen.get(key) if self._rng.random() < 0.7 else None
        if verb is Verb.DELETE and seen is None and self._number:
            # A deletion of any version leaves no trace that says whose it was: one client does enough of them.
            verb = Verb.GET
        operation = Operation(self._number, verb, key, time.monotonic(), NEVER, End.UNKNOWN)
        if verb in (Verb.CREATE, Verb.UPDATE):
            self._values += 1
            operation = replace(operation, value=f"{self._number}-{self._values}")
        if verb in (Verb.UPDATE, Verb.DELETE) and seen is not None:
            operation = replace(operation, expected=held(seen))
        try:
            answer = await self._do(operation, seen)
            operation = self._answered(operation, answer)
        except (Unavailable, DeadlineExceeded):
            if not operation.writes:
                return operation  # says nothing
        except ApiError as error:
            operation = _refused(operation, error)
        if operation.end is not End.UNKNOWN:
            operation = replace(operation, returned_s=time.monotonic())
        self.operations.append(operation)
        return operation

    async def _do(self, operation: Operation, seen: core.Pod | None) -> Answer:
        name, timeout_s = operation.key, self._timeout_s
        if operation.verb is Verb.GET:
            return await self._door.get(name, timeout_s)
        if operation.verb is Verb.LIST:
            return await self._door.list(f"{ROUND}={self._round}", timeout_s)
        colour = self._rng.choice(COLOURS)
        if operation.verb is Verb.CREATE:
            return await self._door.write(
                operations.create(page(name, operation.value, colour, self._round)), timeout_s
            )
        key = Key("Pod", NAMESPACE, name)
        version = str(operation.expected.version) if operation.expected is not None else ""
        if operation.verb is Verb.DELETE:
            return await self._door.write(operations.delete(key, version=version, grace_period_s=0), timeout_s)
        if seen is not None and self._rng.random() < 0.5:
            changed = core.Pod.FromString(seen.SerializeToString())
            changed.metadata.annotations[VALUE] = operation.value
            changed.metadata.labels[COLOUR] = colour
            return await self._door.write(operations.update(changed), timeout_s)
        patch = {"metadata": {"annotations": {VALUE: operation.value}, "labels": {COLOUR: colour}}}
        return await self._door.write(operations.patch(key, patch, version=version), timeout_s)

    def _answered(self, operation: Operation, answer: Answer) -> Operation:
        operation = replace(operation, end=End.OK, revision=answer.revision, store_id=answer.store_id)
        if operation.verb is Verb.LIST:
            return replace(operation, listed={pod.metadata.name: held(pod) for pod in answer.objects})
        (pod,) = answer.objects
        if operation.verb is Verb.DELETE:
            self._seen.pop(operation.key, None)
            return operation
        self._seen[operation.key] = pod
        return replace(operation, read=held(pod)) if operation.verb is Verb.GET else operation


def _refused(operation: Operation, error: ApiError) -> Operation:
    if operation.verb is Verb.GET and isinstance(error, NotFound) and error.revision:
        return replace(operation, end=End.REFUSED, refusal=Refusal.NOT_FOUND, revision=error.revision)
    reasons: dict[type[ApiError], Refusal] = {
        NotFound: Refusal.NOT_FOUND,
        AlreadyExists: Refusal.ALREADY_EXISTS,
        Conflict: Refusal.CONFLICT,
    }
    refusal = reasons.get(type(error), Refusal.OTHER)
    return replace(operation, end=End.REFUSED, refusal=refusal, revision=error.revision, store_id=error.store_id)


def entries(recording: Recording) -> list[Entry]:
    """The log that a watch of all objects from some revision on has seen; what was there first comes as created."""
    log: list[Entry] = []
    for seen in sorted(recording.initial, key=_version):
        log.append(Entry(_version(seen), Step.ADDED, _name(seen), _value(seen)))
    log += [Entry(seen.revision, Step(seen.type), _name(seen), _value(seen)) for seen in recording.changes]
    return log


def tally(history: Iterable[Operation]) -> str:
    """How many operations there are, by how they ended."""
    ends = [operation.end for operation in history]
    counts = ", ".join(f"{ends.count(end)} {end.value}" for end in End)
    return f"{len(ends)} operations: {counts}"


def _version(seen: Seen) -> int:
    assert seen.object is not None
    return revision_of(seen.object)


def _name(seen: Seen) -> str:
    return seen.key.rpartition("/")[2]


def _value(seen: Seen) -> str:
    assert isinstance(seen.object, core.Pod)
    return seen.object.metadata.annotations[VALUE]
