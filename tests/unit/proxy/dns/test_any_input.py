"""Whatever comes, and whatever changes: hypothesis writes messages and histories."""

from __future__ import annotations

import random

import dns.message
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.pb.v1 import core_pb2 as core
from proxy.dns.labels import dashed, labels_of, reverse_name, to_name, to_text, undashed
from proxy.dns.responder import Ask, Responder
from proxy.dns.settings import Server
from proxy.dns.upstream import Upstream
from tests.unit.proxy.dns.scene import Scene, endpoints, service

SCENE = Scene(forwards=False).put(
    service(),
    service("hl", ip="None"),
    endpoints(*((f"127.28.16.{n}", f"hl-{n}") for n in range(1, 90)), name="hl"),
    service("db", external="hl.default.svc.cluster.local"),
)
QUESTIONS = [
    ("web.default.svc.cluster.local", "A"),
    ("hl.default.svc.cluster.local", "A"),
    ("_http._tcp.hl.default.svc.cluster.local", "SRV"),
    ("db.default.svc.cluster.local", "A"),
    ("1.1.28.127.in-addr.arpa", "PTR"),
    ("example.com", "A"),
]


def check(responder: Responder, wire: bytes, *, over_udp: bool) -> None:
    """Silence, or a whole message that answers this one and is no longer than may be."""
    reply = responder.respond(wire, over_udp=over_udp)
    if reply is None:
        assert len(wire) < 12 or wire[2] & 0x80
        return
    assert isinstance(reply, bytes | Ask)
    if isinstance(reply, Ask):
        reply = responder.failure(reply)
    assert reply[:2] == wire[:2]
    assert reply[2] & 0x80
    assert reply[2] & 0x78 == wire[2] & 0x78
    assert len(reply) <= (4096 if over_udp else 65535)
    if not wire[2] & 0x78:  # messages of other operations have other sections, which dnspython would expect
        dns.message.from_wire(reply)


@settings(max_examples=500)
@given(st.binary(max_size=600), st.booleans())
def test_any_bytes(wire: bytes, over_udp: bool) -> None:
    check(SCENE.responder, wire, over_udp=over_udp)


@settings(max_examples=500)
@given(
    st.sampled_from(QUESTIONS),
    st.sampled_from([-1, 0]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    st.integers(0, 60),
    st.binary(max_size=12),
    st.booleans(),
)
def test_a_question_with_faults(
    question: tuple[str, str], edns: int, faults: list[tuple[int, int]], cut: int, more: bytes, over_udp: bool
) -> None:
    wire = bytearray(dns.message.make_query(*question, use_edns=edns).to_wire())
    for at, value in faults:
        wire[at % len(wire)] = value
    check(SCENE.responder, bytes(wire[: len(wire) - cut if cut < 12 else None]) + more, over_udp=over_udp)


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3), st.integers(0, 65535), st.booleans())
def test_any_name_and_type_of_the_zone(labels: list[bytes], type_: int, over_udp: bool) -> None:
    tail = b"\x07default\x03svc\x07cluster\x05local\0"
    name = b"".join(bytes((len(label),)) + label for label in labels) + tail
    wire = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + name + type_.to_bytes(2, "big") + b"\0\1"
    check(SCENE.responder, wire, over_udp=over_udp)


EXTERNAL = Scene(forwards=True).put(service("ext", external="www.example.com"))
QUERY = dns.message.make_query("ext.default.svc.cluster.local", "A")


def answer_of_others() -> bytes:
    query = dns.message.make_query("www.example.com", "A", id=0)
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text("www.example.com.", 60, "IN", "CNAME", "a.example.net."))
    answer.answer.append(dns.rrset.from_text("a.example.net.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"))
    answer.answer.append(dns.rrset.from_text("web.default.svc.cluster.local.", 60, "IN", "A", "198.51.100.66"))
    return answer.to_wire()


async def follow(heard: bytes) -> dns.message.Message:
    """What is answered when this is heard from others, the question's bytes being right."""
    ask = EXTERNAL.responder.respond(QUERY.to_wire(), over_udp=True)
    assert isinstance(ask, Ask)
    others = Upstream((Server("127.0.0.1", 1),), EXTERNAL.responder, rng=random.Random(1), timeout_s=1.0)

    async def hear(message: bytes, end: int, *, over_tcp: bool) -> bytes:
        return heard

    others._ask = hear  # type: ignore[method-assign]
    reply = await others.answer(ask)
    assert len(reply) <= 512
    answer = dns.message.from_wire(reply)
    assert QUERY.is_response(answer)
    return answer


