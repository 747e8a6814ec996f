"""The zone: every name of the cluster and what it means, kept true change by change. Pure.

A change of one service costs the names of that service, and says which names mean something else now: what was made
of them is void. A name exists if it has records or if there is one below it (RFC 8020): then a question for what it
does not have is answered "nothing", and one for a name that does not exist "no such name".

    set web: A; _http._tcp.web: SRV          names below: web 2, _tcp.web 1 ...
    ask for AAAA of web                      NOERROR, nothing
    ask for _tcp.web                         NOERROR, nothing: there is something below it
    ask for _udp.web                         NXDOMAIN

Of the reverse tree it answers for the cluster's own block of addresses, and for single addresses that services have
elsewhere. All else is somebody else's: REFUSED, or asked upstream.

Names of pods (127-28-16-1.default.pod) are made of the question: in the mode "insecure" (Kubernetes' word and default),
of every one whose namespace exists; "verified": only if a pod of that namespace has the address; "disabled": of none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Literal, TypeAlias

from cluster.pb.v1 import core_pb2 as core
from proxy.dns.labels import Name, labels_of, parent, to_name, undashed, upwards
from proxy.dns.records import TYPE_ANY, TYPE_CNAME, A, Cname, Ns, Record, Records, Soa, Srv, Txt, records_of

PodNames: TypeAlias = Literal["insecure", "verified", "disabled"]
VERSION = "1.1.0"
"""Of the specification."""
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
MAX_CHAIN = 8
"""How many names that stand for others are followed."""

_Owner: TypeAlias = tuple[str, str]
"""Namespace and name of a service."""
_ITSELF: _Owner = ("", "")
Owned: TypeAlias = tuple[Name, Record]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a question."""

    code: int
    """NOERROR, NXDOMAIN, REFUSED."""
    records: tuple[Owned, ...] = ()
    additional: tuple[Owned, ...] = ()
    """What the client will ask next."""
    authority: Owned | None = None
    """Of an answer without records: the zone that says so."""
    elsewhere: Name | None = None
    """The last of `records` stands for this name, which is not of this zone."""
    lasting: bool = True
    """It holds until one of the names is told to have changed that were asked for."""


REFUSAL = Answer(REFUSED)


