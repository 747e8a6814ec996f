"""Who has taken an address: turns "address already in use" into something that can be acted upon.

Asked only when a daemon could not bind; so psutil is imported then.
"""

from __future__ import annotations

import re

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
    import psutil

    try:
        connections = psutil.net_connections("tcp4")
    except (psutil.Error, OSError):
        return ""
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == port and connection.laddr.ip in (host, "0.0.0.0"):
            if connection.pid is None:
                return "another user's process"
            try:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return ""
