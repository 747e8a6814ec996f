"""When the master was heard of last, over all lives of the agent; and which pods must not run on without it.

A pod whose spec has `stopAfterDisconnectSeconds` is ended when the node has been cut off for so long. An agent that was
killed meanwhile must not begin to count anew, so the moment is written down in the node's directory while there are
such pods: as a monotonic time, which nobody sets, with the boot that it belongs to.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger

FILE = "heard.json"
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
