"""Conversations of clients with PostgreSQL's ambassador."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ambassadors.pg_wire import READY, MessageScanner, ProtocolError, error, read_startup, wants_to_read_only
from proxy.ambassadors.policy import ConnectionInfo, NeedMore, Serve
from proxy.ambassadors.postgresql import PostgresqlPolicy
from tests.unit.proxy.ambassadors.conversation import Conversation, endpoint

MASTER, ONE, TWO = endpoint(1, role="master"), endpoint(2, role="replica"), endpoint(3, role="replica")
INFO = ConnectionInfo("127.0.0.1", 5, "default", "db", "5432")


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def startup(**parameters: str) -> bytes:
    words = {"user": "u", **parameters}
    body = struct.pack("!i", 196608) + b"".join(f"{key}\0{words[key]}\0".encode() for key in words) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def special(code: int, rest: bytes = b"") -> bytes:
    return struct.pack("!ii", 8 + len(rest), code) + rest


def auth(kind: int, rest: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", kind) + rest)


def query(text: str) -> bytes:
    return message(b"Q", text.encode() + b"\0")


def parse(text: str, name: str = "") -> bytes:
    return message(b"P", f"{name}\0{text}\0".encode() + b"\0\0")


def bind(portal: str = "", name: str = "") -> bytes:
    return message(b"B", f"{portal}\0{name}\0".encode() + b"\0" * 6)


DESCRIBE, EXECUTE, SYNC = message(b"D", b"P\0"), message(b"E", b"\0\0\0\0\0"), message(b"S")
EXTENDED = parse("select $1") + bind() + DESCRIBE + EXECUTE + SYNC
ROWS = message(b"T", b"\0\0") + message(b"D", b"row") + message(b"C", b"SELECT 1\0")
DONE = message(b"C", b"DONE\0")
LOGIN = auth(0) + message(b"S", b"a\0b\0") + message(b"K", b"pid1secr") + READY


def ready(status: bytes) -> bytes:
    return message(b"Z", status)


def policy(**options: str) -> PostgresqlPolicy:
    return PostgresqlPolicy({name.replace("_", "-"): options[name] for name in options}, random.Random(1))


def talk(*endpoints, by: PostgresqlPolicy | None = None, first: bytes = b"", **options: str) -> Conversation:  # type: ignore[no-untyped-def]
    by = by or policy(**options)
    assert isinstance(by.open(INFO, endpoints, b""), NeedMore)
    decision = by.open(INFO, endpoints, first or startup())
    assert isinstance(decision, Serve)
    it = Conversation(decision.session, endpoints)
    it.say(first or startup())
    return it


def logged_in(*endpoints, by: PostgresqlPolicy | None = None, **options: str) -> Conversation:  # type: ignore[no-untyped-def]
    it = talk(*endpoints, by=by, **options)  # type: ignore[arg-type]
    assert it.heard("master") == startup()
    assert it.answer("master", LOGIN) == LOGIN
    return it


def with_replica(*endpoints, by: PostgresqlPolicy | None = None, **options: str) -> Conversation:  # type: ignore[no-untyped-def]
    """Logged in at both."""
    it = logged_in(*endpoints, by=by, **options)
    it.say(query("select 1"))
    assert it.heard("replica") == startup()
    assert it.answer("replica", auth(0) + message(b"S", b"x\0y\0") + message(b"K", b"pid2key2") + READY) == b""
    assert it.heard("replica") == query("select 1")
    assert it.answer("replica", ROWS + READY) == ROWS + READY
    return it


def test_reads_go_to_a_replica_and_writes_to_the_master() -> None:
    it = with_replica(MASTER, ONE)
    for text in ("insert into t values (1)", "select nextval('s')", "show x"):
        it.say(query(text))
        assert it.heard("master") == query(text)
        assert it.answer("master", DONE + READY) == DONE + READY
    it.say(EXTENDED)
    assert it.heard("replica") == EXTENDED
    answer = message(b"1") + message(b"2") + ROWS + READY
    assert it.answer("replica", answer, piece=3) == answer
    assert it.is_reading()
    assert not it.paused


@pytest.mark.parametrize(
    "asked",
    [
        parse("insert into t values (1)") + bind() + EXECUTE + SYNC,
        parse("select 1", "named") + SYNC,
        bind("", "named") + EXECUTE + SYNC,
        parse("select 1") + bind("portal") + message(b"E", b"portal\0\0\0\0\0") + SYNC,
        parse("select 1") + DESCRIBE + SYNC,
        bind() + EXECUTE + SYNC,
        parse("select 1") + message(b"H") + bind() + EXECUTE + SYNC,
        SYNC,
        parse("select 1") + message(b"B", b"\0\0" + b"x" * 100_000) + EXECUTE + SYNC,
    ],
)
@pytest.mark.parametrize("piece", [0, 7001])
def test_what_is_not_complete_in_itself_goes_to_the_master(asked: bytes, piece: int) -> None:
    it = with_replica(MASTER, ONE)
    it.say(asked, piece=piece)
    assert it.heard("master") == asked
    assert it.answer("master", DONE + READY) == DONE + READY
    it.say(query("select 1"))
    assert it.heard("replica") == query("select 1")


def test_a_transaction_stays_at_the_master() -> None:
    it = with_replica(MASTER, ONE)
    for text, status in (("begin", b"T"), ("select 1", b"T"), ("wrong", b"E"), ("select 1", b"E"), ("rollback", b"I")):
        it.say(query(text))
        assert it.heard("master") == query(text)
        it.answer("master", DONE + ready(status))
    it.say(query("select 1"))
    assert it.heard("replica") == query("select 1")


def test_batches_sent_ahead_are_answered_in_their_order() -> None:
    it = with_replica(MASTER, ONE)
    it.say(query("update t") + query("delete from t") + query("select 1") + query("update u") + query("select 2"))
    assert it.heard("master") == query("update t") + query("delete from t")
    assert not it.is_reading()
    it.answer("master", DONE + READY)
    assert it.heard("replica") == b"", "whether it is in a transaction is not known yet"
    it.answer("master", DONE + READY)
    assert it.heard("replica") == query("select 1")
    assert it.paused == {"master"}, "nothing of the master comes in between"
    it.answer("replica", ROWS + READY)
    assert it.heard("master") == query("update u")
    it.answer("master", DONE + READY)
    assert it.heard("replica") == query("select 2")
    it.answer("replica", ROWS + READY)
    assert it.is_reading()


@pytest.mark.parametrize("code", ["25006", "40001"])
@pytest.mark.parametrize("before", [b"", message(b"1") + message(b"2"), message(b"T", b"\0\0")])
def test_a_replica_that_may_not_is_asked_in_vain(code: str, before: bytes) -> None:
    it = with_replica(MASTER, ONE)
    it.say(query("select writes_secretly()"))
    refusal = before + error("ERROR", code, "cannot execute INSERT in a read-only transaction") + READY
    assert it.answer("replica", refusal, piece=5) == b""
    assert it.heard("master") == query("select writes_secretly()")
    assert it.answer("master", ROWS + READY) == ROWS + READY


def test_other_errors_and_those_after_a_row_are_the_clients() -> None:
    it = with_replica(MASTER, ONE)
    it.say(query("select 1/0"))
    answer = error("ERROR", "22012", "division by zero") + READY
    assert it.answer("replica", answer) == answer
    it.say(query("select f()"))
    answer = message(b"T", b"\0\0") + message(b"D", b"row") + error("ERROR", "25006", "late") + READY
    assert it.answer("replica", answer) == answer


@pytest.mark.parametrize("text", ["set x = 1", "listen news", "copy t from stdin", "create temp table t (a int)"])
def test_what_keeps_something_with_the_connection_goes_past_the_ambassador(text: str) -> None:
    it = with_replica(MASTER, ONE)
    it.say(query("update t") + query(text) + query("select 1") + b"Q\0")
    assert it.over() == ""
    it.heard("master")
    it.answer("master", DONE + READY)
    assert it.over() == "splice master"
    assert it.heard("master") == query(text) + query("select 1") + b"Q\0"


def test_a_login_with_a_password_in_clear_text_is_repeated() -> None:
    it = talk(MASTER, ONE)
    it.heard("master")
    it.answer("master", auth(3))
    password = message(b"p", b"secret\0")
    it.say(password)
    assert it.heard("master") == password
    it.answer("master", LOGIN)
    it.say(query("select 1"))
    assert it.heard("replica") == startup()
    assert it.answer("replica", auth(3)) == b""
    assert it.heard("replica") == password
    it.answer("replica", auth(0) + READY)
    assert it.heard("replica") == query("select 1")


@pytest.mark.parametrize(
    "answer", [auth(10, b"SCRAM-SHA-256\0\0"), auth(5, b"salt"), auth(3), error("FATAL", "28000", "not in pg_hba.conf")]
)
def test_without_a_login_at_the_replica_reads_stay_at_the_master(answer: bytes) -> None:
    it = logged_in(MASTER, ONE)
    it.say(query("select 1"))
    assert it.answer("replica", answer) == b""
    assert it.told == ["ReplicaNotUsed"]
    assert it.heard("master") == query("select 1")
    it.answer("master", ROWS + READY)
    it.change(MASTER, TWO)
    it.say(query("select 1"))
    assert it.heard("master") == query("select 1"), "and it is not tried again in this session"


def test_who_says_at_the_start_that_it_will_read_only_goes_to_a_replica() -> None:
    for parameters in (
        {"options": "-c default_transaction_read_only=on"},
        {"options": "-cdefault_transaction_read_only=true -c x=y"},
        {"options": "--default-transaction-read-only=1"},
        {"default_transaction_read_only": "on"},
    ):
        first = startup(**parameters)
        it = talk(MASTER, ONE, first=first)
        assert it.heard("replica") == first
        assert it.over() == "splice replica"
    assert not wants_to_read_only({"options": "-c default_transaction_read_only=off"})


def test_replication_passes_to_the_master() -> None:
    it = talk(MASTER, ONE, first=startup(replication="database"))
    assert it.over() == "splice master"


def test_encryption_is_declined() -> None:
    it = talk(MASTER, ONE, first=special(80877103))
    assert it.to_client == b"N"
    it.say(special(80877104))
    assert it.to_client == b"NN"
    it.say(startup())
    assert it.heard("master") == startup()
    early = talk(MASTER, first=special(80877103) + startup())
    assert early.over() == "abort", "what came with the question may have been somebody else's"


def test_a_cancellation_goes_to_who_is_busy() -> None:
    by = policy()
    it = with_replica(MASTER, ONE, by=by)
    cancels = talk(MASTER, ONE, by=by, first=special(80877102, b"pid1secr"))
    assert cancels.opened == [("cancel", MASTER)]
    assert cancels.heard("cancel") == special(80877102, b"pid1secr")
    it.say(query("select pg_sleep(100)"))
    cancels = talk(MASTER, ONE, by=by, first=special(80877102, b"pid1secr"))
    assert cancels.opened == [("cancel", ONE)]
    assert cancels.heard("cancel") == special(80877102, b"pid2key2"), "with the key of the replica"
    cancels.backend_ends("cancel")
    assert cancels.over() == "close"
    it.session.closed()
    assert not by.keys
    unknown = talk(MASTER, ONE, by=by, first=special(80877102, b"nobodys!"))
    assert unknown.opened == [("cancel", MASTER)]


def test_roles_change_hands() -> None:
    it = with_replica(MASTER, ONE)
    it.say(query("begin"))
    it.answer("master", DONE + ready(b"T"))
    it.change(endpoint(1, role="replica"), endpoint(2, role="master"))
    assert it.over() == "", "a transaction may end"
    it.say(query("commit"))
    it.answer("master", DONE + READY)
    assert b"57P01" in it.to_client
    assert it.over() == "close"


def test_a_replica_that_became_something_else_is_left() -> None:
    it = with_replica(MASTER, ONE)
    it.change(MASTER, TWO)
    assert "replica" not in it.open
    it.say(query("select 1"))
    assert it.open["replica"] == TWO
    it.backend_fails("replica", "dial")
    assert it.heard("master") == query("select 1")
    it.answer("master", ROWS + READY)
    it.say(query("select 1"))
    assert it.heard("master") == query("select 1"), "not every read has to wait for who does not answer"
    it.answer("master", ROWS + READY)
    it.change(MASTER, ONE)
    it.say(query("select 1"))
    assert it.open["replica"] == ONE


def test_a_replica_that_breaks_off() -> None:
    it = with_replica(MASTER, ONE)
    it.say(query("select 1"))
    it.backend_fails("replica")
    assert it.heard("master") == query("select 1"), "it had said nothing"
    it = with_replica(MASTER, ONE)
    it.say(query("select 1"))
    it.answer("replica", message(b"T", b"\0\0") + message(b"D", b"row"))
    it.backend_fails("replica")
    assert it.to_client.endswith(READY)
    assert b"08006" in it.to_client
    it.say(query("update t"))
    assert it.heard("master") == query("update t"), "the session goes on"
    it = with_replica(MASTER, ONE)
    it.say(query("select 1"))
    it.answer("replica", message(b"D", b"x" * 40_000)[:30_000])
    it.backend_fails("replica")
    assert it.over() == "abort", "half a message cannot be taken back"


def test_a_master_that_breaks_off_or_is_not_there() -> None:
    it = with_replica(MASTER, ONE)
    it.backend_ends("master")
    assert b"FATAL" in it.to_client
    assert it.over() == "close"
    it = with_replica(MASTER, ONE)
    it.say(query("update t"))
    it.answer("master", DONE[:3])
    it.backend_fails("master")
    assert it.over() == "abort"
    it = talk(ONE)
    it.backend_fails("master", "no-endpoint")
    assert b"no endpoint has the role" in it.to_client


def test_terminate_ends_both() -> None:
    it = with_replica(MASTER, ONE)
    it.say(message(b"X"))
    assert it.heard("master") == message(b"X")
    assert it.over() == "close"


def test_pin_after_write() -> None:
    it = with_replica(MASTER, ONE, pin_after_write="true")
    it.say(query("update t"))
    it.answer("master", DONE + READY)
    it.heard("master")
    it.say(query("select 1"))
    assert it.heard("master") == query("select 1")


NO_STARTUP = [b"GET / HTTP/1.1\r\n\r\n", special(131072), b"\0\0\0\x0c\0\3\0\0abcd", special(196608)[:4] * 2]


@pytest.mark.parametrize("said", NO_STARTUP)
def test_what_is_no_startup(said: bytes) -> None:
    it = talk(MASTER, first=said)
    assert b"FATAL" in it.to_client
    assert it.over() == "close"


def test_a_login_that_takes_too_long() -> None:
    it = talk(MASTER, first=startup()[:9])
    assert it.timer_s == 60
    it.ring()
    assert it.over() == "close"


MESSAGES = st.lists(st.builds(message, st.sampled_from([b"Q", b"D", b"Z"]), st.binary(max_size=60)), max_size=6)


@given(MESSAGES, st.lists(st.integers(0, 500), max_size=8), st.integers(5, 50))
def test_messages_are_whole_wherever_they_are_cut(messages: list[bytes], places: list[int], whole: int) -> None:
    data = b"".join(messages)
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    scanner, found, current = MessageScanner(whole), [], b""
    for start, end in itertools.pairwise(edges):
        for part in scanner.feed(data[start:end]):
            assert part.begins == (current == b"")
            current += part.data
            if part.ends:
                found.append(current)
                current = b""
    assert found == messages
    assert scanner.is_between
    assert scanner.rest() == b""


def test_what_is_no_message() -> None:
    with pytest.raises(ProtocolError):
        list(MessageScanner().feed(b"Q\0\0\0\1"))
    assert read_startup(startup()[:-1]) is None


SCRIPT = st.lists(st.sampled_from(["select 1", "update t", "x", "e"]), min_size=1, max_size=8)


@given(SCRIPT, st.integers(0, 40), st.integers(0, 9))
def test_every_batch_is_answered_once_in_order(script: list[str], piece: int, answer_piece: int) -> None:
    it = logged_in(MASTER, ONE)
    before = len(it.to_client)
    it.say(b"".join(EXTENDED if text == "e" else query(text) for text in script), piece=piece)
    logged = False
    for _ in range(200):
        for name in ("master", "replica"):
            if name not in it.open or name in it.paused:
                continue
            asked = it.heard(name)
            if name == "replica" and asked.startswith(startup()) and not logged:
                logged = True
                it.answer(name, auth(0) + READY, piece=answer_piece)
            elif asked:
                for _ in range(asked.count(b"Q\0\0\0") + asked.count(SYNC)):
                    it.answer(name, message(b"C", name.encode()) + READY, piece=answer_piece)
        it.say(b"", piece=piece)
    said = it.to_client[before:]
    assert said.count(READY) == len(script)
    expected = b"".join(
        message(b"C", b"replica" if text in ("select 1", "e") else b"master") + READY for text in script
    )
    assert said == expected
