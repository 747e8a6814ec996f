"""What the client of etcd decides without a network."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.pb.etcd import etcd_pb2 as pb
from cluster.rpc.etcd import (
    Compacted,
    Corrupt,
    EtcdError,
    EtcdUrl,
    Event,
    KeyValue,
    LeaseNotFound,
    NoSpace,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    TooLarge,
    Unreachable,
    is_loopback,
    parse_etcd_url,
    prefix_end,
    refuse,
    warn_about,
    warn_about_plaintext,
)
from cluster.rpc.etcd.endpoint import WIRE_PACKAGE
from cluster.rpc.etcd.faults import judge
from cluster.rpc.etcd.joining import Disorder, Joiner
from cluster.rpc.etcd.rotation import Rotation


@pytest.mark.parametrize(
    ("text", "endpoints", "prefix"),
    [
        ("etcd://a:2379,b,c/prefix", ("a:2379", "b:2379", "c:2379"), "/prefix/"),
        ("etcd://127.0.0.1", ("127.0.0.1:2379",), ""),
        ("etcd://127.0.0.1:1234/", ("127.0.0.1:1234",), ""),
        ("etcd://[::1]:1,[fe80::1]/a/b-c/d_e.f/", ("[::1]:1", "[fe80::1]:2379"), "/a/b-c/d_e.f/"),
        ("etcd://etcd-1.example.org:02379", ("etcd-1.example.org:2379",), ""),
    ],
)
def test_urls(text: str, endpoints: tuple[str, ...], prefix: str) -> None:
    url = parse_etcd_url(text)
    assert url == EtcdUrl(endpoints, prefix)
    assert parse_etcd_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a:2379", "begin with etcd://"),
        ("https://a", "TLS is chosen by credentials"),
        ("etcd://", "empty host"),
        ("etcd://a,,b", "empty host"),
        ("etcd:///prefix", "empty host"),
        ("etcd://a,a:2379", "twice"),
        ("etcd://a:0", "port"),
        ("etcd://a:65536", "port"),
        ("etcd://a:", "port"),
        ("etcd://a:http", "port"),
        ("etcd://a:²", "port"),
        ("etcd://user:password@a", "certificate"),
        ("etcd://a b", "name or an address"),
        ("etcd://a?x=1", "options"),
        ("etcd://a/p#x", "fragment"),
        ("etcd://a//b", "prefix"),
        ("etcd://a/b c", "prefix"),
        ("etcd://::1", "brackets"),
        ("etcd://[::1", "brackets|PORT"),
        ("etcd://[x]:1", "IPv6"),
        ("etcd://[::1]1", "PORT"),
    ],
)
def test_urls_that_make_no_sense(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_etcd_url(text)


@given(st.text())
@settings(max_examples=100)
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        url = parse_etcd_url("etcd://" + text)
    except ValueError:
        return
    assert parse_etcd_url(str(url)) == url


def test_plaintext_beyond_this_machine_is_warned_about() -> None:
    assert warn_about_plaintext(["127.0.0.1:1", "127.9.8.7:1", "localhost:1", "[::1]:1"]) == []
    (warning,) = warn_about_plaintext(["127.0.0.1:1", "10.0.0.1:2379", "etcd:1"])
    assert "10.0.0.1:2379, etcd:1" in warning
    assert not is_loopback("[fe80::1]:1")


@pytest.mark.parametrize(
    ("version", "count", "word"),
    [
        ("3.4.23", 2, "watches may hear of changes twice (mended in 3.4.24); "),
        ("3.4.41", 2, "bugs: a member that was suspended"),
        ("3.4.45", 1, "no longer maintained"),
        ("3.5.3", 2, "(mended in 3.5.8)"),
        ("3.5.28", 1, "recommended"),
        ("3.5.29", 0, ""),
        ("3.6.0-rc.1", 0, ""),
        ("4.0.0", 0, ""),
        ("main", 1, "main"),
    ],
)
def test_versions_are_warned_about(version: str, count: int, word: str) -> None:
    warnings = warn_about(version)
    assert len(warnings) == count
    assert all(version in warning for warning in warnings)
    assert word in "\n".join(warnings)


def test_a_bug_that_came_later_is_not_said_of_earlier_versions() -> None:
    assert "suspended" in str(warn_about("3.4.20"))
    assert "suspended" not in str(warn_about("3.4.19"))


@pytest.mark.parametrize(
    ("version", "refused"),
    [("3.5.0", True), ("3.5.2", True), ("3.5.3", False), ("3.4.23", False), ("3.3.27", True), ("main", False)],
)
def test_versions_that_lose_data_are_refused(version: str, refused: bool) -> None:
    assert bool(refuse(version)) is refused


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses; last error: ...", Unreachable),
        ("UNAVAILABLE", "etcdserver: no leader", Unreachable),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", Unreachable),
        ("UNAVAILABLE", "etcdserver: leader changed", OutcomeUnknown),
        ("UNAVAILABLE", "etcdserver: request timed out, possibly due to previous leader failure", OutcomeUnknown),
        ("UNAVAILABLE", "Socket closed", OutcomeUnknown),
        ("DEADLINE_EXCEEDED", "", OutcomeUnknown),
        ("CANCELLED", "", OutcomeUnknown),
        ("UNKNOWN", "something new", OutcomeUnknown),
        ("INTERNAL", "Received RST_STREAM", OutcomeUnknown),
        ("RESOURCE_EXHAUSTED", "something new", OutcomeUnknown),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", Compacted),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision", Refused),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", NoSpace),
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (8 vs. 4)", TooLarge),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", TooLarge),
        ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", TooLarge),
        ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", Refused),
        ("INVALID_ARGUMENT", "etcdserver: user name is empty", PermissionDenied),
        ("PERMISSION_DENIED", "etcdserver: permission denied", PermissionDenied),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", PermissionDenied),
        ("NOT_FOUND", "etcdserver: requested lease not found", LeaseNotFound),
        ("DATA_LOSS", "etcdserver: corrupt cluster", Corrupt),
        ("UNIMPLEMENTED", "unknown service", Refused),
    ],
)
def test_what_a_status_means(code: str, text: str, expected: type[EtcdError]) -> None:
    change = judge(code, text, "a:1", changes=True, tls=False)
    assert type(change) is expected
    assert str(change).startswith("a:1: ")
    read = judge(code, text, "a:1", changes=False, tls=False)
    assert type(read) is (Unreachable if expected is OutcomeUnknown else expected)


def test_a_connection_that_broke_later_says_nothing_of_tls() -> None:
    assert "TLS" not in str(judge("UNAVAILABLE", "Socket closed", "a:1", changes=True, tls=False))
    text = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"
    assert "may want TLS" in str(judge("UNAVAILABLE", text, "a:1", changes=True, tls=False))


def test_one_endpoint_as_long_as_it_answers_then_the_next() -> None:
    rotation = Rotation(["a", "b", "c"])
    assert rotation.current == "a"
    rotation.failed("a")
    rotation.failed("a")  # another call of the same moment
    assert (rotation.current, rotation.is_suspect("a"), rotation.is_suspect("b")) == ("b", True, False)
    rotation.answered("b")
    rotation.failed("b")
    rotation.failed("c")
    assert rotation.current == "a"
    rotation.answered("a")
    assert not rotation.is_suspect("a")
    for wrong in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="endpoint"):
            Rotation(wrong)


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"/a/", b"/a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0"), (b"a\0", b"a\1")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


def test_the_names_on_the_wire_are_those_of_etcd() -> None:
    """The package of our messages is another one, so that a program may have a second client of etcd."""
    assert WIRE_PACKAGE == "etcdserverpb"
    assert pb.DESCRIPTOR.package == "cluster.pb.etcd"


# --- joining ----------------------------------------------------------------------------------------------------------


def event(revision: int, key: str) -> Event:
    return Event(False, KeyValue(key.encode(), b"", revision, revision, 1, 0))


def feed(joiner: Joiner, text: str, more: bool = False) -> str:
    """ "4a 5b" in, "4a" out."""
    batch = joiner.feed([event(int(word[:-1]), word[-1]) for word in text.split()], more)
    if batch is None:
        return ""
    assert batch.revision == batch.events[-1].kv.mod_revision == joiner.last
    return " ".join(f"{one.kv.mod_revision}{one.kv.key.decode()}" for one in batch.events)


def test_fragments_become_complete_revisions() -> None:
    """The example of the file."""
    joiner = Joiner(3)
    assert feed(joiner, "4a 5a 5b", more=True) == "4a"
    assert feed(joiner, "5c 6a") == "5a 5b 5c 6a"
    assert feed(joiner, "6a 7a") == "7a"
    assert joiner.repeated == 1
    with pytest.raises(Disorder, match="8 came after 9"):
        feed(joiner, "9a 8b")


def test_what_was_delivered_is_not_delivered_again() -> None:
    joiner = Joiner(3)
    assert feed(joiner, "2a 3a 3b 4a 4a 5a") == "4a 5a"
    assert feed(joiner, "4a") == ""
    assert feed(joiner, "") == ""
    assert feed(joiner, "5a 6a", more=True) == ""
    assert feed(joiner, "6a", more=True) == ""
    assert feed(joiner, "", more=False) == "6a"
    assert joiner.repeated == 7


def test_a_torn_revision_is_not_lost() -> None:
    joiner = Joiner(3)
    assert feed(joiner, "4a") == "4a"
    assert feed(joiner, "4b 4a 4c 5a") == "4b 4c 5a"
    assert feed(joiner, "5b") == "5b"


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=48),
    st.randoms(),
    st.booleans(),
)
@settings(max_examples=100)
def test_whatever_is_cut_and_repeated_every_revision_comes_whole_and_once(
    sizes: list[int], cuts: list[bool], dice: object, repeats: bool
) -> None:
    log = [event(revision, "abcd"[index]) for revision, size in enumerate(sizes, start=1) for index in range(size)]
    joiner = Joiner(0)
    delivered: list[Event] = []
    answer: list[Event] = []
    for index, one in enumerate(log):
        answer.append(one)
        last = index + 1 == len(log)
        if cuts[index] or last:
            before = len(delivered)
            batch = joiner.feed(answer, more=not last)
            delivered += batch.events if batch else ()
            if repeats:  # the same once more, as some versions do
                again = joiner.feed(answer, more=not last)
                delivered += again.events if again else ()
            assert not {e.kv.mod_revision for e in delivered[before:]} & {e.kv.mod_revision for e in delivered[:before]}
            answer = []
    assert delivered == log
