"""Helpers of these tests: pods in a line, a lifecycle that is driven by hand, a runtime without processes, a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.actor.clock import Clock
from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_lifecycle import step
from node_agent.pod_state import Command, PodEvent, PodState
from node_agent.restart_policy import CrashBackoff
from node_agent.runtime.interface import Adopted, Ended, ExecProcess, OnSurvivors, Program, Started, StartFailure
from node_agent.status import initial_state

LIMIT_S = 20.0
"""For what merely takes its time."""
BACKOFF = CrashBackoff(initial_s=10, max_s=300, reset_s=600)


async def until(condition: Callable[[], bool]) -> None:
    """Returns when it has come true."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def make_pod(
    name: str = "web",
    *,
    uid: str = "",
    policy: str = "Always",
    containers: int = 1,
    node: str = "node-1",
    grace_s: int = 30,
    command: tuple[str, ...] = ("serve",),
) -> core.Pod:
    pod = core.Pod()
    pod.metadata.name, pod.metadata.namespace = name, "default"
    if uid:
        pod.metadata.uid = uid
    pod.spec.restartPolicy = policy
    pod.spec.nodeName = node
    pod.spec.terminationGracePeriodSeconds = grace_s
    for number in range(1, containers + 1):
        pod.spec.containers.add(name=f"c{number}", command=command)
    return pod


@dataclass
class Life:
    """A pod's lifecycle and all the commands that it gave."""

    pod: core.Pod
    state: PodState
    now: float = 1000.0
    log: list[Command] = field(default_factory=list)

    @classmethod
    def of(cls, pod: core.Pod, backoff: CrashBackoff = BACKOFF) -> Life:
        return cls(pod, initial_state(pod, backoff))

    def on(self, event: PodEvent) -> list[Command]:
        """Feeds an event; returns the commands."""
        self.state, commands = step(self.state, event, self.now)
        self.log += commands
        return commands


