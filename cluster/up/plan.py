"""Which processes a cluster consists of, with their arguments: a pure function of the options.

Also the two decisions of the supervisor that are worth a test of their own: when a child that ended is started again,
and in which order children are stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cluster.up.addresses import AddressBlock
from cluster.up.layout import ClusterDir


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the user asked for."""

    nodes: int = 3
    profile: str = "laptop"
    node_cpu: str = ""
    """Capacity that each node reports, such as "4"; empty: that of the machine."""
    node_memory: str = ""
    node_pods: int = 110
    node_resources: tuple[str, ...] = ()
    """Further named resources of each node: "gpu=2"."""


class Restart(Enum):
    """What to do when a child ends by itself."""

    ALWAYS = "always"
    NEVER = "never"
    """A killed node agent is a dead node: that is what users kill it for."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One daemon."""

    name: str
    role: str
    module: str
    """Its `main(argv) -> int` is called in a forked process."""
    argv: tuple[str, ...]
    address: str = ""
    restart: Restart = Restart.ALWAYS


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """All daemons, in the order in which they are started."""

    children: tuple[ChildSpec, ...]
    stop_order: tuple[tuple[str, ...], ...] = field(default=())
    """Groups of names; a group is stopped when the one before is gone."""


def node_names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(1, count + 1)]


def plan_cluster(options: UpOptions, directory: ClusterDir, block: AddressBlock) -> ClusterPlan:
    """The daemons of a cluster.

    The manager stops first: otherwise it would replace the pods that the agents are just ending. The master stops
    last, because the agents report to it what became of their pods.
    """
    common = ("--profile", options.profile)
    master = ChildSpec(
        "master",
        "master",
        "cluster.__main__",
        (
            "master",
            *("--listen", block.master, "--dir", str(directory.path / "master")),
            *("--credentials", str(directory.credentials("master"))),
            *("--service-cidr", block.service_cidr, "--pod-cidr-base", block.pod_cidr_base),
            *common,
        ),
        block.master,
    )
    agents = tuple(
        ChildSpec(
            name,
            "node-agent",
            "node_agent.__main__",
            (
                *("--name", name, "--master", block.master, "--listen", block.agent(index)),
                *("--credentials", str(directory.credentials(f"node:{name}"))),
                *("--dir", str(directory.path / "nodes" / name), "--pods", str(options.node_pods)),
                *("--metrics-socket", str(directory.metrics_socket(name))),
                *(("--cpu", options.node_cpu) if options.node_cpu else ()),
                *(("--memory", options.node_memory) if options.node_memory else ()),
                *(word for resource in options.node_resources for word in ("--resource", resource)),
                *common,
            ),
            block.agent(index),
            Restart.NEVER,
        )
        for index, name in enumerate(node_names(options.nodes))
    )
    manager = ChildSpec(
        "manager",
        "manager",
        "cluster.__main__",
        (
            *("manager", "--master", block.master, "--credentials", str(directory.credentials("controllers"))),
            *("--scheduler-credentials", str(directory.credentials("scheduler"))),
            *common,
        ),
    )
    proxy = ChildSpec(
        "proxy",
        "proxy",
        "proxy.__main__",
        (
            *("--master", block.master, "--credentials", str(directory.credentials("proxy"))),
            *("--metrics-socket", str(directory.metrics_socket("proxy"))),
            *common,
        ),
    )
    names = tuple(agent.name for agent in agents)
    return ClusterPlan((master, *agents, manager, proxy), (("manager",), (*names, "proxy"), ("master",)))


@dataclass(frozen=True, slots=True)
class RestartBudget:
    """How fast a crashing child is started again: 0.05, 0.1, 0.2 ... s, at most every 5 s; calm again after 30 s."""

    initial_s: float = 0.05
    max_s: float = 5.0
    calm_after_s: float = 30.0

    def delay_s(self, crashes_in_a_row: int) -> float:
        """Seconds to wait before the start that follows the n-th crash in a row (from 1)."""
        return min(self.initial_s * 2.0 ** min(crashes_in_a_row - 1, 16), self.max_s)

    def crashes_in_a_row(self, before: int, ran_for_s: float) -> int:
        """The new count, for a child that just crashed."""
        return 1 if ran_for_s >= self.calm_after_s else before + 1
