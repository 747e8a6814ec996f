"""HTTP/1.1: each request goes where its path, its headers and the weights say; bodies are streamed, WebSocket passes.

The protocol is h11's, on both sides: one reading of what the client says, and everything sent on is written anew from
that (`http_heads` has what is refused before). A session has one request under way at a time; those that a client sends
ahead wait. Where a request goes is said by `http_routing`, over which connection by `http_backends`.

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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import h11

from cluster.api.labels import Selector
from proxy.ambassadors import http_heads as heads
from proxy.ambassadors.http_backends import HttpBackends
from proxy.ambassadors.http_heads import MAX_HEAD, Refused
from proxy.ambassadors.http_routing import HttpRouting
from proxy.ambassadors.policy import (
    Abort,
    Action,
    Close,
    CloseBackend,
    ConnectionInfo,
    Decision,
    Endpoint,
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

if TYPE_CHECKING:
    from random import Random

TIMEOUT_S: Final = 60.0
"""For an endpoint to begin its answer, once the request was sent."""
HEAD_S: Final = 10.0
"""For a client to send the head of a request, from its first byte on."""
BODY_S: Final = 30.0
"""Between two pieces of a request's body."""
IDLE_S: Final = 75.0
"""Between two requests."""
_AHEAD_BYTES: Final = 1 << 14
"""Of the next requests, read while one is under way."""
_REPEATABLE: Final = (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE")


class HttpPolicy(Policy):
    """Options: rule.N, mirror, hash-header, forwarded, timeout-seconds (docs/ambassadors.md)."""

    def __init__(self, options: Mapping[str, str], rng: Random) -> None:
        super().__init__(options, rng)
        self.routing = HttpRouting(options, rng)
        self.forwarded = options.get("forwarded") == "true"
        self.timeout_s = float(options.get("timeout-seconds", TIMEOUT_S))

    def open(self, connection: ConnectionInfo, endpoints: Sequence[Endpoint], first: bytes) -> Decision:
        return Serve(HttpSession(self, connection, endpoints))


class HttpSession(Session):
    """One client."""

    def __init__(self, policy: HttpPolicy, connection: ConnectionInfo, endpoints: Sequence[Endpoint]) -> None:
        self._policy = policy
        self._routing = policy.routing
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
        self._backends = HttpBackends()
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
        if self._backends.is_mirror(backend) and (mirror := self._routing.mirror) is not None:
            return in_turn([each for each in endpoints if mirror.matches(each.labels)], self._backends.opened)
        if endpoints is not self._endpoints:
            self._endpoints = endpoints
            assert self._request is not None
            self._order = self._routing.order(endpoints, self._group, self._request)
        return self._order

    def connected(self, backend: str, endpoint: Endpoint) -> Sequence[Action]:
        self._backends[backend].endpoint = endpoint
        return []

    def endpoints_changed(self, endpoints: Sequence[Endpoint]) -> Sequence[Action]:
        self._endpoints = endpoints
        return self._backends.close_all_but({each.address for each in endpoints})

    def timer(self) -> Sequence[Action]:
        kind, self._timer = self._timer, ""
        if kind == "idle":
            return [Close()]
        if kind == "answer":
            return self._refuse(Refused(504, f"the endpoint did not answer in {self._policy.timeout_s:g} s"))
        return self._refuse(Refused(408, "the request did not come in time"))

    def from_backend(self, backend: str, data: bytes) -> Sequence[Action]:
        if backend != self._backends.current:
            return [self._backends.close(backend)]  # nobody asked it
        return self._answer(backend, data)

    def backend_ended(self, backend: str) -> Sequence[Action]:
        if backend == self._backends.current:
            if self._backends[backend].has_answered:
                return self._answer(backend, b"")
            return self._broke_off(backend)
        self._backends.forget(backend)
        return []

    def failed(self, backend: str, reason: str) -> Sequence[Action]:
        if backend != self._backends.current:
            self._backends.forget(backend)
            return []
        if reason == "reset":
            return self._broke_off(backend)
        self._backends.forget(backend)
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
        self._group = self._routing.group_for(request)
        self._order = self._routing.order(self._endpoints, self._group, request)
        self._backends.choose(self._order[0] if self._order else None, actions)
        self._send_head(request, actions)

    def _send_head(self, request: h11.Request, actions: list[Action]) -> None:
        headers = heads.passed_on(request.headers, request.headers.raw_items())
        if not any(name.lower() == b"host" for name, _ in headers):  # HTTP/1.0
            headers.insert(0, (b"Host", f"{self._connection.service}.{self._connection.namespace}".encode()))
        if self._policy.forwarded:
            headers = heads.forwarded(headers, self._connection.client_ip)
        mirrored = [*headers, (b"Connection", b"close")]
        if heads.wants_websocket(request.http_version, request.headers):
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        elif self._routing.mirror is not None:
            self._backends.open_mirror(request, mirrored, actions)
        sent = h11.Request(method=request.method, target=request.target, headers=headers)
        self._again = sent if request.method in _REPEATABLE and not heads.has_body(request.headers) else None
        name = self._backends.current
        actions.append(ToBackend(name, self._backends[name].h11.send(sent) or b""))

    def _read_body(self, actions: list[Action]) -> None:
        if self._buffer:
            self._client.receive_data(self._buffer)
            self._buffer = b""
        while True:
            event = self._client.next_event()
            if isinstance(event, h11.Data):
                self._pass(h11.Data(data=event.data), actions)
            elif isinstance(event, h11.EndOfMessage):
                self._pass(h11.EndOfMessage(), actions)
                self._sent_whole = True
                self._backends.mirror = None
                self._buffer = self._client.trailing_data[0]
                return
            else:
                return  # more has to come

    def _pass(self, event: h11.Data | h11.EndOfMessage, actions: list[Action]) -> None:
        name = self._backends.current
        backend = self._backends[name].h11
        if backend.our_state is h11.SEND_BODY and (sent := backend.send(event)):
            actions.append(ToBackend(name, sent))
        self._backends.copy(event, actions)

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
            self._backends.forget(name)
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
        self._backends.current = ""
        if not keep:
            actions.append(self._backends.close(name))
        again = self._sent_whole and self._client.our_state is h11.DONE and self._client.their_state is h11.DONE
        self._request = None
        if not again or self._client_ended:
            return [*actions, SetTimer(None), Close()]
        return self._go_on(actions)

    # --- Ends

    def _broke_off(self, name: str) -> list[Action]:
        backend = self._backends[name]
        self._backends.forget(name)
        if backend.is_reused and self._again is not None and not backend.has_answered:
            actions: list[Action] = []
            self._backends.open(actions)
            name = self._backends.current
            again = self._backends[name].h11
            actions.append(ToBackend(name, again.send(self._again) or b""))
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
