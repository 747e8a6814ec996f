"""What the agent writes down of each pod, so that its next life goes on exactly where this one was killed.

DIR/state/<uid>.json holds the pod as it was last reported and its lifecycle's state. A checkpoint may lag a few
milliseconds behind: what happened since then is known to the spawner, whose records say which runs were started and
how they ended (`node_agent.adoption` puts both together). Therefore the order matters: a run's end is forgotten by the
spawner only when a checkpoint that knows it is written.

Deadlines are monotonic times, and mean something only in the same run of the machine, which `boot_id` names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.config.dirs import make_private_dir
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent.pod_state import PodState
from node_agent.state_json import from_plain, to_plain

VERSION = 1
RETRY_S = 1.0
"""After the disk did not take a checkpoint."""

log = get_logger("node_agent.checkpoint")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A pod at one moment."""

    boot_id: str
    pod: bytes
    """The Pod, as protobuf, with the status that was last made."""
    pod_ip: str
    start_time_s: float
    """When the pod was first taken up, seconds since 1970."""
    incarnation: int
    state: PodState

    @property
    def uid(self) -> str:
        return self.state.uid

    def dumps(self) -> str:
        """As text."""
        pod = base64.b64encode(self.pod).decode()
        head = {"version": VERSION, "boot_id": self.boot_id, "pod_ip": self.pod_ip, "pod": pod}
        head |= {"start_time_s": self.start_time_s, "incarnation": self.incarnation}
        return json.dumps(head | {"state": to_plain(self.state)})

    @classmethod
    def loads(cls, text: str) -> Checkpoint:
        """Raises ValueError if it is not one."""
        try:
            data = json.loads(text)
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']} is not known")
            pod = core.Pod.FromString(base64.b64decode(data["pod"])).SerializeToString()
            state = from_plain(PodState, data["state"])
            return cls(data["boot_id"], pod, data["pod_ip"], data["start_time_s"], data["incarnation"], state)
        except ValueError:
            raise
        except Exception as error:  # protobuf's DecodeError is an Exception of its own; a damaged file may be anything
            raise ValueError(f"not a checkpoint: {error!r}") from error


class Checkpoints:
    """Writes checkpoints down, a little later and many at a time."""

    def __init__(self, directory: Path, *, clock: Clock, tick_s: float, forget: Callable[[str], None]) -> None:
        """`forget(run_id)` is called for the runs whose end a checkpoint on disk knows."""
        self._directory, self._clock, self._tick_s, self._forget = directory, clock, tick_s, forget
        # One entry per pod of the node that changed and is not written yet: what comes later replaces it.
        self._waiting: dict[str, Callable[[], Checkpoint]] = {}
        self._noted: dict[str, list[str]] = {}
        self._work = asyncio.Event()
        self._tasks = Tasks("checkpoints")

    async def start(self) -> None:
        """Begins to write."""
        self._tasks.spawn(self._run(), name="write checkpoints")

    async def stop(self) -> None:
        """Writes what waits, and ends. Twice is fine."""
        await self._tasks.cancel_all()
        self._write_all()

    def put(self, uid: str, make: Callable[[], Checkpoint], ended_runs: Iterable[str] = ()) -> None:
        """The pod has changed; `make` is asked when it is written. `ended_runs` need not be remembered after that."""
        self._waiting[uid] = make
        self._noted.setdefault(uid, []).extend(ended_runs)
        self._work.set()

    def remove(self, uid: str) -> None:
        """Nothing of the pod is left, here or at the master."""
        self._waiting.pop(uid, None)
        (self._directory / f"{uid}.json").unlink(missing_ok=True)
        self._forget_noted(uid)

    def load(self) -> list[Checkpoint]:
        """All that there are. One that cannot be read is named and put aside: its pod is what the master says it is."""
        make_private_dir(self._directory)
        found = []
        for file in sorted(self._directory.iterdir()):
            if file.suffix != ".json":
                if file.suffix == ".new":
                    file.unlink(missing_ok=True)
                continue
            try:
                found.append(Checkpoint.loads(file.read_text()))
            except (OSError, ValueError) as error:
                log.error("checkpoint cannot be read; put aside", file=str(file), error=str(error))
                file.replace(file.with_suffix(".bad"))
        return found

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            await self._clock.sleep(self._tick_s)
            self._work.clear()
            if not self._write_all():
                await self._clock.sleep(RETRY_S)
                self._work.set()

    def _write_all(self) -> bool:
        """False if the disk did not take all."""
        while self._waiting:
            uid, make = next(iter(self._waiting.items()))
            file = self._directory / f"{uid}.json"
            temporary = file.with_suffix(".new")
            try:
                with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                    out.write(make().dumps())
                temporary.replace(file)
            except OSError as error:
                log.error("checkpoint not written; trying again", file=str(file), error=str(error))
                return False
            del self._waiting[uid]
            self._forget_noted(uid)
        return True

    def _forget_noted(self, uid: str) -> None:
        for run_id in self._noted.pop(uid, []):
            self._forget(run_id)
