"""Conversations of clients with Redis' ambassador."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ambassadors.policy import ConnectionInfo, Serve
from proxy.ambassadors.redis import MAX_OUTSTANDING, RedisPolicy
from tests.unit.proxy.ambassadors.conversation import Conversation, endpoint

MASTER, ONE, TWO = endpoint(1, role="master"), endpoint(2, role="replica"), endpoint(3, role="replica")
INFO = ConnectionInfo("127.0.0.1", 5, "default", "redis", "6379")


def talk(*endpoints, policy: RedisPolicy | None = None, **options: str) -> Conversation:  # type: ignore[no-untyped-def]
    policy = policy or RedisPolicy({name.replace("_", "-"): options[name] for name in options}, random.Random(1))
    decision = policy.open(INFO, endpoints, b"")
    assert isinstance(decision, Serve)
    return Conversation(decision.session, endpoints)


def cmd(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


def test_writes_go_to_the_master_and_reads_to_a_replica() -> None:
    it = talk(MASTER, ONE, TWO)
    assert it.say(cmd("SET", "k", "v")) == b""
    assert it.heard("master") == cmd("SET", "k", "v")
    assert it.answer("master", b"+OK\r\n") == b"+OK\r\n"
    it.say(cmd("GET", "k"))
    assert it.heard("reader") == cmd("GET", "k")
    assert it.answer("reader", b"$1\r\nv\r\n") == b"$1\r\nv\r\n"
    assert it.open["reader"] in (ONE, TWO)


def test_connections_take_turns_at_the_replicas() -> None:
    policy = RedisPolicy({}, random.Random(1))
    found = []
    for _ in range(4):
        it = talk(MASTER, ONE, TWO, policy=policy)
        it.say(cmd("GET", "k"))
        found.append(it.open["reader"])
    assert found == [TWO, ONE, TWO, ONE]


def test_commands_are_carried_out_in_their_order() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("SET", "k", "1") + cmd("INCR", "k") + cmd("GET", "k") + cmd("GET", "j") + cmd("DEL", "k"))
    assert it.heard("master") == cmd("SET", "k", "1") + cmd("INCR", "k")
    assert "reader" not in it.open, "the read does not overtake the write"
    assert not it.is_reading(), "the client waits"
    assert it.answer("master", b"+OK\r\n:") == b"+OK\r\n:"
    assert "reader" not in it.open
    assert it.answer("master", b"2\r\n") == b"2\r\n"
    assert it.heard("reader") == cmd("GET", "k") + cmd("GET", "j")
    assert it.answer("reader", b"$1\r\n2\r\n$-1\r\n") == b"$1\r\n2\r\n$-1\r\n"
    assert it.heard("master") == cmd("DEL", "k")
    assert it.is_reading()


@pytest.mark.parametrize(
    "words",
    [("INCR", "k"), ("SORT", "k"), ("EVAL", "return 1", "0"), ("FLUSHALL",), ("SCAN", "0"), ("GETDEL", "k"), ("NEW",),
     ("BLPOP", "k", "0"), ("PUBLISH", "c", "m"), ("CONFIG", "SET", "a", "b"), ("INFO",), ("GEORADIUS", "k")],
)  # fmt: skip
def test_what_is_not_known_to_be_a_read_goes_to_the_master(words: tuple[str, ...]) -> None:
    it = talk(MASTER, ONE)
    it.say(cmd(*words))
    assert it.heard("master") == cmd(*words)


def test_reads_go_to_the_master_if_there_is_no_replica() -> None:
    it = talk(MASTER)
    it.say(cmd("get", "k"))
    assert it.heard("master") == cmd("get", "k")
    it.answer("master", b"$-1\r\n")
    it.change(MASTER, ONE)
    it.say(cmd("get", "k"))
    assert it.heard("reader") == cmd("get", "k")


@pytest.mark.parametrize(("begin", "end"), [("MULTI", "EXEC"), ("MULTI", "DISCARD"), ("WATCH", "UNWATCH")])
def test_a_transaction_stays_at_the_master(begin: str, end: str) -> None:
    it = talk(MASTER, ONE)
    for words in ((begin, "k"), ("GET", "k"), ("SET", "k", "v"), (end,)):
        it.say(cmd(*words))
        assert it.heard("master") == cmd(*words)
        it.answer("master", b"+QUEUED\r\n")
    it.say(cmd("GET", "k"))
    assert it.heard("reader") == cmd("GET", "k")


def test_what_a_connection_is_the_replica_is_told_too() -> None:
    it = talk(MASTER, ONE)
    for words in (("AUTH", "secret"), ("SELECT", "3"), ("CLIENT", "SETNAME", "me"), ("SELECT", "4")):
        it.say(cmd(*words))
        assert it.answer("master", b"+OK\r\n") == b"+OK\r\n"
    it.say(cmd("GET", "k"))
    state = cmd("AUTH", "secret") + cmd("CLIENT", "SETNAME", "me") + cmd("SELECT", "4")
    assert it.heard("reader") == state + cmd("GET", "k")
    assert it.answer("reader", b"+OK\r\n+OK\r\n+OK\r\n$1\r\nv\r\n", piece=1) == b"$1\r\nv\r\n"
    it.say(cmd("SELECT", "5"))
    assert it.heard("reader") == cmd("SELECT", "5")
    assert it.answer("reader", b"+OK\r\n") == b"", "the client hears the master's answer only"
    assert it.answer("master", b"+OK\r\n") == b"+OK\r\n"
    it.say(cmd("RESET"))
    it.answer("master", b"+RESET\r\n")
    it.change(MASTER, TWO)
    it.answer("reader", b"+RESET\r\n")
    it.say(cmd("GET", "k"))
    assert it.heard("reader") == cmd("GET", "k"), "and nothing of before"


@pytest.mark.parametrize(
    "words", [("SUBSCRIBE", "c"), ("MONITOR",), ("CLIENT", "TRACKING", "ON"), ("client", "reply", "off")]
)
def test_what_makes_replies_no_answers_goes_past_the_ambassador(words: tuple[str, ...]) -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("SELECT", "3"))
    it.answer("master", b"+OK\r\n")
    it.say(cmd("GET", "k") + cmd(*words) + cmd("GET", "j")[:7])
    assert not it.over(), "the read is answered first"
    it.heard("master")
    it.answer("reader", b"+OK\r\n$-1\r\n")
    assert it.over() == "splice master"
    assert it.heard("master") == cmd(*words) + cmd("GET", "j")[:7]


def test_who_steps_aside_waits_for_what_nobody_asked() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("SELECT", "3"))
    it.answer("master", b"+OK\r\n")
    it.change(endpoint(1, role="replica"), endpoint(2, role="master"))
    it.say(cmd("SUBSCRIBE", "c"))
    assert it.heard("master") == cmd("SELECT", "3")
    assert not it.over()
    assert it.answer("master", b"+OK\r\n") == b""
    assert it.over() == "splice master"


def test_roles_change_hands() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("SET", "k", "1") + cmd("GET", "k"))
    it.answer("master", b"+OK\r\n")
    it.answer("reader", b"$1\r\n1\r\n")
    old, new = endpoint(1, role="replica"), endpoint(2, role="master")
    it.change(endpoint(1, role="replica"), endpoint(2, role="replica"))
    assert it.open == {"reader": ONE}, "the connection to who is no master any more is gone"
    it.say(cmd("SET", "k", "2"))
    assert it.holding == {"master": cmd("SET", "k", "2")}, "and it waits for the next one"
    it.change(old, new)
    assert it.open["master"] == new
    assert it.answer("master", b"+OK\r\n") == b"+OK\r\n"
    it.say(cmd("GET", "k"))
    assert it.open["reader"] == old


def test_what_was_asked_is_answered_before_a_connection_is_left() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k"))
    it.change(endpoint(1, role="replica"), endpoint(2, role="master"))
    it.say(cmd("INCR", "k"))
    assert it.opened == [("master", MASTER)]
    assert it.answer("master", b":1\r\n") == b":1\r\n"
    assert it.opened[1] == ("master", endpoint(2, role="master"))
    assert it.answer("master", b":2\r\n") == b":2\r\n"


def test_a_transaction_that_was_begun_ends_where_it_began() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("MULTI"))
    it.answer("master", b"+OK\r\n")
    it.change(endpoint(1, role="replica"), endpoint(2, role="master"))
    it.say(cmd("INCR", "k") + cmd("EXEC"))
    it.answer("master", b"+QUEUED\r\n-READONLY\r\n")
    assert it.opened == [("master", MASTER)]
    it.say(cmd("INCR", "k"))
    assert it.opened[1] == ("master", endpoint(2, role="master"))


def test_a_master_that_breaks_off_leaves_it_open_what_happened() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k") + cmd("INCR", "j"))
    it.backend_fails("master")
    assert it.to_client.count(b"may have been carried out\r\n") == 2
    it.say(cmd("INCR", "k"))
    assert it.answer("master", b":5\r\n") == b":5\r\n"


def test_half_an_answer_cannot_be_taken_back() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k"))
    it.answer("master", b"$10\r\nabc")
    it.backend_fails("master")
    assert it.over() == "abort"


def test_a_transaction_is_lost_with_its_master() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("MULTI"))
    it.answer("master", b"+OK\r\n")
    it.backend_ends("master")
    assert it.over() == "close"


def test_without_a_master_in_time_nothing_was_carried_out() -> None:
    it = talk(ONE)
    it.say(cmd("INCR", "k"))
    it.backend_fails("master", "no-endpoint")
    assert it.to_client == b"-ERR podium: the master cannot be reached (no-endpoint); nothing was carried out\r\n"
    it.say(cmd("GET", "k"))
    assert it.heard("reader") == cmd("GET", "k"), "reading goes on"


def test_a_read_is_asked_again_elsewhere() -> None:
    it = talk(MASTER, ONE, TWO)
    it.say(cmd("GET", "k") + cmd("GET", "j"))
    it.answer("reader", b"$1\r\nv\r\n")
    it.to.clear()
    it.change(MASTER, ONE)
    it.backend_fails("reader")
    assert it.heard("reader") == cmd("GET", "j")
    for _ in range(3):
        it.backend_fails("reader")
    assert b"-ERR podium: the replica broke off" in it.to_client, "but not for ever"


def test_a_large_value_is_streamed() -> None:
    it = talk(MASTER, ONE)
    said = cmd("SET", "k", "x" * 100_000)
    it.say(said[:50_000])
    sent = it.heard("master")
    assert len(sent) > 30_000
    it.say(said[50_000:] + cmd("GET", "k"))
    assert sent + it.heard("master") == said
    it.answer("master", b"+OK\r\n")
    assert it.heard("reader") == cmd("GET", "k")


def test_the_rest_of_a_command_is_dropped_with_its_server() -> None:
    it = talk(MASTER, ONE)
    said = cmd("SET", "k", "x" * 100_000)
    it.say(said[:50_000])
    it.backend_fails("master")
    assert it.to_client.startswith(b"-ERR podium")
    it.to.clear()
    it.say(said[50_000:] + cmd("INCR", "n"))
    assert it.heard("master") == cmd("INCR", "n")


def test_what_makes_no_sense_is_said_after_all_answers() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k") + b"*1\r\n+no\r\n")
    assert it.to_client == b""
    it.answer("master", b":1\r\n")
    assert it.to_client.startswith(b":1\r\n-ERR Protocol error")
    assert it.over() == "close"


def test_quit_is_answered_after_everything_before() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k") + cmd("QUIT") + cmd("INCR", "never"))
    it.answer("master", b":1\r\n")
    assert it.to_client == b":1\r\n+OK\r\n"
    assert it.over() == "close"


def test_a_client_that_ends_is_answered_first() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k"))
    it.end()
    assert not it.over()
    it.answer("master", b":1\r\n")
    assert (it.to_client, it.over()) == (b":1\r\n", "close")


def test_who_asks_without_end_has_to_wait() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("INCR", "k") * (MAX_OUTSTANDING + 5))
    assert not it.is_reading()
    assert it.heard("master") == cmd("INCR", "k") * MAX_OUTSTANDING
    it.answer("master", b":1\r\n" * 7)
    assert it.is_reading()
    big = talk(MASTER, ONE)
    big.say(cmd("MGET", *["k" * 1000] * 10) * 200)
    assert not big.is_reading(), "reads that may have to be asked again are kept"


def test_pin_after_write() -> None:
    it = talk(MASTER, ONE, pin_after_write="true")
    it.say(cmd("GET", "k"))
    assert it.heard("reader") == cmd("GET", "k")
    it.answer("reader", b"$-1\r\n")
    it.say(cmd("SET", "k", "v") + cmd("GET", "k"))
    assert it.heard("master") == cmd("SET", "k", "v") + cmd("GET", "k")


def test_other_labels() -> None:
    one, two = endpoint(1, kind="rw"), endpoint(2, kind="ro")
    it = talk(two, one, role_label="kind", master="rw", replica="ro")
    it.say(cmd("INCR", "k"))
    assert it.open["master"] == one


def test_a_push_is_passed_on_and_answers_nothing() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("HELLO", "3"))
    assert it.answer("master", b">1\r\n+x\r\n%0\r\n") == b">1\r\n+x\r\n%0\r\n"


def test_words_before_any_question_are_not_taken_for_an_answer() -> None:
    it = talk(MASTER, ONE)
    it.say(cmd("GET", "k"))
    it.answer("reader", b"$-1\r\n")
    assert it.answer("reader", b"-ERR max number of clients reached\r\n") == b""


COMMANDS = ["SET k v", "GET k", "MULTI", "EXEC", "INCR n", "MGET a b", "SELECT 1"]
SCRIPT = st.lists(st.sampled_from(COMMANDS).map(str.split), min_size=1, max_size=12)


@given(SCRIPT, st.integers(0, 30), st.integers(0, 10))
def test_every_command_is_answered_once_in_order_wherever_streams_are_cut(
    script: list[list[str]], piece: int, answer_piece: int
) -> None:
    it = talk(MASTER, ONE)
    it.say(b"".join(cmd(*words) for words in script), piece=piece)
    answered = 0
    for _ in range(100):
        for name in ("master", "reader"):
            if name not in it.open:
                continue
            asked = it.heard(name)
            for _ in range(asked.count(b"*")):
                reply = f"+{name}\r\n".encode()
                answered += it.answer(name, reply, piece=answer_piece).count(b"\n")
        it.say(b"", piece=piece)
        if answered == len(script):
            break
    assert answered == len(script)
    assert it.is_reading()
