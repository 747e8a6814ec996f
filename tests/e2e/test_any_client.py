"""Any gRPC client works: nothing of ours is used here but the address and the certificate that `cluster-info` names.

What the service is and what its messages are is asked of the server itself, as grpcurl does.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cluster.testing import Cluster
from tests.e2e.workloads import pod

TIMEOUT_S = 20.0


@pytest.fixture
def info(shared_cluster: Cluster) -> dict[str, Any]:
    """What `podium cluster-info -o json` says."""
    document: dict[str, Any] = json.loads(shared_cluster.podium("cluster-info", "-o", "json").stdout)
    return document


def open_channel(address: str, credentials: Path | None, ca: Path) -> Any:
    """A channel with the certificate in this directory, or with none."""
    identity = {}
    if credentials is not None:
        identity = {
            "private_key": (credentials / "tls.key").read_bytes(),
            "certificate_chain": (credentials / "tls.crt").read_bytes(),
        }
    return grpc.secure_channel(address, grpc.ssl_channel_credentials((ca / "ca.crt").read_bytes(), **identity))


@pytest.fixture
def channel(info: dict[str, Any]) -> Iterator[Any]:
    """To the master, as admin."""
    credentials = Path(info["credentials"])
    with open_channel(info["master"], credentials, credentials) as opened:
        yield opened


class Reflected:
    """A service as the server describes it."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel, self._name = channel, name
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.service = DescriptorPool(self.database).FindServiceByName(name)

    def call(self, method: str, request: dict[str, Any]) -> Any:
        """Calls it; a stream is returned as such."""
        row = self.service.FindMethodByName(method)
        answer = GetMessageClass(row.output_type).FromString
        kind = self._channel.unary_stream if row.server_streaming else self._channel.unary_unary
        stub = kind(f"/{self._name}/{method}", lambda message: message.SerializeToString(), answer)
        return stub(GetMessageClass(row.input_type)(**request), timeout=TIMEOUT_S)


def test_reflection_health_and_calls_with_the_admin_certificate(
    channel: Any, shared_cluster: Cluster, namespace: str
) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING

    cluster = Reflected(channel, "cluster.pb.v1.Cluster")
    assert "cluster.pb.v1.Cluster" in cluster.database.get_services()
    nodes = cluster.call("List", {"kind": "Node"})
    assert sorted(item.node.metadata.name for item in nodes.items) == shared_cluster.nodes

    watch = cluster.call("Watch", {"kind": "Pod", "namespace": namespace, "initial_state": True})
    names: list[str] = []
    seen = threading.Event()

    def read() -> None:
        for batch in watch:
            names.extend(event.object.pod.metadata.name for event in batch.events if event.HasField("object"))
            if "hello" in names:
                seen.set()
                return

    reader = threading.Thread(target=read, name="watch")
    reader.start()
    shared_cluster.apply(pod("hello", "sleep 1000"), namespace)
    assert seen.wait(TIMEOUT_S)
    reader.join()
    watch.cancel()
    got = cluster.call("Get", {"kind": "Pod", "namespace": namespace, "name": "hello"})
    assert got.object.pod.spec.containers[0].name == "main"
    with pytest.raises(grpc.RpcError) as missing:
        cluster.call("Get", {"kind": "Pod", "namespace": namespace, "name": "nobody"})
    assert missing.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_node_agent_too(info: dict[str, Any]) -> None:
    credentials = Path(info["credentials"])
    agent = next(process for process in info["processes"] if process["role"] == "node-agent")
    with open_channel(agent["address"], credentials, credentials) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "cluster.pb.v1.NodeAgent" in services


def test_nobody_gets_in_without_a_certificate_of_this_cluster(info: dict[str, Any], tmp_path: Path) -> None:
    ca = Path(info["credentials"])
    addresses = [process["address"] for process in info["processes"] if process["role"] in ("master", "node-agent")]
    with Cluster.start(nodes=1, home=tmp_path / "podium") as other:
        stranger = Path(other.info()["credentials"])
        for address in addresses:
            for credentials in (None, stranger):
                with open_channel(address, credentials, ca) as channel, pytest.raises(grpc.RpcError) as refused:
                    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
                assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_node_may_not_do_what_the_admin_may(info: dict[str, Any], namespace: str) -> None:
    pki = Path(info["directory"]) / "pki"
    with open_channel(info["master"], pki / "node-node-1", pki / "node-node-1") as channel:
        cluster = Reflected(channel, "cluster.pb.v1.Cluster")
        written = cluster.call("Write", {"operations": [{"delete": {"kind": "Namespace", "name": namespace}}]})
        assert written.results[0].status.reason == "Forbidden", written
