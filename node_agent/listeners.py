"""Where a container's processes listen: finding programs that take an address that is not the pod's.

Pods share the machine's network, and each has a loopback address of its own. A program that listens on 0.0.0.0 takes
its port on all of them: the next replica cannot bind the port and fails with "address already in use". That trap cannot
be closed without a network namespace, so it is seen, and said with the cure. One look per run of a container, into
the kernel's table and the descriptors of the container's own processes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cluster.actor.ports import Listener, first_listener, listening_sockets, sockets_of
from node_agent.process_tree import descendants_of, environ_value

_PORT = re.compile(r"""(?:[\d\]*:\s]:|\bport\W{0,3}|['"],\s?)(\d{1,5})\b(?!\])""", re.IGNORECASE)
_CLASH_WORDS = ("address already in use", "eaddrinuse", "errno 98", "os error 98", "(98", "address in use")


def listeners_of(pid: int) -> list[Listener]:
    """The listening TCP sockets that the process or one of its descendants holds."""
    inodes = {inode for process in descendants_of([pid]) for inode in sockets_of(process)}
    return [listener for listener in listening_sockets() if listener.inode in inodes] if inodes else []


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
