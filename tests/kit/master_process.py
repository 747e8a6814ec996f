"""A master in a process of its own, without nodes: started in a second, killed, suspended, and started again.

    async with MasterProcess(Pki(tmp_path), "m1") as master: ...

Its address is the same in all its lives. `keep` starts it again whenever it ends, for runs in which it dies at
failpoints. What it says goes to a file; a failure shows the end of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from cluster.actor.tasks import Tasks
from cluster.client.grpc_client import GrpcClusterClient
from cluster.rpc.channel import Channels
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.stub import ClusterStub
from cluster.store.failpoints import VARIABLE
from cluster.testing.signals import send
from tests.kit.ports import free_port

HOST = "127.0.0.1"
START_S = 60.0
_PAUSE_S = 0.02


class Pki:
    """Certificates of a cluster of masters, and their directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make_ca(directory / "ca", "masters")
        issue(directory / "ca", directory / "master", Identity("master"), hosts=[HOST])
        issue(directory / "ca", directory / "admin", Identity("admin"))
        self.admin = Credentials.load(directory / "admin")


@asynccontextmanager
async def poller_open(credentials: Credentials) -> AsyncIterator[None]:
    """gRPC has descriptors of its own as long as anything refers to any channel: around a leak check, hold one."""
    channels = Channels(f"{HOST}:1", credentials)
    _ = channels.unary
    yield
    await channels.close()


class MasterProcess:
    """See the head of this file."""

    def __init__(
        self,
        pki: Pki,
        name: str = "master",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`arguments` and `environment` are added to those of every life; without --store, the store lies in a
        directory by the name. `prefix` stands before the command, which must become the same process: nsenter."""
        self.name = name
        self.directory = pki.directory / name
        self.address = f"{HOST}:{free_port(HOST)}"  # its next life is found there, too
        self.lives = 0
        self.codes: list[int] = []
        """How each life ended that ended by itself or by `kill`."""
        self._pki = pki
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._prefix = list(prefix)
        self._process: subprocess.Popen[str] | None = None
        self._tasks = Tasks(f"keeper of {name}")

    async def __aenter__(self) -> MasterProcess:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def credentials(self) -> Credentials:
        """Of the admin."""
        return self._pki.admin

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """It has been started and has not ended (it may be suspended)."""
        return self._process is not None and self._process.poll() is None

    async def start(self, failpoints: str = "") -> None:
        """Returns when it serves. Raises AssertionError with what it said if it ends instead, or takes too long."""
        process = self._process = self._spawn(failpoints)
        self.lives += 1
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                ready = await asyncio.to_thread(process.stdout.readline)
        except TimeoutError:
            process.kill()
            raise AssertionError(f"{self.name} was not ready in {START_S:g} s\n{self.story()}") from None
        if "address=" not in ready:
            code = await self.wait()
            raise Ended(f"{self.name} ended with {code} before it served\n{self.story()}", code)
        self.address = ready.split("address=")[1].split()[0]

    def _spawn(self, failpoints: str) -> subprocess.Popen[str]:
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "cluster", "master", "--listen", self.address, "--profile", "test"]
        command += ["--dir", str(self.directory / "store"), "--credentials", str(self._pki.directory / "master")]
        with (self.directory / "stderr").open("ab") as stderr:
            return subprocess.Popen(
                [*self._prefix, *command, *self._arguments],
                env={**os.environ, **self._environment, VARIABLE: failpoints},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    async def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit code, once it has ended."""
        process = self._process
        assert process is not None, f"{self.name} does not run"
        deadline = time.monotonic() + timeout_s
        while (code := process.poll()) is None:
            assert time.monotonic() < deadline, f"{self.name} did not end in {timeout_s:g} s\n{self.story()}"
            await asyncio.sleep(_PAUSE_S)
        if process.stdout is not None and not process.stdout.closed:
            process.stdout.close()
            self.codes.append(code)
        return code

    def signal(self, number: signal.Signals) -> bool:
        """False: it does not run."""
        if not self.runs:
            return False
        send(self.pid, number)
        return True

    async def kill(self) -> int:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        return await self.wait()

    async def terminate(self) -> int:
        """SIGTERM; returns when it is gone."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return await self.wait()

    def keep(self, failpoints: str = "") -> None:
        """From now on it is started again whenever it has ended, until `let_go`."""
        self._tasks.spawn(self._keep(failpoints), name=f"keep {self.name}")

    async def _keep(self, failpoints: str) -> None:
        while True:
            if not self.runs:
                if self._process is not None:
                    await self.wait()
                try:
                    await self.start(failpoints)
                except Ended:
                    continue  # it died while it started: at a failpoint, or killed
            await asyncio.sleep(_PAUSE_S)

    async def let_go(self) -> None:
        """Ends `keep`."""
        await self._tasks.cancel_all()

    async def close(self) -> None:
        """Ends it, whatever its state. Twice is fine."""
        await self.let_go()
        if self._process is not None:
            self.signal(signal.SIGKILL)
            await self.wait()
            self._process = None

    def client(self) -> GrpcClusterClient:
        """A client of this master alone."""
        return GrpcClusterClient(self.address, self._pki.admin)

    def stub(self) -> tuple[ClusterStub, Channels]:
        """Calls without any repetition underneath; close the channels."""
        channels = Channels(self.address, self._pki.admin)
        return ClusterStub(channels), channels

    def story(self) -> str:
        """The end of what it said."""
        path = self.directory / "stderr"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""


class Ended(AssertionError):
    """It ended before it served."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
