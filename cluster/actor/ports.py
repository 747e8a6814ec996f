"""Who listens where: turns "address already in use" into something that can be acted upon.

The kernel's tables (/proc/net/tcp, tcp6) list the listening sockets first and all others after them (Linux,
Documentation/networking/proc_net_tcp.rst). Only the first part is read: on a machine that opens and closes connections
by the thousand the rest is long, and takes a daemon seconds to read.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_ADDRESS = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})\W{1,4}(\d{1,5})\b")
"""An IPv4 address and port in an error's text: "127.0.0.1:80" as well as "('127.0.0.1', 80)"."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"


class Listener(NamedTuple):
    """A listening TCP socket."""

    address: str
    port: int
    inode: str = ""
    """Names the socket among all descriptors of the machine."""

    @property
    def is_wildcard(self) -> bool:
        """It takes the port of every address."""
        return self.address in ("0.0.0.0", "::")


def address_in(text: str) -> tuple[str, int] | None:
    """The first address and port in a text."""
    found = _ADDRESS.search(text)
    return (found[1], int(found[2])) if found else None


def listening_sockets(tables: Sequence[Path] = _TABLES) -> Iterator[Listener]:
    """All of this network namespace. Of a table that is not there (of IPv6, say), or may not be read, none."""
    for table in tables:
        try:
            with table.open() as file:
                next(file, None)  # the columns' names
                for line in file:
                    fields = line.split()
                    if fields[3] != _LISTEN:
                        break
                    yield Listener(*_address_of(fields[1]), fields[9])
        except OSError:
            continue


def _address_of(local: str) -> tuple[str, int]:
    """From the kernel's notation: 0100007F:1F90 is 127.0.0.1:8080, each 32-bit word in the machine's byte order."""
    words, port = local.split(":")
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    address = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return address.removeprefix("::ffff:"), int(port, 16)


def sockets_of(pid: int) -> Iterator[str]:
    """The inodes of the sockets that a process has open; none if it is gone or another user's."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    target = os.readlink(descriptor.path)
                    if target.startswith("socket:["):
                        yield target[8:-1]
    except OSError:
        return


def who_listens(host: str, port: int) -> str:
    """The process that listens for TCP there, such as "pid 4711 (redis-server)"; "" if none does or it can't be told.

    Processes of other users show no pid unless we are root: "another user's process".
    """
    return first_listener(host, [port])[1]


def first_listener(host: str, ports: Sequence[int]) -> tuple[int, str]:
    """The first of these ports on which somebody listens for TCP there, at that address or at all, and who it is as
    `who_listens` says it; (0, "") if nobody does. One look at all of them, which costs some ten milliseconds."""
    found = {it.port: it.inode for it in listening_sockets() if it.is_wildcard or it.address == host}
    for port in ports:
        if port in found:
            return port, _holder_of(found[port])
    return 0, ""


def _holder_of(inode: str) -> str:
    import psutil  # asked only when something is taken; daemons start without it

    for name in os.listdir("/proc"):
        if name.isdigit() and inode in sockets_of(int(name)):
            try:
                return f"pid {name} ({psutil.Process(int(name)).name()})"
            except psutil.Error:
                return f"pid {name}"
    return "another user's process"
