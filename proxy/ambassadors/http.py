"""HTTP/1.1: each request goes where its path, its headers and the weights say; bodies are streamed, WebSocket passes.

The protocol is h11's, on both sides: one reading of what the client says, and everything sent on is written anew from
that (`http_heads` has what is refused before). A session has one request under way at a time; those that a client sends
ahead wait. Connections to endpoints are kept for the next request of the same client.

    head ---> rule ---> group of endpoints ---> whose turn it is; by the hash of a header; a copy to the mirror
    Expect: 100-continue      is passed on, and so is the endpoint's answer to it
    Upgrade: websocket        passes; once the endpoint agrees, client and endpoint speak past the ambassador
    Upgrade: anything else    is not passed on: the request is answered as an ordinary one
    a kept connection died    a request without a body that may be repeated is sent again, once

Its own answers: 400 (makes no sense or could be read in two ways), 404 (no rule), 408 (too slow), 431 (too large a
head), 501, 502 (the endpoint broke off), 503 (no endpoint), 504 (no answer in time), 505; each says why in its body.
Once an answer has begun, its end can only be a reset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import h11

from cluster.api.http_rules import EVERYTHING_RULE, Group, draw, parse_rules
from cluster.api.labels import Selector, parse_selector
from proxy.ambassadors import http_heads as heads
from proxy.ambassadors.http_heads import MAX_HEAD, Headers, Refused
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
    SetTimer,
    Splice,
    ToBackend,
    ToClient,
    in_turn,
)

TIMEOUT_S: Final = 60.0
"""For an endpoint to begin its answer, once the request was sent."""
HEAD_S: Final = 10.0
"""For a client to send the head of a request, from its first byte on."""
BODY_S: Final = 30.0
"""Between two pieces of a request's body."""
IDLE_S: Final = 75.0
"""Between two requests."""
MAX_KEPT: Final = 4
"""Connections to endpoints that one client keeps."""
MAX_MIRRORS: Final = 4
_AHEAD_BYTES: Final = 1 << 14
"""Of the next requests, read while one is under way."""
_REPEATABLE: Final = (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE")


if TYPE_CHECKING:
    from random import Random


class HttpPolicy(Policy):
    """Options: rule.N, mirror, hash-header, forwarded, timeout-seconds (docs/ambassadors.md)."""

    def __init__(self, options: Mapping[str, str], rng: Random) -> None:
        super().__init__(options, rng)
        self.rules = parse_rules(options) or [EVERYTHING_RULE]
        self.mirror: Selector | None = parse_selector(options["mirror"]) if "mirror" in options else None
        self.hash_header = options.get("hash-header", "").lower().encode()
        self.forwarded = options.get("forwarded") == "true"
        self.timeout_s = float(options.get("timeout-seconds", TIMEOUT_S))
        self._turn = 0

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        return Serve(HttpSession(self, connection, endpoints))

    def group_for(self, request: h11.Request) -> Group:
        """Where a request goes. Raises Refused: no rule has anything to say about it."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        path = request.target.decode("latin-1").partition("?")[0]
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        method = request.method.decode("latin-1")
        for rule in self.rules:
            if rule.matches(method, path, host, headers):
                return draw(rule.groups, self.rng.random())
        raise Refused(404, f"no rule of the service leads anywhere for {path[:200]}")

    def order(self, endpoints: Sequence[Endpoint], group: Selector, request: h11.Request) -> list[Endpoint]:
        """The endpoints of a group, for one request: best first."""
        found = [each for each in endpoints if group.matches(each.labels)]
        value = next((value for name, value in request.headers if name == self.hash_header), None)
        if self.hash_header and value is not None:  # the highest hash wins: few move when one comes or goes
            return sorted(found, key=lambda each: hashlib.blake2b(str(each).encode() + b"\0" + value).digest())
        self._turn += 1
        return in_turn(found, self._turn)


class _Backend:
    """A connection to an endpoint, with the request that it carries."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self.h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.is_reused = False
        self.has_answered = False
        """Something of the answer to this request has come."""


class HttpSession(Session):
    """One client."""

    def __init__(self, policy: HttpPolicy, connection: ConnectionInfo, endpoints: Sequence[Endpoint]) -> None:
        self._policy = policy
        self._connection = connection
        self._endpoints = endpoints
        self._buffer = b""
        """Said by the client and not read yet. Bounded: see ReadClient."""
        self._client = h11.Connection(h11.SERVER)
        """For the request that is under way."""
        self._request: h11.Request | None = None
        self._group = Selector()
        self._order: list[Endpoint] = []
        """Who may answer the request, best first."""
        self._sent_whole = False
        """All of the request was sent on."""
        self._again: h11.Request | None = None
        """The request as it was sent on, to be sent again; None: that may not be."""
        self._responding = False
        self._current = ""
        """The backend of the request."""
        self._backends: dict[str, _Backend] = {}
        self._mirror: h11.Connection | None = None
        self._mirrors: list[str] = []
        self._count = 0
        self._timer = ""
        self._reading = True
        self._client_ended = False

    # --- What is heard

    def from_client(self, data: bytes) -> Sequence[Action]:
        self._buffer += data
        if self._timer == "body":
            self._timer = ""  # there is progress: the time begins anew
        return self._go_on([])

    def client_ended(self) -> Sequence[Action]:
        self._client_ended = True
        if self._request is None:
            return [Close()]
        return [] if self._sent_whole else [Abort()]

    def candidates(self, backend: str, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        if backend in self._mirrors and self._policy.mirror is not None:
            return in_turn([each for each in endpoints if self._policy.mirror.matches(each.labels)], self._count)
        if endpoints is not self._endpoints:
            self._endpoints = endpoints
            assert self._request is not None
            self._order = self._policy.order(endpoints, self._group, self._request)
        return self._order

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        self._backends[backend].endpoint = endpoint
        return []

    def endpoints_changed(self, endpoints: Sequence[Endpoint]) -> Sequence[Action]:
        self._endpoints = endpoints
        known = {each.address for each in endpoints}
        gone = [
            name
            for name, backend in self._backends.items()
            if name != self._current and backend.endpoint is not None and backend.endpoint.address not in known
        ]
        return [self._close_backend(name) for name in gone]

    def timer(self) -> Sequence[Action]:
        kind, self._timer = self._timer, ""
        if kind == "idle":
            return [Close()]
        if kind == "answer":
            return self._refuse(Refused(504, f"the endpoint did not answer in {self._policy.timeout_s:g} s"))
        return self._refuse(Refused(408, "the request did not come in time"))

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        if backend != self._current:
            return [self._close_backend(backend)]  # nobody asked it
        return self._answer(backend, data)

    def backend_ended(self, backend: str) -> Sequence[Action]:
        if backend == self._current:
            found = self._backends[backend]
            if found.has_answered:
                return self._answer(backend, b"")
            return self._broke_off(backend)
        self._backends.pop(backend, None)
        return []

    def failed(self, backend: str, reason: str) -> Sequence[Action]:
        if backend != self._current:
            self._backends.pop(backend, None)
            return []
        if reason == "reset":
            return self._broke_off(backend)
        del self._backends[backend]
        self._current = ""
        words = "is ready" if reason == "no-endpoint" else "answers"
        where = f" with {self._group}" if not self._group.is_empty else ""
        return self._refuse(Refused(503, f"no endpoint{where} {words}"))

    # --- The request

    def _go_on(self, actions: list[Action]) -> list[Action]:
        """Reads what the client has said, as far as it may be read now."""
        try:
            if self._request is None:
                self._read_head(actions)
            if self._request is not None and not self._sent_whole:
                self._read_body(actions)
        except Refused as refused:
            return self._refuse(refused, actions)
        except h11.RemoteProtocolError as error:
            return self._refuse(Refused(error.error_status_hint, str(error)), actions)
        return self._settle(actions)

    def _read_head(self, actions: list[Action]) -> None:
        start = 0
        while self._buffer.startswith(b"\r\n", start):
            start += 2
        self._buffer = self._buffer[start:]
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            heads.check_raw(self._buffer)
            if len(self._buffer) > MAX_HEAD:
                raise Refused(431, f"the head of the request has more than {MAX_HEAD} bytes")
            return
        head, self._buffer = self._buffer[: end + 4], self._buffer[end + 4 :]
        heads.check_raw(head)
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._client.receive_data(head)
        request = self._client.next_event()
        if not isinstance(request, h11.Request):
            raise Refused(431 if len(head) > MAX_HEAD else 400, "this is no request")
        heads.check_request(request.method, request.target, request.http_version, request.headers)
        self._request = request
        self._responding = self._sent_whole = False
        self._group = self._policy.group_for(request).selector
        self._choose(actions)
        self._send_head(request, actions)

    def _choose(self, actions: list[Action]) -> None:
        """A connection that is kept, to the one whose turn it is; else a new one."""
        assert self._request is not None
        self._order = self._policy.order(self._endpoints, self._group, self._request)
        best = self._order[0] if self._order else None
        for name, backend in self._backends.items():
            if backend.endpoint is not None and best is not None and backend.endpoint.address == best.address:
                kept = self._backends[name] = _Backend()
                kept.endpoint, kept.is_reused = backend.endpoint, True
                self._current = name
                return
        while len(self._backends) >= MAX_KEPT:
            actions.append(self._close_backend(next(iter(self._backends))))
        self._open(actions)

    def _open(self, actions: list[Action]) -> None:
        self._count += 1
        self._current = f"b{self._count}"
        self._backends[self._current] = _Backend()
        actions.append(Open(self._current))

    def _send_head(self, request: h11.Request, actions: list[Action]) -> None:
        headers = heads.passed_on(request.headers, request.headers.raw_items())
        if not any(name.lower() == b"host" for name, _ in headers):  # HTTP/1.0
            headers.insert(0, (b"Host", f"{self._connection.service}.{self._connection.namespace}".encode()))
        if self._policy.forwarded:
            headers = self._forwarded(headers)
        mirrored = [*headers, (b"Connection", b"close")]
        if heads.wants_websocket(request.http_version, request.headers):
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        elif self._policy.mirror is not None:
            self._open_mirror(request, mirrored, actions)
        backend = self._backends[self._current]
        sent = h11.Request(method=request.method, target=request.target, headers=headers)
        self._again = sent if request.method in _REPEATABLE and not heads.has_body(request.headers) else None
        actions.append(ToBackend(self._current, backend.h11.send(sent) or b""))

    def _forwarded(self, headers: Headers) -> Headers:
        before = [value for name, value in headers if name.lower() == b"x-forwarded-for"]
        told = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
        host = next((value for name, value in headers if name.lower() == b"host"), b"")
        return [
            *((name, value) for name, value in headers if name.lower() not in told),
            (b"X-Forwarded-For", b", ".join([*before, self._connection.client_ip.encode()])),
            (b"X-Forwarded-Host", host),
            (b"X-Forwarded-Proto", b"http"),
        ]

    def _open_mirror(self, request: h11.Request, headers: Headers, actions: list[Action]) -> None:
        """A connection for this one request: what it answers, and when, is nobody's business."""
        if len(self._mirrors) == MAX_MIRRORS:
            actions.append(CloseBackend(self._mirrors.pop(0)))
        self._count += 1
        name = f"m{self._count}"
        self._mirrors.append(name)
        self._mirror = h11.Connection(h11.CLIENT)
        sent = self._mirror.send(h11.Request(method=request.method, target=request.target, headers=headers)) or b""
        actions += [Open(name, mirror=True), ToBackend(name, sent)]

    def _read_body(self, actions: list[Action]) -> None:
        if self._buffer:
            self._client.receive_data(self._buffer)
            self._buffer = b""
        backend = self._backends[self._current]
        while True:
            event = self._client.next_event()
            if isinstance(event, h11.Data):
                self._pass(backend, h11.Data(data=event.data), actions)
            elif isinstance(event, h11.EndOfMessage):
                self._pass(backend, h11.EndOfMessage(), actions)
                self._sent_whole = True
                self._mirror = None
                self._buffer = self._client.trailing_data[0]
                return
            else:
                return  # more has to come

    def _pass(self, backend: _Backend, event: h11.Data | h11.EndOfMessage, actions: list[Action]) -> None:
        if backend.h11.our_state is h11.SEND_BODY and (sent := backend.h11.send(event)):
            actions.append(ToBackend(self._current, sent))
        if self._mirror is not None and (sent := self._mirror.send(event)):
            actions.append(ToBackend(self._mirrors[-1], sent))

    # --- The answer

    def _answer(self, name: str, data: bytes) -> list[Action]:
        backend = self._backends[name]
        backend.has_answered = backend.has_answered or bool(data)
        actions: list[Action] = []
        try:
            backend.h11.receive_data(data)
            while (event := backend.h11.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.InformationalResponse):
                    if event.status_code == 101:
                        return self._switch(name, event, actions)
                    self._inform(event, actions)
                elif isinstance(event, h11.Response):
                    self._begin_answer(event, actions)
                elif isinstance(event, h11.Data):
                    self._say(h11.Data(data=event.data), actions)
                elif isinstance(event, h11.EndOfMessage):
                    self._say(h11.EndOfMessage(), actions)
                    return self._finish(name, actions, ended=not data)
                else:  # closed
                    break
        except (h11.RemoteProtocolError, h11.LocalProtocolError) as error:
            self._backends.pop(name, None)
            self._current = ""
            refused = self._refuse(Refused(502, f"the endpoint's answer makes no sense: {error}"), actions)
            return [*refused[:-1], CloseBackend(name), refused[-1]]
        return self._settle(actions)

    def _inform(self, event: h11.InformationalResponse, actions: list[Action]) -> None:
        assert self._request is not None
        if self._request.http_version != b"1.1" or self._responding:
            return
        if event.status_code == 100 and not self._client.they_are_waiting_for_100_continue:
            return
        headers = heads.passed_on(event.headers, event.headers.raw_items())
        again = h11.InformationalResponse(status_code=event.status_code, headers=headers, reason=event.reason)
        actions.append(ToClient(self._client.send(again) or b""))

    def _begin_answer(self, event: h11.Response, actions: list[Action]) -> None:
        self._responding = True
        headers = heads.passed_on(event.headers, event.headers.raw_items())
        if not self._sent_whole or self._client_ended:
            headers.append((b"Connection", b"close"))
        again = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        actions.append(ToClient(self._client.send(again) or b""))

    def _say(self, event: h11.Data | h11.EndOfMessage, actions: list[Action]) -> None:
        if sent := self._client.send(event):
            actions.append(ToClient(sent))

    def _switch(self, name: str, event: h11.InformationalResponse, actions: list[Action]) -> list[Action]:
        """WebSocket from here on: bytes, not messages."""
        assert self._request is not None
        if not heads.wants_websocket(self._request.http_version, self._request.headers):
            raise h11.RemoteProtocolError("it switches to a protocol that was not asked for")
        again = h11.InformationalResponse(status_code=101, headers=list(event.headers.raw_items()), reason=event.reason)
        actions.append(ToClient((self._client.send(again) or b"") + self._backends[name].h11.trailing_data[0]))
        if self._buffer:
            actions.append(ToBackend(name, self._buffer))
        return [*actions, SetTimer(None), Splice(name)]

    def _finish(self, name: str, actions: list[Action], *, ended: bool) -> list[Action]:
        """The request is answered: what becomes of the two connections."""
        backend = self._backends[name]
        keep = (
            not ended
            and self._sent_whole
            and backend.h11.our_state is h11.DONE
            and backend.h11.their_state is h11.DONE
            and not backend.h11.trailing_data[0]
        )
        self._current = ""
        if not keep:
            actions.append(self._close_backend(name))
        again = self._sent_whole and self._client.our_state is h11.DONE and self._client.their_state is h11.DONE
        self._request = None
        if not again or self._client_ended:
            return [*actions, SetTimer(None), Close()]
        return self._go_on(actions)

    # --- Ends

    def _broke_off(self, name: str) -> list[Action]:
        backend = self._backends.pop(name)
        self._current = ""
        if backend.is_reused and self._again is not None and not backend.has_answered:
            actions: list[Action] = []
            self._open(actions)
            again = self._backends[self._current].h11
            actions.append(ToBackend(self._current, again.send(self._again) or b""))
            again.send(h11.EndOfMessage())
            return self._settle(actions)
        return self._refuse(Refused(502, "the endpoint broke off before it had answered"))

    def _refuse(self, refused: Refused, actions: list[Action] | None = None) -> list[Action]:
        """An answer of our own, if it is not too late for one; always the end. The last action ends it."""
        before = actions or []
        if self._responding:
            return [*before, Abort()]
        self._responding = True
        head_only = self._request is not None and self._request.method == b"HEAD"
        said = heads.error(refused.status, refused.why, head_only=head_only)
        return [*before, ToClient(said), Close()]

    def _close_backend(self, name: str) -> Action:
        self._backends.pop(name, None)
        return CloseBackend(name)

    def _settle(self, actions: list[Action]) -> list[Action]:
        """The timer and the pace for what is waited for now."""
        if self._request is None:
            kind, seconds = ("head", HEAD_S) if self._buffer else ("idle", IDLE_S)
        elif not self._sent_whole:
            kind, seconds = "body", BODY_S
        elif not self._responding:
            kind, seconds = "answer", self._policy.timeout_s
        else:
            kind, seconds = "answering", None
        if kind != self._timer:
            self._timer = kind
            actions.append(SetTimer(seconds))
        reading = not self._sent_whole or self._request is None or len(self._buffer) < _AHEAD_BYTES
        if reading != self._reading:
            self._reading = reading
            actions.append(ReadClient(reading))
        return actions