@dataclass(slots=True)
class Zone:
    """The names of one cluster."""

    domain: str = "cluster.local"
    block: str = "127.0"
    """The first two parts of all addresses of the cluster."""
    address: str = "127.0.0.53"
    """Where its names are answered for."""
    pod_names: PodNames = "insecure"
    ttl_s: int = 5
    changes: int = 0
    """The zone's serial number."""
    _services: dict[_Owner, core.Service] = field(default_factory=dict)
    _endpoints: dict[_Owner, core.Endpoints] = field(default_factory=dict)
    _namespaces: set[str] = field(default_factory=set)
    _of: dict[_Owner, Records] = field(default_factory=dict)
    _names: dict[Name, dict[_Owner, tuple[Record, ...]]] = field(default_factory=dict)
    """An address of several headless services has a name from each; all other names have one owner."""
    _below: dict[Name, int] = field(default_factory=dict)
    """How many names there are below this one; and one more if it is there by itself, without records."""
    _pods: dict[Name, int] = field(default_factory=dict)
    """How many pods have this name; in the mode "verified"."""
    _apexes: frozenset[Name] = frozenset()
    _apex: Name = b""
    _pod_tree: Name = b""

    def __post_init__(self) -> None:
        first, second = self.block.split(".")
        self._apex, self._pod_tree = to_name(self.domain), to_name(f"pod.{self.domain}")
        self._apexes = frozenset({self._apex, to_name(f"{second}.{first}.in-addr.arpa")})
        server = to_name(f"ns.dns.{self.domain}")
        own: Records = {
            server: (A(IPv4Address(self.address).packed),),
            to_name(f"dns-version.{self.domain}"): (Txt(VERSION.encode()),),
        }
        own |= {apex: (Ns(server),) for apex in self._apexes}
        self._put(_ITSELF, own)
        for tree in (to_name(f"svc.{self.domain}"), self._pod_tree):
            self._count(tree, 1, set())
            self._below[tree] = self._below.get(tree, 0) + 1

    def __len__(self) -> int:
        """Names with records."""
        return len(self._names)

    # --- changes: each says which names mean something else now

    def set_service(self, namespace: str, name: str, service: core.Service | None) -> set[Name]:
        """The service is now this, or gone."""
        owner = (namespace, name)
        if service is None:
            self._services.pop(owner, None)
        else:
            self._services[owner] = service
        return self._changed(owner)

    def set_endpoints(self, namespace: str, name: str, endpoints: core.Endpoints | None) -> set[Name]:
        """The endpoints of that service are now these, or gone."""
        owner = (namespace, name)
        if endpoints is None:
            self._endpoints.pop(owner, None)
        else:
            self._endpoints[owner] = endpoints
        return self._changed(owner)

    def set_namespace(self, name: str, *, exists: bool) -> bool:
        """A namespace came or went. Says whether that is news; then names of pods below it may be, all of them."""
        trees = [to_name(f"{name}.svc.{self.domain}"), to_name(f"{name}.pod.{self.domain}")]
        if (name in self._namespaces) == exists:
            return False
        changed: set[Name] = set()
        for tree in trees:
            self._below[tree] = self._below.get(tree, 0) + (1 if exists else -1)
            if not self._below[tree]:
                del self._below[tree]
            self._count(tree, 1 if exists else -1, changed)
        (self._namespaces.add if exists else self._namespaces.discard)(name)
        return True

    def move_pod(self, namespace: str, before: str, after: str) -> set[Name]:
        """A pod has the address `after` now, and had `before`; empty: none."""
        changed: set[Name] = set()
        for address, step in ((before, -1), (after, 1)):
            name = to_name(f"{address.replace('.', '-')}.{namespace}.pod.{self.domain}") if address else b""
            if not name or before == after:
                continue
            self._pods[name] = self._pods.get(name, 0) + step
            if self._pods[name] <= 0:
                del self._pods[name]
            changed.add(name)
        return changed

    def _changed(self, owner: _Owner) -> set[Name]:
        return self._put(owner, records_of(self.domain, self._services.get(owner), self._endpoints.get(owner)))

    def _put(self, owner: _Owner, after: Records) -> set[Name]:
        before = self._of.get(owner, {})
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if not changed:
            return changed
        for name in tuple(changed):
            owners = self._names.get(name, {})
            was_there = bool(owners)
            if name in after:
                owners[owner] = after[name]
            else:
                owners.pop(owner, None)
            if owners:
                self._names[name] = owners
            else:
                self._names.pop(name, None)
            if was_there != bool(owners):
                self._count(name, 1 if owners else -1, changed)
        # Those of one service speak of each other: of the addresses of those who serve a port.
        changed |= after.keys()
        changed |= self._apexes
        if after:
            self._of[owner] = after
        else:
            self._of.pop(owner, None)
        self.changes += 1
        return changed

    def _count(self, name: Name, step: int, changed: set[Name]) -> None:
        """One more name below those above it, or one less."""
        if name in self._apexes or self._zone_of(name) is None:
            return
        for above in upwards(parent(name)):
            count = self._below.get(above, 0) + step
            if count:
                self._below[above] = count
            else:
                del self._below[above]
            if count == max(step, 0):  # it was not there before, or is not any more
                changed.add(above)
            if above in self._apexes:
                return

    # --- questions

    def ask(self, name: Name, type: int) -> Answer:
        """What there is to say of a question of the class IN. `type` is a number; TYPE_ANY: whatever there is."""
        answer = self._ask_once(name, type)
        chain: list[Owned] = []
        while answer.elsewhere is not None and self.answers_for(answer.elsewhere):
            chain += answer.records
            if len(chain) >= MAX_CHAIN:  # they go round in a circle, or might as well
                return Answer(NOERROR, tuple(chain), lasting=False)
            answer = self._ask_once(answer.elsewhere, type)
        return answer if not chain else replace(answer, records=(*chain, *answer.records), lasting=False)

    def answers_for(self, name: Name) -> bool:
        """It is for this zone to say whether there is such a name."""
        return name in self._names or self._zone_of(name) is not None

    def _ask_once(self, name: Name, type: int) -> Answer:
        owners, apex = self._names.get(name), self._zone_of(name)
        if owners is None and apex is None:
            return REFUSAL
        if name in self._apexes and type in (Soa.type, TYPE_ANY):
            records: list[Record] = [self._soa()]
        else:
            records = []
        for each in (owners or {}).values():
            records += [record for record in each if type in (record.type, TYPE_ANY) or record.type == TYPE_CNAME]
        if owners is None and apex is not None:
            pod = self._pod(name)
            if pod is not None and type in (A.type, TYPE_ANY):
                return Answer(NOERROR, ((name, pod),))
            if pod is not None:
                return self._nothing(NOERROR, apex)
        if not records:
            exists = owners is not None or name in self._below or name in self._apexes
            return self._nothing(NOERROR if exists else NXDOMAIN, apex)
        if len(records) > 1 and owners is not None and len(owners) > 1:
            records = sorted(set(records), key=lambda record: (record.type, record))
        found = tuple((name, record) for record in records)
        first = records[0]
        if isinstance(first, Cname) and type not in (TYPE_CNAME, TYPE_ANY):
            return Answer(NOERROR, found, elsewhere=first.target)
        return Answer(NOERROR, found, tuple(self._helpful(records)))

    def _nothing(self, code: int, apex: Name | None) -> Answer:
        return Answer(code, authority=(apex, self._soa()) if apex is not None else None)

    def _soa(self) -> Soa:
        return Soa(
            to_name(f"ns.dns.{self.domain}"),
            to_name(f"hostmaster.{self.domain}"),
            self.changes & 0xFFFFFFFF,
            self.ttl_s,
        )

    def _helpful(self, records: Iterable[Record]) -> Iterable[Owned]:
        """The addresses of those that these speak of."""
        targets = dict.fromkeys(record.target for record in records if isinstance(record, Srv | Ns))
        for target in targets:
            for each in self._names.get(target, {}).values():
                yield from ((target, record) for record in each if isinstance(record, A))

    def _zone_of(self, name: Name) -> Name | None:
        """The zone that it is of, if it is of ours."""
        return next((each for each in upwards(name) if each in self._apexes), None)

    def _pod(self, name: Name) -> A | None:
        """What a name of a pod means; None: it is none."""
        if self.pod_names == "disabled" or not name.endswith(self._pod_tree) or len(name) == len(self._pod_tree):
            return None
        namespace = parent(name)
        if parent(namespace) != self._pod_tree or namespace not in self._below:
            return None
        if self.pod_names == "verified" and name not in self._pods:
            return None
        address = undashed(labels_of(name)[0])
        return A(IPv4Address(address).packed) if address else None
