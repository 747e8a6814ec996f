"""The resolv.conf that all pods of a node find at its place, mounted once, in the spawner's own namespace.

Whoever replaces the machine's file (most do so by renaming another one to its place) takes the mount away with it: the
kernel lets go of what is mounted on a file that is gone, in all namespaces. So this namespace's table of mounts is
watched, and the mount made again. Pods with mounts of their own have a copy of that table, which nobody looks after: of
those that run, the file is the machine's then.

The spawner loads this file: standard library only.
"""

from __future__ import annotations

import os

from node_agent.mounts import MS_BIND, MS_RDONLY, MS_REMOUNT, flags_of, mount

RESOLV_CONF = "/etc/resolv.conf"


class SharedNames:
    """A file that is to be found at /etc/resolv.conf, wherever that leads."""

    def __init__(self, file: str) -> None:
        self._file, self._fd, self._look = file, -1, (0, 0)
        self.watch_fd = -1
        """Tells of changes of the table of mounts (EPOLLPRI), once it is mounted."""

    def mount(self) -> None:
        """After the first time, the file need not be seen any more. Raises OSError; also where the machine has no such
        file: its directory is not to be rebuilt for one."""
        if self._fd < 0:  # opened here: nothing can be mounted out of another namespace
            self._fd = os.open(self._file, os.O_PATH | os.O_CLOEXEC)
            self._look = _look_of(os.fstat(self._fd))
        target = os.path.realpath(RESOLV_CONF)
        mount(f"/proc/self/fd/{self._fd}", target, None, MS_BIND)
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags_of(target))
        if self.watch_fd < 0:
            self.watch_fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)

    def is_there(self) -> bool:
        """It is what programs find."""
        try:
            return _look_of(os.stat(RESOLV_CONF)) == self._look
        except OSError:
            return False

    def keep(self) -> None:
        """Mounts it again if it is gone; what cannot be done now is tried again at the next occasion."""
        if self.watch_fd >= 0 and not self.is_there():
            try:
                self.mount()
            except OSError:
                pass


def _look_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
