"""The machine's resolv.conf, read anew when it changes, and the one that a node's spawner mounts for all its pods.

That one is written in place: what is mounted is the file, whatever its name, so a change shows in all pods that run.
"""

from __future__ import annotations

import os
from pathlib import Path

from cluster.api.resolv_conf import ResolvConf, parse_resolv_conf
from node_agent.resolver import Names, common
from node_agent.spawner import RESOLV_CONF

MACHINE = Path("/etc/resolv.conf")
LOOK_S = 10.0
"""How often the machine's is looked at: another network means other servers."""


class ResolverFile:
    """The node's resolv.conf."""

    def __init__(self, directory: Path, names: Names, machine: Path = MACHINE) -> None:
        self._file, self.names, self._source = directory / RESOLV_CONF, names, machine
        self._seen: tuple[int, int] | None = None
        self._machine = ResolvConf()

    def machine(self) -> ResolvConf:
        """As it is now; nothing if there is none."""
        try:
            found = os.stat(self._source)
            seen = (found.st_mtime_ns, found.st_ino)
            if seen != self._seen:
                self._machine = parse_resolv_conf(self._source.read_text(errors="replace"))
                self._seen = seen
        except OSError:
            self._seen, self._machine = None, ResolvConf()
        return self._machine

    def refresh(self) -> None:
        """Brings the node's up to date. There is none as long as there is nothing to be said that the machine's does
        not say. Raises OSError."""
        is_there = self._file.exists()
        if not is_there and not self.names.nameserver:
            return
        text = common(self.names, self.machine()).to_text()
        if not is_there or self._file.read_text() != text:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "w") as file:
                os.fchmod(fd, 0o644)
                file.write(text)
                file.truncate()


def write_own(directory: Path, conf: ResolvConf) -> Path:
    """A pod's own, in its directory, where the pod may have put anything. Raises OSError."""
    path = directory / RESOLV_CONF
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "w") as file:
        os.fchmod(fd, 0o644)
        file.write(conf.to_text())
    return path
