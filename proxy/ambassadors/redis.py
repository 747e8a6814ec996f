"""Redis: reads go to replicas, everything else to the master, whoever that is by the labels at this moment.

A client speaks with one address, as with one server. Its commands are carried out in their order: a command for another
server than the one before waits until that has answered. So replies need no sorting, and a client that writes and then
reads never sees its read overtake its write; but a replica may lag behind, so what it reads may be older than what it
wrote. The option `pin-after-write: "true"` keeps a connection at the master once it has written.

    command                                          goes to
    GET, MGET, HGETALL ... (READS)                   a replica, in turn for each connection; the master if there is none
    MULTI or WATCH ... EXEC, DISCARD or UNWATCH      the master, with all that is between
    AUTH, HELLO, SELECT, CLIENT SETNAME ...          the master, and quietly to the replica, now or when it is connected
    SUBSCRIBE, MONITOR, CLIENT REPLY ... (MODAL)     the master, and from then on the two speak past the ambassador
    QUIT                                             answered here
    anything else                                    the master

When roles change hands (a pod's label says so), the connection to the old master is closed as soon as it has answered,
and the next command opens one to the new master; a transaction that was begun stays where it was. While nobody is the
master, commands wait for a while (`hold_s` of the proxy). A command that was sent and not answered when a master breaks
off is answered with an error that says that it may have been carried out; a read is asked again elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from proxy.ambassadors.policy import (
    Abort,
    Action,
    Close,
    CloseBackend,
    ConnectionInfo,
    Decision,
    Endpoint,
    Open,
    Policy,
    ReadClient,
    Serve,
    Session,
    Splice,
    ToBackend,
    ToClient,
    in_turn,
)
from proxy.ambassadors.resp import Command, CommandScanner, ProtocolError, ReplyScanner
from proxy.ambassadors.roles import Roles

READS: Final = frozenset(
    b"""BITCOUNT BITFIELD_RO BITPOS DUMP EVAL_RO EXISTS EXPIRETIME GEODIST GEOHASH GEOPOS GEORADIUS_RO
    GEORADIUSBYMEMBER_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSTRLEN HVALS
    KEYS LCS LINDEX LLEN LOLWUT LPOS LRANGE MGET PEXPIRETIME PTTL RANDOMKEY SCARD SDIFF SINTER SINTERCARD SISMEMBER
    SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER STRLEN SUBSTR SUNION TTL TYPE XLEN XRANGE XREVRANGE ZCARD ZCOUNT ZDIFF
    ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX
    ZREVRANGEBYSCORE ZREVRANK ZSCORE ZUNION""".split()
)
"""Commands that never change anything and keep nothing at the server. Cursors (SCAN) are not among them: they mean
something to the server only that gave them."""
MODAL: Final = frozenset(b"MONITOR PSUBSCRIBE PSYNC REPLCONF SSUBSCRIBE SUBSCRIBE SYNC".split())
"""Commands after which replies are no answers to commands any more."""
_MODAL_CLIENT: Final = frozenset(b"CACHING REPLY TRACKING".split())
_STATE: Final = frozenset(b"AUTH HELLO SELECT".split())
"""Commands that change the connection, and nothing else."""
_STATE_CLIENT: Final = frozenset(b"NO-EVICT NO-TOUCH SETINFO SETNAME".split())
_NEUTRAL: Final = _STATE | READS | frozenset(b"CLIENT COMMAND ECHO PING QUIT RESET".split())
"""Whoever says only these has written nothing."""

MAX_OUTSTANDING: Final = 4096
MAX_KEPT_BYTES: Final = 1 << 20
"""Of reads that are not answered yet, kept to be asked again: a client with more has to wait for answers."""
MAX_TRIES: Final = 3

_MASTER, _READER = "master", "reader"


class RedisPolicy(Policy):
    """Options: role-label, master, replica (labels of the endpoints), pin-after-write."""

    def __init__(self, options: dict[str, str], rng: object) -> None:
        self.roles = Roles(options)
        self.pin_after_write = options.get("pin-after-write") == "true"
        self.turn = 0

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        self.turn += 1
        return Serve(RedisSession(self, endpoints, self.turn))


class _Server:
    """One connection to a server."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self.replies = ReplyScanner()
        self.expected: deque[Command | None] = deque()
        """What was asked and not answered; None: nobody waits for the answer. Bounded by MAX_OUTSTANDING."""


