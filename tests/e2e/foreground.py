"""`podium up` in the foreground, as a terminal has it: a process group of its own, and what it says, as it says it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.kit.processes import Proc, family


class Foreground:
    """A running `podium` command. As a context manager it is killed, with all that descends from it, at the end."""

    def __init__(
        self, home: Path, *arguments: str, python: Sequence[str] = (sys.executable,), **variables: str
    ) -> None:
        """`python`: the interpreter, and what stands before it; `variables`: further ones for its environment."""
        self.home = home
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")}
        self._process = subprocess.Popen(
            [*python, "-m", "cluster.cli.main", *arguments],
            env=environment | variables | {"PODIUM_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self.pid = self._process.pid
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, name="reader of podium up", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in family(self.pid):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait()

    @property
    def text(self) -> str:
        """All it said until now."""
        return "".join(self._lines)

    def wait_for(self, words: str, timeout_s: float = 60.0) -> None:
        """Returns when it has said these words."""
        deadline = time.monotonic() + timeout_s
        while words not in self.text:
            ended = self._process.poll()
            assert ended is None or words in self.text, f"ended with {ended} before it said {words!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"it did not say {words!r}:\n{self.text}"
            time.sleep(0.02)

    def everything(self) -> set[Proc]:
        """It, the cluster, the pods."""
        return family(self.pid)

    def signal_group(self, number: int) -> None:
        """What the terminal does at Ctrl-C: the signal goes to the whole process group."""
        os.killpg(self.pid, number)

    def signal(self, number: int) -> None:
        """What `kill` does."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit code, once it has ended and all that it said has been read."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout_s:g} s:\n{self.text}") from None
        self._reader.join(5.0)
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
