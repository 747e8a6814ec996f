"""What may be changed in a simulation, and whether that makes sense for a cluster. Pure, but for carrying it out.

Changes are told apart from their effects: a change says what somebody does, or what befalls a node; what follows from
it is for the controllers and the scheduler to find out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cluster.api.conditions import get_condition, is_node_ready
from cluster.api.errors import Conflict, Invalid, NotFound
from cluster.api.manifest import Manifest
from cluster.api.meta import Key
from cluster.client import operations
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation.snapshot import Snapshot

MAX_NEW_NODES = 5_000
_NAMED = 10
"""So many names are offered to somebody who named something that is not there."""


@dataclass(frozen=True, slots=True)
class NodeDown:
    """A node, its agent and its pods stop at once and without a word, as in a power failure."""

    node: str

    def __str__(self) -> str:
        return f"node/{self.node} goes down"


@dataclass(frozen=True, slots=True)
class Cordon:
    """A node takes no new pods; with `on=False` it takes them again. The pods on it stay."""

    node: str
    on: bool = True

    def __str__(self) -> str:
        return f"node/{self.node} is {'cordoned' if self.on else 'uncordoned'}"


@dataclass(frozen=True, slots=True)
class AddNodes:
    """Nodes join the cluster, with the labels, taints and resources of one that is there. They are ready before any
    other change is made."""

    count: int
    like: str

    def __str__(self) -> str:
        return f"{self.count} node{'s' if self.count > 1 else ''} like node/{self.like} join"

    def names(self, taken: Sequence[str]) -> list[str]:
        """What they are called: n1-new-1, n1-new-2 ... as far as these are free."""
        names: list[str] = []
        number = 0
        while len(names) < self.count:
            number += 1
            name = f"{self.like}-new-{number}"
            if name not in taken:
                names.append(name)
        return names


@dataclass(frozen=True, slots=True)
class Scale:
    """The wanted number of replicas of a replication controller is set."""

    controller: str
    replicas: int
    namespace: str = "default"

    def __str__(self) -> str:
        where = "" if self.namespace == "default" else f" in {self.namespace}"
        return f"rc/{self.controller}{where} is scaled to {self.replicas}"


@dataclass(frozen=True, slots=True)
class Apply:
    """Manifests are applied, as `podium apply` does it: all of them or none."""

    manifests: Sequence[Manifest]
    namespace: str = "default"
    """Of those that name none."""

    def __str__(self) -> str:
        count = len(self.manifests)
        sources = list(dict.fromkeys(manifest.source for manifest in self.manifests))
        where = f" of {sources[0]}" if len(sources) == 1 else f" of {len(sources)} files"
        where = " of standard input" if sources == ["-"] else where
        return f"{count} manifest{'s' if count != 1 else ''}{where} {'are' if count != 1 else 'is'} applied"


Change: TypeAlias = NodeDown | Cordon | AddNodes | Scale | Apply


def check(snapshot: Snapshot, changes: Sequence[Change]) -> None:
    """Whether these changes can be made to that cluster.

    Raises NotFound for what they name and is not there, Conflict for what is so already or contradicts another change,
    Invalid for what makes no sense.
    """
    down: set[str] = set()
    scaled: set[tuple[str, str]] = set()
    for change in changes:
        match change:
            case NodeDown(name):
                node = _node(snapshot, name)
                if name in down:
                    raise Conflict(f"node/{name} is named twice: it goes down once")
                if not is_node_ready(node):
                    raise Conflict(
                        f"node/{name} is down already ({_readiness(node)}); see: podium describe node {name}"
                    )
                down.add(name)
            case Cordon(name):
                _node(snapshot, name)
            case AddNodes(count, like):
                _node(snapshot, like)
                if not 0 < count <= MAX_NEW_NODES:
                    raise Invalid(f"{count} new nodes: give a number from 1 to {MAX_NEW_NODES}")
            case Scale(name, replicas, namespace):
                if snapshot.find(core.ReplicationController, name, namespace) is None:
                    there = [rc.metadata.name for rc in snapshot.of(core.ReplicationController)]
                    raise NotFound(f'replicationcontrollers "{name}" not found in {namespace}{_offer(there)}')
                if replicas < 0:
                    raise Invalid(f"rc/{name}={replicas}: there is no negative number of replicas")
                if (namespace, name) in scaled:
                    raise Conflict(f"rc/{name} is scaled twice: which of the two is meant?")
                scaled.add((namespace, name))
            case Apply():
                pass  # the master of the fork says what is wrong with it


def operation_of(change: Cordon | Scale) -> wire.Operation:
    """The write that makes a change."""
    if isinstance(change, Cordon):
        return operations.patch(Key("Node", "", change.node), {"spec": {"unschedulable": change.on}})
    key = Key("ReplicationController", change.namespace, change.controller)
    return operations.patch(key, {"spec": {"replicas": change.replicas}})


def _node(snapshot: Snapshot, name: str) -> core.Node:
    node = snapshot.find(core.Node, name)
    if node is None:
        there = [node.metadata.name for node in snapshot.of(core.Node)]
        raise NotFound(f'nodes "{name}" not found{_offer(there)}')
    return node


def _offer(names: Sequence[str]) -> str:
    if not names:
        return "; there are none"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; there are {', '.join(names[:_NAMED])}{more}" if len(names) > 1 else f"; there is {names[0]}"


def _readiness(node: core.Node) -> str:
    condition = get_condition(node.status, "Ready")
    return f"Ready={condition.status}" if condition is not None else "it has never said that it is ready"