async def test_what_others_say_of_names_that_nobody_asked_for_is_left_out() -> None:
    answer = await follow(answer_of_others())
    assert [rrset.name.to_text() for rrset in answer.answer] == [
        *("ext.default.svc.cluster.local.", "www.example.com.", "a.example.net.")
    ]


@settings(max_examples=500)
@given(
    st.lists(st.tuples(st.integers(12, 200), st.integers(0, 255)), max_size=4), st.integers(0, 40), st.integers(0, 255)
)
def test_whatever_others_say_there_is_an_answer(faults: list[tuple[int, int]], cut: int, flags: int) -> None:
    wire = bytearray(answer_of_others())
    wire[3] = flags
    for at, value in faults:
        wire[at % len(wire)] = value
    with pytest.raises(StopIteration):  # nothing is waited for
        follow(bytes(wire[: len(wire) - cut])).send(None)


NAMES = ("a", "b", "c")
HOSTS = st.lists(
    st.tuples(st.sampled_from([f"127.28.16.{n}" for n in range(1, 4)]), st.sampled_from(["", "x", "y"])), max_size=3
)
STEPS = st.one_of(
    st.builds(
        lambda name, ip, publish: service(name, ip=ip, publish_all=publish),
        st.sampled_from(NAMES),
        st.sampled_from(["None", "127.28.1.1", ""]),
        st.booleans(),
    ),
    st.builds(
        lambda name, target: service(name, external=f"{target}.default.svc.cluster.local"),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
    ),
    st.builds(
        lambda name, ready, waiting: endpoints(*ready, name=name, not_ready=waiting),
        st.sampled_from(NAMES),
        HOSTS,
        HOSTS,
    ),
)
ASKED = [
    *((f"{prefix}{name}.default.svc", type_) for name in NAMES for prefix, type_ in
      (("", "A"), ("", "ANY"), ("x.", "A"), ("127-28-16-1.", "A"), ("_http._tcp.", "SRV"), ("_tcp.", "A"))),
    *((f"{n}.16.28.127.in-addr.arpa.", "PTR") for n in range(1, 4)),
    ("1.1.28.127.in-addr.arpa.", "PTR"),
    ("1.28.127.in-addr.arpa.", "PTR"),
    ("16.28.127.in-addr.arpa.", "A"),
]  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.tuples(STEPS, st.booleans()), max_size=14))
def test_whatever_happened_the_answers_are_those_of_a_zone_made_afresh(
    steps: list[tuple[core.Service | core.Endpoints, bool]],
) -> None:
    lived = Scene()
    now: dict[tuple[type, str], core.Service | core.Endpoints] = {}
    for obj, is_removed in steps:
        for question in ASKED[::3]:
            lived.tell(*question)  # so that there is something to be forgotten
        key = (type(obj), obj.metadata.name)
        if is_removed:
            lived.remove(obj)
            now.pop(key, None)
        else:
            lived.put(obj)
            now[key] = obj
    fresh = Scene().put(*now.values())
    assert [lived.tell(*question) for question in ASKED] == [fresh.tell(*question) for question in ASKED]
    assert [lived.tell(*question) for question in ASKED] == [fresh.tell(*question) for question in ASKED], "kept"
    for obj in list(now.values()):
        lived.remove(obj)
    empty = Scene()
    assert (lived.zone._below, lived.zone._names) == (empty.zone._below, empty.zone._names), "nothing is left behind"


@given(st.tuples(*[st.integers(0, 255)] * 4))
def test_addresses_as_labels(parts: tuple[int, ...]) -> None:
    address = ".".join(map(str, parts))
    assert undashed(dashed(address).encode()) == address
    assert to_text(reverse_name(address)) == ".".join(map(str, reversed(parts))) + ".in-addr.arpa"


@given(st.binary(max_size=20))
def test_undashed_takes_any_label(label: bytes) -> None:
    found = undashed(label)
    assert not found or dashed(found).encode() == label


def test_names_there_and_back() -> None:
    assert to_name("Web.Default.") == b"\x03web\x07default\0" == to_name("web.default")
    assert to_name(".") == b"\0" == to_name("")
    assert to_text(b"\0") == "."
    assert to_text(to_name("a.b")) == "a.b"
    assert labels_of(to_name("a.bc")) == [b"a", b"bc"]
    assert to_text(b"\x03a.\n\0") == "a\\046\\010"
