"""Hollow nodes: nodes that are only played, by a process that reports their pods Running without running anything.

What everybody must agree on: how such a node is known, whose it is, which addresses its pods have, and how a pod says
what is to be played. A process plays the nodes of a prefix: those that are named PREFIX-1, PREFIX-2 ... and carry both
labels. The master guards the labels: no agent can give them to its node, and who plays nodes cannot take them off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network

from cluster.pb.v1 import core_pb2 as core

HOLLOW_LABEL = "podium.dev/hollow"
"""Of a hollow node: "true"."""
PREFIX_LABEL = "podium.dev/hollow-prefix"
"""Of a hollow node: the prefix whose process plays it."""
HOLLOW_LABELS = (HOLLOW_LABEL, PREFIX_LABEL)

RUN_SECONDS = "podium.dev/hollow-run-seconds"
"""Annotation of a pod: how long each of its containers seems to run. Absent: until it is told to end."""
EXIT_CODE = "podium.dev/hollow-exit-code"
"""Annotation of a pod: with what its containers seem to end then; absent: 0."""

NETWORK = IPv4Network("240.0.0.0/8")
"""Addresses of their pods: of a class that is reserved and nobody's, so that what is sent there can reach nobody."""

_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?")


def is_prefix(text: str) -> bool:
    """Whether hollow nodes can have that prefix: a DNS-1123 label with room for a number behind it."""
    return _PREFIX.fullmatch(text) is not None


def node_name(prefix: str, number: int) -> str:
    """The name of a prefix' node, from 1."""
    return f"{prefix}-{number}"


def has_prefix(node: str, prefix: str) -> bool:
    """The node's name is of that prefix; which says nothing of the node."""
    return node.startswith(f"{prefix}-")


def is_hollow(node: core.Node) -> bool:
    """It says that it is only played."""
    return node.metadata.labels.get(HOLLOW_LABEL) == "true"


def prefix_of(node: core.Node) -> str:
    """The prefix whose process plays this node; empty if it is no hollow node, or has no name of that prefix."""
    labels = node.metadata.labels
    prefix = labels.get(PREFIX_LABEL, "") if labels.get(HOLLOW_LABEL) == "true" else ""
    return prefix if prefix and has_prefix(node.metadata.name, prefix) else ""


def labels_of(prefix: str) -> dict[str, str]:
    """What a prefix' nodes carry."""
    return {HOLLOW_LABEL: "true", PREFIX_LABEL: prefix}


def selector_of(prefix: str) -> str:
    """The label selector that finds a prefix' nodes."""
    return ",".join(f"{key}={value}" for key, value in labels_of(prefix).items())


def is_address(ip: str) -> bool:
    """It is an address of a pod that is only played: there is nobody to be reached."""
    return ip.startswith("240.")


def speaks_for(actor: str, node: str) -> bool:
    """Whether a writer (`metadata.actor`) is the agent of that node, or plays it: what it writes is a sign of life."""
    kind, _, name = actor.partition(":")
    return (kind == "node" and name == node) or (kind == "hollow" and has_prefix(node, name))


def seconds_of(annotations: Mapping[str, str]) -> float | None:
    """How long a pod's containers seem to run; None: until they are told to end. Raises ValueError."""
    text = annotations.get(RUN_SECONDS)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError(f'annotation {RUN_SECONDS} is "{text}", and must be a number of seconds')
    return seconds


def exit_code_of(annotations: Mapping[str, str]) -> int:
    """With what a pod's containers seem to end. Raises ValueError."""
    text = annotations.get(EXIT_CODE, "0")
    if not (text.isascii() and text.isdecimal() and int(text) <= 255):
        raise ValueError(f'annotation {EXIT_CODE} is "{text}", and must be an exit code, from 0 to 255')
    if text != "0" and RUN_SECONDS not in annotations:
        raise ValueError(f"annotation {EXIT_CODE} goes with {RUN_SECONDS}, which says when the containers end")
    return int(text)
