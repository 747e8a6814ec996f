"""A replica of PostgreSQL as one session uses it: logged in as the client, asked, and perhaps asked in vain. Pure.

    none ---> login ---> ready       it is asked one batch at a time
                |
                +------> refused     it cannot be used in this client's name: not in this session
      away                           it broke off in its login: not until the endpoints change

What it answers first is held back, up to a limit, for as long as it says nothing that the client could not hear again.
If it refuses then (25006: it would have to write; 40001: its recovery was in the way), it has been asked in vain: the
rest of its answer is dropped, and the session asks the master.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from proxy.ambassadors.pg_wire import Message, MessageScanner, error_fields
from proxy.ambassadors.policy import Action, CloseBackend, Open, Tell, ToBackend, ToClient

REPLICA: Final = "replica"
"""Of the backend."""
MAX_HELD: Final = 1 << 16
"""Of an answer, held back while it may still be taken back."""
_HELD: Final = frozenset((b"1", b"2", b"3", b"N", b"S", b"T", b"n", b"t"))
"""What an answer begins with before it says anything."""
_IN_VAIN: Final = ("25006", "40001")


class State(Enum):
    """How far it is."""

    NONE = "none"
    LOGIN = "login"
    READY = "ready"
    AWAY = "away"
    REFUSED = "refused"


class Outcome(Enum):
    """What became of what it was asked."""

    ANSWERED = "answered"
    IN_VAIN = "in vain"


class Replica:
    """Of one session."""

    __slots__ = ("_held", "_held_bytes", "_taken_back", "asked", "key", "scanner", "state")

    def __init__(self) -> None:
        self.state = State.NONE
        self.scanner = MessageScanner()
        self.key = b""
        """For a cancellation; empty: not known."""
        self.asked = b""
        """What it was asked last, to be asked of the master."""
        self._held: list[bytes] | None = None
        """What it has answered so far; None: the client has heard of it."""
        self._held_bytes = 0
        self._taken_back = False
        """The rest of its answer is dropped."""

    @property
    def can_be_taken_back(self) -> bool:
        """The client has heard nothing of its answer."""
        return self._held is not None

    def prepare(self, startup: bytes, actions: list[Action], *, is_there: bool) -> bool | None:
        """Connects it, if there is one, and logs in as the client did. False: it is not ready yet; None: there is none
        that could be asked."""
        if self.state in (State.AWAY, State.REFUSED) or (self.state is State.NONE and not is_there):
            return None
        if self.state is State.NONE:
            self.state = State.LOGIN
            actions += [Open(REPLICA), ToBackend(REPLICA, startup)]
        return self.state is State.READY

    def ask(self, batch: bytes, actions: list[Action]) -> None:
        """It is ready, and has answered what it was asked before."""
        self.asked = batch
        self._held, self._held_bytes, self._taken_back = [], 0, False
        actions.append(ToBackend(REPLICA, batch))

    def drop(self, state: State, actions: list[Action]) -> None:
        """It goes, and this is what is to be thought of it from now on. What it was asked is known still."""
        self.state = state
        self.scanner = MessageScanner()
        self.key = b""
        actions.append(CloseBackend(REPLICA))

    def give_up_answer(self) -> None:
        """Somebody else is asked instead."""
        self._held, self._taken_back = None, False

    def hear(self, message: Message, actions: list[Action]) -> Outcome | None:
        """It has said this while it was asked something."""
        if self._taken_back:
            return Outcome.IN_VAIN if message.type == b"Z" else None
        if message.type == b"Z":
            self._let_go(actions)
            actions.append(ToClient(message.data))
            return Outcome.ANSWERED
        if self._held is not None and message.type == b"E" and _code(message) in _IN_VAIN:
            self._taken_back = True
            return None
        whole = message.begins and message.ends
        if self._held is not None and whole and message.type in _HELD and self._held_bytes < MAX_HELD:
            self._held.append(message.data)
            self._held_bytes += len(message.data)
            return None
        self._let_go(actions)
        actions.append(ToClient(message.data))
        return None

    def hear_login(self, message: Message, password: bytes, actions: list[Action]) -> bool:
        """It has said this in its login. `password` is the client's PasswordMessage, if it is known. False: it cannot
        be used, and goes."""
        if message.type == b"R":
            asked = int.from_bytes(message.body[:4], "big")
            if asked == 3 and password:
                actions.append(ToBackend(REPLICA, password))
            elif asked != 0:
                self._do_without(actions, f"it asks for a login (kind {asked}) that only the client can answer")
        elif message.type == b"K":
            self.key = message.body
        elif message.type == b"E":
            self._do_without(actions, error_fields(message.body).get("M", "it refuses the login"))
        elif message.type == b"Z":
            self.state = State.READY
        return self.state is not State.REFUSED

    def _do_without(self, actions: list[Action], why: str) -> None:
        """It cannot be used in this client's name: the reads of the session stay at the master."""
        self.drop(State.REFUSED, actions)
        words = f"Reads of a session stay at the master, a replica cannot be used: {why}"
        actions.append(Tell("ReplicaNotUsed", words))

    def _let_go(self, actions: list[Action]) -> None:
        """The client hears what was held back; it cannot be taken back any more."""
        if self._held is not None:
            actions.extend(ToClient(data) for data in self._held)
            self._held = None


def _code(message: Message) -> str:
    return error_fields(message.body).get("C", "") if message.begins and message.ends else ""
