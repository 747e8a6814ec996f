"""What the node agent needs of whatever runs programs: the seam behind which processes, and later images, live.

A *run* is one start of one program: a container between two restarts, or a command whose streams the caller holds,
beside such a run or on its own. Runs have ids that the caller chooses and never uses twice. A runtime promises that
when `wait` returns, nothing of the run's process tree is left. Runs may outlive the agent: the next one finds them in
`adopted`; but commands end with it, since it holds their streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

UNKNOWN_EXIT_CODE = 137
"""Kubernetes' exit code for a container of which nobody knows how it ended."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the machine that the program finds at another path."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is done to a program between its start and its first instruction. The default does nothing."""

    profile: str = ""
    """Name of the security profile whose measures are taken; empty: those that the spawner took for all."""
    uid: int = -1
    """User and group to run as; -1: the agent's."""
    gid: int = -1
    rlimits: Mapping[str, int] = field(default_factory=dict)
    """Hard limits by the names that setrlimit(2) has for them without RLIMIT_: {"NOFILE": 1024}; bytes, seconds or
    numbers, as setrlimit has them."""
    oom_score_adj: int | None = None
    """How soon the kernel kills it when the machine's memory is used up, from -1000 (never) to 1000; None: as soon as
    the agent. Only root may make it less than the agent's own: else it is that."""
    cgroups: tuple[str, ...] = ()
    """Directories of control groups that the program enters."""
    mounts: tuple[Mount, ...] = ()
    """In order: a later one may lie within an earlier one. They make a mount namespace of the program's own. There must
    be no links in the paths of their sources: a pod could have put them there."""
    stage: str = ""
    """All mounts lie in this directory, which is covered for them: the program itself brings them where they belong."""
    foreign: str = ""
    """A directory of the machine that may be read besides, if it is there; links in its path are followed."""
    ways: tuple[str, ...] = ()
    """With `uid`: paths, without links, that this user can come to, whatever lies above them; and so to the mounts."""
    read: tuple[str, ...] = ()
    """With `write`, all files that there are for it: what lies below these it may read and execute,"""
    write: tuple[str, ...] = ()
    """and below these it may do everything. Both empty: no such limit."""
    ports: tuple[int, ...] = ()
    """With `write`: the TCP ports that it may listen on, beside those that the system chooses."""
    filter: str = ""
    """A filter of system calls (`node_agent.seccomp`), as base64."""
    filter_fd: int = -1
    """The program itself wants the filter, in this descriptor, and is not subject to it."""
    depth: int = 0
    """The program that is meant is so many generations below the one that is started: it gets the signals."""
    apart: bool = False
    """Nobody but the program itself goes to its directory, its file, its control groups: one may be held up there."""
    read_only_root: bool = False
    """Nothing but `mounts`, the working directory and /tmp can be written."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; nothing is inherited. A runtime may add markers of its own."""
    cwd: str
    log_path: str = ""
    """Where output goes (the newest part of a rotated log); not used for exec."""
    confinement: Confinement = Confinement()
    stdin: bool = False
    """Its standard input stays open, for `write_stdin`; otherwise it is empty. An exec always has one."""
    tty: bool = False
    """It runs on a terminal of its own."""


@dataclass(frozen=True, slots=True)
class Started:
    """A program that runs."""

    pid: int
    start_ticks: int
    """When its first process started, in clock ticks since boot: tells it from a later one with the same pid."""
    at_s: float
    """Seconds since 1970: for people, since the clock may be set at any time."""
    at_mono_s: float | None = None
    """The same moment, monotonic; None if it was in another run of the machine."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a run's first process used, and those of its children that it waited for (getrusage(2))."""

    user_ms: int
    system_ms: int
    max_rss_bytes: int
    """The most memory that one of these processes had at once."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    exit_code: int
    """128+n for signal n."""
    signal: int
    """The signal that ended it; 0 if it exited."""
    at_s: float
    """Seconds since 1970."""
    tail: str = ""
    """The end of its output, at most a few thousand characters."""
    lost: bool = False
    """Nobody saw how it ended; exit code and time are assumptions."""
    used: Used | None = None
    """None where nobody saw it end."""
    at_mono_s: float | None = None
    """When it ended, monotonic; None if nobody saw it, or in another run of the machine."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A run that was started by an earlier life of this agent."""

    started: Started
    ended: Ended | None
    """None: it runs."""


