"""Types of services, as users make and reach them; and who follows them by name over gRPC."""

from __future__ import annotations

import asyncio
import json
import socket
import textwrap
import urllib.parse
from collections.abc import AsyncIterator

import pytest

from cluster.api.errors import Invalid
from cluster.client import ServiceEndpoints
from cluster.client.interface import ClusterClient
from cluster.client.resolved import ServiceView
from cluster.testing import Cluster
from tests.e2e.workloads import fetch, web

SERVER = (
    "import http.server as h, os, signal, sys\n"
    "class H(h.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        body = os.environ['HOSTNAME'].encode()\n"
    "        self.send_response(200); self.send_header('Content-Length', str(len(body))); self.end_headers()\n"
    "        self.wfile.write(body)\n"
    "    def log_message(self, *a): pass\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "h.ThreadingHTTPServer((os.environ['POD_IP'], int(sys.argv[1])), H).serve_forever()\n"
)


def version(name: str, replicas: int, port: int, *, app: str, labels: str = "", extra: str = "") -> str:
    """A replication controller of one version of a program, which names the port that it listens on "http"."""
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: ReplicationController
        metadata: {{name: {name}}}
        spec:
          replicas: {replicas}
          template:
            metadata: {{labels: {{app: {app}, version: {name}{labels}}}}}
            spec:
              terminationGracePeriodSeconds: 10
              containers:
              - name: main
                command: [python3, -S, -c, {SERVER!r}, "{port}"]
                ports: [{{name: http, containerPort: {port}}}]
                readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
                {extra}
        """)


def service(name: str, spec: str) -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {spec}}}\n---\n"


def text(address: tuple[str, int]) -> str:
    """What is answered there; empty if nobody does."""
    try:
        return fetch(address)[1]
    except OSError:
        return ""


def listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5.0).close()
        return True
    except OSError:
        return False


def test_what_runs_is_exposed_at_a_node_port_and_found_by_its_url(shared_cluster: Cluster, namespace: str) -> None:
    space = ("-n", namespace)
    shared_cluster.apply(version("web", 2, 7000, app="web"), namespace)
    shared_cluster.wait("rc/web", namespace, ready=2)
    expose = ("expose", "rc", "web", "--port", "8080", "--target-port", "http", "--type", "NodePort", *space)
    manifest = shared_cluster.podium(*expose, "--dry-run").stdout
    assert "targetPort: http" in manifest
    assert shared_cluster.podium(*expose).stdout == "service/web exposed\n"
    shared_cluster.wait("svc/web", namespace, ready=2)
    url = shared_cluster.podium("url", "web", *space).stdout.strip()
    made = shared_cluster.get("svc", "web", namespace).spec
    number = made.ports[0].nodePort
    assert url == f"http://127.0.0.1:{number}"
    at_node = ("127.0.0.1", number)
    shared_cluster.wait_until(lambda: text(at_node), "the node port answers")
    pods = {pod.metadata.name for pod in shared_cluster.pods("app=web", namespace)}
    shared_cluster.wait_until(lambda: {text(at_node) for _ in range(4)} == pods, "for both pods")
    assert shared_cluster.podium("url", "web", "--port-name", "8080", *space).stdout.strip() == url
    unknown = shared_cluster.podium("url", "web", "--port-name", "x", *space, check=False)
    assert unknown.stderr.strip() == 'error: svc/web has no port "x"; it has: 8080'

    row = shared_cluster.podium("get", "svc", "web", "-o", "wide", *space).stdout.splitlines()[1].split()
    assert row[1:5] == ["NodePort", made.clusterIP, "<none>", f"8080:{number}/TCP"]
    assert row[-1] == "app=web,version=web"
    told = shared_cluster.podium("describe", "svc", "web", *space).stdout
    for line in (
        f"NodePort:          <unset>  {number}/TCP",
        "TargetPort:        http/TCP",
        f"URL:               {url}",
    ):
        assert line in told

    taken = shared_cluster.podium(
        *("apply", "-f", "-", *space),
        stdin=service("other", f"{{type: NodePort, ports: [{{port: 8081, nodePort: {number}}}]}}"),
        check=False,
    )
    assert taken.returncode == 1
    assert f"provided port is already allocated, to service {namespace}/web" in taken.stderr
    shared_cluster.patch("svc", "web", {"spec": {"type": "ClusterIP"}}, namespace)
    shared_cluster.wait_until(lambda: not listens(at_node), "the node port is let go")
    assert text((made.clusterIP, 8080)) in pods, "its own address stays"
    shared_cluster.apply(
        service("other", f"{{type: NodePort, ports: [{{port: 8081, nodePort: {number}}}]}}"), namespace
    )
    shared_cluster.wait_until(lambda: listens(at_node), "it is another service's now")


def test_two_versions_listen_on_different_ports_behind_one_service(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(
        service("app", "{selector: {app: app}, ports: [{name: web, port: 8080, targetPort: http}]}")
        + version("old", 2, 7000, app="app"),
        namespace,
    )
    shared_cluster.wait("svc/app", namespace, ready=2)
    address = shared_cluster.address("app", namespace)
    shared_cluster.wait_until(lambda: text(address), "the old ones answer")
    shared_cluster.apply(version("new", 2, 7100, app="app"), namespace)
    shared_cluster.wait("svc/app", namespace, ready=4)
    subsets = shared_cluster.get("endpoints", "app", namespace).subsets
    assert sorted((subset.ports[0].name, subset.ports[0].port, len(subset.addresses)) for subset in subsets) == [
        ("web", 7000, 2),
        ("web", 7100, 2),
    ]
    shared_cluster.wait_until(lambda: len({text(address) for _ in range(8)}) == 4, "all four answer")
    shared_cluster.delete("rc", "old", namespace)
    shared_cluster.wait("svc/app", namespace, ready=2)
    names = {pod.metadata.name for pod in shared_cluster.pods("version=new", namespace)}
    shared_cluster.wait_until(lambda: {text(address) for _ in range(4)} == names, "the new ones answer")


def test_who_is_deleted_and_still_serves_is_told_apart(shared_cluster: Cluster, namespace: str) -> None:
    patience = "lifecycle: {preStop: {exec: {command: [sh, -c, 'while test ! -e $HOME/enough; do sleep 0.1; done']}}}"
    shared_cluster.apply(
        service("app", "{selector: {app: app}, ports: [{port: 8080, targetPort: http}]}")
        + version("one", 1, 7000, app="app", extra=patience),
        namespace,
    )
    shared_cluster.wait("svc/app", namespace, ready=1)
    (pod,) = shared_cluster.pods("app=app", namespace)
    shared_cluster.scale("one", 0, namespace)

    def leaving() -> list[str]:
        subsets = shared_cluster.get("endpoints", "app", namespace).subsets
        assert not any(subset.addresses for subset in subsets) or not subsets[0].terminatingAddresses
        return [address.ip for subset in subsets for address in subset.terminatingAddresses]

    shared_cluster.wait_until(lambda: leaving() == [pod.status.podIP], "it is being deleted, and serves")
    assert text((pod.status.podIP, 7000)) == pod.metadata.name
    told = shared_cluster.podium("describe", "svc/app", "-n", namespace).stdout
    assert ["Terminating:", f"{pod.status.podIP}:7000"] in [line.split() for line in told.splitlines()]
    view = shared_cluster.run(lambda client: client.resolve("app", namespace))
    assert [each.state.value for each in view.endpoints] == ["TERMINATING"]
    shared_cluster.exec(pod.metadata.name, ["sh", "-c", "touch $HOME/enough"], namespace)
    shared_cluster.wait_until(lambda: leaving() == [], "it has gone")


def test_names_for_what_is_outside_and_types_that_there_are_not(shared_cluster: Cluster, namespace: str) -> None:
    outside = "{type: ExternalName, externalName: db.example.com, ports: [{name: postgresql, port: 5432}]}"
    shared_cluster.apply(service("db", outside), namespace)
    space = ("-n", namespace)
    row = shared_cluster.podium("get", "svc", "db", *space).stdout.splitlines()[1].split()
    assert row[:5] == ["db", "ExternalName", "<none>", "db.example.com", "5432/TCP"]
    assert shared_cluster.podium("url", "db", *space).stdout == "postgresql://db.example.com:5432\n"
    assert "External Name:     db.example.com" in shared_cluster.podium("describe", "svc/db", *space).stdout
    with pytest.raises(Invalid, match="use NodePort, to be reached"):
        shared_cluster.apply(service("lb", "{type: LoadBalancer, ports: [{port: 1}]}"), namespace)
    with pytest.raises(Invalid, match="30000-32767"):
        shared_cluster.apply(service("np", "{type: NodePort, ports: [{port: 1, nodePort: 80}]}"), namespace)
    with pytest.raises(Invalid, match="may not be in the link-local range"):
        shared_cluster.apply(
            "{apiVersion: v1, kind: Endpoints, metadata: {name: x}, subsets: [{addresses: [{ip: 169.254.169.254}]}]}",
            namespace,
        )


def test_a_service_without_selector_leads_to_whoever_is_written_down(shared_cluster: Cluster, namespace: str) -> None:
    shared_cluster.apply(version("old", 1, 7000, app="old"), namespace)
    shared_cluster.wait("rc/old", namespace, ready=1)
    (pod,) = shared_cluster.pods("app=old", namespace)
    subsets = f"[{{addresses: [{{ip: {pod.status.podIP}}}], ports: [{{port: 7000}}]}}]"
    shared_cluster.apply(
        service("by-hand", "{type: NodePort, ports: [{port: 8080}]}")
        + f"{{apiVersion: v1, kind: Endpoints, metadata: {{name: by-hand}}, subsets: {subsets}}}",
        namespace,
    )
    made = shared_cluster.get("svc", "by-hand", namespace).spec
    refused = shared_cluster.podium("port-forward", "svc/by-hand", "8080", "-n", namespace, check=False)
    assert refused.stderr.strip().endswith("is defined without a selector: there are no pods to forward to")
    for address in ((made.clusterIP, 8080), ("127.0.0.1", made.ports[0].nodePort)):
        shared_cluster.wait_until(lambda a=address: text(a) == pod.metadata.name, f"{address} answers")  # type: ignore[misc]


def test_a_scaled_service_is_followed_by_name(shared_cluster: Cluster, namespace: str) -> None:
    """WatchService: the set at first, then each change, with shards; and a client that balances by itself."""
    shared_cluster.apply(web("shop", 1), namespace)
    shared_cluster.wait("svc/shop", namespace, ready=1)
    marked = {"spec": {"template": {"metadata": {"labels": {"podium.dev/shard": "7"}}}}}
    shared_cluster.patch("rc", "shop", marked, namespace)

    async def follow(client: ClusterClient) -> list[ServiceView]:
        seen: list[ServiceView] = []
        async with client.watch_service("shop", namespace) as views, asyncio.timeout(60.0):
            seen.append(await until(views, 1))
            await asyncio.to_thread(shared_cluster.podium, "scale", "rc/shop", "--replicas", "4", "-n", namespace)
            seen.append(await until(views, 4))
            await asyncio.to_thread(shared_cluster.podium, "scale", "rc/shop", "--replicas", "2", "-n", namespace)
            seen.append(await until(views, 2))
        return seen

    async def until(views: AsyncIterator[ServiceView], ready: int) -> ServiceView:
        async for view in views:
            if len(view.ready) == ready:
                return view
        raise AssertionError("the watch ended")

    one, four, two = shared_cluster.run(follow, timeout_s=70.0)
    assert one.revision < four.revision < two.revision
    assert {each.pod for each in two.ready} < {each.pod for each in four.ready}
    assert sorted(each.shard for each in four.ready) == ["", "7", "7", "7"]
    listed = {pod.metadata.name: pod.status.podIP for pod in shared_cluster.pods("app=shop", namespace)}
    assert {each.pod: each.address for each in two.ready} == listed

    async def balanced(client: ClusterClient) -> list[str]:
        async with ServiceEndpoints(client, "shop", namespace) as shop:
            await shop.wait_ready(20.0)
            answers = []
            for _ in range(4):
                with shop.use() as endpoint:
                    host, _, port = endpoint.target().rpartition(":")
                    answers.append((await asyncio.to_thread(fetch, (host, int(port))))[1])
            return answers

    answers = shared_cluster.run(balanced)
    assert sorted(answers) == sorted(2 * list(listed))


def test_who_follows_a_service_gets_over_a_killed_master(podium_cluster: Cluster) -> None:
    podium_cluster.apply(web("shop", 2))
    podium_cluster.wait("svc/shop", ready=2)

    async def follow(client: ClusterClient) -> None:
        async with ServiceEndpoints(client, "shop") as shop, asyncio.timeout(60.0):
            before = await shop.wait_ready(20.0)
            await asyncio.to_thread(podium_cluster.kill_process, "master")
            assert {shop.pick().pod for _ in range(4)} == {each.pod for each in before.ready}, "the last set stands"
            await asyncio.to_thread(podium_cluster.wait, "rc/shop", ready=2)  # the supervisor has started another
            await asyncio.to_thread(podium_cluster.scale, "shop", 3)
            while shop.view is None or len(shop.view.ready) < 3:
                await asyncio.sleep(0.05)
            assert shop.view.revision > before.revision

    podium_cluster.run(follow, timeout_s=90.0)


def test_manifests_of_kubernetes_with_these_types_come_back_as_they_were(
    shared_cluster: Cluster, namespace: str
) -> None:
    """kubectl's own JSON, with what Go clients send for unset fields, applied twice: the second changes nothing."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dns"},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "dns"},
            "trafficDistribution": "PreferClose",
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns", "nodePort": 0},
                {
                    "name": "dns-tcp",
                    "port": 53,
                    "protocol": "TCP",
                    "targetPort": "dns",
                    "appProtocol": "example.com/dns",
                },
            ],
        },
        "status": {"loadBalancer": {}},
    }
    (first,) = shared_cluster.apply(json.dumps(manifest), namespace)
    (second,) = shared_cluster.apply(json.dumps(manifest), namespace)
    assert first.metadata.resourceVersion == second.metadata.resourceVersion
    udp, tcp = shared_cluster.get("svc", "dns", namespace).spec.ports
    assert udp.nodePort == tcp.nodePort
    assert 30000 <= udp.nodePort <= 32767
    urls = shared_cluster.podium("url", "dns", "-n", namespace).stdout.splitlines()
    assert [urllib.parse.urlsplit(url).scheme for url in urls] == ["udp", "tcp"]
