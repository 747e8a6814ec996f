"""Filters that look at the node and the pods on it: what is left of its ports and resources, which data it has."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cluster.scheduler import nodes
from cluster.scheduler.filters.base import Filter, Scope, always
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import ANY_IP, Shape
from cluster.scheduler.snapshot import PODS, BoolArray, IntArray, Rows, Snapshot

# -- host ports: 0.0.0.0 collides with every address


def has_free_ports(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    """Where every host port that the pod takes is free."""
    if not pod_class.shape.host_ports:
        return nodes.of_rows(snapshot, rows, True)
    free = np.ones(len(snapshot.names), np.bool_)
    for port in pod_class.shape.host_ports:
        for row, addresses in snapshot.port_users(port).items():
            if port.ip == ANY_IP or port.ip in addresses or ANY_IP in addresses:
                free[row] = False
    return free[rows]


# -- resources, named ones included


def missing_resources(snapshot: Snapshot, shape: Shape) -> list[str]:
    """Resources that the shape asks for and no node has ever announced."""
    return [name for name, _ in shape.requests if name not in snapshot.columns]


def room(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> IntArray:
    """How many more pods of the class the resources of each row are enough for; 0 or less: none."""
    if missing_resources(snapshot, pod_class.shape):
        return np.zeros(len(snapshot.alive[rows]), np.int64)
    asked = snapshot.vector(pod_class.shape)
    # What is not asked for may be overdrawn (a node can shrink): it keeps nobody away.
    columns = np.flatnonzero(asked)
    free = snapshot.allocatable[rows][:, columns] - snapshot.requested[rows][:, columns]
    most: IntArray = (free // asked[columns]).min(axis=1)  # "pods" is always asked for: it is never empty
    return most


def _has_resources(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    enough: BoolArray = room(snapshot, pod_class, rows) > 0
    return enough


def _resource_reasons(snapshot: Snapshot, pod_class: PodClass, rows: IntArray) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for name in missing_resources(snapshot, pod_class.shape):
        reasons[f"Insufficient {name}"] += len(rows)
    asked = snapshot.vector(pod_class.shape)
    free = snapshot.allocatable[rows] - snapshot.requested[rows]
    for name, column in snapshot.columns.items():
        if asked[column]:
            short = int((free[:, column] < asked[column]).sum())
            if short:
                reasons["Too many pods" if column == PODS else f"Insufficient {name}"] += short
    return reasons


# -- named data directories: a pod goes where its data lies, or where other pods use it


def holds_data(snapshot: Snapshot, pod_class: PodClass, rows: Rows) -> BoolArray:
    """Where all data directories of the pod are; those that are nowhere yet may be anywhere."""
    holds = np.ones(len(snapshot.names), np.bool_)
    for name in pod_class.shape.directories:
        where = snapshot.directory_rows(f"{pod_class.namespace}/{name}")
        if where:
            here = np.zeros(len(snapshot.names), np.bool_)
            here[list(where)] = True
            holds &= here
    return holds[rows]


HOST_PORTS = Filter(
    "HostPorts", Scope.LOAD, has_free_ports, always("node(s) didn't have free ports for the requested pod ports")
)
RESOURCES = Filter("Resources", Scope.LOAD, _has_resources, _resource_reasons)
DATA_DIRECTORIES = Filter(
    "DataDirectories", Scope.CLUSTER, holds_data, always("node(s) had volume node affinity conflict")
)
