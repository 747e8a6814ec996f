"""When the master was heard of last, over all lives of the agent; and which pods must not run on without it.

A pod whose spec has `stopAfterDisconnectSeconds` is ended when the node has been cut off for so long. An agent that was
killed meanwhile must not begin to count anew, so the moment is written down in the node's directory while there are
such pods: as a monotonic time, which nobody sets, with the boot that it belongs to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.actor.clock import Clock
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.pod_state import FailAsked
from node_agent.pod_worker import PodWorker
from node_agent.wishes import tell

FILE = "heard.json"
LOOK_S = 0.5
FIRST_LOOK_S = 1.0
"""How long an agent that begins has to reach the master, before it counts how long nobody did."""
STEP_S = 1.0
"""The moment is written again when it is so much later: as exact as whole seconds need."""

log = get_logger("node_agent.cut_off")


def is_cut_off(spec: core.PodSpec, silent_s: float) -> bool:
    """The pod must not run (on): the master has not been heard of for that long."""
    return 0 < spec.stopAfterDisconnectSeconds < silent_s


class LastHeard:
    """The moment, on disk."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file, self._boot_id = directory / FILE, boot_id
        self._written_s = float("-inf")

    def load(self, now: float) -> float:
        """When the master was heard of last, monotonic; `now` if nobody knows, or it was in another run of the machine:
        then no pod of that time runs."""
        try:
            known = json.loads(self._file.read_text())
            if known["boot_id"] == self._boot_id:
                self._written_s = float(known["heard_at_s"])
                return min(now, self._written_s)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("cannot be read: as if the master was heard of now", file=str(self._file), error=str(error))
        return now

    def note(self, heard_at_s: float) -> None:
        """Writes the moment down, unless it is known well enough. What the disk does not take is tried again."""
        if heard_at_s < self._written_s + STEP_S:
            return
        temporary = self._file.with_suffix(".new")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                json.dump({"boot_id": self._boot_id, "heard_at_s": heard_at_s}, out)
            temporary.replace(self._file)
        except OSError as error:
            log.error("not written; trying again", file=str(self._file), error=str(error))
            return
        self._written_s = heard_at_s


async def stop_when_cut_off(
    workers: Mapping[str, PodWorker], heard_at_s: Callable[[], float], last_heard: LastHeard, clock: Clock
) -> None:
    """Ends pods whose spec says that they must not run when the master was not heard of for so long. Until cancelled.

    `heard_at_s()`: when it was heard of last, monotonic.
    """
    await clock.sleep(FIRST_LOOK_S)
    while True:
        limited = [worker for worker in workers.values() if worker.pod.spec.stopAfterDisconnectSeconds]
        if limited:
            last_heard.note(heard_at_s())
        for worker in limited:
            spec, silent_s = worker.pod.spec, clock.monotonic() - heard_at_s()
            if is_cut_off(spec, silent_s) and worker.state.stop is None and not worker.is_over:
                limit_s = spec.stopAfterDisconnectSeconds
                why = f"The node agent has not reached the master for more than {limit_s} seconds"
                await tell(worker.ref, FailAsked("StoppedAfterDisconnect", why, worker.state.grace_s))
        await clock.sleep(LOOK_S)
