"""What filters compared that look at the node and the pods on it."""

from __future__ import annotations

from cluster.scheduler.telling.base import Teller, format_amount


class HostPorts(Teller):
    """Ports of the node itself."""

    filter = "HostPorts"

    def detail(self, row: int, passed: bool) -> str:
        """The ports that are taken."""
        if not self._shape.host_ports:
            return "no host ports"
        return "ports are free" if passed else self._busy(row)

    def remedy(self, row: int) -> str:
        """Free them."""
        return f"{self._busy(row)} on {self._name(row)}: free it or ask for another"

    def effort(self, row: int) -> float:
        """Somebody else is there."""
        return 2.0

    def _busy(self, row: int) -> str:
        busy = [
            f"{port.protocol} {port.port}" for port in self._shape.host_ports if row in self._snapshot.port_users(port)
        ]
        return f"host port {', '.join(busy)} is taken"


class Resources(Teller):
    """What is asked for and what is free, per resource."""

    filter = "Resources"

    def detail(self, row: int, passed: bool) -> str:
        """Every resource that is asked for; of a node that was refused, only those that fall short."""
        return ", ".join(
            f"{name}: asks {format_amount(name, asked)}, free {format_amount(name, free)}"
            f" of {format_amount(name, allocatable)}"
            for name, asked, free, allocatable in self._amounts(row)
            if passed or asked > free
        )

    def remedy(self, row: int) -> str:
        """Lower the request, or free so much."""
        return "; and ".join(
            self._shortage(row, name, asked, free, allocatable)
            for name, asked, free, allocatable in self._amounts(row)
            if asked > free
        )

    def effort(self, row: int) -> float:
        """The less is missing, the better; what even the empty node does not have is another machine's."""
        amounts = self._amounts(row)
        short = [(asked - max(free, 0)) / asked for _, asked, free, _ in amounts if asked > free]
        impossible = sum(asked > allocatable for _, asked, _, allocatable in amounts)
        return 1.0 + sum(short) + impossible

    def _amounts(self, row: int) -> list[tuple[str, int, int, int]]:
        """(resource, asked, free, allocatable) for all that is asked for."""
        amounts = []
        for name, asked in self._shape.requests:
            column = self._snapshot.columns.get(name)
            if column is None:
                amounts.append((name, asked, 0, 0))
                continue
            allocatable = int(self._snapshot.allocatable[row, column])
            amounts.append((name, asked, allocatable - int(self._snapshot.requested[row, column]), allocatable))
        return amounts

    def _shortage(self, row: int, name: str, asked: int, free: int, allocatable: int) -> str:
        node = self._name(row)
        if name == "pods":
            return f"{node} has its {allocatable} pods: let one of them go, or add a node"
        if name not in self._snapshot.columns or not self._most(name, allocatable_only=True):
            return f"asks {name} {format_amount(name, asked)}, and no node has any: add a node with {name}"
        most = "most free is" if free == self._most(name) else "free is"
        text = (
            f"asks {name} {format_amount(name, asked)}, {most} {format_amount(name, max(free, 0))} on {node}:"
            f" lower the request by {format_amount(name, asked - max(free, 0))}"
        )
        if asked > allocatable:
            return f"{text} (even empty it has {format_amount(name, allocatable)})"
        return f"{text} or free {format_amount(name, asked - free)} there"

    def _most(self, name: str, *, allocatable_only: bool = False) -> int:
        snapshot, column = self._snapshot, self._snapshot.columns[name]
        amounts = snapshot.allocatable[:, column] - (0 if allocatable_only else snapshot.requested[:, column])
        return int(amounts[snapshot.alive].max(initial=0))


class DataDirectories(Teller):
    """Where the data lies."""

    filter = "DataDirectories"

    def detail(self, row: int, passed: bool) -> str:
        """Each directory, and where it is."""
        where = [
            f"{name} lies {'here' if row in rows else 'on ' + ', '.join(rows.values())}" if rows else f"{name} is new"
            for name, rows in self._directories().items()
        ]
        return ", ".join(where) or "uses no data directory"

    def remedy(self, row: int) -> str:
        """Go where the data is, or bring it."""
        elsewhere = {name: rows for name, rows in self._directories().items() if rows and row not in rows}
        return "; and ".join(
            f"the data directory {name} lies on {', '.join(rows.values())} and not on {self._name(row)}: make room for"
            " the pod there, or use another directory"
            for name, rows in elsewhere.items()
        )

    def effort(self, row: int) -> float:
        """Data does not walk."""
        return 6.0

    def _directories(self) -> dict[str, dict[int, str]]:
        """Each directory with the rows and names of the nodes that have it."""
        names = (f"{self._class.namespace}/{name}" for name in self._shape.directories)
        return {name: {row: self._name(row) for row in self._snapshot.directory_rows(name)} for name in names}
