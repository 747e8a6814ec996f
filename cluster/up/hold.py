"""Masters stay away for as long as somebody works on their store: a restore puts another one in its place.

Whoever wants that opens a connection to the control socket and says so. The masters are asked to end, and killed if
they take too long; when none is left, that is said on the connection. When it is closed, by its owner or because its
owner died, they are started again: nobody has to remember to.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Sequence

from cluster.up.child import Child
from cluster.up.sweep import kill


class Hold:
    """Daemons that are kept away."""

    def __init__(self, connection: socket.socket, held: Sequence[Child], *, kill_at: float) -> None:
        """Asks them to end. `kill_at`: when to lose patience with them."""
        self.connection = connection
        self.held = held
        self._kill_at = kill_at
        self._told = False
        for child in held:
            child.restart_at = None
            if child.pid:
                kill(child.pid, signal.SIGTERM)
        self.tell()

    @property
    def due(self) -> float | None:
        """When `lose_patience` is to be called; None: all have ended."""
        return None if self._told else self._kill_at

    def tell(self) -> None:
        """One has ended: says so when it was the last one."""
        if self._told or any(child.pid for child in self.held):
            return
        self._told = True
        try:
            self.connection.sendall(json.dumps({"step": "held"}).encode() + b"\n")
        except OSError:
            pass  # it has gone, and its end of file comes next

    def lose_patience(self, *, next_at: float) -> None:
        """Kills those that have not ended. They should be gone by `next_at`."""
        self._kill_at = next_at
        for child in self.held:
            if child.pid:
                kill(child.pid, signal.SIGKILL)

    def end(self) -> list[Child]:
        """Whoever asked for it is done, or gone. Returns those that are to be started; the others have not ended yet,
        and are started when they have."""
        self.connection.close()
        for child in self.held:
            child.crashes = 0
            child.restart_at = None
        return [child for child in self.held if not child.pid]
