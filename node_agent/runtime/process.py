"""Processes as containers: runs, as the spawner of the node's directory has them.

It keeps, per run, what the spawner reported, and lets whoever asks wait for it. A spawner that was there already has
runs that an earlier life of this agent started, and that are to be adopted. If the spawner dies, which it never should,
nobody owns its processes any more: a new one finds what it left (by pid and start time, and by the marker in the
environment) and kills it, and the runs are reported as lost. How the two talk is in `spawner_link`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.telemetry.log import get_logger
from node_agent import process_tree as tree
from node_agent.runtime.interface import (
    UNKNOWN_EXIT_CODE,
    Adopted,
    Confinement,
    Ended,
    OnSurvivors,
    Program,
    Started,
    StartFailure,
    Used,
)
from node_agent.runtime.process_exec import ProcessExec, open_streams
from node_agent.runtime.spawner_link import SpawnerLink
from node_agent.spawner_records import MARKER

_CHUNK_BYTES = 65536
STOP_LIMIT_S = 12.0
"""How long the spawner may take to kill everything; it gives up after 10 s itself."""
RECOVERY_PAUSE_S = 1.0
_FREE = Confinement()

log = get_logger("node_agent.runtime")


@dataclass(slots=True)
class _Run:
    started: asyncio.Future[Started]
    ended: asyncio.Future[Ended]
    at: Started | None = None
    written: asyncio.Event = field(default_factory=asyncio.Event)
    """Its standard input has taken what was given last."""
    survivors: Sequence[int] = ()
    """What of it does not die."""
    on_survivors: list[OnSurvivors] = field(default_factory=list)
    """Those who wait for its end, and have not been told of any."""
    forgotten: bool = False
    """Nobody will ask for it once it has ended."""


class ProcessRuntime:
    """Runs programs as processes of this machine, through the spawner of a node's directory."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        log_max_bytes: int,
        log_files: int,
        lifetime: str = "dev",
        lifeline_fd: int | None = None,
        patience_s: float = 0.0,
        hidden: Path | None = None,
    ) -> None:
        """`lifetime` "dev": the spawner ends everything at the end of file of `lifeline_fd`, or of this process if
        there is none; an agent that is there then is given `patience_s` to do it with grace. "service": it does not.
        `hidden` is the directory that programs must not see (but for what is theirs in it): the cluster's.
        """
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._adopted: dict[str, Adopted] = {}
        self._tasks = Tasks("runtime")
        self._known: set[str] = set()  # that the spawner spoke of when we connected
        self._stopping = False
        self._link = SpawnerLink(
            directory,
            clock=clock,
            hidden=hidden,
            log_max_bytes=log_max_bytes,
            log_files=log_files,
            lifetime=lifetime,
            lifeline_fd=lifeline_fd,
            patience_s=patience_s,
            on_run=self._on_known,
            on_message=self._on_message,
            on_hung_up=self._on_hung_up,
        )

    @property
    def spawner_pid(self) -> int:
        """The pid of the spawner; 0 if there is none now."""
        return self._link.pid

    @property
    def confinement(self) -> Mapping[str, Any]:
        """What the spawner did to itself, and so to all pods, and what it could not do: as it says so itself."""
        return self._link.confinement

    @property
    def can_mount(self) -> bool:
        return bool(self.confinement.get("mounts"))

    @property
    def hides(self) -> bool:
        return bool(self.confinement.get("hidden"))

    @property
    def names(self) -> bool:
        return bool(self.confinement.get("names"))

    @property
    def missing(self) -> Sequence[str]:
        return list(self.confinement.get("missing", ()))

    @property
    def adopted(self) -> Mapping[str, Adopted]:
        return self._adopted

    async def start(self) -> None:
        try:
            await self._link.connect()
        except BaseException:
            await self._let_go("the spawner does not answer")
            raise
        self._adopted = {
            id: Adopted(run.at, run.ended.result() if run.ended.done() else None)
            for id, run in self._runs.items()
            if run.at is not None
        }

    async def stop(self) -> None:
        if not self._stopping and self._link.is_open:
            self._link.send({"op": "end"})
        self._stopping = True
        deadline = self._clock.monotonic() + STOP_LIMIT_S
        while self._link.is_open and self._clock.monotonic() < deadline:  # noqa: ASYNC110  (its end of file)
            await asyncio.sleep(0.005)
        if self._link.is_open:
            log.error("spawner does not end; killing it", pid=self._link.pid)
            self._link.kill()
        await self._let_go("the node agent stopped")

    async def leave(self) -> None:
        self._stopping = True
        await self._link.all_sent()
        await self._let_go("the node agent stopped")

    async def _let_go(self, why: str) -> None:
        self._link.close()
        self._lose_all(why)
        await self._tasks.cancel_all()

    # --- runs

    async def run(self, program: Program) -> Started:
        message = self._start_message(program) | {"log": program.log_path, "stdin": program.stdin}
        return await self._start(program.run_id, message, [])

    async def wait(self, run_id: str, on_survivors: OnSurvivors | None = None) -> Ended:
        run = self._runs[run_id]
        if on_survivors is not None and run.survivors:
            on_survivors(run.survivors)
        elif on_survivors is not None:
            run.on_survivors.append(on_survivors)
        return await asyncio.shield(run.ended)

    def forget(self, run_id: str) -> None:
        self._adopted.pop(run_id, None)
        run = self._runs.get(run_id)
        if run is not None:
            run.forgotten = True
            if run.ended.done():
                self._drop(run_id)

    def _drop(self, run_id: str) -> None:
        del self._runs[run_id]
        if self._link.is_open:
            self._link.send({"op": "forget", "id": run_id})

    def pid_of(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        return run.at.pid if run and run.at and not run.ended.done() else 0

    def pids_of(self, run_id: str) -> list[int]:
        """What descends from the first process; and what lost its parents, and carries the run's marker."""
        leader = self.pid_of(run_id)
        if not leader:
            return []
        leaders = {run.at.pid for run in self._runs.values() if run.at is not None}
        orphans = [pid for pid in tree.children_of(self._link.pid) if pid not in leaders]
        return tree.descendants_of([leader, *(pid for pid in orphans if tree.environ_value(pid, MARKER) == run_id)])

    def signal(self, run_id: str, number: int) -> None:
        self._tell_about(run_id, {"op": "signal", "id": run_id, "signal": number})

    def kill(self, run_id: str) -> None:
        self._tell_about(run_id, {"op": "kill", "id": run_id})

    async def write_stdin(self, run_id: str, data: bytes) -> None:
        run = self._runs.get(run_id)
        if run is None or run.ended.done():
            return
        run.written.clear()
        for start in range(0, len(data), _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES]
            self._tell_about(run_id, {"op": "stdin", "id": run_id, "data": base64.b64encode(chunk).decode()})
        await run.written.wait()

    def close_stdin(self, run_id: str) -> None:
        self._tell_about(run_id, {"op": "stdin_close", "id": run_id})

    def resize(self, run_id: str, rows: int, columns: int) -> None:
        self._tell_about(run_id, {"op": "resize", "id": run_id, "rows": rows, "columns": columns})

    async def exec(self, program: Program, beside: str = "") -> ProcessExec:
        ours, theirs = open_streams(tty=program.tty)
        try:
            # Its control groups may be in use, and hold up whoever goes there: it goes by itself.
            program = replace(program, confinement=replace(program.confinement, apart=True))
            message = self._start_message(program) | {"log": "", "fds": 3, "parent": beside}
            await self._start(program.run_id, message, theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            self.forget(program.run_id)
            raise
        try:
            return await ProcessExec.open(self, program.run_id, self._runs[program.run_id].ended, ours)
        except BaseException:  # whoever wanted it has gone
            self.kill(program.run_id)
            self.forget(program.run_id)
            raise

    def _start_message(self, program: Program) -> dict[str, Any]:
        message: dict[str, Any] = {
            "op": "start",
            "id": program.run_id,
            "argv": program.argv,
            "env": dict(program.env),
            "cwd": program.cwd,
        }
        if program.confinement != _FREE:
            message["confinement"] = asdict(program.confinement)
        if program.tty:
            message["tty"] = True
        return message

    async def _start(self, run_id: str, message: dict[str, Any], fds: list[int]) -> Started:
        """Takes the descriptors over, whatever happens."""
        if run_id in self._runs:
            raise ValueError(f"run id {run_id} was used before")
        loop = asyncio.get_running_loop()
        try:
            await self._link.ready()
            run = self._runs[run_id] = _Run(loop.create_future(), loop.create_future())
            self._link.send(message, fds)
            fds = []
        finally:
            for fd in fds:
                os.close(fd)
        try:
            return await asyncio.shield(run.started)
        except StartFailure:
            self._runs.pop(run_id, None)
            raise
        except asyncio.CancelledError:
            if not self._stopping:
                self.kill(run_id)
            raise

    def _tell_about(self, run_id: str, message: dict[str, Any]) -> None:
        run = self._runs.get(run_id)
        if run is not None and not run.ended.done() and self._link.is_open:
            self._link.send(message)

    # --- what the spawner says

    def _on_message(self, message: dict[str, Any]) -> None:
        run = self._runs.get(message["id"])
        if run is None:
            return
        match message["event"]:
            case "started":
                run.at = Started(message["pid"], message["ticks"], message["at"], message["mono"])
                run.started.set_result(run.at)
            case "failed":
                run.started.set_exception(StartFailure(message["code"], message["message"]))
                run.started.exception()  # seen: whoever asked may have been cancelled
                if run.forgotten:
                    del self._runs[message["id"]]
            case "written":
                run.written.set()
            case "survivors":
                run.survivors, waiting = message["pids"], run.on_survivors
                run.on_survivors = []
                for on_survivors in waiting:
                    on_survivors(run.survivors)
            case "exited":
                self._end(message["id"], run, _ended(message, same_boot=True))

    def _on_known(self, entry: dict[str, Any]) -> None:
        """The spawner has this run: one of an earlier life of ours, or, after the spawner's own death, one of ours."""
        self._known.add(entry["run"])
        loop = asyncio.get_running_loop()
        run = self._runs.setdefault(entry["run"], _Run(loop.create_future(), loop.create_future()))
        same_boot = entry["boot"] == self._link.boot
        mono = entry.get("mono") if same_boot else None
        run.at = run.at or Started(entry["pid"], entry["ticks"], entry["at"], mono)
        if not run.started.done():
            run.started.set_result(run.at)
        if "end" in entry:
            self._end(entry["run"], run, _ended(entry["end"], same_boot=same_boot))

    def _end(self, run_id: str, run: _Run, ended: Ended) -> None:
        run.written.set()
        if not run.ended.done():
            run.ended.set_result(ended)
        if run.forgotten:
            self._drop(run_id)

    # --- the spawner's death

    def _on_hung_up(self) -> None:
        if not self._stopping:
            self._tasks.spawn(self._recover(), name="recover from the spawner's death")

    async def _recover(self) -> None:
        """A new spawner ends what the old one left behind, and says so, or will; what it knows nothing of is lost."""
        log.error("the spawner died; a new one ends what it left behind", runs=len(self._runs))
        self._link.bury()
        before = set(self._runs)
        while not self._stopping:
            try:
                self._known.clear()
                await self._link.connect()
                break
            except OSError as error:
                log.error("no spawner", error=str(error))
                self._link.disconnect()
                await self._clock.sleep(RECOVERY_PAUSE_S)
        self._lose_all("the process that watched it died", before - self._known)

    def _lose_all(self, why: str, which: Iterable[str] | None = None) -> None:
        ended = Ended(UNKNOWN_EXIT_CODE, signal.SIGKILL, self._clock.wall(), lost=True)
        for run_id in list(self._runs if which is None else which):
            run = self._runs.get(run_id)
            if run is None:
                continue
            if not run.started.done():
                self._runs.pop(run_id)
                run.started.set_exception(StartFailure(128, why))
                run.started.exception()
            self._end(run_id, run, ended)


def _ended(message: dict[str, Any], *, same_boot: bool) -> Ended:
    usage = message.get("usage")
    return Ended(
        message["code"],
        message["signal"],
        message["at"],
        message["tail"],
        lost=message.get("lost", False),
        used=Used(usage["user_ms"], usage["system_ms"], usage["max_rss_bytes"]) if usage else None,
        at_mono_s=message.get("mono") if same_boot else None,
    )
