"""A server of Kubernetes' API over TLS, for a cluster in memory, and a client that shows a certificate."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster.actor.clock import SystemClock
from cluster.api.defaults import apply_defaults
from cluster.kubernetes.authentication import Authentication
from cluster.kubernetes.listener import tls_context
from cluster.kubernetes.negotiation import PROTOBUF
from cluster.kubernetes.server import KubernetesServer
from cluster.pb.v1 import core_pb2 as core
from cluster.rpc.account_tokens import AccountTokens
from cluster.rpc.identity import Credentials, Identity, issue, make_ca
from cluster.rpc.tokens import TokenChecker
from tests.kit.memory_client import MemoryCluster

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that has arrived."""

    code: int
    body: Any
    """JSON's values; bytes of protobuf; or text if it is neither."""
    headers: Any

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))


class Api:
    """The server, the cluster behind it, and requests to it."""

    def __init__(self, directory: Path, cluster: MemoryCluster) -> None:
        self.directory = directory
        self.cluster = cluster
        self.callers: list[str] = []
        self.agent: Any = None
        """Stands for the agent of every node."""
        make_ca(directory / "ca", "demo")
        credentials = self.issue("kubernetes", HOST)
        self.address = ""
        self.server = KubernetesServer(
            f"{HOST}:0",
            tls_context(directory / "kubernetes"),
            Authentication("demo", TokenChecker(credentials.ca, "demo"), AccountTokens(credentials.key, "demo")),
            self._connect,
            self._reach,
            cluster.client("kubernetes"),
            clock=SystemClock(),
            rng=random.Random(1),
            on_bound=lambda address: setattr(self, "address", address),
        )
        self.session: aiohttp.ClientSession

    def _connect(self, identity: Identity) -> Any:
        self.callers.append(str(identity))
        return self.cluster.client(str(identity))

    def _reach(self, identity: Identity, address: str) -> Any:
        assert self.agent is not None, "the test has no agent"
        self.callers.append(f"{identity} at {address}")
        return self.agent

    def issue(self, identity: str, *hosts: str, authority: str = "ca") -> Credentials:
        directory = self.directory / identity.replace(":", "-")
        return issue(self.directory / authority, directory, Identity.parse(identity), hosts=hosts)

    def trust(self, identity: str = "") -> ssl.SSLContext:
        """What a client needs: the authority, and a certificate of that identity, if any."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca" / "ca.crt"))
        if identity:
            directory = self.directory / identity.replace(":", "-")
            if not directory.exists():
                self.issue(identity)
            context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
        return context

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """A request as admin. `body` is sent as JSON, or as it is if it is bytes."""
        if body is not None:
            options["data" if isinstance(body, bytes) else "json"] = body
        async with self.session.request(method, f"https://{self.address}{path}", **options) as response:
            if response.headers.get("Content-Type", "") == PROTOBUF:
                return Reply(response.status, await response.read(), response.headers)
            text = await response.text()
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            content = await response.json(content_type=None) if is_json else text
            return Reply(response.status, content, response.headers)

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.ask("GET", path, **options)

    def stream(self, path: str, **options: Any) -> Any:
        """A request whose answer is read while it comes; a context manager."""
        return self.session.get(f"https://{self.address}{path}", **options)


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
async def api(tmp_path: Path, cluster: MemoryCluster) -> AsyncIterator[Api]:
    found = Api(tmp_path / "pki", cluster)
    await found.server.start()
    connector = aiohttp.TCPConnector(ssl=found.trust("admin"))
    found.session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60))
    try:
        yield found
    finally:
        await found.session.close()
        await found.server.stop()


def pod(name: str, namespace: str = "default", **labels: str) -> core.Pod:
    found = core.Pod(metadata=core.ObjectMeta(name=name, namespace=namespace, labels=labels))
    found.spec.containers.add(name="main", command=["sleep"])
    apply_defaults(found)
    return found


def running(cluster: MemoryCluster) -> core.Pod:
    """The pod web as it runs on a node that is there, with an agent at 127.1.0.10:10250; it is not put there yet."""
    node = core.Node(metadata=core.ObjectMeta(name="n1"))
    node.status.addresses.add(type="InternalIP", address="127.1.0.10")
    node.status.daemonEndpoints.kubeletEndpoint.Port = 10250
    cluster.put(node)
    placed = pod("web")
    placed.spec.nodeName = "n1"
    placed.status.phase = "Running"
    return placed


def manifest(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A pod as JSON."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "command": ["sleep"]}], **spec},
    }