OnSurvivors: TypeAlias = Callable[[Sequence[int]], None]


class StartFailure(Exception):
    """The program cannot be started: with the exit code a shell would give (127 not found, 126 not executable)."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message


class ExecProcess(Protocol):
    """A command that runs, with its streams."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader
    """Empty with a terminal: everything comes on stdout."""

    async def wait(self) -> Ended:
        """Returns when the command and all that it started are gone."""
        ...

    def signal(self, number: int) -> None:
        """Signals the command itself; nothing happens if it has ended."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Its terminal has this size now; nothing happens if it has none."""
        ...

    def kill(self) -> None:
        """Kills the command and all that it started."""
        ...

    def close(self) -> None:
        """Kills what is left and lets go of the streams. Twice is fine."""
        ...


class Runtime(Protocol):
    """Runs programs."""

    async def start(self) -> None:
        """Makes the runtime ready. Once. Raises OSError."""
        ...

    async def stop(self) -> None:
        """Ends all runs at once and returns when they are gone. Twice is fine."""
        ...

    async def leave(self) -> None:
        """Lets go of all runs: they go on, for the next agent to adopt. Commands end; the end of one that ran on its
        own is there to be adopted, too."""
        ...

    @property
    def adopted(self) -> Mapping[str, Adopted]:
        """By id, the runs that were there at the start; all that can be done with a run can be done with them."""
        ...

    @property
    def can_mount(self) -> bool:
        """Whether programs can have mounts of their own (`Confinement.mounts`)."""
        ...

    @property
    def hides(self) -> bool:
        """Whether programs are kept from the cluster's keys."""
        ...

    @property
    def names(self) -> bool:
        """Whether programs without mounts of their own find the node's resolv.conf at its place."""
        ...

    @property
    def missing(self) -> Sequence[str]:
        """What of the confinement of all programs could not be had here, each with its reason."""
        ...

    async def run(self, program: Program) -> Started:
        """Starts a program. Raises StartFailure."""
        ...

    async def wait(self, run_id: str, on_survivors: OnSurvivors | None = None) -> Ended:
        """How the run ended, once nothing of it is left. May be called by several, and after the end, until
        `forget`. Raises KeyError for a run that was never started.

        `on_survivors` is told, once, which processes SIGKILL did not end within a few seconds: they are in
        uninterruptible waits, and the run ends with them.
        """
        ...

    def forget(self, run_id: str) -> None:
        """Nobody will ask again: the end of this run has been noted, or is of no interest but to those who wait for it
        already. Until it has ended it is known all the same. Twice is fine."""
        ...

    def pid_of(self, run_id: str) -> int:
        """The first process of a run; 0 if it has ended."""
        ...

    def pids_of(self, run_id: str) -> list[int]:
        """All processes of a run, as far as they can be told; empty if it has ended."""
        ...

    def signal(self, run_id: str, number: int) -> None:
        """Signals the run's first process, and only that; nothing happens if it has ended."""
        ...

    def kill(self, run_id: str) -> None:
        """Kills the run's whole tree, commands executed beside it included."""
        ...

    async def write_stdin(self, run_id: str, data: bytes) -> None:
        """Returns when the run's standard input has taken it, or takes nothing any more. One call at a time."""
        ...

    def close_stdin(self, run_id: str) -> None:
        """No more input will come."""
        ...

    def resize(self, run_id: str, rows: int, columns: int) -> None:
        """The run's terminal has this size now; nothing happens if it has none."""
        ...

    async def exec(self, program: Program, beside: str = "") -> ExecProcess:
        """Starts a command. Raises StartFailure.

        Beside the run `beside` it ends with that, whose control groups it shares; if that has ended, it cannot be
        started. On its own it is a run like others: its control groups are its own, and go with it.
        """
        ...
