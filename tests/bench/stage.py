"""The real daemons for a benchmark, as processes of their own, with certificates, on addresses of their own.

Unlike `cluster.testing` this starts only what is measured: a master without agents, a proxy without controllers.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cluster.client.grpc_client import GrpcClusterClient
from cluster.rpc.identity import Identity, issue, make_ca
from tests.bench.harness import Unavailable

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


async def end(process: asyncio.subprocess.Process) -> None:
    """Asks it to end, and kills it if it does not. Twice is fine."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def start_program(stack: AsyncExitStack, *argv: str) -> None:
    """A program of somebody else's, whose errors are seen; ends with the stack."""
    process = await asyncio.create_subprocess_exec(*argv)
    stack.push_async_callback(end, process)


def listen(stack: AsyncExitStack, address: tuple[str, int], backlog: int = 128) -> socket.socket:
    """A socket that listens there; closed with the stack."""
    listener = socket.create_server(address, backlog=backlog)
    stack.callback(listener.close)
    stack.callback(listener.shutdown, socket.SHUT_RDWR)  # first: whoever waits in accept keeps a closed one listening
    return listener


class Stage:
    """A directory, a block of loopback addresses and the daemons started so far."""

    def __init__(self, directory: Path, block: str, profile: str) -> None:
        self.directory = directory
        self.block = block
        """The first two numbers of the addresses: "127.201"."""
        self.profile = profile
        self.master = f"{block}.0.1:6443"
        self._processes: list[tuple[str, asyncio.subprocess.Process]] = []
        make_ca(directory / "ca", "bench")

    def credentials(self, identity: str, *hosts: str) -> Path:
        """A directory with a certificate of this identity."""
        path = self.directory / identity.replace(":", "-")
        if not path.exists():
            issue(self.directory / "ca", path, Identity.parse(identity), hosts=hosts)
        return path

    def pid(self, name: str) -> int:
        """Of a daemon that was started, the latest of that name."""
        return next(process.pid for known, process in reversed(self._processes) if known == name)

    @property
    def pids(self) -> list[tuple[str, int]]:
        """Name and process id of each daemon that was started."""
        return [(name, process.pid) for name, process in self._processes]

    def client(self, identity: str = "admin") -> GrpcClusterClient:
        """A client of the master; the caller closes it."""
        from cluster.rpc.identity import Credentials

        return GrpcClusterClient(self.master, Credentials.load(self.credentials(identity)))

    async def start_master(self) -> None:
        """A master with an empty store on this machine's disk, and room for the pods of many nodes."""
        host = self.master.partition(":")[0]
        await self.start(
            *("-m", "cluster", "master", "--listen", self.master, "--dir", str(self.directory / "master")),
            *("--credentials", str(self.credentials("master", host)), "--profile", self.profile),
            *("--service-cidr", f"{self.block}.0.0/20", "--pod-cidr-base", "10.0.0.0"),
        )

    async def start_manager(self) -> None:
        """Controllers and scheduler."""
        await self.start(
            *("-m", "cluster", "manager", "--master", self.master, "--profile", self.profile),
            *("--credentials", str(self.credentials("controllers"))),
            *("--scheduler-credentials", str(self.credentials("scheduler"))),
        )

    async def start_hollow(self, nodes: int, *options: str, prefix: str = "hollow", per_process: int = 2_500) -> None:
        """So many hollow nodes, registered and watching; `options` are those of `python -m node_agent.hollow`."""
        host = self.master.partition(":")[0]
        credentials = str(self.credentials(f"hollow:{prefix}", host))
        for first in range(1, nodes + 1, per_process):
            await self.start(
                *("-m", "node_agent.hollow", "--master", self.master, "--profile", self.profile),
                *("--listen", f"{host}:0", "--credentials", credentials, "--prefix", prefix),
                *("--first", str(first), "--count", str(min(per_process, nodes + 1 - first)), *options),
            )

    async def start_proxy(self) -> None:
        """A proxy for all services."""
        await self.start(
            *("-m", "proxy", "--master", self.master, "--profile", self.profile),
            *("--credentials", str(self.credentials("proxy"))),
        )

    async def start(self, *arguments: str, name: str = "") -> None:
        """Starts a Python daemon and returns at its READY line. Raises Unavailable with the log if it does not come."""
        name = name or (arguments[2] if arguments[1] == "cluster" else arguments[1])
        log = self.directory / f"{name}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
            )
        self._processes.append((name, process))
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not (line := await process.stdout.readline()).startswith(b"READY"):
                    if not line:
                        raise Unavailable(f"{name} ended: {log.read_text(errors='replace')[-2000:]}")
        except TimeoutError:
            raise Unavailable(f"{name} was not ready: {log.read_text(errors='replace')[-2000:]}") from None

    async def kill(self, name: str) -> None:
        """Kills the daemon of that name, the latest, and forgets it."""
        found = next(entry for entry in reversed(self._processes) if entry[0] == name)
        found[1].kill()
        await found[1].wait()
        self._processes.remove(found)

    async def stop(self) -> None:
        """Ends the daemons, the last one first."""
        for _, process in reversed(self._processes):
            await end(process)


@asynccontextmanager
async def stage(profile: str = "laptop") -> AsyncIterator[Stage]:
    """An empty stage; all that was started on it is ended, and its directory removed."""
    directory = Path(tempfile.mkdtemp(prefix="podium-bench-", dir=_disk()))
    made = Stage(directory, free_block(), profile)
    try:
        yield made
    finally:
        await made.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _disk() -> Path:
    """Durability is measured too, so the store lies on the disk of the project and not in memory (/tmp may be)."""
    build = Path(__file__).parents[2] / "build"
    build.mkdir(exist_ok=True)
    return build


def free_block() -> str:
    """A /16 of loopback addresses that nobody uses at the moment."""
    numbers = list(range(130, 250))
    random.Random(os.getpid()).shuffle(numbers)
    for number in numbers:
        with socket.socket() as probe:
            try:
                probe.bind((f"127.{number}.0.1", 6443))
                return f"127.{number}"
            except OSError:
                continue
    raise Unavailable("no free block of loopback addresses: is this Linux?")
