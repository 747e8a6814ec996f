"""Which processes a cluster consists of, with their arguments: a pure function of the options.

Also the two decisions of the supervisor that are worth a test of their own: when a child that ended is started again,
and in which order children are stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cluster.up import hollow
from cluster.up.addresses import DNS_PORT, AddressBlock
from cluster.up.layout import ClusterDir

KUBERNETES = "kubernetes"
"""The process that serves Kubernetes' REST API."""


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
    masters: int = 1
    """More than one need a store that they share; there are as many managers, which take turns."""
    store: str = ""
    """Where the state is: "etcd://host:port,.../prefix"; empty: in the cluster's directory."""
    etcd_credentials: str = ""
    """Directory with ca.crt, tls.crt and tls.key for etcd; empty: no TLS."""
    lifetime: str = "dev"
    """"dev": everything ends with the `podium up` that started it; "service": pods outlive it, and are adopted."""
    agent_args: tuple[str, ...] = ()
    """Further options of each node agent, without their dashes: "no-cgroups", "eviction-hard=memory.available<1Gi"."""
    scheduler_config: str = ""
    """File with profiles and settings of the scheduler; empty: none."""
    policies: str = ""
    """Directory with policies for ambassadors; empty: the built-in ones only."""
    block: int = 0
    """Own the addresses 127.<block>.0.0/16; 0: those it had, or any that are free."""
    hollow: int = 0
    """Nodes that are only played, beside the others."""
    hollow_args: tuple[str, ...] = ()
    """Further options of the processes that play them, without their dashes: "zones=3"."""
    dns: tuple[str, ...] = ()
    """Options of the DNS server: "upstream=/etc/resolv.conf", "ttl-s=30", "port=1053"."""
    proxy_args: tuple[str, ...] = ()
    """Further options of the proxy, without their dashes: "workers=2"."""
    rest: bool = False
    """Serve Kubernetes' REST API from the beginning, and not only when somebody asks for it."""


class Restart(Enum):
    """What to do when a child ends by itself."""

    ALWAYS = "always"
    NEVER = "never"
    """A killed node agent stays away until somebody asks for it: in the lifetime "dev", faults are what users make."""


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
    on_demand: bool = False
    """It is started when somebody asks for it by its name, and not before."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """All daemons, in the order in which they are started."""

    children: tuple[ChildSpec, ...]
    stop_order: tuple[tuple[str, ...], ...] = field(default=())
    """Groups of names; a group is stopped when the one before is gone."""


def node_names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(1, count + 1)]


def _numbered(name: str, count: int) -> list[str]:
    """Of one there is no number."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def master_addresses(masters: int, block: AddressBlock) -> str:
    """Where all masters are, as clients want it."""
    return ",".join(block.master(index) for index in range(masters))


def dns_options(options: UpOptions) -> dict[str, str]:
    """Those of the DNS server by name."""
    return dict(option.split("=", 1) for option in options.dns)


def cluster_domain(options: UpOptions) -> str:
    """What the names of services end with."""
    return dns_options(options).get("cluster-domain", "cluster.local")


