"""Conversations of clients with HTTP's ambassador."""

from __future__ import annotations

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ambassadors.http import HttpPolicy
from proxy.ambassadors.policy import ConnectionInfo, Endpoint, Serve
from tests.unit.proxy.ambassadors.conversation import Conversation, endpoint

INFO = ConnectionInfo("127.9.9.9", 5, "default", "web", "80")
ONE, TWO, CANARY = endpoint(1, track="stable"), endpoint(2, track="stable"), endpoint(3, track="canary")


def policy(**options: str) -> HttpPolicy:
    return HttpPolicy({name.replace("__", ".").replace("_", "-"): options[name] for name in options}, random.Random(1))


def talk(*endpoints: Endpoint, by: HttpPolicy | None = None, **options: str) -> Conversation:
    decision = (by or policy(**options)).open(INFO, endpoints, b"")
    assert isinstance(decision, Serve)
    return Conversation(decision.session, endpoints)


def get(target: str = "/", *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: web", *headers, "", ""]).encode()


def ok(body: bytes = b"fine", *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def current(it: Conversation) -> str:
    """The backend that was opened last."""
    return it.opened[-1][0]


def test_a_request_and_its_answer() -> None:
    it = talk(ONE)
    assert it.say(get("/a?b=c", "X-Mine: 1", "Accept: */*")) == b""
    assert it.heard(current(it)) == get("/a?b=c", "X-Mine: 1", "Accept: */*")
    assert it.answer(current(it), ok(b"fine", "X-Theirs: 2")) == ok(b"fine", "X-Theirs: 2")
    assert it.over() == ""
    assert it.timer_s == 75


def test_each_request_may_go_elsewhere_over_kept_connections() -> None:
    it = talk(ONE, TWO)
    for _ in range(6):
        it.say(get())
        name = next(name for name, where in it.open.items() if where in it.to)
        it.heard(name)
        assert it.answer(name, ok()) == ok()
    assert len(it.opened) == 2, "two connections carried six requests"


def test_by_path_header_method_and_host() -> None:
    by = policy(
        rule__1="path=/api => app=api",
        rule__2="header:x-beta=yes => track=canary",
        rule__3="method=DELETE => app=api",
        rule__4="host=other.example => app=api",
        rule__9="path=/ => track=stable",
    )
    api, stable = endpoint(4, app="api"), ONE

    def goes(request: bytes) -> Endpoint:
        it = talk(api, stable, CANARY, by=by)
        it.say(request)
        return it.opened[0][1]

    assert goes(get("/api/x")) == api
    assert goes(get("/apix")) == stable
    assert goes(get("/", "X-Beta: yes")) == CANARY
    assert goes(get("/", "X-Beta: no")) == stable
    assert goes(get("/", method="DELETE")) == api
    assert goes(b"GET / HTTP/1.1\r\nHost: Other.example:80\r\n\r\n") == api


def test_weights() -> None:
    by = policy(rule__1="=> track=stable @ 80 | track=canary @ 20")
    count: collections.Counter[str] = collections.Counter()
    for _ in range(500):
        it = talk(ONE, TWO, CANARY, by=by)
        it.say(get())
        count[it.opened[0][1].labels["track"]] += 1
    assert 350 < count["stable"] < 450


def test_a_hash_of_a_header_keeps_a_user_where_he_is() -> None:
    by = policy(hash_header="X-User")

    def goes(user: str, *endpoints: Endpoint) -> Endpoint:
        it = talk(*endpoints, by=by)
        it.say(get("/", f"X-User: {user}"))
        return it.opened[0][1]

    users = [f"u{number}" for number in range(60)]
    first = {user: goes(user, ONE, TWO, CANARY) for user in users}
    assert len(set(first.values())) == 3
    assert {user: goes(user, CANARY, TWO, ONE) for user in users} == first
    without = {user: goes(user, ONE, TWO) for user in users}
    assert all(without[user] == first[user] for user in users if first[user] != CANARY)


def test_no_rule_and_no_endpoint_say_so() -> None:
    it = talk(ONE, rule__1="path=/api => track=canary")
    it.say(get("/x"))
    assert it.to_client.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"no rule of the service leads anywhere for /x" in it.to_client
    assert it.over() == "close"
    it = talk(ONE, rule__1="path=/api => track=canary")
    it.say(get("/api"))
    it.backend_fails("b1", "no-endpoint")
    assert it.to_client.startswith(b"HTTP/1.1 503 ")
    assert b"no endpoint with track=canary is ready" in it.to_client


CHUNKED = b"POST /x HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_bodies_are_streamed() -> None:
    it = talk(ONE)
    it.say(CHUNKED + b"5\r\nhel")
    sent = it.heard(current(it))
    assert sent == CHUNKED + b"3\r\nhel\r\n"
    it.say(b"lo\r\n0\r\nTrailer: x\r\n\r\n")
    assert it.heard(current(it)) == b"2\r\nlo\r\n0\r\n\r\n"
    assert it.timer_s == 60
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert it.answer(current(it), head + b"3\r\nabc\r\n") == head + b"3\r\nabc\r\n"
    assert it.answer(current(it), b"0\r\n\r\n") == b"0\r\n\r\n"


def test_one_at_a_time_however_many_are_sent_ahead() -> None:
    it = talk(ONE)
    it.say(get("/1") + get("/2") + get("/3"))
    for number in (1, 2, 3):
        assert it.heard(current(it)) == get(f"/{number}")
        assert it.answer(current(it), ok(b"%d" % number)) == ok(b"%d" % number)
    assert len(it.opened) == 1


def test_who_sends_far_ahead_has_to_wait() -> None:
    it = talk(ONE)
    it.say(get("/1"))
    for _ in range(2000):
        it.say(get("/2"))
    assert not it.is_reading()
    it.answer(current(it), ok())
    it.heard(current(it))


def test_continue_is_asked_and_answered_by_the_endpoint() -> None:
    it = talk(ONE)
    head = b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    it.say(head)
    assert it.heard(current(it)) == head
    assert it.answer(current(it), b"HTTP/1.1 100 Continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    it.say(b"abc")
    assert it.heard(current(it)) == b"abc"
    assert it.answer(current(it), ok()) == ok()


def test_an_answer_before_the_request_is_over_ends_the_connection() -> None:
    it = talk(ONE)
    it.say(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 300\r\nExpect: 100-continue\r\n\r\n")
    it.answer(current(it), b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert it.to_client == b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert it.over() == "close"


def test_websocket_passes() -> None:
    it = talk(ONE, mirror="track=canary")
    it.say(get("/ws", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k") + b"early")
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in it.heard(current(it))
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    it.answer(current(it), answer + b"\x81\x02hi")
    assert it.to_client == answer + b"\x81\x02hi"
    assert it.over() == f"splice {current(it)}"
    assert it.heard(current(it)) == b"early"


def test_an_endpoint_may_decline_websocket() -> None:
    it = talk(ONE)
    it.say(get("/ws", "Connection: Upgrade", "Upgrade: websocket"))
    assert it.answer(current(it), ok()) == ok()
    assert it.over() == ""
    it.say(get("/next"))
    assert it.answer(current(it), ok()) == ok()


def test_other_protocols_are_not_passed_on() -> None:
    it = talk(ONE)
    it.say(get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"))
    assert it.heard(current(it)) == get("/")
    it.answer(current(it), b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    assert it.to_client.startswith(b"HTTP/1.1 502 ")


def test_headers_for_one_hop_stay_here_and_lengths_never_do() -> None:
    it = talk(ONE)
    it.say(
        b"POST / HTTP/1.1\r\nHost: web\r\nConnection: X-Secret, content-length, keep-alive\r\nX-Secret: s\r\n"
        b"TE: trailers\r\nKeep-Alive: 5\r\nContent-Length: 1\r\nX-Other: o\r\n\r\na"
    )
    assert it.heard(current(it)) == b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\nX-Other: o\r\n\r\na"


def test_forwarded() -> None:
    it = talk(ONE, forwarded="true")
    it.say(get("/", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"))
    assert it.heard(current(it)) == get(
        "/", "X-Forwarded-For: 1.2.3.4, 127.9.9.9", "X-Forwarded-Host: web", "X-Forwarded-Proto: http"
    )


def test_http_1_0() -> None:
    it = talk(ONE)
    it.say(b"GET / HTTP/1.0\r\n\r\n")
    assert it.heard(current(it)) == b"GET / HTTP/1.1\r\nHost: web.default\r\n\r\n"
    it.answer(current(it), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert it.to_client.endswith(b"\r\n\r\nabc")
    assert b"chunked" not in it.to_client
    assert it.over() == "close"


def test_an_answer_that_ends_with_its_connection() -> None:
    it = talk(ONE)
    it.say(get())
    it.answer(current(it), b"HTTP/1.1 200 OK\r\n\r\nsome")
    it.backend_ends(current(it))
    assert it.to_client.endswith(b"4\r\nsome\r\n0\r\n\r\n"), "the client can tell that this is all"
    assert it.over() == ""


def test_head_has_no_body_whatever_it_says() -> None:
    it = talk(ONE)
    it.say(get(method="HEAD"))
    it.answer(current(it), b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    assert it.to_client == b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    it.say(get())
    assert it.answer(current(it), ok()) == ok()


SMUGGLED = [
    (b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400),
    (b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: +4\r\n\r\nabcd", 400),
    (b"POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 501),
    (b"POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: w\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: w\nX: y\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: w\r\nX: a\rb\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: w\r\n folded: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: w\r\nHost: v\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: w\r\nX: \0\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: w\r\n\r\n", 505),
    (b"GET http://a/ HTTP/1.1\r\nHost: w\r\n\r\n", 400),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: w\r\n\r\n", 501),
    (b"hello\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
]


@pytest.mark.parametrize(("said", "status"), SMUGGLED)
@pytest.mark.parametrize("piece", [0, 1])
def test_what_could_be_read_in_two_ways_is_refused(said: bytes, status: int, piece: int) -> None:
    it = talk(ONE)
    it.say(said, piece=piece * max(1, len(said) // 97))
    assert it.to_client.startswith(b"HTTP/1.1 %d " % status), it.to_client
    assert it.over() == "close"
    assert not it.opened, "nothing of it reached an endpoint"


def test_a_chunk_that_lies_about_its_size_is_not_passed_on() -> None:
    it = talk(ONE)
    it.say(CHUNKED + b"3\r\nabcdX")
    assert it.to_client.startswith(b"HTTP/1.1 400 ")
    assert it.over() == "close"


def test_an_endpoint_that_breaks_off() -> None:
    it = talk(ONE)
    it.say(get())
    it.backend_fails(current(it))
    assert it.to_client.startswith(b"HTTP/1.1 502 ")
    it = talk(ONE)
    it.say(get())
    it.answer(current(it), b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    it.backend_ends(current(it))
    assert it.over() == "abort", "half an answer cannot be taken back"
    it = talk(ONE)
    it.say(get())
    it.answer(current(it), b"what is this?\r\n\r\n")
    assert it.to_client.startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    ("request_", "again"), [(get("/2"), True), (CHUNKED, False), (get("/2", method="POST"), False)]
)
def test_a_kept_connection_that_died_is_replaced_if_that_does_no_harm(request_: bytes, again: bool) -> None:
    it = talk(ONE)
    it.say(get("/1"))
    it.answer(current(it), ok())
    it.heard(current(it))
    it.say(request_)
    it.to.clear()
    it.backend_ends(current(it))
    if again:
        assert it.heard(current(it)) == request_
        assert it.answer(current(it), ok()) == ok()
        it.say(get("/3"))
        it.backend_fails(current(it))
        assert it.over() == "", "the new one was kept, too"
        it.backend_fails(current(it))
        assert it.over() == "close", "but a fresh connection that fails is no old one"
    else:
        assert it.to_client.endswith(b"broke off before it had answered\n")


def test_times() -> None:
    it = talk(ONE, timeout_seconds="7")
    it.say(b"GET /")
    assert it.timer_s == 10
    it.ring()
    assert it.to_client.startswith(b"HTTP/1.1 408 ")
    it = talk(ONE, timeout_seconds="7")
    it.say(get())
    assert it.timer_s == 7
    it.ring()
    assert it.to_client.startswith(b"HTTP/1.1 504 ")
    it = talk(ONE)
    it.say(CHUNKED)
    it.timer_s = 0
    it.say(b"1\r\na\r\n")
    assert it.timer_s == 30, "there was progress"
    it = talk(ONE)
    it.say(get())
    it.answer(current(it), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    assert it.timer_s is None, "an answer may take its time"
    it.answer(current(it), b"123456789")
    it.ring()
    assert it.over() == "close"


def test_mirrors_are_sent_a_copy_over_connections_of_their_own() -> None:
    it = talk(ONE, CANARY, mirror="track=canary", rule__1="=> track=stable")
    for number in range(7):
        it.say(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab")
        name = next(name for name in it.open if name.startswith("b"))
        assert it.heard(name) == b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab"
        mirror = list(it.mirrors & it.open.keys())
        assert len(mirror) == min(number + 1, 4), "those that do not answer are left behind"
        assert it.heard(mirror[0]) == (
            b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"
        )
        assert it.answer(name, ok()) == ok()


def test_connections_to_endpoints_that_are_gone_are_closed() -> None:
    it = talk(ONE, TWO)
    for _ in range(2):
        it.say(get())
        name = next(name for name, where in it.open.items() if where in it.to)
        it.heard(name)
        it.answer(name, ok())
    it.change(TWO)
    assert list(it.open.values()) == [TWO]


def test_a_client_that_ends() -> None:
    it = talk(ONE)
    it.end()
    assert it.over() == "close"
    it = talk(ONE)
    it.say(get())
    it.end()
    it.answer(current(it), ok())
    assert b"200 OK" in it.to_client
    assert it.over() == "close"
    it = talk(ONE)
    it.say(CHUNKED)
    it.end()
    assert it.over() == "abort"


BODY = st.binary(max_size=300)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """As it is sent, and its body."""
    body = draw(BODY)
    if draw(st.booleans()):
        return f"PUT /x HTTP/1.1\r\nHost: w\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body, body
    size = draw(st.integers(1, 100))
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    data = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"PUT /x HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n" + data + b"0\r\n\r\n", body


@given(st.lists(requests(), min_size=1, max_size=4), st.integers(0, 60), st.integers(0, 60))
def test_requests_and_answers_are_whole_wherever_they_are_cut(
    said: list[tuple[bytes, bytes]], piece: int, answer_piece: int
) -> None:
    it = talk(ONE)
    it.say(b"".join(request for request, _ in said), piece=piece)
    for _, body in said:
        got = it.heard(current(it))
        assert got.startswith(b"PUT /x HTTP/1.1\r\nHost: w\r\n")
        assert _body_of(got) == body
        assert it.answer(current(it), ok(body), piece=answer_piece) == ok(body)
        it.say(b"", piece=piece)
    assert len(it.opened) == 1


def _body_of(request: bytes) -> bytes:
    head, _, rest = request.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body
