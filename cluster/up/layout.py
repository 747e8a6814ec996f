"""Where a cluster lives on disk, and what it says about itself there.

    <state root>/clusters/<name>/        0700, everything the cluster ever writes
        cluster.json                     what runs: written by the supervisor, atomically, at each change
        pki/<identity>/                  ca.crt tls.crt tls.key
        master/  nodes/<node>/  log/  run/

`cluster.json` is how the other commands find a cluster: who runs, where it listens, which credentials to use. A pid in
it counts only together with the start time of its process, since pids are used again.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.api.errors import Invalid, NotFound
from cluster.api.names import dns1123_label_problems
from cluster.config.dirs import make_private_dir, state_root
from node_agent.runtime.cgroups import remove_remembered


@dataclass(slots=True)
class Process:
    """One process of the cluster."""

    name: str
    role: str
    """master, manager, node-agent, hollow, proxy, dns, kubernetes, supervisor."""
    pid: int
    start_time: int
    """From /proc/<pid>/stat, in clock ticks since boot: tells a process from a later one with the same pid."""
    address: str = ""
    """Where it listens, host:port; empty if it does not."""
    state: str = "running"
    """running, starting, stopped."""
    restarts: int = 0

    def is_alive(self) -> bool:
        """This very process runs (and is not a zombie)."""
        return self.pid > 0 and process_start_time(self.pid) == self.start_time


@dataclass(slots=True)
class ClusterState:
    """The content of cluster.json."""

    name: str
    detached: bool
    """Lives until `podium down`; otherwise as long as the `podium up` that started it."""
    profile: str
    block: int
    """The cluster owns the addresses 127.<block>.0.0/16."""
    master: str
    """Where the master serves; of several with commas between."""
    started_at: float
    """Seconds since 1970."""
    processes: list[Process] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    store: str = ""
    """Where the state is, if not in the cluster's directory: "etcd://..."."""
    etcd_credentials: str = ""
    scheduler_config: str = ""
    """File with profiles and settings of the scheduler."""
    policies: str = ""
    """Directory with policies for ambassadors."""
    lifetime: str = "dev"
    """What becomes of pods when the `podium up` that started the cluster dies: "dev" (they end), "service"."""
    hollow: int = 0
    """How many nodes are only played, by processes of the cluster itself."""
    dns: str = ""
    """Where names are answered for, host:port; empty: nowhere."""
    cluster_domain: str = "cluster.local"
    """What those names end with."""

    @property
    def masters(self) -> list[str]:
        """The address of each master."""
        return self.master.split(",")

    @property
    def supervisor(self) -> Process | None:
        return next((process for process in self.processes if process.role == "supervisor"), None)

    def is_running(self) -> bool:
        """Its supervisor lives."""
        supervisor = self.supervisor
        return supervisor is not None and supervisor.is_alive()


@dataclass(frozen=True, slots=True)
class ClusterDir:
    """The directory of one cluster."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state_file(self) -> Path:
        return self.path / "cluster.json"

    @property
    def control_socket(self) -> Path:
        return self.path / "run" / "control.sock"

    def credentials(self, identity: str) -> Path:
        """Directory of an identity's certificate: "admin", "node:node-1" ..."""
        return self.path / "pki" / identity.replace(":", "-")

    def log(self, process: str) -> Path:
        return self.path / "log" / f"{process}.log"

    def metrics_socket(self, process: str) -> Path:
        return self.path / "run" / f"{process}.metrics.sock"

    @property
    def handover_socket(self) -> Path:
        """Where a proxy hands its listening sockets to its successor."""
        return self.path / "run" / "proxy.handover.sock"

    @property
    def access_log(self) -> Path:
        """The lines of services with `accessLog: true`."""
        return self.path / "log" / "access.log"

    def create(self) -> None:
        """Makes the directory and its rooms, 0700 each; refuses one that others can read or that is a link."""
        make_private_dir(self.path)
        for room in ("pki", "master", "nodes", "log", "run"):
            make_private_dir(self.path / room)

    def read_state(self) -> ClusterState | None:
        """What cluster.json says; None if there is none (never started, or removed meanwhile)."""
        try:
            data = json.loads(self.state_file.read_text())
        except FileNotFoundError:
            return None
        data["processes"] = [Process(**process) for process in data["processes"]]
        return ClusterState(**data)

    def write_state(self, state: ClusterState) -> None:
        """Replaces cluster.json: a reader sees the old one or the new one."""
        temporary = self.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(state), indent=1))
        temporary.replace(self.state_file)

    def remove(self) -> None:
        """Removes the directory with all that is in it, and those above it that were made for it, if empty."""
        for node in (self.path / "nodes").glob("*"):
            remove_remembered(node)
        for link in (self.path / "nodes").glob("*/memory"):  # what nodes keep in memory lies elsewhere
            if link.is_symlink():
                shutil.rmtree(link.resolve(), ignore_errors=True)
        shutil.rmtree(self.path)
        for parent in (self.path.parent, self.path.parent.parent):
            try:
                parent.rmdir()
            except OSError:
                return  # another cluster lives there


def cluster_dir(name: str) -> ClusterDir:
    """The directory of the cluster of that name, whether it exists or not. Raises Invalid for a bad name."""
    problems = dns1123_label_problems(name)
    if problems:
        raise Invalid(f'"{name}" cannot be the name of a cluster: {problems[0]}')
    return ClusterDir(state_root() / "clusters" / name)


def known_clusters() -> list[ClusterDir]:
    """All clusters with a directory, sorted by name."""
    root = state_root() / "clusters"
    if not root.is_dir():
        return []
    return [ClusterDir(path) for path in sorted(root.iterdir()) if path.is_dir()]


def _running() -> list[tuple[ClusterDir, ClusterState]]:
    return [
        (directory, state)
        for directory in known_clusters()
        if (state := directory.read_state()) is not None and state.is_running()
    ]


def find_cluster(name: str | None) -> tuple[ClusterDir, ClusterState]:
    """The named cluster, or the only one that runs. Raises NotFound with the command that helps."""
    if name:
        directory = cluster_dir(name)
        state = directory.read_state()
        if state is None or not state.is_running():
            others = ", ".join(other.name for other, _ in _running())
            there = f" ({others} {'is' if ',' not in others else 'are'})" if others else ""
            raise NotFound(f'cluster "{name}" is not running{there}. Start it: podium up --cluster {name} -d')
        return directory, state
    running = _running()
    if not running:
        raise NotFound("no cluster is running. Start one: podium up -d")
    if len(running) > 1:
        names = ", ".join(directory.name for directory, _ in running)
        raise NotFound(
            f"{len(running)} clusters are running ({names}); name one: --cluster NAME or PODIUM_CLUSTER=NAME"
        )
    return running[0]


def process_start_time(pid: int) -> int:
    """Start of a live process in clock ticks since boot; 0 if there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def this_process(name: str, role: str, address: str = "") -> Process:
    """The entry of the calling process."""
    return Process(name, role, os.getpid(), process_start_time(os.getpid()), address)
