"""What only the master can say of a fault: when it begins and ends, and that what it is about is there. Pure.

A fault that nobody could carry out would go unnoticed, so it is refused.
"""

from __future__ import annotations

from cluster.api.errors import FieldError, Invalid
from cluster.api.hollow import is_hollow
from cluster.api.meta import Key, to_time
from cluster.master.stage import Stage
from cluster.pb.v1 import core_pb2 as core


def begin_fault(stage: Stage, fault: core.Fault) -> None:
    """A fault begins when it is made, and ends when it says. What it is about must be there: nobody would notice."""
    target = fault.spec.target
    for path, kind, name in (("service", "Service", target.service), ("node", "Node", target.node)):
        namespace = fault.metadata.namespace if kind == "Service" else ""
        if name and stage.get(Key(kind, namespace, name)) is None:
            problem = FieldError(f"spec.target.{path}", f'Not found: "{name}"')
            raise Invalid(f"Fault is about what is not there: {problem}", causes=[problem])
    service = stage.get(Key("Service", fault.metadata.namespace, target.service)) if target.service else None
    found = None if service is None else service.parse()
    if isinstance(found, core.Service):
        _check_passes_the_proxy(found)
    if target.node:
        version = stage.get(Key("Node", "", target.node))
        node = None if version is None else version.parse()
        if isinstance(node, core.Node) and is_hollow(node):
            problem = FieldError("spec.target.node", f'Invalid value: "{target.node}": this node is only played')
            raise Invalid(f"Fault is about what cannot go wrong: {problem}", causes=[problem])
    fault.ClearField("status")
    fault.status.phase = "Active"
    fault.status.startedAt.CopyFrom(to_time(stage.now_s))
    fault.status.endsAt.CopyFrom(to_time(stage.now_s + fault.spec.durationSeconds))


def _check_passes_the_proxy(service: core.Service) -> None:
    """Nobody could carry out a fault of a service whose connections do not pass the proxy. Raises Invalid."""
    why = ""
    if service.spec.clusterIP == "None" or service.spec.type == "ExternalName":
        why = "connections to this service do not pass the proxy"
    elif all(port.protocol == "UDP" for port in service.spec.ports):
        why = "this service has no port of TCP"
    if why:
        problem = FieldError("spec.target.service", f'Invalid value: "{service.metadata.name}": {why}')
        raise Invalid(f"Fault is about what cannot go wrong: {problem}", causes=[problem])
