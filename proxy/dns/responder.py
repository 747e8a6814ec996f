"""From a message to its answer, and what is kept of it. Pure, and on the hot path: ten thousand times a second.

An answer is put together once for each question, by dnspython (but for a list of addresses, which is nothing but
addresses); what is kept of it (`Kept`) are the bytes that follow the question. From then on an answer is four pieces,
joined: the asker's id, flags, the question as the asker has written it (clients change the case of letters and look
whether it comes back), and those bytes. They may be kept since nothing in them depends on when they are sent; when a
name changes, what was kept of it is dropped.

    00 12 | 85 00 | 00 01 00 02 00 00 00 01 | question | c0 0c 00 01 00 01 ... | 00 00 29 ...
     id     flags          counts             as it came   records, kept           EDNS, if the asker speaks it

Several addresses of one name are given in turn, each asker another one first: many look at the first only. What is
longer than the asker can take loses its additional records; then it is cut, and says so (TC), for the asker to come
again by TCP.

What is wrong with a message is answered as RFC 1035, 6891 and 9619 say, and what is no question gets no answer at all:
two servers that answer each other's answers would never end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.renderer
import dns.rrset
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A as AddressData
from dns.rdtypes.IN.SRV import SRV

from proxy.dns.labels import MAX_NAME, Name, labels_of
from proxy.dns.records import SRV_PRIORITY, SRV_WEIGHT, A, Cname, Ns, Ptr, Record, Soa, Srv, Txt
from proxy.dns.stats import DnsStats
from proxy.dns.zone import FORMERR, NOTIMP, REFUSED, SERVFAIL, Answer, Owned, Zone

UDP_BYTES, EDNS_BYTES, TCP_BYTES = 512, 4096, 65535
"""The longest message: to who does not speak EDNS; that we send and take by UDP, on loopback, where nothing is
fragmented; and by TCP."""
MAX_KEPT = 20_000
"""Names of which answers are kept; who asks for more than there are makes us forget those that were kept first."""
BADVERS = 16
_A_BYTES = 16
"""An address of the name that was asked for: a pointer to it, type, class, time, length, address."""
_HEADER = 12
_QR, _AA, _TC, _RD, _RA, _CD = 0x80, 0x04, 0x02, 0x01, 0x80, 0x10
_OPT: Final = b"\0\0\x29" + EDNS_BYTES.to_bytes(2, "big")
_PLAIN_OPT, _DO_OPT = _OPT + bytes(6), _OPT + bytes((0, 0, 0x80, 0, 0, 0))
_ONE_QUESTION = b"\0\1\0\0\0\0\0"
_IN = b"\0\1"
_TRANSFERS = (251, 252)
"""IXFR, AXFR: nobody gets the whole zone."""


@dataclass(slots=True)
class Kept:
    """What follows the question in all answers to it."""

    code: int
    counts: bytes
    """Of answers and of authorities, two bytes each."""
    records: bytes
    """Answers and authorities."""
    additional: bytes = b""
    additional_count: int = 0
    turn: int = -1
    """Where the addresses begin the next time; -1: they are not given in turn."""
    authoritative: int = _AA
    cut: int = 0
    """_TC: there are more than a message can hold."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that somebody else has to be asked."""

    message: bytes
    """As it came."""
    question_end: int
    limit: int
    """The longest answer that the asker takes."""
    found: tuple[Owned, ...] = ()
    """What is known already; the last one stands for the name that is to be asked for. Empty: all is to be asked."""
    opt: bytes = b""


Reply: TypeAlias = bytes | Ask | None