class RedisSession(Session):
    """One client."""

    def __init__(self, policy: RedisPolicy, endpoints: Sequence[Endpoint], turn: int) -> None:
        self._policy = policy
        self._endpoints = endpoints
        self._turn = turn
        self._commands = CommandScanner()
        self._queue: deque[Command] = deque()
        """Not sent yet. Bounded: while something is in it, the client is not read."""
        self._servers: dict[str, _Server] = {}
        self._active = _MASTER
        """Who was sent the last command."""
        self._outstanding = 0
        """Answers that the client waits for."""
        self._kept_bytes = 0
        self._state: dict[tuple[bytes, ...], bytes] = {}
        """The commands that made the connection what it is; a new server is told them first."""
        self._in_transaction = False
        self._is_watching = False
        self._has_written = False
        self._is_pinned = False
        """Everything goes to the master from now on."""
        self._has_stepped_aside = False
        self._dropping = False
        """The rest of a command whose server is gone."""
        self._reading = True
        self._tries = 0
        self._last_word = b""
        """To be said, and the connection closed, once everything before is answered."""
        self._client_ended = False

    # --- What is heard

    def from_client(self, data: bytes) -> Sequence[Action]:
        try:
            for command in self._commands.feed(data):
                self._queue.append(command)
        except ProtocolError as error:
            self._last_word = f"-ERR Protocol error: {error}\r\n".encode()
        return self._advance([])

    def client_ended(self) -> Sequence[Action]:
        self._client_ended = True
        return self._advance([])

    def candidates(self, backend: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        masters = self._policy.roles.masters(endpoints)
        if backend == _MASTER:
            return masters
        return [*in_turn(self._policy.roles.replicas(endpoints), self._turn), *masters]

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        self._servers[backend].endpoint = endpoint
        return []

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        server = self._servers[backend]
        heard: list[bytes] = []
        try:
            for piece in server.replies.feed(data):
                if piece.is_push:
                    if backend == _MASTER:
                        heard.append(piece.data)
                elif not server.expected:
                    continue  # said unasked, such as that there are too many clients; it closes then
                else:
                    if (command := server.expected[0]) is not None:
                        heard.append(piece.data)
                    if piece.ends:
                        server.expected.popleft()
                        self._answered(command)
        except ProtocolError:
            return [Abort()]
        actions: list[Action] = [ToClient(b"".join(heard))] if heard else []
        return self._advance(actions)

    def backend_ended(self, backend: str) -> Sequence[Action]:
        return self._lost(backend, "broke off before it answered; the command may have been carried out")

    def failed(self, backend: str, reason: str) -> Sequence[Action]:
        if reason == "reset":
            return self.backend_ended(backend)
        return self._lost(backend, f"cannot be reached ({reason}); nothing was carried out")

    def endpoints_changed(self, endpoints: Sequence[Endpoint]) -> Sequence[Action]:
        self._endpoints = endpoints
        actions: list[Action] = []
        for name, server in list(self._servers.items()):
            if self._is_stale(name) and not server.expected and not self._is_bound(name):
                self._replace(name, actions)
        return self._advance(actions)

    # --- What is done

    def _advance(self, actions: list[Action]) -> list[Action]:
        """Sends what may be sent."""
        while self._queue and self._send_next(actions):
            pass
        done = not self._queue and not self._outstanding
        if done and self._last_word:
            return [*actions, ToClient(self._last_word), Close()]
        if done and self._client_ended:
            return [*actions, Close()]
        reading = not self._queue and not self._last_word and not self._is_full()
        if reading != self._reading:
            self._reading = reading
            actions.append(ReadClient(reading))
        return actions

    def _is_full(self) -> bool:
        expected = sum(len(server.expected) for server in self._servers.values())
        return expected >= MAX_OUTSTANDING or self._kept_bytes >= MAX_KEPT_BYTES

    def _send_next(self, actions: list[Action]) -> bool:
        """Sends the command that is next. False: it has to wait."""
        command = self._queue[0]
        if not command.begins:
            self._queue.popleft()
            if not self._dropping:
                actions.append(ToBackend(self._active, command.data))
            elif command.ends:
                self._dropping = False
            return True
        if self._is_full():
            return False
        name = command.words[0]
        if name == b"QUIT":
            self._queue.clear()
            self._last_word = b"+OK\r\n"
            return False
        kind = command.words[1].upper() if name == b"CLIENT" and len(command.words) > 1 else b""
        modal = name in MODAL or kind in _MODAL_CLIENT
        target = _MASTER if modal else self._target(name)
        if self._outstanding and target != self._active:
            return False
        if target in self._servers and self._is_stale(target) and not self._is_bound(target):
            if self._servers[target].expected:
                return False
            self._replace(target, actions)
        server = self._servers.get(target) or self._begin(target, actions)
        if modal:
            return self._step_aside(server, actions)
        self._queue.popleft()
        self._active = target
        self._outstanding += 1
        if target == _READER:
            server.expected.append(command)
            self._kept_bytes += len(command.data)
        else:
            server.expected.append(command._replace(data=b""))  # is never sent again
        actions.append(ToBackend(target, command.data))
        self._note(command, actions)
        return True

    def _target(self, name: bytes) -> str:
        reads = name in READS and not (self._in_transaction or self._is_watching)
        if reads and not (self._is_pinned or (self._policy.pin_after_write and self._has_written)):
            return _READER if self._policy.roles.replicas(self._endpoints) else _MASTER
        return _MASTER

    def _note(self, command: Command, actions: list[Action]) -> None:
        """What a command that was sent to the master changes here."""
        name = command.words[0]
        if name not in _NEUTRAL:
            self._has_written = True
        if name == b"MULTI":
            self._in_transaction = True
        elif name == b"WATCH":
            self._is_watching = True
        elif name in (b"EXEC", b"DISCARD", b"RESET"):
            self._in_transaction = self._is_watching = False
        elif name == b"UNWATCH":
            self._is_watching = False
        if name == b"RESET":
            self._state.clear()
        elif name in _STATE:
            self._state.pop((name,), None)  # it goes to the end: the last word counts
            self._state[name,] = command.data
        elif name == b"CLIENT" and command.words[1:2] and (kind := command.words[1].upper()) in _STATE_CLIENT:
            key = (name, kind, command.words[2].upper()) if kind == b"SETINFO" else (name, kind)
            self._state[key] = command.data
        else:
            return
        if self._in_transaction:
            self._is_pinned = True  # whether it will come true is not known, so nobody else can be told
        elif not command.ends:  # of 16 KiB: no login looks like that
            self._state.clear()
            self._last_word = b"-ERR podium: too long a command for a connection's state\r\n"
        elif (reader := self._servers.get(_READER)) is not None:
            reader.expected.append(None)
            actions.append(ToBackend(_READER, command.data))

    def _begin(self, name: str, actions: list[Action]) -> _Server:
        """Connects a server, and makes the connection what it is."""
        server = self._servers[name] = _Server()
        actions.append(Open(name))
        for told in self._state.values():
            server.expected.append(None)
            actions.append(ToBackend(name, told))
        return server

    def _step_aside(self, server: _Server, actions: list[Action]) -> bool:
        """Client and master speak past us, once nothing is left to be answered that the client did not ask."""
        if self._outstanding or server.expected:
            return False
        rest = b"".join(command.data for command in self._queue) + self._commands.rest()
        self._queue.clear()
        actions += [ToBackend(_MASTER, rest), Splice(_MASTER)]
        self._has_stepped_aside = True
        return False

    def _answered(self, command: Command | None) -> None:
        if command is not None:
            self._outstanding -= 1
            self._tries = 0
            if self._active == _READER:
                self._kept_bytes -= len(command.data)

    def _is_stale(self, name: str) -> bool:
        """Others are to be asked now. One that is not connected yet is chosen by what is true then."""
        endpoint = self._servers[name].endpoint
        if endpoint is None:
            return False
        if name == _READER and self._policy.roles.replicas(self._endpoints):
            fine = self._policy.roles.replicas(self._endpoints)
        else:
            fine = self._policy.roles.masters(self._endpoints)
        return all(endpoint.address != each.address for each in fine)

    def _is_bound(self, name: str) -> bool:
        """Something was begun there that cannot go on anywhere else."""
        begun = name == _MASTER and (self._in_transaction or self._is_watching)
        return begun or (self._active == name and not self._has_seen_end())

    def _replace(self, name: str, actions: list[Action]) -> None:
        """Its server has another role now: the next command connects another one."""
        del self._servers[name]
        actions.append(CloseBackend(name))

    def _lost(self, name: str, what: str) -> list[Action]:
        server = self._servers.pop(name)
        asked = [command for command in server.expected if command is not None]
        if asked and not server.replies.is_between:
            return [Abort()]  # half an answer cannot be taken back
        self._outstanding -= len(asked)
        if name == _READER:
            self._kept_bytes = 0
            if all(command.ends for command in asked) and self._tries < MAX_TRIES:
                self._tries += bool(asked)
                self._queue.extendleft(reversed(asked))
                return self._advance([])
        if self._has_stepped_aside:  # before there was anybody to step aside for
            return [ToClient(f"-ERR podium: the master {what}\r\n".encode()), Close()]
        words = f"-ERR podium: the {'master' if name == _MASTER else 'replica'} {what}\r\n".encode()
        actions: list[Action] = [ToClient(words) for _ in asked]
        if asked and not asked[-1].ends and not self._has_seen_end():
            self._dropping = True
        if name == _MASTER and (self._in_transaction or self._is_watching):
            return [*actions, Close()]  # what was begun there is gone
        return self._advance(actions)

    def _has_seen_end(self) -> bool:
        """The last command that was begun has been sent whole."""
        return not (self._queue and not self._queue[0].begins) and not self._commands.is_within
