"""The spawner's telephone: a socket in the node's directory that only the directory's owner can use.

And no pod, which may be the same user and able to find the socket: unlike the owner, pods can gain no rights.

One agent at a time. A second one is told that the line is busy and hung up on, so that two agents, started by mistake
for one directory, cannot fight over the same pods. When the agent goes, the line is free for the next one. Messages are
a 4-byte length (big endian) and JSON; descriptors (SCM_RIGHTS) may come with them. Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct

from node_agent.process_tree import is_confined

TYPE_CHECKING = False  # importing `typing` just for annotations would cost the spawner 1 MB
if TYPE_CHECKING:
    from typing import Any

SOCKET = "spawner.sock"
PROTOCOL = 1
"""Of what agent and spawner say to each other (the table is in `node_agent.spawner`). One more whenever an agent or a
spawner of before would misunderstand it: an agent that was replaced meets the spawner of the one before."""
HEADER = struct.Struct("!I")
CHUNK_BYTES = 65536
MAX_MESSAGE_BYTES = 8 << 20
_PEER = struct.Struct("3i")


class HungUp(Exception):
    """The agent has gone."""


def packed(message: dict[str, Any]) -> bytes:
    """A message as it travels."""
    data = json.dumps(message).encode()
    return HEADER.pack(len(data)) + data


def listen(directory_fd: int) -> socket.socket:
    """The listening socket in that directory, 0600; one that was left there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    path = f"/proc/self/fd/{directory_fd}/{SOCKET}"  # however long the directory's name is: the limit is 107 bytes
    try:
        os.unlink(SOCKET, dir_fd=directory_fd)
    except FileNotFoundError:
        pass
    before = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(4)
    return listener


class Line:
    """The connection to the agent, if there is one."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self._owner_is_confined = is_confined(os.getpid())  # then all are, and it says nothing
        self.agent: socket.socket | None = None
        self.agent_pid = 0
        self.inbox = b""
        # Grows with what the agent asked for, never by itself: bounded by the runs it started.
        self.outbox = b""
        self.fds: list[int] = []
        """Descriptors that came and were not taken yet, in order."""

    def accept(self) -> bool:
        """Takes a call; True if it is an agent's, and it is now on the line."""
        try:
            caller, _ = self.listener.accept()
        except OSError:
            return False
        pid, uid, _gid = _PEER.unpack(caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in (0, os.getuid()) or (is_confined(pid) and not self._owner_is_confined):
            caller.close()
            return False
        if self.agent is not None:
            try:
                caller.sendall(packed({"event": "busy", "pid": self.agent_pid}))
            except OSError:
                pass
            caller.close()
            return False
        caller.setblocking(False)
        self.agent, self.agent_pid = caller, pid
        return True

    def is_hung_up(self) -> bool:
        """The agent has gone; what it said before may still be there to be received."""
        if self.agent is None:
            return False
        look = select.poll()
        look.register(self.agent, select.POLLRDHUP)
        return bool(look.poll(0))

    def hang_up(self) -> None:
        """The call is over; what was half said is forgotten."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self.inbox = self.outbox = b""
        if self.agent is not None:
            self.agent.close()
            self.agent = None

    def receive(self) -> list[dict[str, Any]]:
        """The messages that are there. Raises HungUp."""
        assert self.agent is not None
        try:
            data, fds, _flags, _address = socket.recv_fds(self.agent, CHUNK_BYTES, 16)
        except BlockingIOError:
            return []
        except OSError:
            raise HungUp from None
        for fd in fds:
            os.set_inheritable(fd, False)
        self.fds += fds
        if not data:
            raise HungUp
        self.inbox += data
        messages = []
        while len(self.inbox) >= HEADER.size:
            (length,) = HEADER.unpack_from(self.inbox)
            if length > MAX_MESSAGE_BYTES:
                raise HungUp
            if len(self.inbox) < HEADER.size + length:
                break
            messages.append(json.loads(self.inbox[HEADER.size : HEADER.size + length]))
            self.inbox = self.inbox[HEADER.size + length :]
        return messages

    def tell(self, message: dict[str, Any]) -> None:
        """Says something, or as much of it as goes through now. Without an agent, nothing. Raises HungUp."""
        if self.agent is not None:
            self.outbox += packed(message)
            self.flush()

    def flush(self) -> None:
        """Says more of what waits. Raises HungUp."""
        while self.outbox and self.agent is not None:
            try:
                sent = self.agent.send(self.outbox)
            except BlockingIOError:
                return
            except OSError:
                raise HungUp from None
            self.outbox = self.outbox[sent:]
