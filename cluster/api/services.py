"""What the types of services are, and which of them has what.

    ClusterIP      an address of its own, which the proxy listens at              the default
      headless     of this type, without address (clusterIP "None"): its name leads to the pods themselves
    NodePort       a ClusterIP, and a port of this machine's own addresses for each of its ports
    ExternalName   another name for something outside: no address, no endpoints

Whose Endpoints the controllers keep: those of services with a selector. Others are written by somebody else.
"""

from __future__ import annotations

from cluster.pb.v1 import core_pb2 as core

CLUSTER_IP = "ClusterIP"
NODE_PORT = "NodePort"
EXTERNAL_NAME = "ExternalName"
TYPES = (CLUSTER_IP, NODE_PORT, EXTERNAL_NAME)

HEADLESS = "None"
"""The clusterIP of a service that has no address of its own."""

NODE_PORTS = range(30000, 32768)
"""Kubernetes' ports for services of type NodePort."""

SHARD = "podium.dev/shard"
"""Label, or else annotation, of a pod: which part of the data it serves. The label wins."""


def has_address(spec: core.ServiceSpec) -> bool:
    """It has a cluster IP, given out already."""
    return spec.type != EXTERNAL_NAME and spec.clusterIP not in ("", HEADLESS)


def node_ports(spec: core.ServiceSpec) -> list[int]:
    """The ports of the machine that it has, each once, in order."""
    return sorted({port.nodePort for port in spec.ports if port.nodePort})


def is_managed(spec: core.ServiceSpec) -> bool:
    """Its Endpoints are kept by the controllers; those of others are written by somebody else, if at all."""
    return len(spec.selector) > 0 and spec.type != EXTERNAL_NAME
