"""The processes of a cluster, as a test sees them: the `podium` command, whom it names, and signals to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.testing.signals import send


class NotRunning(LookupError):
    """A process that was asked for is down; it may be about to be started again."""


class Processes:
    """Those of one cluster."""

    name: str
    home: Path
    """PODIUM_HOME of this cluster: everything it writes is below."""

    def podium(self, *arguments: str, check: bool = True, stdin: str = "", timeout_s: float = 60.0) -> Any:
        """Runs the `podium` command on this cluster; returns its CompletedProcess, text on both outputs."""
        result = subprocess.run(
            [sys.executable, "-m", "cluster.cli.main", *arguments],
            env=environment_of(self.home) | {"PODIUM_CLUSTER": self.name},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"podium {' '.join(arguments)} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
            )
        return result

    def info(self) -> dict[str, Any]:
        """What `podium cluster-info -o json` says."""
        info: dict[str, Any] = json.loads(self.podium("cluster-info", "-o", "json").stdout)
        return info

    def pid(self, process: str) -> int:
        """The pid of "master", "manager" (of several: "master-1" ...), "proxy", "dns", "supervisor", a node's agent
        ("node-1") or the process that owns its pods ("node-1-spawner"). Raises NotRunning, a LookupError, if it is
        down, also for the moment before it is started again."""
        for entry in self.info()["processes"]:
            if entry["name"] == process and entry["state"] != "stopped":
                return int(entry["pid"])
        raise NotRunning(f"{process} is not running")

    def kill_process(self, process: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to a daemon (see `pid`); returns the pid it had. After SIGSTOP it does nothing any more."""
        pid = self.pid(process)
        send(pid, number)
        return pid

    def kill_node(self, name: str) -> None:
        """Kills a node: its agent with SIGKILL, and at the same moment all processes of its pods.

        To kill the agent alone, whose pods then run on: `kill_process(name)`.
        """
        spawner = self.pid(f"{name}-spawner")
        self.kill_process(name)
        os.kill(spawner, signal.SIGTERM)  # it kills what it owns, at once, and ends

    def pause_node(self, name: str) -> None:
        """Stops a node's agent with SIGSTOP: it is silent, its pods run on."""
        self.kill_process(name, signal.SIGSTOP)

    def resume_node(self, name: str) -> None:
        """Lets a paused agent go on."""
        self.kill_process(name, signal.SIGCONT)


def environment_of(home: Path) -> dict[str, str]:
    """What the command is started with: nothing of this process's own cluster."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PODIUM_")}
    return environment | {"PODIUM_HOME": str(home)}
