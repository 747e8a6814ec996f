"""The table of rights: verb x kind x identity, and call x identity. What is not in it is denied.

The master judges by it (`cluster.master.authorization`, where the scopes are carried out); others may tell a caller
what it says. Pure.
"""

from __future__ import annotations

from enum import Enum

from cluster.api.kinds import BY_NAME


class Scope(Enum):
    """With which objects a verb is allowed."""

    ANY = "any"
    ITSELF = "its own Node, or those it plays"
    BOUND = "pods bound to these"
    ABOUT = "events about these and the pods bound to them"
    SCHEDULED = (
        "where a pod has its place, or loses it: the conditions PodScheduled and DisruptionTarget, nominatedNodeName"
    )
    BY_LEASE = "the lease that it runs by"
    USED = "what pods bound to it take their configuration from"
    NAMESPACE = "those in its namespace"


_READ = ("get", "list", "watch")
_WRITE = ("create", "update", "patch", "update_status", "delete")
VERBS = (*_READ, *_WRITE, "bind", "evict", "token")


def _any(*verbs: str) -> dict[str, Scope]:
    return dict.fromkeys(verbs, Scope.ANY)


TABLE: dict[tuple[str, str], dict[str, Scope]] = {
    **{("admin", kind): _any(*VERBS) for kind in BY_NAME},
    ("controllers", "Pod"): _any(*_READ, *_WRITE, "evict"),
    ("controllers", "ReplicationController"): _any(*_READ, "update", "patch", "update_status", "delete"),
    ("controllers", "Service"): _any(*_READ, "delete"),
    ("controllers", "Endpoints"): _any(*_READ, "create", "update", "patch", "delete"),
    ("controllers", "Node"): _any(*_READ, "update", "patch", "update_status", "delete"),
    ("controllers", "Namespace"): _any(*_READ, "update", "patch", "update_status", "delete"),
    ("controllers", "Event"): _any(*_READ, "create", "update", "patch", "delete"),
    ("controllers", "ConfigMap"): _any(*_READ, "delete"),
    ("controllers", "Secret"): _any(*_READ, "delete"),
    ("controllers", "Lease"): {**_any(*_READ, "delete"), "create": Scope.BY_LEASE, "update": Scope.BY_LEASE},
    ("controllers", "PriorityClass"): _any(*_READ, "delete"),
    ("controllers", "PodDisruptionBudget"): _any(*_READ, "update_status", "delete"),
    ("controllers", "ServiceAccount"): _any(*_READ, "delete"),
    ("controllers", "Fault"): _any(*_READ, "delete"),
    ("controllers", "CustomResourceDefinition"): _any(*_READ, "patch", "delete"),
    ("controllers", "CustomObject"): _any(*_READ, "delete"),
    ("scheduler", "Pod"): {**_any(*_READ, "bind", "delete"), "update_status": Scope.SCHEDULED},
    ("scheduler", "Node"): _any(*_READ),
    ("scheduler", "Namespace"): _any(*_READ),
    ("scheduler", "PriorityClass"): _any(*_READ),
    ("scheduler", "PodDisruptionBudget"): _any(*_READ),
    ("scheduler", "ReplicationController"): _any(*_READ),
    ("scheduler", "Service"): _any(*_READ),
    ("scheduler", "Event"): _any("get", "list", "create", "update", "patch"),
    ("scheduler", "Lease"): dict.fromkeys(("get", "create", "update"), Scope.BY_LEASE),
    ("proxy", "Service"): _any(*_READ),
    ("proxy", "Endpoints"): _any(*_READ),
    ("proxy", "Fault"): _any(*_READ),
    ("proxy", "Node"): _any(*_READ),
    ("proxy", "Event"): _any("get", "create", "update", "patch"),
    ("dns", "Service"): _any(*_READ),
    ("dns", "Endpoints"): _any(*_READ),
    ("dns", "Namespace"): _any(*_READ),
    ("dns", "Pod"): _any(*_READ),
    ("node", "Node"): dict.fromkeys((*_READ, "create", "update", "patch", "update_status"), Scope.ITSELF),
    ("node", "Pod"): dict.fromkeys((*_READ, "update_status", "delete"), Scope.BOUND),
    ("node", "Service"): _any(*_READ),
    ("node", "Fault"): _any("list", "watch"),
    ("node", "Endpoints"): _any(*_READ),
    ("node", "ReplicationController"): _any("get"),
    ("node", "ConfigMap"): {"get": Scope.USED},
    ("node", "Secret"): {"get": Scope.USED},
    ("node", "Event"): dict.fromkeys(("get", "create", "update", "patch"), Scope.ABOUT),
    ("kubernetes", "CustomResourceDefinition"): _any(*_READ),
    ("hollow", "Node"): dict.fromkeys((*_READ, "create", "patch", "update_status", "delete"), Scope.ITSELF),
    ("hollow", "Pod"): dict.fromkeys((*_READ, "update_status", "delete"), Scope.BOUND),
    ("hollow", "Endpoints"): _any("get"),
    ("hollow", "ReplicationController"): _any("get"),
    ("hollow", "Event"): dict.fromkeys(("get", "create", "update", "patch"), Scope.ABOUT),
    **{
        ("serviceaccount", kind.name): dict.fromkeys(_READ, Scope.NAMESPACE)
        for kind in BY_NAME.values()
        if kind.namespaced and kind.name != "Secret"
    },
}
"""(kind of identity, kind of object) -> verb -> with which objects. Absent: denied."""

