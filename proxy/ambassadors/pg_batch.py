"""What a client of PostgreSQL asks for at a time: from one ReadyForQuery to the next. Pure.

A simple query is one message. The extended protocol sends several and a Sync at the end; they can be judged only when
all are there, so they are gathered, up to a limit. What can go to a replica is a batch that is complete in itself:
parses an unnamed statement that reads, binds and executes it. What refers to something that the server keeps (a named
statement, a portal) belongs to the server that keeps it: the master.
"""

from __future__ import annotations

from typing import Final

from proxy.ambassadors.pg_wire import Message, names_of_bind, text_of_parse
from proxy.ambassadors.sql import Kind, classify

MAX_BYTES: Final = 1 << 16
"""A batch that is larger goes to the master: it would have to be kept, to be asked again."""
_EXTENDED: Final = frozenset(b"PBDECHS")


class Batch:
    """Messages that belong together, as far as they have come."""

    def __init__(self) -> None:
        self.data = b""
        self.kind: Kind | None = None
        """None: not known yet, more has to come."""
        self.is_complete = False
        """Its last message is there: a ReadyForQuery answers it."""
        self._kind = Kind.READ
        self._parsed = self._executed = False

    def add(self, message: Message) -> None:
        """One more message of it, or a part of one."""
        self.data += message.data
        whole = message.begins and message.ends
        if not whole:
            self._kind = Kind.PIN if message.type in (b"Q", b"P") else max(self._kind, Kind.WRITE)
            self.kind = self._kind  # too large to be looked at
        if message.type in (b"Q", b"F"):
            if whole:
                self.kind = classify(message.body[:-1].decode("utf-8", "replace")) if message.type == b"Q" else Kind.PIN
            self.is_complete = message.ends
            return
        if message.type[0] not in _EXTENDED:  # of a COPY, or nothing that we know: its server knows what it means
            self.kind = Kind.PIN
            return
        if whole:
            self._judge(message)
        if message.type == b"S":
            self.is_complete = True
            complete = self._parsed and self._executed
            self.kind = self._kind if complete else max(self._kind, Kind.WRITE)
        elif self._kind is not Kind.READ or len(self.data) > MAX_BYTES:
            self.kind = max(self._kind, Kind.WRITE)

    def _judge(self, message: Message) -> None:
        kind = Kind.READ
        if message.type == b"P":
            name, text = text_of_parse(message.body)
            kind = max(classify(text), Kind.WRITE if name else Kind.READ)
            self._parsed = True
        elif message.type == b"B":
            portal, statement = names_of_bind(message.body)
            kind = Kind.WRITE if portal or statement or not self._parsed else Kind.READ
        elif message.type == b"D":
            kind = Kind.WRITE if message.body[1:2] != b"\0" else Kind.READ
        elif message.type == b"E":
            kind = Kind.WRITE if message.body[:1] != b"\0" else Kind.READ
            self._executed = True
        elif message.type in (b"C", b"H"):
            kind = Kind.WRITE
        self._kind = max(self._kind, kind)
