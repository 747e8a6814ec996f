"""How commands talk to the supervisor: JSON lines over a Unix socket in the cluster's private directory.

Requests: {"op": "status"}, {"op": "start"} (what is down; with "name": "kubernetes", that as well, which waits for
somebody to ask), {"op": "replace", "name": "proxy"} (a successor beside one that serves), {"op": "stop", "now": false},
{"op": "hold"}. A status, start or replace is answered by one line. A stop is answered by a line per step, the last with
"done": true, and then the supervisor is gone. A hold ends the masters
and is answered when they are gone; they stay away until the connection is closed, by its owner or by its owner's death,
and then are started again. The socket's directory is 0700, and the supervisor checks the peer besides: its uid, and
that it is no pod.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.api.errors import DeadlineExceeded, Unavailable
from node_agent.process_tree import is_confined


def short_path(path: Path, directory_fd: int) -> str:
    """A path for AF_UNIX, whose limit is 107 bytes: through the open directory, however long its name is."""
    return f"/proc/self/fd/{directory_fd}/{path.name}"


def listen(path: Path) -> socket.socket:
    """A listening, non-blocking socket at that path (replaces a stale one), 0600."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path.unlink(missing_ok=True)
        listener.bind(short_path(path, directory))
        path.chmod(0o600)
        listener.listen(16)
        listener.setblocking(False)
    finally:
        os.close(directory)
    return listener


def peer_is_me(connection: socket.socket) -> bool:
    """The other end runs as this user, or as root, and is no pod: those can gain no rights, unlike this process (unless
    it was started so)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.getuid()) and (not is_confined(pid) or is_confined(os.getpid()))


def request(path: Path, message: dict[str, Any], *, timeout_s: float) -> Generator[dict[str, Any], None, None]:
    """Sends a request and yields the answers until the supervisor closes. Each must come within `timeout_s`.

    Raises Unavailable if nobody listens, DeadlineExceeded if it does not answer in time.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection.connect(short_path(path, directory))
        finally:
            os.close(directory)
        connection.sendall(json.dumps(message).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)
    except TimeoutError as error:
        raise DeadlineExceeded(f"the cluster's supervisor did not answer within {timeout_s:g} s") from error
    except OSError as error:
        raise Unavailable(f"the cluster's supervisor does not answer: {error.strerror or error}") from error
    finally:
        connection.close()


def ask(path: Path, message: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """A request with one answer."""
    for answer in request(path, message, timeout_s=timeout_s):
        return answer
    raise Unavailable("the cluster's supervisor closed the connection without an answer")


@contextmanager
def hold_masters(path: Path, *, timeout_s: float = 30.0) -> Iterator[None]:
    """Within it no master of the cluster runs; they are started again when it is left.

    Raises Unavailable, and DeadlineExceeded if they do not end in time.
    """
    answers = request(path, {"op": "hold"}, timeout_s=timeout_s)
    try:
        answer = next(answers, None)
        if answer is None or answer.get("step") != "held":
            why = (answer or {}).get("error", "it closed the connection without an answer")
            raise Unavailable(f"the cluster's supervisor does not stop its masters: {why}")
        yield
    finally:
        answers.close()
