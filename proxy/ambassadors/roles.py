"""Who is the master and who are the replicas: what a label of the endpoints says. Pure.

Roles are labels of pods: whoever promotes a replica relabels two pods, and every connection follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.ambassadors.policy import Endpoint


class Roles:
    """Options: role-label ("role"), and its values master ("master") and replica ("replica")."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self.label = options.get("role-label", "role")
        self.master = options.get("master", "master")
        self.replica = options.get("replica", "replica")

    def masters(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """One, if all is well; none while roles change hands."""
        return [each for each in endpoints if each.labels.get(self.label) == self.master]

    def replicas(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Those who may be asked what does not change anything."""
        return [each for each in endpoints if each.labels.get(self.label) == self.replica]
