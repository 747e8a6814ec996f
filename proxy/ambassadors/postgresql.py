"""PostgreSQL: reads of simple sessions go to replicas, everything else, and every transaction, to the master.

A session logs in at the master, with whatever the master asks for. What it asks then is cut into batches
(`pg_batch`); each is answered by one server before the other one is asked.

    batch                                             goes to
    within a transaction (the master's status says)   the master
    reads, complete in itself                         a replica; the master if there is none that can be used
    writes, or nobody knows                           the master
    keeps something with the connection (`sql`: PIN)  the master, and from then on the two speak past the ambassador

A replica may have been asked in vain (`pg_replica`), and then the master is asked. A cancellation goes to the server
that is busy with what is to be cancelled.

To ask a replica, the ambassador has to log in there, in the client's name. It can if the replica trusts it, or if the
password is sent in clear text; a SCRAM or MD5 login cannot be repeated by somebody in the middle, which is their
purpose. Then the reads stay at the master, an event of the service says so, and clients may still say at the start that
they will only read: a startup with `default_transaction_read_only=on` (PGOPTIONS) takes the whole session to a replica,
whatever the login. TLS is declined: connections here do not leave the machine.

When roles change hands, a session ends with FATAL 57P01, as if its server had been restarted, once it is outside of a
transaction; a new one finds the new master.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from proxy.ambassadors.pg_inbox import Inbox
from proxy.ambassadors.pg_replica import REPLICA, Outcome, Replica, State
from proxy.ambassadors.pg_wire import (
    READY,
    TERMINATE,
    Message,
    MessageScanner,
    ProtocolError,
    Startup,
    error,
    read_startup,
    wants_replication,
    wants_to_read_only,
)
from proxy.ambassadors.policy import (
    Abort,
    Action,
    Close,
    ConnectionInfo,
    Decision,
    Endpoint,
    NeedMore,
    Open,
    Policy,
    ReadBackend,
    ReadClient,
    Serve,
    Session,
    SetTimer,
    Splice,
    ToBackend,
    ToClient,
    in_turn,
)
from proxy.ambassadors.roles import Roles
from proxy.ambassadors.sql import Kind

if TYPE_CHECKING:
    from random import Random

STARTUP_S: Final = 60.0
"""For the login; PostgreSQL's own default."""
_MASTER, _CANCEL = "master", "cancel"


class PostgresqlPolicy(Policy):
    """Options: role-label, master, replica (labels of the endpoints), pin-after-write."""

    def __init__(self, options: Mapping[str, str], rng: Random) -> None:
        super().__init__(options, rng)
        self.roles = Roles(options)
        self.pin_after_write = options.get("pin-after-write") == "true"
        self.keys: dict[bytes, PostgresqlSession] = {}
        """Who is meant by the key of a cancellation. One for each session that is split."""
        self.turn = 0

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        if len(first) < 8:
            return NeedMore()
        self.turn += 1
        return Serve(PostgresqlSession(self, endpoints, self.turn))


