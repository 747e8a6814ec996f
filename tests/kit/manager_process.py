"""Controllers and scheduler in a process of their own, beside a master: started, suspended, and killed.

    pki, manager = Pki(tmp_path), ManagerProcess(pki, "one", master.address, ["--leader-elect"])

What it says goes to a file; a failure shows the end of it.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType

from cluster.rpc.identity import Identity, issue
from cluster.testing.signals import send
from tests.kit.master_process import Pki

START_S = 60.0
_PAUSE_S = 0.02


class ManagerProcess:
    """See the head of this file. Its identity in leases is its name."""

    def __init__(self, pki: Pki, name: str, master: str, arguments: Sequence[str] = ()) -> None:
        self.name = name
        self._directory = pki.directory
        self._command = [sys.executable, "-m", "cluster", "manager", "--master", master, "--profile", "test"]
        for flag, identity in (("--credentials", "controllers"), ("--scheduler-credentials", "scheduler")):
            if not (pki.directory / identity).exists():
                issue(pki.directory / "ca", pki.directory / identity, Identity(identity))
            self._command += [flag, str(pki.directory / identity)]
        self._command += arguments
        self._process: subprocess.Popen[str] | None = None

    async def __aenter__(self) -> ManagerProcess:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> str:
        """Returns its READY line. Raises AssertionError with what it said if there is none."""
        process = self._process = self._spawn()
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                ready = await asyncio.to_thread(process.stdout.readline)
        except TimeoutError:
            process.kill()
            raise AssertionError(f"{self.name} was not ready in {START_S:g} s\n{self.story()}") from None
        assert "READY" in ready, f"{self.name} ended before it was ready\n{self.story()}"
        return ready

    def _spawn(self) -> subprocess.Popen[str]:
        with (self._directory / f"{self.name}.stderr").open("ab") as stderr:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    @property
    def runs(self) -> bool:
        """It has been started and has not ended (it may be suspended)."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        if self.runs:
            send(self._process.pid, number)

    async def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit code, once it has ended."""
        process = self._process
        assert process is not None, f"{self.name} does not run"
        deadline = time.monotonic() + timeout_s
        while (code := process.poll()) is None:
            assert time.monotonic() < deadline, f"{self.name} did not end in {timeout_s:g} s\n{self.story()}"
            await asyncio.sleep(_PAUSE_S)
        if process.stdout is not None:
            process.stdout.close()
        return code

    async def kill(self) -> int:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        return await self.wait()

    async def terminate(self) -> int:
        """SIGTERM; returns when it is gone."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def close(self) -> None:
        """Ends it, whatever its state. Twice is fine."""
        if self._process is not None:
            await self.kill()
            self._process = None

    def story(self) -> str:
        """The end of what it said."""
        return self.said()[-4000:]

    def said(self) -> str:
        """All that it said."""
        path = self._directory / f"{self.name}.stderr"
        return path.read_text(errors="replace") if path.exists() else ""
