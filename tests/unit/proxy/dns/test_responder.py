"""Messages and their answers: what comes back of a question, how long it may be, and what is no question."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.renderer
import pytest

from proxy.dns import responder as module
from proxy.dns.responder import Ask, Responder
from tests.unit.proxy.dns.scene import Scene, endpoints, said, service

MANY = [(f"127.28.16.{number}", f"web-{number}") for number in range(1, 61)]


def ask_raw(responder: Responder, wire: bytes, *, over_udp: bool = True) -> dns.message.Message | None:
    reply = responder.respond(wire, over_udp=over_udp)
    assert not isinstance(reply, Ask)
    return dns.message.from_wire(reply) if reply is not None else None


def query(name: str = "web.default.svc.cluster.local", type_: str = "A", **options: Any) -> bytes:
    return dns.message.make_query(name, type_, **options).to_wire()


def test_the_answer_repeats_the_question_as_it_was_written() -> None:
    scene = Scene().put(service())
    for name in ("WeB.dEfAuLt.SVC.cluster.LOCAL", "web.default.svc.cluster.local", "WEB.default.svc.cluster.local"):
        wire = query(name)
        reply = scene.responder.respond(wire, over_udp=True)
        assert isinstance(reply, bytes)
        assert reply[12 : len(wire)] == wire[12:]
        assert said(dns.message.from_wire(reply)) == ["127.28.1.1"]
    assert scene.responder.stats.from_memory == 2


def test_flags_are_those_of_the_question_and_of_this_server() -> None:
    scene = Scene().put(service())
    wire = dns.message.make_query("web.default.svc.cluster.local", "A")
    for flags, expected in ((0, 0), (dns.flags.RD, dns.flags.RD), (dns.flags.CD | dns.flags.AD, dns.flags.CD)):
        wire.flags = dns.flags.Flag(flags)
        answer = ask_raw(scene.responder, wire.to_wire())
        assert answer is not None
        assert answer.flags == dns.flags.QR | dns.flags.AA | expected
    forwarding = Scene(forwards=True).put(service())
    assert forwarding.ask("web.default.svc").flags & dns.flags.RA
    refused = scene.ask("example.com.")
    assert refused.rcode() == dns.rcode.REFUSED
    assert not refused.flags & dns.flags.AA


def test_several_addresses_are_given_in_turn() -> None:
    scene = Scene().put(service(ip="None"), endpoints(*MANY[:3]))
    answers = [said(scene.ask("web.default.svc")) for _ in range(6)]
    assert [answer[0] for answer in answers] == [f"127.28.16.{n}" for n in (1, 2, 3, 1, 2, 3)]
    assert all(sorted(answer) == sorted(answers[0]) for answer in answers)


def test_edns_is_spoken_to_who_speaks_it() -> None:
    scene = Scene().put(service())
    assert scene.ask("web.default.svc").edns == -1
    answer = scene.ask("web.default.svc", use_edns=0, payload=1232)
    assert (answer.edns, answer.payload, answer.ednsflags) == (0, 4096, 0)
    assert scene.ask("web.default.svc", want_dnssec=True).ednsflags == dns.flags.DO
    assert scene.ask("example.com.", use_edns=0).edns == 0, "whatever the answer is"
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    assert not scene.ask("web.default.svc", use_edns=0, options=[cookie]).options
    kept = scene.responder.kept
    for number in range(50):
        option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"%08d" % number)
        scene.ask("web.default.svc", use_edns=0, options=[option])
    assert scene.responder.kept == kept, "what is said beside the question makes no other answer"


def test_another_version_of_edns_is_refused() -> None:
    answer = Scene().put(service()).ask("web.default.svc", use_edns=1)
    assert answer.rcode() == dns.rcode.BADVERS
    assert answer.edns == 0
    assert not answer.answer


def test_what_is_too_long_for_udp_is_cut_and_whole_by_tcp() -> None:
    scene = Scene().put(service(ip="None"), endpoints(*MANY))
    cases: list[tuple[dict[str, Any], int]]
    cases = [({}, 512), ({"use_edns": 0, "payload": 800}, 800), ({"use_edns": 0, "payload": 100}, 512)]
    for options, limit in cases:
        wire = query(**options)
        reply = scene.responder.respond(wire, over_udp=True)
        assert isinstance(reply, bytes)
        assert limit - 16 < len(reply) <= limit
        answer = dns.message.from_wire(reply)
        assert answer.flags & dns.flags.TC
        assert 0 < len(said(answer)) < 60
    whole = scene.ask("web.default.svc", use_edns=0, payload=4096)
    assert len(said(whole)) == 60
    assert not whole.flags & dns.flags.TC
    by_tcp = scene.ask("web.default.svc", over_udp=False)
    assert len(said(by_tcp)) == 60
    assert not by_tcp.flags & dns.flags.TC


def test_what_is_only_helpful_goes_first() -> None:
    scene = Scene().put(service(ip="None"), endpoints(*MANY[:8]))
    answer = scene.ask("_http._tcp.web.default.svc", "SRV")
    assert len(said(answer)) == 8
    assert not answer.additional
    assert not answer.flags & dns.flags.TC
    assert len(scene.ask("_http._tcp.web.default.svc", "SRV", use_edns=0).additional) == 8
    scene.put(endpoints(*MANY))
    cut = scene.ask("_http._tcp.web.default.svc", "SRV")
    assert not said(cut)
    assert cut.flags & dns.flags.TC
    assert len(said(scene.ask("_http._tcp.web.default.svc", "SRV", over_udp=False))) == 60


def test_more_records_than_a_message_holds_are_cut_by_tcp_too() -> None:
    hosts = [(f"127.28.{16 + n // 250}.{1 + n % 250}", "") for n in range(5000)]
    scene = Scene().put(service(ip="None"), endpoints(*hosts))
    for name, type_ in (("web.default.svc", "A"), ("_http._tcp.web.default.svc", "SRV")):
        answer = scene.ask(name, type_, over_udp=False)
        assert answer.flags & dns.flags.TC


def test_a_change_is_seen_by_the_next_question() -> None:
    scene = Scene()
    assert scene.tell("web.default.svc") == ["NXDOMAIN"]
    assert scene.tell("_tcp.web.default.svc") == ["NXDOMAIN"]
    scene.put(service(ip="None"))
    assert scene.tell("web.default.svc") == ["NXDOMAIN"]
    scene.put(endpoints(MANY[0]))
    assert scene.tell("web.default.svc") == ["127.28.16.1"]
    assert scene.tell("_tcp.web.default.svc") == ["NODATA"]
    scene.put(endpoints(MANY[1]))
    assert scene.tell("web.default.svc") == ["127.28.16.2"]
    assert scene.tell("web-1.web.default.svc") == ["NXDOMAIN"]
    scene.remove(service())
    assert scene.tell("web.default.svc") == ["NXDOMAIN"]
    assert scene.tell("_tcp.web.default.svc") == ["NXDOMAIN"]


def test_a_namespace_that_goes_takes_the_names_of_its_pods_along() -> None:
    scene = Scene()
    assert scene.tell("127-28-16-1.default.pod") == ["127.28.16.1"]
    assert scene.zone.set_namespace("default", exists=False)
    assert not scene.zone.set_namespace("default", exists=False)
    scene.responder.forget_all()
    assert scene.tell("127-28-16-1.default.pod") == ["NXDOMAIN"]
    assert scene.tell("default.svc") == ["NXDOMAIN"]
    assert scene.tell("svc") == ["NODATA"]


def test_a_change_elsewhere_costs_nothing_that_was_kept() -> None:
    scene = Scene().put(service(), service("other", ip="127.28.1.2"))
    scene.tell("web.default.svc")
    before = scene.responder.stats.from_memory
    scene.put(service("other", ip="127.28.1.3"))
    scene.tell("web.default.svc")
    assert scene.responder.stats.from_memory == before + 1


def test_so_much_is_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 5)
    scene = Scene().put(service())
    for number in range(20):
        assert scene.tell(f"no-{number}.default.svc") == ["NXDOMAIN"]
        assert scene.tell("web.default.svc") == ["127.28.1.1"]
    assert scene.responder.kept == 5
    for _ in range(20):
        scene.tell("example.com.")
    assert scene.responder.kept == 5, "of what is not ours, nothing is kept"


def test_before_the_zone_is_known_nobody_is_told_that_a_name_does_not_exist() -> None:
    scene = Scene(ready=False)
    assert scene.tell("web.default.svc") == ["SERVFAIL"]
    assert scene.tell("example.com.") == ["REFUSED"]
    scene.responder.ready = True
    assert scene.tell("web.default.svc") == ["NXDOMAIN"]


def test_other_classes_and_transfers_are_refused() -> None:
    scene = Scene().put(service())
    for rdclass in ("CH", "ANY"):
        assert scene.ask("web.default.svc", "A", rdclass=rdclass).rcode() == dns.rcode.REFUSED
    for type_ in ("AXFR", "IXFR"):
        wire = bytearray(query("cluster.local", "A"))
        wire[-4:-2] = dns.rdatatype.from_text(type_).to_bytes(2, "big")
        reply = scene.responder.respond(bytes(wire), over_udp=False)
        assert isinstance(reply, bytes)
        assert reply[3] & 15 == dns.rcode.REFUSED


def test_what_is_no_question_gets_no_answer() -> None:
    scene = Scene().put(service())
    answer = bytearray(query())
    answer[2] |= 0x80
    for wire in (b"", b"\0", bytes(11), bytes(answer)):
        assert scene.responder.respond(wire, over_udp=True) is None
    assert scene.responder.stats.ignored == 4


@pytest.mark.parametrize("opcode", [opcode for opcode in dns.opcode.Opcode if opcode != dns.opcode.QUERY])
def test_other_operations_are_not_implemented(opcode: dns.opcode.Opcode) -> None:
    message = dns.message.make_query("web.default.svc.cluster.local", "A")
    wire = bytearray(message.to_wire())
    wire[2] |= opcode << 3
    reply = Scene().responder.respond(bytes(wire), over_udp=True)
    assert isinstance(reply, bytes)
    assert reply[:2] == bytes(wire[:2])
    assert (reply[2] >> 3 & 15, reply[3] & 15) == (opcode, dns.rcode.NOTIMP)


WEB = b"\x03web\x07default\x03svc\x07cluster\x05local\0"
HEAD = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0"


@pytest.mark.parametrize(
    "wire",
    [
        HEAD,
        HEAD + WEB,
        HEAD + WEB + b"\0\1\0",
        HEAD + WEB + b"\0\1\0\1\0",
        HEAD + WEB[:-1],
        HEAD + b"\x3fshort",
        HEAD + b"\xc0\x0c\0\1\0\1",
        HEAD + b"\x03web\xc0\x0c\0\1\0\1",
        HEAD + b"\xc0\x00\0\1\0\1",
        HEAD + b"\x40" + bytes(64) + b"\0\0\1\0\1",
        HEAD + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1",
        HEAD[:5] + b"\2" + HEAD[6:] + WEB + b"\0\1\0\1" + WEB + b"\0\1\0\1",
        HEAD[:5] + b"\0" + HEAD[6:],
        HEAD[:7] + b"\1" + HEAD[8:] + WEB + b"\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        HEAD[:11] + b"\1" + WEB + b"\0\1\0\1",
        HEAD[:11] + b"\1" + WEB + b"\0\1\0\1\0\0\x29\x10\0\0\0\0\0\0",
        HEAD[:11] + b"\1" + WEB + b"\0\1\0\1\0\0\x29\x10\0\0\0\0\0\0\x09",
        HEAD[:11] + b"\1" + WEB + b"\0\1\0\1\0\0\x29\x10\0\0\0\0\0\0\0\0",
        HEAD[:11] + b"\1" + WEB + b"\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        HEAD[:11] + b"\2" + WEB + b"\0\1\0\1" + 2 * b"\0\0\x29\x10\0\0\0\0\0\0\0",
        HEAD[:10] + b"\1\0" + WEB + b"\0\1\0\1",
    ],
)
def test_what_is_wrongly_made_is_said_to_be(wire: bytes) -> None:
    reply = Scene().put(service()).responder.respond(wire, over_udp=True)
    assert isinstance(reply, bytes)
    answer = dns.message.from_wire(reply)
    assert (answer.id, answer.rcode(), answer.answer) == (0x1234, dns.rcode.FORMERR, [])
    assert len(reply) <= max(len(wire), 12), "nobody gets more than he has sent"


def test_a_label_may_hold_a_dot_and_is_not_taken_for_two() -> None:
    scene = Scene().put(service())
    for labels in ((b"web.default", b"svc"), (b"web", b"default.svc"), (b"w\0b", b"default", b"svc")):
        name = dns.name.Name([*labels, b"cluster", b"local", b""])
        assert scene.ask(name.to_text()).rcode() == dns.rcode.NXDOMAIN
    inside = dns.name.Name([b"x\x07cluster\x05local", b""])
    assert scene.ask(inside.to_text()).rcode() == dns.rcode.REFUSED