class PostgresqlSession(Session):
    """One client."""

    def __init__(self, policy: PostgresqlPolicy, endpoints: Sequence[Endpoint], turn: int) -> None:
        self._policy = policy
        self._endpoints = endpoints
        self._turn = turn
        self._phase = "startup"
        """startup, login, ready; "aside": past us."""
        self._first = b""
        self._startup = b""
        self._inbox = Inbox()
        self._active = _MASTER
        self._outstanding = 0
        """Batches that the active server has not answered."""
        self._status = b"I"
        """Of the transaction at the master, as of its last answer."""
        self._has_written = False
        self._master = MessageScanner()
        self._replica = Replica()
        self._servers: dict[str, Endpoint] = {}
        self._password = b""
        """The client's PasswordMessage, if the master asked for it in clear text."""
        self._asked_password = False
        self._key = b""
        """For a cancellation at the master, which is the one that the client knows."""
        self._cancels: Endpoint | None = None
        self._reading = True
        self._master_paused = False

    @property
    def asks_a_replica(self) -> bool:
        """And not the master, at this moment."""
        return self._active == REPLICA and self._outstanding > 0

    @property
    def busy(self) -> tuple[Endpoint | None, bytes]:
        """The server that works for the client, and the key that it wants to hear from who cancels that."""
        if self.asks_a_replica and self._replica.key:
            return self._servers.get(REPLICA), self._replica.key
        return self._servers.get(_MASTER), self._key

    # --- What is heard

    def from_client(self, data: bytes) -> Sequence[Action]:
        try:
            if self._phase == "startup":
                self._first += data
                return self._read_startup()
            self._inbox.feed(data)
        except ProtocolError as problem:
            return self._fatal("08P01", str(problem))
        return self._advance([])

    def candidates(self, backend: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if backend == _CANCEL and self._cancels is not None:
            return [each for each in endpoints if each.address == self._cancels.address]
        if backend == REPLICA:
            return in_turn(self._policy.roles.replicas(endpoints), self._turn)
        return self._policy.roles.masters(endpoints)

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        self._servers[backend] = endpoint
        return []

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        try:
            if backend == _MASTER:
                return self._from_master(data)
            if backend == REPLICA:
                actions: list[Action] = []
                for message in self._replica.scanner.feed(data):
                    self._from_replica(message, actions)
                return self._advance(actions)
        except ProtocolError:
            return [Abort()]
        return []

    def backend_ended(self, backend: str) -> Sequence[Action]:
        return self._lost(backend, "the server closed the connection")

    def failed(self, backend: str, reason: str) -> Sequence[Action]:
        words = {"no-endpoint": "no endpoint has the role", "dial": "no endpoint with the role answers"}
        return self._lost(backend, words.get(reason, "the connection to the server broke off"))

    def endpoints_changed(self, endpoints: Sequence[Endpoint]) -> Sequence[Action]:
        self._endpoints = endpoints
        if self._replica.state is State.AWAY:
            self._replica.state = State.NONE
        return self._advance([])

    def timer(self) -> Sequence[Action]:
        return self._fatal("57014", "the login took too long")

    def closed(self) -> None:
        self._policy.keys.pop(self._key, None)

    # --- The beginning

    def _read_startup(self) -> list[Action]:
        actions: list[Action] = [SetTimer(STARTUP_S)]
        while (startup := read_startup(self._first)) is not None:
            self._first = self._first[len(startup.data) :]
            if startup.wants_encryption:
                actions.append(ToClient(b"N"))
                if self._first:  # said as if we had agreed: nobody can know for whom it was meant
                    return [*actions, Abort()]
            elif startup.is_cancellation:
                return [*actions, *self._cancel(startup.data)]
            else:
                return [*actions, *self._log_in(startup)]
        return actions

    def _cancel(self, packet: bytes) -> list[Action]:
        """Cancels for whoever has the key, at the server that is busy for him."""
        self._phase = "aside"
        session = self._policy.keys.get(packet[8:])
        if session is not None:
            self._cancels, key = session.busy
            packet = (len(key) + 8).to_bytes(4, "big") + packet[4:8] + key
        return [Open(_CANCEL), ToBackend(_CANCEL, packet)]

    def _log_in(self, startup: Startup) -> list[Action]:
        self._startup = startup.data
        read_only = wants_to_read_only(startup.parameters)
        replication = wants_replication(startup.parameters)
        if read_only or replication:
            where = REPLICA if read_only and not replication else _MASTER
            self._phase = "aside"
            rest, self._first = self._first, b""
            return [Open(where), ToBackend(where, startup.data + rest), SetTimer(None), Splice(where)]
        self._phase = "login"
        actions: list[Action] = [Open(_MASTER), ToBackend(_MASTER, startup.data)]
        rest, self._first = self._first, b""
        self._inbox.feed(rest)
        return self._advance(actions)

    # --- The master

    def _from_master(self, data: bytes) -> list[Action]:
        actions: list[Action] = [ToClient(data)]
        for message in self._master.feed(data):
            if message.type == b"Z" and message.ends:
                self._status = message.body[:1]
                if self._phase == "login":
                    self._phase = "ready"
                    actions.append(SetTimer(None))
                else:
                    self._outstanding -= 1
            elif self._phase == "login" and message.type == b"R":
                self._asked_password = message.body == b"\0\0\0\3"
            elif self._phase == "login" and message.type == b"K":
                self._key = message.body
                self._policy.keys[message.body] = self
        return self._advance(actions)

    # --- The replica

    def _from_replica(self, message: Message, actions: list[Action]) -> None:
        if self._replica.state is State.LOGIN:
            if not self._replica.hear_login(message, self._password, actions):
                self._servers.pop(REPLICA, None)
        elif self._replica.state is State.READY and self.asks_a_replica:
            outcome = self._replica.hear(message, actions)
            if outcome is Outcome.ANSWERED:
                self._outstanding = 0
            elif outcome is Outcome.IN_VAIN:
                self._ask_the_master(actions)
        # else said unasked, such as a setting that has changed: the client has the master's

    def _ask_the_master(self, actions: list[Action]) -> None:
        self._replica.give_up_answer()
        self._active = _MASTER
        self._outstanding = 1
        actions.append(ToBackend(_MASTER, self._replica.asked))

    def _drop_replica(self, actions: list[Action], state: State = State.NONE) -> None:
        self._replica.drop(state, actions)
        self._servers.pop(REPLICA, None)

    # --- What the client asks

    def _advance(self, actions: list[Action]) -> list[Action]:
        """Sends what may be sent."""
        if self._phase == "login":
            self._pass_login(actions)
        while self._phase == "ready" and self._send_next(actions):
            pass
        if self._phase == "aside":
            return actions
        if self._phase == "ready" and not self._outstanding and self._inbox.is_between:
            self._follow_roles(actions)
        reading = self._inbox.wants_more
        if reading != self._reading:
            self._reading = reading
            actions.append(ReadClient(reading))
        paused = self.asks_a_replica
        if paused != self._master_paused and _MASTER in self._servers:
            self._master_paused = paused
            actions.append(ReadBackend(_MASTER, not paused))
        return actions

    def _pass_login(self, actions: list[Action]) -> None:
        while (message := self._inbox.next_of_login()) is not None:
            if message.type == b"p" and self._asked_password and message.begins and message.ends:
                self._password = message.data
            actions.append(ToBackend(_MASTER, message.data))

    def _send_next(self, actions: list[Action]) -> bool:
        """One step. False: something has to be waited for."""
        if self._inbox.needs_message:
            return self._take_message(actions)
        batch = self._inbox.batch
        if batch.kind is Kind.PIN:
            return self._step_aside(actions)
        if batch.kind is Kind.READ and batch.is_complete:
            if self._outstanding:
                return False
            if self._status == b"I" and not (self._policy.pin_after_write and self._has_written):
                answer = self._ask_a_replica(actions)
                if answer is not None:
                    return answer
        if self.asks_a_replica:
            return False
        self._active = _MASTER
        self._outstanding += 1
        self._has_written = self._has_written or batch.kind is not Kind.READ
        actions.append(ToBackend(_MASTER, batch.data))
        self._inbox.sent()
        return True

    def _take_message(self, actions: list[Action]) -> bool:
        message = self._inbox.next()
        if message is None:
            return False
        if message.type == b"X" and not self._inbox.batch.data:
            self._phase = "aside"
            actions += [ToBackend(_MASTER, TERMINATE), Close()]
            return False
        if self._inbox.add(message):
            actions.append(ToBackend(_MASTER, message.data))
        return True

    def _ask_a_replica(self, actions: list[Action]) -> bool | None:
        """None: there is none that could be asked."""
        replicas = self._policy.roles.replicas(self._endpoints)
        replica = self._replica
        if replica.state in (State.READY, State.LOGIN) and not self._has_role(REPLICA):
            self._drop_replica(actions)
        answer = replica.prepare(self._startup, actions, is_there=bool(replicas))
        if answer:
            self._active = REPLICA
            self._outstanding = 1
            replica.ask(self._inbox.batch.data, actions)
            self._inbox.sent()
        return answer

    def _step_aside(self, actions: list[Action]) -> bool:
        """Client and master speak past us."""
        if self._outstanding:
            return False
        self._phase = "aside"
        actions += [ToBackend(_MASTER, self._inbox.take_all()), ReadBackend(_MASTER, True), Splice(_MASTER)]
        return False

    # --- Roles, and ends

    def _has_role(self, name: str) -> bool:
        """A server that is not connected yet is chosen by what is true then."""
        if name not in self._servers:
            return True
        roles = self._policy.roles
        fine = (roles.masters if name == _MASTER else roles.replicas)(self._endpoints)
        return any(each.address == self._servers[name].address for each in fine)

    def _follow_roles(self, actions: list[Action]) -> None:
        """Nothing is under way: servers with another role are left."""
        if self._status == b"I" and not self._has_role(_MASTER):
            self._phase = "aside"
            actions += [
                ToClient(error("FATAL", "57P01", "this server is no longer the master; connect again")),
                Close(),
            ]
        elif self._replica.state is State.READY and not self._has_role(REPLICA):
            self._drop_replica(actions)

    def _lost(self, name: str, why: str) -> list[Action]:
        self._servers.pop(name, None)
        if name == _CANCEL:
            return [Close()]
        if name == REPLICA and self._phase == "ready":
            return self._lost_replica(why)
        scanner = self._master if name == _MASTER else self._replica.scanner
        if not scanner.is_between or scanner.rest():
            return [Abort()]
        return self._fatal("08006", f"{name}: {why}")

    def _lost_replica(self, why: str) -> list[Action]:
        actions: list[Action] = []
        at_boundary = self._replica.scanner.is_between
        was_asked = self.asks_a_replica
        # One that was lost in its login is tried again when the endpoints change: not every read is to wait for it.
        self._drop_replica(actions, State.AWAY if self._replica.state is State.LOGIN else State.NONE)
        if was_asked and self._replica.can_be_taken_back:
            self._ask_the_master(actions)
        elif was_asked and at_boundary:
            self._outstanding = 0
            actions.append(ToClient(error("ERROR", "08006", f"replica: {why}") + READY))
        elif was_asked:
            return [Abort()]
        return self._advance(actions)

    def _fatal(self, code: str, message: str) -> list[Action]:
        self._phase = "aside"
        return [ToClient(error("FATAL", code, message)), Close()]