class FakeRuntime:
    """Runs nothing, remembers everything; the test decides how a run ends."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Without a clock runs start and end at given times."""
        self.clock = clock
        self.programs: dict[str, Program] = {}
        self.signals: list[tuple[str, int]] = []
        self.killed: list[str] = []
        self.refuse: dict[str, StartFailure] = {}
        """By program name (argv[0]): how its start fails."""
        self.started: dict[str, Started] = {}
        self.stopped = self.left = False
        self.taken = ""
        """Why it cannot start."""
        self.deaf = False
        """Programs do not obey SIGTERM."""
        self.undying = False
        """Nor do they die of SIGKILL."""
        self.on_survivors: dict[str, OnSurvivors] = {}
        self.attached: dict[str, str] = {}
        """By id, the commands: which run each one is beside; empty: none."""
        self._ends: dict[str, asyncio.Future[Ended]] = {}
        self._forgotten: set[str] = set()
        self.adopted: dict[str, Adopted] = {}
        self.can_mount = False
        self.hides = True
        self.names = False
        self.missing: list[str] = []

    def adopt_from(self, earlier: FakeRuntime) -> None:
        """The runs of an agent that was killed: they run on, and are known. Its commands end, and those on their own
        are known, too."""
        self.programs, self._ends = earlier.programs, earlier._ends
        for run_id, beside in earlier.attached.items():
            self.end(run_id, 137, 9)
            if beside:
                self._ends.pop(run_id, None)
        for run_id, end in self._ends.items():
            self.adopted[run_id] = Adopted(earlier.started[run_id], end.result() if end.done() else None)
        self.started = earlier.started

    async def start(self) -> None:
        if self.taken:
            raise OSError(self.taken)

    async def stop(self) -> None:
        self.stopped = True
        for run_id in list(self._ends):
            self.end(run_id, 137, 9)

    async def run(self, program: Program) -> Started:
        failure = self.refuse.get(program.argv[0])
        if failure is not None:
            raise failure
        assert program.run_id not in self.programs, "a run id is used once"
        if program.run_id.startswith("trial-"):  # of a security profile: it works, and that is all
            self._ends[program.run_id] = asyncio.get_running_loop().create_future()
            self.end(program.run_id, 0)
            return Started(pid=4000, start_ticks=1, at_s=1_700_000_000.0)
        return self._start(program)

    def _start(self, program: Program) -> Started:
        self.programs[program.run_id] = program
        self._ends[program.run_id] = asyncio.get_running_loop().create_future()
        at_s, at_mono_s = (self.clock.wall(), self.clock.monotonic()) if self.clock else (1_700_000_000.0, None)
        started = Started(pid=4000 + len(self.programs), start_ticks=1, at_s=at_s, at_mono_s=at_mono_s)
        self.started[program.run_id] = started
        return started

    async def wait(self, run_id: str, on_survivors: OnSurvivors | None = None) -> Ended:
        if on_survivors is not None:
            self.on_survivors[run_id] = on_survivors
        return await asyncio.shield(self._ends[run_id])

    async def leave(self) -> None:
        """What is said from now on nobody hears."""
        self.left = True

    def forget(self, run_id: str) -> None:
        if self.left:
            return
        self.adopted.pop(run_id, None)
        end = self._ends.get(run_id)
        if end is not None and end.done():
            del self._ends[run_id]
        elif end is not None:
            self._forgotten.add(run_id)

    async def write_stdin(self, run_id: str, data: bytes) -> None:
        raise AssertionError("the fake runtime reads nothing")

    def close_stdin(self, run_id: str) -> None:
        pass

    def resize(self, run_id: str, rows: int, columns: int) -> None:
        pass

    def pid_of(self, run_id: str) -> int:
        return 0

    def pids_of(self, run_id: str) -> list[int]:
        return []

    def signal(self, run_id: str, number: int) -> None:
        self.signals.append((run_id, number))
        if not self.deaf:
            self.end(run_id, 128 + number, number)

    def kill(self, run_id: str) -> None:
        self.killed.append(run_id)
        if not self.undying:
            self.end(run_id, 137, 9)

    async def exec(self, program: Program, beside: str = "") -> ExecProcess:
        if failure := self.refuse.get(program.argv[0]):
            raise failure
        if beside and beside not in self.running:
            raise StartFailure(126, "the container has just ended")
        self._start(program)
        self.attached[program.run_id] = beside
        return FakeExec(self, program.run_id)

    def end(self, run_id: str, code: int, signal: int = 0, tail: str = "", at_s: float = 1_700_000_001.0) -> None:
        """The run ends."""
        end = self._ends.get(run_id)
        if end is not None and not end.done():
            at_mono_s = self.clock.monotonic() if self.clock else None
            end.set_result(Ended(code, signal, self.clock.wall() if self.clock else at_s, tail, at_mono_s=at_mono_s))
            if run_id in self._forgotten:
                del self._ends[run_id]
            for command, beside in self.attached.items():
                if beside == run_id:
                    self.end(command, 137, 9)

    @property
    def running(self) -> list[str]:
        """Ids of the runs that are on."""
        return [run_id for run_id, end in self._ends.items() if not end.done()]


class _Nowhere(asyncio.WriteTransport):
    """Takes everything, and does nothing with it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class FakeExec:
    """A command of a FakeRuntime: it says and reads nothing."""

    def __init__(self, runtime: FakeRuntime, run_id: str) -> None:
        self._runtime, self._run_id = runtime, run_id
        self._ended = runtime._ends[run_id]
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()
        self.stdin = asyncio.StreamWriter(_Nowhere(), asyncio.Protocol(), None, asyncio.get_running_loop())
        for reader in (self.stdout, self.stderr):
            reader.feed_eof()

    async def wait(self) -> Ended:
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        self._runtime.signal(self._run_id, number)

    def resize(self, rows: int, columns: int) -> None:
        pass

    def kill(self) -> None:
        self._runtime.kill(self._run_id)

    def close(self) -> None:
        self.kill()
        self._runtime.forget(self._run_id)


async def serve(answer: Callable[[bytes], bytes | None]) -> tuple[asyncio.Server, int]:
    """A server on 127.0.0.1, and its port. `answer` is given the head of a request; for None nothing is answered."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        reply = answer(request)
        if reply is None:
            await reader.read()
        else:
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]
