"""Who has taken an address: turns "address already in use" into something that can be acted upon.

Asked only when a daemon could not bind; so psutil is imported then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ADDRESS = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})\W{1,4}(\d{1,5})\b")
"""An IPv4 address and port in an error's text: "127.0.0.1:80" as well as "('127.0.0.1', 80)"."""


def address_in(text: str) -> tuple[str, int] | None:
    """The first address and port in a text."""
    found = _ADDRESS.search(text)
    return (found[1], int(found[2])) if found else None


def who_listens(host: str, port: int) -> str:
    """The process that listens for TCP there, such as "pid 4711 (redis-server)"; "" if none does or it can't be told.

    Processes of other users show no pid unless we are root: "another user's process".
    """
    return first_listener(host, [port])[1]


def first_listener(host: str, ports: Sequence[int]) -> tuple[int, str]:
    """The first of these ports on which somebody listens for TCP there, at that address or at all, and who it is as
    `who_listens` says it; (0, "") if nobody does. One look at all of them, which costs some ten milliseconds."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return 0, ""
    found = {}
    for connection in connections:
        here = connection.laddr
        if connection.status == psutil.CONN_LISTEN and here and here.ip in (host, "0.0.0.0", "::"):
            found[here.port] = connection.pid
    for port in ports:
        if port in found:
            return port, _name_of(found[port])
    return 0, ""


def _name_of(pid: int | None) -> str:
    import psutil

    if pid is None:
        return "another user's process"
    try:
        return f"pid {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"pid {pid}"
