"""Where a container's processes listen: finding programs that take an address that is not the pod's.

Pods share the machine's network, and each has a loopback address of its own. A program that listens on 0.0.0.0 takes
its port on all of them: the next replica cannot bind the port and fails with "address already in use". That trap cannot
be closed without a network namespace, so it is seen, and said with the cure. One look per run of a container, into
/proc/net/tcp and the descriptors of the container's own processes.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.actor.ports import first_listener
from node_agent.process_tree import descendants_of, environ_value

_LISTEN = "0A"
_PORT = re.compile(r"""(?:[\d\]*:\s]:|\bport\W{0,3}|['"],\s?)(\d{1,5})\b(?!\])""", re.IGNORECASE)
_CLASH_WORDS = ("address already in use", "eaddrinuse", "errno 98", "os error 98", "(98", "address in use")


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    address: str
    port: int

    @property
    def is_wildcard(self) -> bool:
        return self.address in ("0.0.0.0", "::")


def listeners_of(pid: int) -> list[Listener]:
    """The listening TCP sockets that the process or one of its descendants holds."""
    inodes: set[str] = set()
    for process in descendants_of([pid]):
        try:
            for fd in os.scandir(f"/proc/{process}/fd"):
                target = os.readlink(fd.path)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        except OSError:
            continue
    if not inodes:
        return []
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in inodes:
                found.append(_listener(fields[1]))
    return found


def _listener(local: str) -> Listener:
    """From the kernel's notation: 0100007F:1F90 is 127.0.0.1:8080, each 32-bit word in the machine's byte order."""
    words, port = local.split(":")
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    address = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return Listener(address.removeprefix("::ffff:"), int(port, 16))


def warnings_about(found: Iterable[Listener], declared: Sequence[int], container: str, pod_ip: str) -> list[str]:
    """What is to be said about these listeners. Pure."""
    listeners = list(found)
    cure = f"bind to the address in $POD_IP ({pod_ip}) instead"
    warnings = []
    for port in sorted({listener.port for listener in listeners if listener.is_wildcard}):
        warnings.append(
            f"Container {container} listens on port {port} of every address (0.0.0.0 or ::): no other pod on this"
            f" machine can use that port, and it answers for their addresses; {cure}"
        )
    for port in declared:
        addresses = {listener.address for listener in listeners if listener.port == port}
        if addresses and not addresses & {pod_ip, "0.0.0.0", "::"}:
            where = f"{sorted(addresses)[0]}:{port}"
            warnings.append(f"Container {container} listens on {where}, where services do not look for it; {cure}")
    return warnings


def looks_like_a_clash(output: str) -> bool:
    """The output speaks of an address that is in use. Pure."""
    text = output.lower()
    return any(words in text for words in _CLASH_WORDS)


def ports_in(output: str) -> list[int]:
    """The ports that the output may mean where it speaks of an address in use, each once, in their order. Pure.

    As programs print them: "127.0.0.1:80", "*:6379", "[::]:80", "('0.0.0.0', 8000)", "port 5000".
    """
    lines = [line for line in output.splitlines() if "in use" in line.lower() or looks_like_a_clash(line)]
    numbers = (int(found) for line in lines for found in _PORT.findall(line))
    return list(dict.fromkeys(number for number in numbers if 0 < number < 65536))


def holder_of(pod_ip: str, ports: Sequence[int]) -> str:
    """Who listens on one of these ports, at the pod's address or at all.

    As in "port 80 is held by pid 7 (nginx) of pod web-1". Empty if nobody does, or nobody can be seen.
    """
    port, holder = first_listener(pod_ip, ports)
    if not port:
        return ""
    words = holder.split()
    pod = environ_value(int(words[1]), "POD_NAME") if words[1].isdigit() else ""
    return f"port {port} is held by {holder}" + (f" of pod {pod}" if pod else "")


def clash_message(container: str, pod_ip: str, holder: str = "") -> str:
    """What is to be said about a container that could not bind its address. Pure."""
    return (
        f"Container {container} ended because an address that it wanted is in use"
        f"{f': {holder}' if holder else ''}. Pods share the machine's ports, but"
        f" each has an address of its own: a program that listens on 0.0.0.0 takes its port from all others; bind to"
        f" the address in $POD_IP ({pod_ip}) instead"
    )
