"""Who is calling: an identity is what the certificate says, as a SPIFFE URI, and nothing else.

`spiffe://<cluster>/admin`, `spiffe://<cluster>/node/<name>` and so on stand in the URI field of the certificate's
subject alternative names. Common names, addresses and metadata identify nobody. This file has the words only; making
and reading certificates is in `cluster.rpc.certificates`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = ("admin", "controllers", "scheduler", "node", "proxy", "master")
"""Who there is. A node's identity carries the node's name; of each other kind there is one."""

_CLUSTER = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. As text: "admin", "node:node-1"."""

    kind: str
    name: str = ""
    """The node's name; empty for every other kind."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'"{self.kind}" is not a kind of identity; there are {", ".join(KINDS)}')
        if self.kind == "node":
            if not _NODE.fullmatch(self.name):
                raise ValueError(f'"{self.name}" is not a name of a node')
        elif self.name:
            raise ValueError(f"the identity {self.kind} has no name, but was given {self.name!r}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @classmethod
    def parse(cls, text: str) -> Identity:
        """From "admin" or "node:node-1". Raises ValueError."""
        kind, _, name = text.partition(":")
        return cls(kind, name)

    def uri(self, cluster: str) -> str:
        """The SPIFFE URI, such as spiffe://demo/node/node-1."""
        check_cluster_name(cluster)
        return f"spiffe://{cluster}/{self.kind}/{self.name}" if self.name else f"spiffe://{cluster}/{self.kind}"


def parse_spiffe(uri: str) -> tuple[str, Identity]:
    """The cluster and the identity that a URI names. Raises ValueError unless it is exactly one of ours."""
    scheme, _, rest = uri.partition("://")
    cluster, _, path = rest.partition("/")
    kind, _, name = path.partition("/")
    if scheme != "spiffe" or not _CLUSTER.fullmatch(cluster):
        raise ValueError(f"{uri!r} is not a SPIFFE URI of a cluster")
    identity = Identity(kind, name)
    if identity.uri(cluster) != uri:
        raise ValueError(f"{uri!r} is not written as this cluster writes identities")
    return cluster, identity


def check_cluster_name(cluster: str) -> None:
    """Raises ValueError unless it is a DNS-1123 label."""
    if not _CLUSTER.fullmatch(cluster):
        raise ValueError(f'"{cluster}" is not a name of a cluster: small letters, digits and "-", at most 63')
