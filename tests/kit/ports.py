"""Ports for servers that bind them later: real servers in processes of their own, and those that are started again.

A port that the kernel chose (bind to 0) is one of those that it also gives to outgoing connections: between the choice
and the bind, or between two lives of a server, anybody's connection may get it. So here it is chosen among the others.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port(ip: str = "127.0.0.1") -> int:
    """A port at which nobody listens, and which no outgoing connection gets."""
    first, last = map(int, _OUTGOING.read_text().split())
    ports = [port for port in range(20_000, 30_000) if not first <= port <= last]
    dice = random.SystemRandom()
    while True:
        port = dice.choice(ports)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ip, port))
            except OSError:
                continue
        return port
