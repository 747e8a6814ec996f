"""What a node agent is told: the flags of `python -m node_agent`, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.config.profiles import Profile


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one node agent."""

    name: str
    """The node's name; the certificate must say the same."""
    master: str
    """host:port of the master; of several with commas between."""
    listen: str
    """host:port on which logs and exec are served; the host is also the node's address."""
    credentials: Path
    """Directory with ca.crt, tls.crt, tls.key."""
    dir: Path
    """The node's own directory, 0700: one directory per pod below pods/."""
    profile: Profile
    cpu: str = ""
    """Capacity as a quantity; empty: what the machine has. Also memory."""
    memory: str = ""
    pods: int = 110
    resources: Mapping[str, str] = field(default_factory=dict)
    """Free-form resources and how many of each there are."""
    labels: Mapping[str, str] = field(default_factory=dict)
    log_max_bytes: int = 10 * 1024 * 1024
    """Size at which a container's log starts a new file."""
    log_files: int = 3
    """How many files are kept of one run's log, the current one included."""
    status_tick_s: float = 0.02
    """Shortest time between two writes of statuses: what changes in between goes in one write."""
    checkpoint_tick_s: float = 0.1
    """Shortest time between two writes of checkpoints. What an agent that is killed has not written yet, the next one
    knows from the spawner, which says how runs ended until that is written."""
    eager_readiness: bool = True
    """Ask again between the periods until a readiness probe has succeeded once (Kubernetes does not)."""
    readiness_by_port: bool = True
    """Without a readiness probe, a container is ready when the first port that it declares listens (in Kubernetes, as
    soon as it runs)."""
    listener_check_s: float = 3.0
    """How long after a container's start its listening sockets are looked at, for the warning about 0.0.0.0."""
    lifetime: str = "dev"
    """"dev": pods end with whoever started the agent. "service": they outlive all but the agent's own orderly stop."""
    lifeline_fd: int | None = None
    """At whose end of file the pods end in the lifetime "dev"; None: at the agent's own end."""
    eviction_hard: str = ""
    """Below what the node ends pods: "memory.available<100Mi,nodefs.available<1%", or "none"; empty: as the profile
    says."""
    sandbox: bool = False
    """Offer the security profile sandbox, if it works here."""
    allow_trusted: bool = False
    """Offer the security profile trusted."""
    allow_root: bool = True
    """Of an agent that is root: pods may be, too."""
    cgroups: bool = False
    """Use control groups where they can be had."""
    hide: Path | None = None
    """The directory that pods must not see, in which clusters lie; None: the node's own. What is theirs in it shows."""
    dns: str = ""
    """host:port where the cluster's names are answered for; empty: nowhere."""
    resolv_conf: Path = Path("/etc/resolv.conf")
    """Whom the machine asks for names: what pods of dnsPolicy Default do, and others for names that are not the
    cluster's."""
    cluster_domain: str = "cluster.local"
    """What those names end with."""
    dns_forwards: bool = False
    """Other names are answered for there, too."""
    metrics_socket: Path | None = None
    """Unix socket that serves metrics and health."""

    @property
    def host(self) -> str:
        """The node's address."""
        return self.listen.rpartition(":")[0]
