"""Names as programs meet them: asked for by a resolver, by dig, and by pods through getaddrinfo."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from cluster.api.errors import Unavailable
from cluster.testing import Cluster
from tests.e2e.test_serving import answering, started
from tests.e2e.workloads import fetch, pod, web

DOMAIN = "cluster.local"


class Resolver:
    """Asks a cluster's DNS server."""

    def __init__(self, cluster: Cluster) -> None:
        host, _, port = cluster.info()["dns"].rpartition(":")
        self.host, self.port = host, int(port)

    def ask(self, name: str, type_: str = "A", *, tcp: bool = False) -> dns.message.Message:
        """Raises dns.exception.Timeout, OSError."""
        query = dns.message.make_query(name, type_, use_edns=0)
        way = dns.query.tcp if tcp else dns.query.udp
        return way(query, self.host, timeout=5.0, port=self.port)

    def tell(self, name: str, type_: str = "A", *, tcp: bool = False) -> list[str]:
        """The records' data, sorted; what it is if there are none; nothing if nobody answers."""
        try:
            answer = self.ask(name, type_, tcp=tcp)
        except (OSError, EOFError, dns.exception.Timeout):
            return []
        found = sorted(data.to_text() for rrset in answer.answer for data in rrset)
        return found or [dns.rcode.to_text(answer.rcode())]

    def dig(self, *words: str) -> list[str]:
        """What dig prints, line by line."""
        command = ["dig", f"@{self.host}", "-p", str(self.port), "+short", "+time=5", *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return sorted(result.stdout.splitlines())


@pytest.fixture
def resolver(shared_cluster: Cluster) -> Resolver:
    return Resolver(shared_cluster)


def member(name: str, service: str) -> str:
    """A pod with a name of its own below a headless service."""
    extra = "ports: [{name: main, containerPort: 7000}]"
    spec = f"hostname: {name}\n          subdomain: {service}"
    manifest = pod(name, "exec python3 -S -m http.server -b $POD_IP 7000", restart="Always", extra=extra, spec=spec)
    return manifest.replace(f"app: {name}", f"app: {service}")


def test_a_service_with_an_address(shared_cluster: Cluster, namespace: str, resolver: Resolver) -> None:
    ports = "[{name: a, port: 8080, targetPort: main}, {name: b, port: 8081, protocol: TCP, targetPort: other}]"
    shared_cluster.apply(answering("web", 1, f"{{selector: {{app: web}}, ports: {ports}}}"), namespace)
    address, _ = shared_cluster.address("web", namespace)
    name = f"web.{namespace}.svc.{DOMAIN}"
    shared_cluster.wait_until(lambda: resolver.tell(name) == [address], "the name is known")
    for tcp in (False, True):
        assert resolver.tell(name.upper(), tcp=tcp) == [address]
        assert resolver.tell(f"_b._tcp.{name}", "SRV", tcp=tcp) == [f"0 100 8081 {name}."]
        assert resolver.tell(name, "AAAA", tcp=tcp) == ["NOERROR"]
        assert resolver.tell("example.com", tcp=tcp) == ["REFUSED"]
    back = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    assert resolver.tell(back, "PTR") == [f"{name}."]
    shared_cluster.delete("svc", "web", namespace)
    shared_cluster.wait_until(lambda: resolver.tell(name) == ["NXDOMAIN"], "the name is gone")
    assert resolver.tell(back, "PTR") == ["NXDOMAIN"]


def test_a_headless_service_and_its_members(shared_cluster: Cluster, namespace: str, resolver: Resolver) -> None:
    service = (
        "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, "
        "ports: [{name: sql, port: 5432, targetPort: main}]}}"
    )
    manifests = [service, member("db-0", "db"), member("db-1", "db")]
    shared_cluster.apply("\n---\n".join(manifests), namespace)
    shared_cluster.wait("svc/db", namespace, ready=2)
    addresses = {each.metadata.name: each.status.podIP for each in shared_cluster.pods("app=db", namespace)}
    name = f"db.{namespace}.svc.{DOMAIN}"
    shared_cluster.wait_until(lambda: resolver.tell(name) == sorted(addresses.values()), "both are known")
    for each, address in addresses.items():
        assert resolver.tell(f"{each}.{name}") == [address]
        back = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
        assert resolver.tell(back, "PTR") == [f"{each}.{name}."]
    assert resolver.tell(f"_sql._tcp.{name}", "SRV") == [f"0 100 7000 db-{n}.{name}." for n in (0, 1)]
    first = {resolver.ask(name).answer[0][0].to_text() for _ in range(4)}
    assert first == set(addresses.values()), "each comes first in turn"
    dashed = addresses["db-0"].replace(".", "-")
    assert resolver.tell(f"{dashed}.{namespace}.pod.{DOMAIN}") == [addresses["db-0"]]
    shared_cluster.delete("pod", "db-1", namespace)
    shared_cluster.wait_until(lambda: resolver.tell(name) == [addresses["db-0"]], "one is left")
    shared_cluster.delete("pod", "db-0", namespace)
    shared_cluster.wait_until(lambda: resolver.tell(name) == ["NXDOMAIN"], "none is left")


def test_readiness_shows_in_names(shared_cluster: Cluster, namespace: str, resolver: Resolver) -> None:
    service = "{clusterIP: None, selector: {app: rd}, ports: [{port: 8080, targetPort: main}]}"
    shared_cluster.apply(answering("rd", 2, service), namespace)
    started(shared_cluster, "rd", namespace, 2)
    out, stays = shared_cluster.pods("app=rd", namespace)
    name = f"rd.{namespace}.svc.{DOMAIN}"
    both = sorted([out.status.podIP, stays.status.podIP], key=lambda address: [*map(int, address.split("."))])
    shared_cluster.wait_until(lambda: set(resolver.tell(name)) == set(both), "both are known")
    shared_cluster.exec(out.metadata.name, ["sh", "-c", "rm $HOME/ready"], namespace)
    shared_cluster.wait_until(lambda: resolver.tell(name) == [stays.status.podIP], "only the ready one is")
    shared_cluster.exec(out.metadata.name, ["sh", "-c", "touch $HOME/ready"], namespace)
    shared_cluster.wait_until(lambda: set(resolver.tell(name)) == set(both), "both are again")


def test_dig_understands_every_answer(shared_cluster: Cluster, namespace: str, resolver: Resolver) -> None:
    if not shutil.which("dig"):
        pytest.skip("dig is not installed (apt-get install bind9-dnsutils)")
    shared_cluster.apply(web("web", 1), namespace)
    external = "{apiVersion: v1, kind: Service, metadata: {name: ext}, spec: {type: ExternalName, externalName: %s}}"
    name = f"web.{namespace}.svc.{DOMAIN}"
    shared_cluster.apply(external % name, namespace)
    address, _ = shared_cluster.address("web", namespace)
    shared_cluster.wait_until(lambda: resolver.tell(f"ext.{namespace}.svc.{DOMAIN}", "CNAME") == [f"{name}."], "known")
    for way in ("+notcp", "+tcp"):
        for words in ((), ("+noedns",), ("+bufsize=512", "+dnssec"), ("+cookie=0123456789abcdef",), ("+nocookie",)):
            assert resolver.dig(name, "A", way, *words) == [address]
            assert resolver.dig(f"ext.{namespace}.svc.{DOMAIN}", way, *words) == sorted([address, f"{name}."])
        assert resolver.dig("-x", address, way) == [f"{name}."]
        assert resolver.dig(f"dns-version.{DOMAIN}", "TXT", way) == ['"1.1.0"']
        assert resolver.dig(f"no.{DOMAIN}", way) == []
    command = ["dig", f"@{resolver.host}", "-p", str(resolver.port), name, "+edns=1", "+noednsnegotiation"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "status: BADVERS" in said


LOOK_UP = (
    "import socket, sys\n"
    "for name in sys.argv[1:]:\n"
    "    print(name, socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])\n"
)


def looking_up(name: str, names: str, *, spec: str = "", extra: str = "") -> str:
    """A pod that looks names up as every program does, and says what it found."""
    variable = f"env: [{{name: LOOK_UP, value: {json.dumps(LOOK_UP)}}}]"
    extra = f"{extra}\n            {variable}" if extra else variable
    return pod(name, f'exec python3 -S -c "$LOOK_UP" {names}', spec=spec, extra=extra)


def found(cluster: Cluster, name: str, namespace: str = "default") -> dict[str, str]:
    """What such a pod has found."""
    cluster.wait_until(lambda: cluster.get("pod", name, namespace).status.phase in ("Succeeded", "Failed"), "it ends")
    lines = cluster.logs(name, namespace).splitlines()
    assert cluster.get("pod", name, namespace).status.phase == "Succeeded", lines
    return dict(line.split(" ", 1) for line in lines)


def can_be_named(cluster: Cluster) -> None:
    """Skips where no resolv.conf can name the cluster's server, or pods cannot have one."""
    if not cluster.info()["dns"].endswith(":53"):
        pytest.skip("port 53 may not be bound by this user: sysctl net.ipv4.ip_unprivileged_port_start=53")
    node = cluster.list("nodes")[0]
    if node.status.isolation.volumes != "namespace":
        pytest.skip(f"this kernel lets the node agent mount nothing: {list(node.status.isolation.missing)}")


VOLUME = "volumes: [{name: v, emptyDir: {}}]"
MOUNT = "volumeMounts: [{name: v, mountPath: /srv/v}]"
PODS: dict[str, dict[str, str]] = {
    "plain": {},
    "mounts": {"spec": VOLUME, "extra": MOUNT},
    "restricted": {"spec": "securityProfile: restricted"},
    "sandbox": {"spec": "securityProfile: sandbox"},
}


@pytest.mark.parametrize("kind", PODS)
def test_a_pod_finds_services_by_name(shared_cluster: Cluster, namespace: str, resolver: Resolver, kind: str) -> None:
    can_be_named(shared_cluster)
    profile = PODS[kind].get("spec", "").partition("securityProfile: ")[2]
    if profile and profile not in shared_cluster.list("nodes")[0].status.isolation.profiles:
        pytest.skip(f"this machine cannot do the profile {profile}")
    shared_cluster.apply(web("web", 1), namespace)
    address, _ = shared_cluster.address("web", namespace)
    # Nobody else is to be asked for it.
    whole = f"web.{namespace}.svc.{DOMAIN}"
    shared_cluster.wait_until(lambda: resolver.tell(whole) == [address], "the name is known")
    names = ["web", f"web.{namespace}", f"web.{namespace}.svc", whole]
    shared_cluster.apply(looking_up("asks", " ".join(names), **PODS[kind]), namespace)
    assert found(shared_cluster, "asks", namespace) == dict.fromkeys(names, address)


def show(name: str, *, spec: str = "") -> str:
    return pod(name, "cat /etc/resolv.conf; echo $LOCALDOMAIN; echo $PODIUM_DNS $PODIUM_CLUSTER_DOMAIN", spec=spec)


def shown(cluster: Cluster, name: str, namespace: str) -> list[str]:
    cluster.wait(f"pod/{name}", namespace, phase="Succeeded")
    return cluster.logs(name, namespace).splitlines()


def test_policies(shared_cluster: Cluster, namespace: str, resolver: Resolver) -> None:
    can_be_named(shared_cluster)
    config = "dnsConfig: {nameservers: [192.0.2.9], searches: [x.example], options: [{name: ndots, value: '2'}]}"
    shared_cluster.apply(show("first"), namespace)
    shared_cluster.apply(show("more", spec=config), namespace)
    shared_cluster.apply(show("none", spec=f"dnsPolicy: None\n          {config}"), namespace)
    shared_cluster.apply(show("default", spec="dnsPolicy: Default"), namespace)
    own = [f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
    where = f"{resolver.host}:53 {DOMAIN}"
    first = shown(shared_cluster, "first", namespace)
    assert (first[0], first[-1]) == (f"nameserver {resolver.host}", where)
    assert first[-2].split()[:3] == own
    assert "options ndots:5" in first
    more = shown(shared_cluster, "more", namespace)
    assert more[0] == f"nameserver {resolver.host}"
    search = next(line for line in more if line.startswith("search ")).split()
    assert (search[1:4], search[-1], more[-2]) == (own, "x.example", "")
    assert "options ndots:2" in more
    none = shown(shared_cluster, "none", namespace)
    assert none == ["nameserver 192.0.2.9", "search x.example", "options ndots:2", "", where]
    with open("/etc/resolv.conf") as file:
        machine = [line.split()[1] for line in file if line.startswith("nameserver ")]
    default = shown(shared_cluster, "default", namespace)
    assert [line.split()[1] for line in default if line.startswith("nameserver ")] == machine
    assert default[-2] == ""


def test_a_policy_that_makes_no_sense_is_refused(shared_cluster: Cluster, namespace: str) -> None:
    for spec, words in (
        ("dnsPolicy: None", "must provide at least one DNS nameserver"),
        ("dnsPolicy: Mine", "Unsupported value"),
        ("dnsConfig: {nameservers: [example.com]}", "must be a valid IP address"),
        ("dnsConfig: {searches: ['a b']}", "searches[0]"),
    ):
        refused = shared_cluster.podium("apply", "-n", namespace, "-f", "-", stdin=show("x", spec=spec), check=False)
        assert refused.returncode != 0
        assert words in refused.stderr


class Elsewhere:
    """A DNS server that is not the cluster's: it knows one name."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.address: tuple[str, int] = self.socket.getsockname()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                data, address = self.socket.recvfrom(4096)
                query = dns.message.from_wire(data)
                answer = dns.message.make_response(query, recursion_available=True)
                name, type_ = query.question[0].name, query.question[0].rdtype
                if name.to_text().lower() != "www.elsewhere.test.":
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                elif type_ == 1:
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.77"))
                self.socket.sendto(answer.to_wire(), address)
            except OSError:
                return


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    server = Elsewhere("127.0.0.1", 0)
    yield server
    server.socket.close()


def test_other_names_are_asked_upstream_if_that_is_asked_for(elsewhere: Elsewhere) -> None:
    where = f"{elsewhere.address[0]}:{elsewhere.address[1]}"
    options = [
        "--dns",
        f"upstream={where}",
        "--dns",
        "port=10553",
        "--dns",
        "ttl-s=1",
        "--dns",
        "cluster-domain=test.lan",
    ]
    with Cluster.start(nodes=0, options=[*options, "--hollow", "1"]) as cluster:
        resolver = Resolver(cluster)
        assert resolver.port == 10553
        external = (
            "{apiVersion: v1, kind: Service, metadata: {name: ext}, spec: {type: ExternalName, externalName: %s}}"
        )
        cluster.apply(external % "www.elsewhere.test")
        ext = "ext.default.svc.test.lan"
        cluster.wait_until(
            lambda: resolver.tell(ext) == ["192.0.2.77", "www.elsewhere.test."], "the name is followed to its end"
        )
        assert resolver.tell("www.elsewhere.test") == ["192.0.2.77"]
        assert resolver.tell("no.elsewhere.test") == ["NXDOMAIN"]
        assert resolver.ask("dns-version.test.lan", "TXT").answer[0].ttl == 1
        assert resolver.ask("www.elsewhere.test").flags & dns.flags.RA
        said = cluster.podium("cluster-info").stdout
        assert f"dns          {resolver.host}:10553" in said
        elsewhere.socket.close()
        assert resolver.tell("www.elsewhere.test") in (["SERVFAIL"], [])
        assert resolver.tell(ext, "CNAME") == ["www.elsewhere.test."], "what is ours does not need anybody"


def test_options_that_make_no_sense_are_refused_before_anything_is_started(shared_cluster: Cluster) -> None:
    for option, words in (("ttl-s=x", "must be a whole number"), ("nonsense=1", "names are port"), ("port=0", "65535")):
        refused = shared_cluster.podium("up", "--cluster", "never", "--dns", option, check=False)
        assert refused.returncode == 2
        assert words in refused.stderr


def applied(cluster: Cluster, manifest: str) -> bool:
    """The master has taken it."""
    try:
        cluster.apply(manifest)
    except Unavailable:
        return False
    return True


@pytest.mark.podium(nodes=1)
def test_names_outlive_the_master_and_the_proxy_outlives_names(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("web", 1))
    podium_cluster.wait("svc/web", ready=1)
    address = podium_cluster.address("web")
    resolver, name = Resolver(podium_cluster), f"web.default.svc.{DOMAIN}"
    podium_cluster.wait_until(lambda: resolver.tell(name) == [address[0]], "the name is known")
    podium_cluster.wait_until(lambda: fetch(address)[0] == 200, "the service answers")
    before = podium_cluster.kill_process("dns")
    assert fetch(address)[0] == 200
    podium_cluster.wait_until(lambda: resolver.tell(name) == [address[0]], "the name is known again")
    assert podium_cluster.pid("dns") != before
    podium_cluster.kill_process("master")
    assert resolver.tell(name) == [address[0]]
    podium_cluster.wait_until(lambda: applied(podium_cluster, web("other", 0)), "the master is back")
    podium_cluster.wait_until(
        lambda: resolver.tell(f"other.default.svc.{DOMAIN}") != ["NXDOMAIN"], "news are heard again"
    )


def why_it_waits(cluster: Cluster, name: str) -> str:
    """Of a pod with one container."""
    statuses = cluster.get("pod", name).status.containerStatuses
    return str(statuses[0].state.waiting.message) if statuses else ""


def test_without_port_53_pods_are_told_where_to_ask() -> None:
    with Cluster.start(nodes=1, options=["--dns", "port=10554"]) as cluster:
        resolver = Resolver(cluster)
        cluster.apply(show("asks"))
        cluster.apply(show("never", spec="dnsConfig: {searches: [x.example]}"))
        said = shown(cluster, "asks", "default")
        assert said[-1] == f"{resolver.host}:10554 {DOMAIN}"
        assert not any(resolver.host in line for line in said[:-1])
        assert any("PODIUM_DNS" in each for each in cluster.get("node", "node-1").status.isolation.missing)
        cluster.wait_until(lambda: "dnsConfig" in why_it_waits(cluster, "never"), "it is said why it does not start")


def test_localhost_is_what_it_was(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(looking_up("asks", "localhost"), namespace)
    assert found(shared_cluster, "asks", namespace) == {"localhost": "127.0.0.1"}


def test_the_world_is_found_by_whom_the_machine_asks(namespace: str, shared_cluster: Cluster, tmp_path: Path) -> None:
    """The cluster's server refuses what is not its own, and the next one is asked."""
    can_be_named(shared_cluster)
    number = int(shared_cluster.info()["addresses"].split(".")[1])
    server = Elsewhere(f"127.{number}.0.254", 53)
    try:
        file = tmp_path / "resolv.conf"
        file.write_text(f"nameserver {server.address[0]}\nsearch elsewhere.test\n")
        with Cluster.start(nodes=1, options=["--agent-arg", f"resolv-conf={file}"]) as cluster:
            cluster.apply(web("web", 1))
            address, _ = cluster.address("web")
            resolver = Resolver(cluster)
            cluster.wait_until(lambda: resolver.tell(f"web.default.svc.{DOMAIN}") == [address], "the name is known")
            cluster.apply(looking_up("asks", "www.elsewhere.test web www"))
            assert found(cluster, "asks") == {"www.elsewhere.test": "192.0.2.77", "web": address, "www": "192.0.2.77"}
            cluster.apply(looking_up("outside", "www.elsewhere.test", spec="dnsPolicy: Default"))
            assert found(cluster, "outside") == {"www.elsewhere.test": "192.0.2.77"}
    finally:
        server.socket.close()