CLIENTS = frozenset({"admin", "controllers", "scheduler", "node", "hollow", "proxy", "dns"})
_EVERYONE = CLIENTS | {"master", "kubernetes"}
_ASKERS = CLIENTS | {"serviceaccount"}
_READERS = _ASKERS | {"kubernetes"}
"""... who serves Kubernetes' API reads which kinds users have defined, by its own right."""

CALLS: dict[str, frozenset[str]] = {
    "/cluster.pb.v1.Cluster/Get": _READERS,
    "/cluster.pb.v1.Cluster/List": _READERS,
    "/cluster.pb.v1.Cluster/Watch": _READERS,
    "/cluster.pb.v1.Cluster/WatchStream": _READERS,
    "/cluster.pb.v1.Cluster/Resolve": frozenset({"admin", "controllers", "node", "proxy"}),
    "/cluster.pb.v1.Cluster/WatchService": frozenset({"admin", "controllers", "node", "proxy"}),
    "/cluster.pb.v1.Cluster/Write": _ASKERS,
    "/cluster.pb.v1.Cluster/WriteStream": _ASKERS,
    "/cluster.pb.v1.Cluster/History": frozenset({"admin"}),
    "/cluster.pb.v1.Cluster/Undo": frozenset({"admin"}),
    "/cluster.pb.v1.Cluster/Trace": frozenset({"admin"}),
    "/cluster.pb.v1.Cluster/StoreStatus": CLIENTS | {"master"},
    "/cluster.pb.v1.Cluster/Backup": frozenset({"admin"}),
    "/cluster.pb.v1.Cluster/Heartbeat": frozenset({"admin", "node", "hollow"}),
    "/cluster.pb.v1.Cluster/WatchHeartbeats": frozenset({"admin", "controllers"}),
    "/cluster.pb.v1.NodeAgent/Logs": frozenset({"admin"}),
    "/cluster.pb.v1.NodeAgent/Exec": frozenset({"admin"}),
    "/cluster.pb.v1.NodeAgent/Attach": frozenset({"admin"}),
    "/cluster.pb.v1.NodeAgent/PortForward": frozenset({"admin"}),
    "/cluster.pb.v1.NodeAgent/Stats": frozenset({"admin"}),
    "/grpc.health.v1.Health/Check": _EVERYONE,
    "/grpc.health.v1.Health/List": _EVERYONE,
    "/grpc.health.v1.Health/Watch": _EVERYONE,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _EVERYONE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERYONE,
}
"""Full name of a call -> the kinds of identity that may make it. Absent: nobody."""

_OF_EVERY_DAEMON = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


def calls_of(service: str) -> dict[str, frozenset[str]]:
    """The rows for a daemon that serves this one, such as "cluster.pb.v1.NodeAgent": its calls, and those that all
    daemons answer."""
    own = {call: kinds for call, kinds in CALLS.items() if call.startswith(f"/{service}/")}
    return own | dict.fromkeys(_OF_EVERY_DAEMON, CLIENTS | {"master"})
