"""Things of a node that only one pod can have, or that bind a pod to it: host ports and data directories, by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from cluster.scheduler.facts import NodeFacts
from cluster.scheduler.podclass import PodClass
from cluster.scheduler.shape import HostPort


class Occupancy:
    """Who uses which port, and where which directory lies or is in use."""

    def __init__(self) -> None:
        self.version = 0
        """Grows whenever a directory comes to a row where it was not, or is not there any more."""
        self._ports: dict[tuple[str, int], dict[int, Counter[str]]] = {}
        self._directories: dict[str, Counter[int]] = {}

    def port_users(self, port: HostPort) -> dict[int, Counter[str]]:
        """Who uses a host port of this protocol and number: row -> address -> how many."""
        return self._ports.get((port.protocol, port.port), {})

    def directory_rows(self, name: str) -> Collection[int]:
        """Where a data directory (NAMESPACE/NAME) lies or is in use; empty: nowhere yet."""
        return self._directories.get(name, {}).keys()

    def use(self, row: int, pod_class: PodClass, sign: int) -> None:
        """A pod of this class has come to a row (1) or left it (-1)."""
        for port in pod_class.shape.host_ports:
            users = self._ports.setdefault((port.protocol, port.port), {})
            by_ip = users.setdefault(row, Counter())
            by_ip[port.ip] += sign
            if not by_ip[port.ip]:
                del by_ip[port.ip]
                if not by_ip:
                    del users[row]
        for name in pod_class.shape.directories:
            self._lie(f"{pod_class.namespace}/{name}", row, sign)

    def announce(self, row: int, before: NodeFacts | None, after: NodeFacts | None) -> None:
        """A node says that other directories lie on it than before."""
        for facts, sign in ((after, 1), (before, -1)):
            for name in facts.directories if facts is not None else ():
                self._lie(name, row, sign)

    def _lie(self, directory: str, row: int, sign: int) -> None:
        rows = self._directories.setdefault(directory, Counter())
        there = rows[row] > 0
        rows[row] += sign
        if there != (rows[row] > 0):
            self.version += 1
        if not rows[row]:
            del rows[row]
            if not rows:
                del self._directories[directory]
