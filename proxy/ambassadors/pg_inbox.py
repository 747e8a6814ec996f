"""What a client of PostgreSQL has said and no server was sent yet: messages, and the batch that they add up to. Pure.

feed ---> messages ---> batch, until its kind is known ---> sent: as a whole, or what there is of it
              |                                                      |
              +----------------- the rest of such a batch follows message by message
"""

from __future__ import annotations

from collections import deque

from proxy.ambassadors.pg_batch import Batch
from proxy.ambassadors.pg_wire import Message, MessageScanner

_LOGIN = (b"p", b"X")


class Inbox:
    """Of one session. Bounded: while there are messages in it, `wants_more` is false, and the client is not read."""

    __slots__ = ("_is_streaming", "_messages", "_scanner", "batch")

    def __init__(self) -> None:
        self.batch = Batch()
        """The one to be sent next, as far as it has come."""
        self._is_streaming = False
        """It is on its way, and its end has still to come."""
        self._messages: deque[Message] = deque()
        self._scanner = MessageScanner()

    @property
    def is_between(self) -> bool:
        """Nothing of a batch has come, or all of it was sent."""
        return self.batch.kind is None and not self.batch.data

    @property
    def needs_message(self) -> bool:
        """What is to become of the batch is not known yet, or known already, and more of it has to come."""
        return self.batch.kind is None or self._is_streaming

    @property
    def wants_more(self) -> bool:
        """The client may go on."""
        return not self._messages and self.needs_message

    def feed(self, data: bytes) -> None:
        """The client has said this. Raises ProtocolError."""
        self._messages.extend(self._scanner.feed(data))

    def next(self) -> Message | None:
        """The next message; None: it has not come."""
        return self._messages.popleft() if self._messages else None

    def next_of_login(self) -> Message | None:
        """The next message, if it belongs to the login: an answer about a password, or the end."""
        return self._messages.popleft() if self._messages and self._messages[0].type in _LOGIN else None

    def add(self, message: Message) -> bool:
        """Adds it to the batch. True: that is on its way, and this is to follow."""
        if not self._is_streaming:
            self.batch.add(message)
            return False
        self.batch.data = b""
        self.batch.add(message)
        if self.batch.is_complete:
            self.batch, self._is_streaming = Batch(), False
        return True

    def sent(self) -> None:
        """What there is of the batch is on its way; if that is not all of it, the rest follows."""
        if self.batch.is_complete:
            self.batch = Batch()
        else:
            self._is_streaming = True

    def take_all(self) -> bytes:
        """Everything, to the last byte. For who has nothing more to do with what the client says."""
        said = self.batch.data + b"".join(message.data for message in self._messages) + self._scanner.rest()
        self._messages.clear()
        return said
