"""What a pod's programs know of whom to ask for names: the resolv.conf of its dnsPolicy, and variables. Pure.

    ClusterFirst (default)   the cluster's server; those of the pod's namespace, of all services, of the cluster, and
                             the machine's own names are tried after a short one; ndots:5
    Default                  as the machine
    None                     nothing but what dnsConfig says
    dnsConfig                is added to either (Kubernetes, pkg/kubelet/network/dns)

Unless the cluster's server asks others on behalf of its askers, the machine's own servers stand after it: it refuses
what is not its own, and a resolver that is refused asks the next one. So names of the world stay what they were.

A resolv.conf can name addresses only: a server at another port than 53 cannot be said there. Its address is in
PODIUM_DNS in any case.

All pods that have no mounts of their own share what their spawner has mounted for all, at no cost per start. What
differs between their namespaces, the names that are tried after a short one, comes with the variable LOCALDOMAIN, as
the C library and others have it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.resolv_conf import MAX_NAMESERVERS, ResolvConf
from cluster.pb.v1 import core_pb2 as core

NDOTS = "ndots:5"
DEFAULT, NONE = "Default", "None"
"""The policies that are not ClusterFirst."""


@dataclass(frozen=True, slots=True)
class Names:
    """Where the names of a cluster are answered for."""

    dns: str = ""
    """host:port; empty: nowhere."""
    domain: str = "cluster.local"
    forwards: bool = False
    """Other names are answered for there, too."""

    @property
    def nameserver(self) -> str:
        """Its address, if a resolv.conf can name it."""
        host, _, port = self.dns.rpartition(":")
        return host if port == "53" else ""


def asks_the_cluster(spec: core.PodSpec) -> bool:
    """Its policy is ClusterFirst."""
    return spec.dnsPolicy not in (DEFAULT, NONE)


def is_common(spec: core.PodSpec) -> bool:
    """What is mounted for all is right for this pod."""
    return asks_the_cluster(spec) and not spec.HasField("dnsConfig")


def common(names: Names, machine: ResolvConf) -> ResolvConf:
    """For all pods of a node; but for LOCALDOMAIN (`variables`)."""
    if not names.nameserver:
        return machine
    return _of_cluster(names, machine, (f"svc.{names.domain}", names.domain))


def conf_of(spec: core.PodSpec, namespace: str, names: Names, machine: ResolvConf) -> ResolvConf:
    """For this pod."""
    if spec.dnsPolicy == NONE:
        conf = ResolvConf()
    elif spec.dnsPolicy == DEFAULT or not names.nameserver:
        conf = machine
    else:
        conf = _of_cluster(names, machine, _searched(namespace, names))
    if not spec.HasField("dnsConfig"):
        return conf
    said = spec.dnsConfig
    options = {option.partition(":")[0]: option for option in conf.options}
    options |= {each.name: f"{each.name}:{each.value}" if each.value else each.name for each in said.options}
    return ResolvConf(
        tuple(dict.fromkeys((*conf.nameservers, *said.nameservers)))[:MAX_NAMESERVERS],
        tuple(dict.fromkeys((*conf.search, *said.searches))),
        tuple(options.values()),
    )


def why_not(spec: core.PodSpec, names: Names, *, can_mount: bool) -> str:
    """Why what the pod asks for cannot be had here; empty: it can."""
    if is_common(spec) or (spec.dnsPolicy == DEFAULT and not spec.HasField("dnsConfig")):
        return ""
    if not can_mount:
        return "dnsConfig cannot be kept: this kernel lets the node agent mount nothing"
    if asks_the_cluster(spec) and not names.nameserver:
        where = f"is at {names.dns}" if names.dns else "is unknown here"
        return (
            f"dnsConfig cannot be added to dnsPolicy ClusterFirst: the cluster's DNS server {where}, and a resolv.conf"
            " can name port 53 only; use dnsPolicy: None or Default"
        )
    return ""


def variables(spec: core.PodSpec, namespace: str, names: Names, machine: ResolvConf, *, shares: bool) -> dict[str, str]:
    """The variables of a container. `shares`: it has the resolv.conf that is mounted for all."""
    if not names.dns:
        return {}
    env = {"PODIUM_DNS": names.dns, "PODIUM_CLUSTER_DOMAIN": names.domain}
    if shares and names.nameserver:
        env["LOCALDOMAIN"] = " ".join((*_searched(namespace, names), *machine.search))
    return env


def _searched(namespace: str, names: Names) -> tuple[str, ...]:
    return (f"{namespace}.svc.{names.domain}", f"svc.{names.domain}", names.domain)


def _of_cluster(names: Names, machine: ResolvConf, search: tuple[str, ...]) -> ResolvConf:
    others = () if names.forwards else machine.nameservers
    return ResolvConf(
        (names.nameserver, *others)[:MAX_NAMESERVERS], tuple(dict.fromkeys((*search, *machine.search))), (NDOTS,)
    )