@dataclass(slots=True)
class Responder:
    """Answers messages from a zone. One for a process."""

    zone: Zone
    stats: DnsStats = field(default_factory=DnsStats)
    forwards: bool = False
    """What is not of the zone may be asked for upstream."""
    ready: bool = False
    """The zone is known. Until then it is not said that a name does not exist."""
    _kept: dict[Name, dict[bytes, Kept]] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Names of which answers are kept."""
        return len(self._kept)

    def forget(self, names: set[Name]) -> None:
        """These mean something else now."""
        for name in names:
            self._kept.pop(name, None)

    def forget_all(self) -> None:
        """Whatever was kept may be wrong."""
        self._kept.clear()

    def respond(self, message: bytes, *, over_udp: bool) -> Reply:
        """The answer; whom to ask for it; or None: there is none to be given."""
        if len(message) < _HEADER or message[2] & _QR:
            self.stats.ignored += 1
            return None
        if message[2] & 0x78:
            return self._failure(message, NOTIMP)
        if message[4:11] != _ONE_QUESTION or message[11] > 1:
            return self._failure(message, FORMERR)
        # The question: labels, a zero, type and class. No pointers: there is nothing before it to point at.
        at, size = _HEADER, len(message)
        while at < size and (length := message[at]):
            if length > 63:
                return self._failure(message, FORMERR)
            at += length + 1
        end = at + 5
        if end > size or at - _HEADER >= MAX_NAME:
            return self._failure(message, FORMERR)
        opt = b""
        limit = UDP_BYTES if over_udp else TCP_BYTES
        if message[11]:
            # EDNS: the root, 41, how much the asker takes, three fields, options. Those we know nothing of are nothing.
            if message[end : end + 3] != b"\0\0\x29" or size < end + 11:
                return self._failure(message, FORMERR, end)
            if size != end + 11 + (message[end + 9] << 8 | message[end + 10]):
                return self._failure(message, FORMERR, end)
            opt = _DO_OPT if message[end + 7] & 0x80 else _PLAIN_OPT
            if message[end + 6]:
                return self._failure(message, BADVERS, end, opt)
            if over_udp:
                limit = min(max(message[end + 3] << 8 | message[end + 4], UDP_BYTES), EDNS_BYTES)
        elif size != end:
            return self._failure(message, FORMERR, end)
        name = message[_HEADER : at + 1].lower()
        by_type = self._kept.get(name)
        kept = by_type.get(message[at + 1 : end]) if by_type is not None else None
        if kept is None:
            found = self._find(message, name, at + 1, end, limit, opt)
            if not isinstance(found, Kept):
                return found
            kept = found
        else:
            self.stats.from_memory += 1
        return self._answer(message, end, limit, opt, kept)

    def failure(self, ask: Ask) -> bytes:
        """The answer when nobody could be asked."""
        return self._failure(ask.message, SERVFAIL, ask.question_end, ask.opt)

    def compose(self, ask: Ask, code: int, further: tuple[dns.rrset.RRset, ...]) -> bytes:
        """The answer of what was known and what was heard elsewhere."""
        question = labels_of(ask.message[_HEADER : ask.question_end - 4])
        kept = _render(question, ask.found, (), None, code, further, self.zone.ttl_s)
        kept.authoritative = 0
        return self._answer(ask.message, ask.question_end, ask.limit, ask.opt, kept)

    # --- pieces

    def _find(self, message: bytes, name: Name, at: int, end: int, limit: int, opt: bytes) -> Kept | Reply:
        type_ = message[at] << 8 | message[at + 1]
        is_ours = message[at + 2 : end] == _IN and self.zone.answers_for(name)
        if not is_ours or type_ in _TRANSFERS:
            if self.forwards and not is_ours:
                return Ask(message, end, limit, opt=opt)
            return self._failure(message, REFUSED, end, opt)
        if not self.ready:
            return self._failure(message, SERVFAIL, end, opt)
        answer = self.zone.ask(name, type_)
        if answer.elsewhere is not None and self.forwards:
            return Ask(message, end, limit, answer.records, opt)
        kept = _kept(labels_of(name), answer, self.zone.ttl_s)
        if answer.lasting:
            if len(self._kept) >= MAX_KEPT and name not in self._kept:
                del self._kept[next(iter(self._kept))]
            self._kept.setdefault(name, {})[message[at:end]] = kept
        return kept

    def _answer(self, message: bytes, end: int, limit: int, opt: bytes, kept: Kept) -> bytes:
        records, counts, additional, cut = kept.records, kept.counts, kept.additional, kept.cut
        more = kept.additional_count
        if kept.turn >= 0:
            turn = kept.turn
            kept.turn = (turn + _A_BYTES) % len(records)
            records = records[turn:] + records[:turn]
        room = limit - end - len(opt)
        if len(records) + len(additional) > room:
            additional, more = b"", 0
            if len(records) > room:
                cut = _TC
                whole = room // _A_BYTES if kept.turn >= 0 else 0
                records, counts = records[: whole * _A_BYTES], whole.to_bytes(2, "big") + b"\0\0"
        if cut:
            self.stats.cut += 1
        self.stats.count(kept.code)
        if opt:
            more += 1
        flags = (
            _QR | kept.authoritative | cut | message[2] & _RD,
            (_RA if self.forwards else 0) | message[3] & _CD | kept.code,
        )
        head = (message[:2], bytes(flags), b"\0\1", counts, more.to_bytes(2, "big"))
        return b"".join((*head, message[_HEADER:end], records, additional, opt))

    def _failure(self, message: bytes, code: int, end: int = 0, opt: bytes = b"") -> bytes:
        """An answer without records; with the question, if it ends at `end`."""
        self.stats.count(code)
        flags = (
            _QR | message[2] & (0x78 | _RD),
            (_RA if self.forwards else 0) | message[3] & _CD | code & 15,
        )
        if code > 15:  # the rest of it is in EDNS, where it begins
            opt = opt[:5] + bytes((code >> 4,)) + opt[6:]
        counts = bytes((0, 1 if end else 0, 0, 0, 0, 0, 0, 1 if opt else 0))
        return message[:2] + bytes(flags) + counts + message[12 : max(end, 12)] + opt


def _kept(question: list[bytes], answer: Answer, ttl_s: int) -> Kept:
    authority, records = answer.authority, answer.records
    if len(records) > 1 and all(isinstance(record, A) for _, record in records):
        return _in_turn(sum(map(len, question)) + len(question) + 1, records, ttl_s)
    return _render(question, answer.records, answer.additional, authority, answer.code, (), ttl_s)


def _in_turn(name_bytes: int, records: tuple[Owned, ...], ttl_s: int) -> Kept:
    """Several addresses of the name that was asked for: all of one length, so that they can be given in any order. Each
    points at the question, which begins after the header."""
    room = (TCP_BYTES - _HEADER - name_bytes - 4 - len(_PLAIN_OPT)) // _A_BYTES
    head = b"\xc0\x0c\0\1\0\1" + ttl_s.to_bytes(4, "big") + b"\0\4"
    shown = records[:room]
    data = b"".join(head + record.address for _, record in shown if isinstance(record, A))
    return Kept(0, len(shown).to_bytes(2, "big") + b"\0\0", data, turn=0, cut=_TC if len(records) > room else 0)


def _render(
    question: list[bytes],
    records: tuple[Owned, ...],
    additional: tuple[Owned, ...],
    authority: Owned | None,
    code: int,
    further: tuple[dns.rrset.RRset, ...],
    ttl_s: int,
) -> Kept:
    """The bytes after the question. Records that do not fit into the longest message are left out."""
    asked = dns.name.Name([*question, b""])
    renderer = dns.renderer.Renderer(0, 0, TCP_BYTES)
    # dnspython takes names for the same that differ in case only: pointers lead to the question as it came.
    renderer.add_question(asked, dns.rdatatype.A)
    begin = renderer.output.tell()
    cut = 0
    sections: list[tuple[int, dns.rrset.RRset]] = [
        *((dns.renderer.ANSWER, _rrset(each, ttl_s)) for each in records),
        *((dns.renderer.ANSWER, each) for each in further),
        *(((dns.renderer.AUTHORITY, _rrset(authority, ttl_s)),) if authority is not None else ()),
    ]
    for section, rrset in sections:
        try:
            renderer.add_rrset(section, rrset)
        except dns.exception.TooBig:
            cut = _TC
            break
    middle = renderer.output.tell()
    for each in additional if not cut else ():
        try:
            renderer.add_rrset(dns.renderer.ADDITIONAL, _rrset(each, ttl_s))
        except dns.exception.TooBig:
            break
    data = renderer.output.getvalue()
    _, answers, authorities, more = renderer.counts
    return Kept(
        code,
        answers.to_bytes(2, "big") + authorities.to_bytes(2, "big"),
        data[begin:middle],
        data[middle:],
        more,
        cut=cut,
    )


def _rrset(owned: Owned, ttl_s: int) -> dns.rrset.RRset:
    name, record = owned
    return dns.rrset.from_rdata(dns.name.Name([*labels_of(name), b""]), ttl_s, _rdata(record))


def _rdata(record: Record) -> dns.rdata.Rdata:
    """As dnspython has it."""
    match record:
        case A(address):
            return AddressData(dns.rdataclass.IN, dns.rdatatype.A, ".".join(map(str, address)))
        case Srv(port, target):
            return SRV(dns.rdataclass.IN, dns.rdatatype.SRV, SRV_PRIORITY, SRV_WEIGHT, port, _dns_name(target))
        case Ptr(target):
            return PTR(dns.rdataclass.IN, dns.rdatatype.PTR, _dns_name(target))
        case Cname(target):
            return CNAME(dns.rdataclass.IN, dns.rdatatype.CNAME, _dns_name(target))
        case Ns(target):
            return NS(dns.rdataclass.IN, dns.rdatatype.NS, _dns_name(target))
        case Txt(text):
            return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, [text])
        case Soa(primary, contact, serial, ttl_s):
            # Secondaries there are none; the numbers are those that others put there.
            times = (7200, 1800, 86400, ttl_s)
            return SOA(dns.rdataclass.IN, dns.rdatatype.SOA, _dns_name(primary), _dns_name(contact), serial, *times)


def _dns_name(name: Name) -> dns.name.Name:
    return dns.name.Name([*labels_of(name), b""])
