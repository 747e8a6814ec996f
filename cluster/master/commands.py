"""Writes: what a request of several operations makes of the state.

    outcomes = commands.run(stage, request, writer)      # pure: stages changes, answers each operation
    await store.commit(stage.changes)                    # actor.py: save, then show, then answer

Each operation is one revision, or all of an atomic write are one; what changes nothing makes no revision and no event.
What each operation comes to is in `operations.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.api.errors import Aborted, ApiError, BadRequest, Internal
from cluster.api.names import Dice
from cluster.master.admission import Admission
from cluster.master.operations import Operations, Outcome, Writer
from cluster.master.stage import Stage
from cluster.pb.v1 import cluster_pb2 as wire

MAX_OPERATIONS = 2000
"""In one write: what can be applied without holding up everybody else for long."""


class Commands:
    """See the head of this file. Ids and dice are handed in; `on_bug` is told of what should not happen."""

    def __init__(
        self, admission: Admission, new_uid: Callable[[], str], rng: Dice, on_bug: Callable[[Exception], None]
    ) -> None:
        self._operations = Operations(admission, new_uid, rng)
        self._on_bug = on_bug

    def run(self, stage: Stage, request: wire.WriteRequest, writer: Writer) -> list[Outcome]:
        """Applies a write to the stage: one outcome per operation. Raises BadRequest if there are too many."""
        count = len(request.operations)
        if count > MAX_OPERATIONS:
            raise BadRequest(f"a write of {count} operations; at most {MAX_OPERATIONS} at once")
        if request.dry_run:
            stage = Stage(stage, stage.now_s)
        self._operations.begin(request)
        run = self._atomic if request.atomic else self._each
        outcomes = run(stage, request, writer)
        if request.dry_run:
            stage.discard()
        return outcomes

    def _each(self, stage: Stage, request: wire.WriteRequest, writer: Writer) -> list[Outcome]:
        outcomes = []
        for operation in request.operations:
            stage.begin()
            outcome = self._try(stage, operation, writer)
            if outcome.error is None:
                stage.finish()
            else:
                stage.abort()
            outcomes.append(outcome)
        return outcomes

    def _atomic(self, stage: Stage, request: wire.WriteRequest, writer: Writer) -> list[Outcome]:
        stage.begin()
        outcomes: list[Outcome] = []
        for number, operation in enumerate(request.operations):
            outcome = self._try(stage, operation, writer)
            if outcome.error is not None:
                stage.abort()
                aborted = Outcome(Aborted(f"nothing was written, because operation {number} failed: {outcome.error}"))
                return [outcome if i == number else aborted for i in range(len(request.operations))]
            outcomes.append(outcome)
        stage.finish()
        return outcomes

    def _try(self, stage: Stage, operation: wire.Operation, writer: Writer) -> Outcome:
        try:
            return self._operations.carry_out(stage, operation, writer)
        except ApiError as error:
            return Outcome(error)
        except Exception as error:  # a bug must not take the others' writes with it
            self._on_bug(error)
            return Outcome(Internal(f"a bug in the master: {type(error).__name__}: {error}"))
