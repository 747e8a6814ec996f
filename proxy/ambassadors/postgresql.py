"""PostgreSQL: reads of simple sessions go to replicas, everything else, and every transaction, to the master.

A session logs in at the master, with whatever the master asks for. What it asks then is cut into batches
(`pg_batch`); each is answered by one server before the other one is asked.

    batch                                             goes to
    within a transaction (the master's status says)   the master
    reads, complete in itself                         a replica; the master if there is none that can be used
    writes, or nobody knows                           the master
    keeps something with the connection (`sql`: PIN)  the master, and from then on the two speak past the ambassador

A replica that refuses (25006: it would have to write; 40001: its recovery was in the way) before it has said anything
to the client has been asked in vain, and the master is asked. A cancellation goes to the server that is busy with what
is to be cancelled.

To ask a replica, the ambassador has to log in there, in the client's name. It can if the replica trusts it, or if the
password is sent in clear text; a SCRAM or MD5 login cannot be repeated by somebody in the middle, which is their
purpose. Then the reads stay at the master, an event of the service says so, and clients may still say at the start that
they will only read: a startup with `default_transaction_read_only=on` (PGOPTIONS) takes the whole session to a replica,
whatever the login. TLS is declined: connections here do not leave the machine.

When roles change hands, a session ends with FATAL 57P01, as if its server had been restarted, once it is outside of a
transaction; a new one finds the new master.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from proxy.ambassadors.pg_batch import Batch
from proxy.ambassadors.pg_wire import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    READY,
    SSL_REQUEST,
    TERMINATE,
    Message,
    MessageScanner,
    ProtocolError,
    Startup,
    error,
    error_fields,
    read_startup,
    wants_to_read_only,
)
from proxy.ambassadors.policy import (
    Abort,
    Action,
    Close,
    CloseBackend,
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
    Tell,
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
MAX_HELD: Final = 1 << 16
"""Of an answer of a replica, held back while it may still be taken back."""
_HELD: Final = frozenset((b"1", b"2", b"3", b"N", b"S", b"T", b"n", b"t"))
"""What an answer begins with before it says anything."""
_ASK_THE_MASTER: Final = ("25006", "40001")
_MASTER, _REPLICA, _CANCEL = "master", "replica", "cancel"


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
        self._client = MessageScanner()
        self._queue: deque[Message] = deque()
        """Not sent yet. Bounded: while something is in it, the client is not read."""
        self._batch = Batch()
        self._is_streaming = False
        """The batch is on its way to the master, and its end has still to come."""
        self._active = _MASTER
        self._outstanding = 0
        """Batches that the active server has not answered."""
        self._status = b"I"
        """Of the transaction at the master, as of its last answer."""
        self._has_written = False
        self._master = MessageScanner()
        self._replica = MessageScanner()
        self._replica_state = ""
        """"": none; "login"; "ready"; "away": not until the endpoints change; "refused": not in this session."""
        self._servers: dict[str, Endpoint] = {}
        self._password = b""
        """The client's PasswordMessage, if the master asked for it in clear text."""
        self._asked_password = False
        self._keys: dict[str, bytes] = {}
        self._cancels: Endpoint | None = None
        self._asked = b""
        """What the replica was asked, to be asked of the master."""
        self._held: list[bytes] | None = None
        """What it has answered so far; None: the client has heard of it."""
        self._held_bytes = 0
        self._taken_back = False
        """The rest of its answer is dropped."""
        self._reading = True
        self._master_paused = False

    @property
    def asks_a_replica(self) -> bool:
        """And not the master, at this moment."""
        return self._active == _REPLICA and self._outstanding > 0

    # --- What is heard

    def from_client(self, data: bytes) -> Sequence[Action]:
        try:
            if self._phase == "startup":
                self._first += data
                return self._read_startup()
            self._queue.extend(self._client.feed(data))
        except ProtocolError as problem:
            return self._fatal("08P01", str(problem))
        return self._advance([])

    def client_ended(self) -> Sequence[Action]:
        return [Close()]

    def candidates(self, backend: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if backend == _CANCEL and self._cancels is not None:
            return [each for each in endpoints if each.address == self._cancels.address]
        if backend == _REPLICA:
            return in_turn(self._policy.roles.replicas(endpoints), self._turn)
        return self._policy.roles.masters(endpoints)

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        self._servers[backend] = endpoint
        return []

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        try:
            if backend == _MASTER:
                return self._from_master(data)
            if backend == _REPLICA:
                actions: list[Action] = []
                for message in self._replica.feed(data):
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
        if self._replica_state == "away":
            self._replica_state = ""
        return self._advance([])

    def timer(self) -> Sequence[Action]:
        return self._fatal("57014", "the login took too long")

    def closed(self) -> None:
        self._policy.keys.pop(self._keys.get(_MASTER, b""), None)

    # --- The beginning

    def _read_startup(self) -> list[Action]:
        actions: list[Action] = [SetTimer(STARTUP_S)]
        while (startup := read_startup(self._first)) is not None:
            self._first = self._first[len(startup.data) :]
            if startup.code in (SSL_REQUEST, GSS_REQUEST):
                actions.append(ToClient(b"N"))
                if self._first:  # said as if we had agreed: nobody can know for whom it was meant
                    return [*actions, Abort()]
            elif startup.code == CANCEL_REQUEST:
                return [*actions, *self._cancel(startup.data)]
            else:
                return [*actions, *self._log_in(startup)]
        return actions

    def _cancel(self, packet: bytes) -> list[Action]:
        """Cancels for whoever has the key, at the server that is busy for him."""
        self._phase = "aside"
        session = self._policy.keys.get(packet[8:])
        if session is not None and session.asks_a_replica and _REPLICA in session._keys:
            self._cancels = session._servers.get(_REPLICA)
            key = session._keys[_REPLICA]
            packet = (len(key) + 8).to_bytes(4, "big") + packet[4:8] + key
        elif session is not None:
            self._cancels = session._servers.get(_MASTER)
        return [Open(_CANCEL), ToBackend(_CANCEL, packet)]

    def _log_in(self, startup: Startup) -> list[Action]:
        self._startup = startup.data
        read_only = wants_to_read_only(startup.parameters)
        replication = startup.parameters.get("replication", "off").lower() not in ("off", "false", "no", "0")
        if read_only or replication:
            where = _REPLICA if read_only and not replication else _MASTER
            self._phase = "aside"
            rest, self._first = self._first, b""
            return [Open(where), ToBackend(where, startup.data + rest), SetTimer(None), Splice(where)]
        self._phase = "login"
        actions: list[Action] = [Open(_MASTER), ToBackend(_MASTER, startup.data)]
        rest, self._first = self._first, b""
        self._queue.extend(self._client.feed(rest))
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
                self._keys[_MASTER] = message.body
                self._policy.keys[message.body] = self
        return self._advance(actions)

    # --- The replica

    def _from_replica(self, message: Message, actions: list[Action]) -> None:
        if self._replica_state == "login":
            self._log_in_at_replica(message, actions)
        elif self._replica_state != "ready" or not self.asks_a_replica:
            return  # said unasked, such as a setting that has changed: the client has the master's
        elif self._taken_back:
            if message.type == b"Z":
                self._ask_the_master(actions)
        elif message.type == b"Z":
            self._let_go(actions)
            actions.append(ToClient(message.data))
            self._outstanding = 0
        elif self._held is not None and message.type == b"E" and _code(message) in _ASK_THE_MASTER:
            self._taken_back = True
        else:
            whole = message.begins and message.ends
            if self._held is not None and whole and message.type in _HELD and self._held_bytes < MAX_HELD:
                self._held.append(message.data)
                self._held_bytes += len(message.data)
                return
            self._let_go(actions)
            actions.append(ToClient(message.data))

    def _log_in_at_replica(self, message: Message, actions: list[Action]) -> None:
        if message.type == b"R":
            asked = int.from_bytes(message.body[:4], "big")
            if asked == 3 and self._password:
                actions.append(ToBackend(_REPLICA, self._password))
            elif asked != 0:
                self._do_without(actions, f"it asks for a login (kind {asked}) that only the client can answer")
        elif message.type == b"K":
            self._keys[_REPLICA] = message.body
        elif message.type == b"E":
            self._do_without(actions, error_fields(message.body).get("M", "it refuses the login"))
        elif message.type == b"Z":
            self._replica_state = "ready"

    def _do_without(self, actions: list[Action], why: str) -> None:
        """The replica cannot be used in this client's name: the reads of the session stay at the master."""
        self._drop_replica(actions)
        self._replica_state = "refused"
        words = f"Reads of a session stay at the master, a replica cannot be used: {why}"
        actions.append(Tell("ReplicaNotUsed", words))

    def _let_go(self, actions: list[Action]) -> None:
        """The client hears what was held back; it cannot be taken back any more."""
        if self._held is not None:
            actions.extend(ToClient(data) for data in self._held)
            self._held = None

    def _ask_the_master(self, actions: list[Action]) -> None:
        self._taken_back = False
        self._held = None
        self._active = _MASTER
        self._outstanding = 1
        actions.append(ToBackend(_MASTER, self._asked))

    def _drop_replica(self, actions: list[Action]) -> None:
        self._replica_state = ""
        self._replica = MessageScanner()
        self._servers.pop(_REPLICA, None)
        self._keys.pop(_REPLICA, None)
        actions.append(CloseBackend(_REPLICA))

    # --- What the client asks

    def _advance(self, actions: list[Action]) -> list[Action]:
        """Sends what may be sent."""
        if self._phase == "login":
            self._pass_login(actions)
        while self._phase == "ready" and self._send_next(actions):
            pass
        if self._phase == "aside":
            return actions
        if self._phase == "ready" and not self._outstanding and self._batch.kind is None and not self._batch.data:
            self._follow_roles(actions)
        reading = not self._queue and (self._batch.kind is None or self._is_streaming)
        if reading != self._reading:
            self._reading = reading
            actions.append(ReadClient(reading))
        paused = self.asks_a_replica
        if paused != self._master_paused and _MASTER in self._servers:
            self._master_paused = paused
            actions.append(ReadBackend(_MASTER, not paused))
        return actions

    def _pass_login(self, actions: list[Action]) -> None:
        while self._queue and self._queue[0].type in (b"p", b"X"):
            message = self._queue.popleft()
            if message.type == b"p" and self._asked_password and message.begins and message.ends:
                self._password = message.data
            actions.append(ToBackend(_MASTER, message.data))

    def _send_next(self, actions: list[Action]) -> bool:
        """One step. False: something has to be waited for."""
        batch = self._batch
        if batch.kind is None or self._is_streaming:
            if not self._queue:
                return False
            message = self._queue.popleft()
            if message.type == b"X" and not batch.data:
                self._phase = "aside"
                actions += [ToBackend(_MASTER, TERMINATE), Close()]
                return False
            if not self._is_streaming:
                batch.add(message)
                return True
            batch.data = b""
            batch.add(message)
            actions.append(ToBackend(_MASTER, message.data))
            if batch.is_complete:
                self._batch, self._is_streaming = Batch(), False
            return True
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
        if batch.is_complete:
            self._batch = Batch()
        else:
            self._is_streaming = True
        return True

    def _ask_a_replica(self, actions: list[Action]) -> bool | None:
        """None: there is none that could be asked."""
        replicas = self._policy.roles.replicas(self._endpoints)
        if self._replica_state in ("ready", "login") and not self._has_role(_REPLICA):
            self._drop_replica(actions)
        if self._replica_state in ("away", "refused") or (not self._replica_state and not replicas):
            return None
        if self._replica_state == "":
            self._replica_state = "login"
            actions += [Open(_REPLICA), ToBackend(_REPLICA, self._startup)]
        if self._replica_state == "login":
            return False
        self._active = _REPLICA
        self._outstanding = 1
        self._asked = self._batch.data
        self._held, self._held_bytes, self._taken_back = [], 0, False
        actions.append(ToBackend(_REPLICA, self._asked))
        self._batch = Batch()
        return True

    def _step_aside(self, actions: list[Action]) -> bool:
        """Client and master speak past us."""
        if self._outstanding:
            return False
        rest = b"".join(message.data for message in self._queue) + self._client.rest()
        self._queue.clear()
        self._phase = "aside"
        actions += [ToBackend(_MASTER, self._batch.data + rest), ReadBackend(_MASTER, True), Splice(_MASTER)]
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
        elif self._replica_state == "ready" and not self._has_role(_REPLICA):
            self._drop_replica(actions)

    def _lost(self, name: str, why: str) -> list[Action]:
        self._servers.pop(name, None)
        if name == _CANCEL:
            return [Close()]
        if name == _REPLICA and self._phase == "ready":
            return self._lost_replica(why)
        scanner = self._master if name == _MASTER else self._replica
        if not scanner.is_between or scanner.rest():
            return [Abort()]
        return self._fatal("08006", f"{name}: {why}")

    def _lost_replica(self, why: str) -> list[Action]:
        actions: list[Action] = []
        at_boundary = self._replica.is_between
        was_asked = self.asks_a_replica
        was_login = self._replica_state == "login"
        self._drop_replica(actions)
        if was_login:  # tried again when the endpoints change, so that not every read has to wait
            self._replica_state = "away"
        if was_asked and self._held is not None:
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


def _code(message: Message) -> str:
    return error_fields(message.body).get("C", "") if message.begins and message.ends else ""