def plan_cluster(
    options: UpOptions, directory: ClusterDir, block: AddressBlock, *, dns_port: int = DNS_PORT
) -> ClusterPlan:
    """The daemons of a cluster. Names are answered for at `dns_port`, unless the options say another one.

    Managers stop first: otherwise they would replace the pods that the agents are just ending. Masters stop last,
    because the agents report to them what became of their pods.
    """
    common = ("--profile", options.profile)
    dns = dns_options(options)
    names_at = block.dns(int(dns.pop("port", dns_port)))
    addresses = master_addresses(options.masters, block)
    masters = tuple(
        ChildSpec(
            name,
            "master",
            "cluster.__main__",
            (
                "master",
                *("--listen", block.master(index), "--dir", str(directory.path / "master")),
                *(("--store", options.store) if options.store else ()),
                *(("--etcd-credentials", options.etcd_credentials) if options.etcd_credentials else ()),
                *("--credentials", str(directory.credentials("master"))),
                *("--service-cidr", block.service_cidr, "--pod-cidr-base", block.pod_cidr_base),
                *common,
            ),
            block.master(index),
        )
        for index, name in enumerate(_numbered("master", options.masters))
    )
    agents = tuple(
        ChildSpec(
            name,
            "node-agent",
            "node_agent.__main__",
            (
                *("--name", name, "--master", addresses, "--listen", block.agent(index)),
                *("--credentials", str(directory.credentials(f"node:{name}"))),
                *("--dir", str(directory.path / "nodes" / name), "--pods", str(options.node_pods)),
                *("--metrics-socket", str(directory.metrics_socket(name))),
                *(("--cpu", options.node_cpu) if options.node_cpu else ()),
                *(("--memory", options.node_memory) if options.node_memory else ()),
                *(word for resource in options.node_resources for word in ("--resource", resource)),
                # With its neighbours: their keys and their pods' secrets are nobody's business either.
                *("--lifetime", options.lifetime, "--hide", str(directory.path.parent)),
                *("--dns", names_at, "--cluster-domain", cluster_domain(options)),
                *(("--dns-forwards",) if dns.get("upstream") else ()),
                *(f"--{argument}" for argument in options.agent_args),
                *common,
            ),
            block.agent(index),
            Restart.ALWAYS if options.lifetime == "service" else Restart.NEVER,
        )
        for index, name in enumerate(node_names(options.nodes))
    )
    managers = tuple(
        ChildSpec(
            name,
            "manager",
            "cluster.__main__",
            (
                *("manager", "--master", addresses, "--credentials", str(directory.credentials("controllers"))),
                *("--scheduler-credentials", str(directory.credentials("scheduler"))),
                *("--listen", block.scheduler(index)),
                *(("--scheduler-config", options.scheduler_config) if options.scheduler_config else ()),
                *(("--leader-elect",) if options.masters > 1 else ()),
                *common,
            ),
            block.scheduler(index),
        )
        for index, name in enumerate(_numbered("manager", options.masters))
    )
    proxy = ChildSpec(
        "proxy",
        "proxy",
        "proxy.__main__",
        (
            *("--master", addresses, "--credentials", str(directory.credentials("proxy"))),
            *("--metrics-socket", str(directory.metrics_socket("proxy"))),
            *("--handover-socket", str(directory.handover_socket), "--access-log", str(directory.access_log)),
            *(("--policies", options.policies) if options.policies else ()),
            *(f"--{argument}" for argument in options.proxy_args),
            *common,
        ),
    )
    names_server = ChildSpec(
        "dns",
        "dns",
        "proxy.dns.__main__",
        (
            *("--master", addresses, "--credentials", str(directory.credentials("dns")), "--listen", names_at),
            *("--metrics-socket", str(directory.metrics_socket("dns"))),
            *(word for name, value in dns.items() for word in (f"--{name}", value)),
            *common,
        ),
        names_at,
    )
    kubernetes = ChildSpec(
        KUBERNETES,
        "kubernetes",
        "cluster.__main__",
        (
            *("kubernetes", "--master", addresses, "--listen", block.kubernetes),
            *("--credentials", str(directory.credentials("kubernetes"))),
        ),
        block.kubernetes,
        on_demand=not options.rest,
    )
    played = _hollow_nodes(options, directory, block, addresses)
    names = tuple(agent.name for agent in (*agents, *played))
    return ClusterPlan(
        (*masters, *agents, *played, *managers, proxy, names_server, kubernetes),
        (
            (KUBERNETES, *(each.name for each in managers)),
            (*names, "proxy", "dns"),
            tuple(each.name for each in masters),
        ),
    )


def _hollow_nodes(
    options: UpOptions, directory: ClusterDir, block: AddressBlock, masters: str
) -> tuple[ChildSpec, ...]:
    """Those who play hollow nodes. When they end, the nodes are left as they are: their cluster ends, too."""
    processes = hollow.processes_for(options.hollow)
    return tuple(
        ChildSpec(
            name,
            "hollow",
            "node_agent.hollow.__main__",
            hollow.arguments(
                part,
                prefix=hollow.PREFIX,
                master=masters,
                host=block.hollow,
                credentials=str(directory.credentials(f"hollow:{hollow.PREFIX}")),
                profile=options.profile,
                further=("--keep", *(f"--{argument}" for argument in options.hollow_args)),
            ),
            restart=Restart.ALWAYS if options.lifetime == "service" else Restart.NEVER,
        )
        for name, part in zip(
            hollow.names(options.hollow, processes), hollow.parts(options.hollow, processes), strict=True
        )
    )


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
