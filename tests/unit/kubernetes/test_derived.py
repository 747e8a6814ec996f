"""Slices of endpoints and metrics: made of what there is, when somebody asks."""

from __future__ import annotations

from typing import Any

from cluster.api.errors import Forbidden, Unavailable
from cluster.pb.v1 import agent_pb2
from cluster.pb.v1 import core_pb2 as core
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, pod

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
METRICS = "/apis/metrics.k8s.io/v1beta1"


def endpoints(name: str) -> core.Endpoints:
    found = core.Endpoints(metadata=core.ObjectMeta(name=name, namespace="default"))
    subset = found.subsets.add()
    subset.addresses.add(ip="10.0.0.1", nodeName="n1")
    subset.notReadyAddresses.add(ip="10.0.0.2")
    subset.terminatingAddresses.add(ip="10.0.0.3")
    subset.ports.add(port=8080)
    return found


async def test_slices_of_endpoints(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(endpoints("web"))
    cluster.put(endpoints("db"))
    listed = (await api.get(f"{SLICES}?labelSelector=kubernetes.io/service-name%3Dweb")).body
    assert listed["kind"] == "EndpointSliceList"
    (found,) = listed["items"]
    assert found["metadata"]["name"] == "web-0"
    assert found["addressType"] == "IPv4"
    assert found["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert [(each["addresses"], *each["conditions"].values()) for each in found["endpoints"]] == [
        (["10.0.0.1"], True, True, False),
        (["10.0.0.2"], False, False, False),
        (["10.0.0.3"], False, True, True),
    ]
    assert (await api.get(f"{SLICES}/db-0")).body["kind"] == "EndpointSlice"
    missing = await api.get(f"{SLICES}/nope")
    assert (missing.code, missing.reason) == (404, "NotFound")


async def test_they_are_chosen_by_fields_of_their_metadata(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(endpoints("web"))
    cluster.put(endpoints("db"))
    for selector, names in (
        ("metadata.name%3Dweb-0", ["web-0"]),
        ("metadata.name!%3Dweb-0,metadata.namespace%3D%3Ddefault", ["db-0"]),
        ("metadata.namespace%3Dother", []),
    ):
        listed = (await api.get(f"{SLICES}?fieldSelector={selector}")).body
        assert [item["metadata"]["name"] for item in listed["items"]] == names, selector
    refused = await api.get(f"{SLICES}?fieldSelector=addressType%3DIPv4")
    assert (refused.code, refused.reason) == (400, "BadRequest")


async def test_their_metadata_alone(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(endpoints("web"))
    only = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    listed = (await api.get(SLICES, headers={"Accept": only})).body
    assert (listed["kind"], listed["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    (item,) = listed["items"]
    assert (item["kind"], item["metadata"]["name"], "endpoints" in item) == ("PartialObjectMetadata", "web-0", False)


async def test_slices_as_a_table(api: Api, cluster: MemoryCluster) -> None:
    many = endpoints("web")
    many.subsets[0].addresses.add(ip="10.0.0.4")
    cluster.put(many)
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    for path in (SLICES, f"{SLICES}/web-0"):
        found = (await api.get(path, headers=accept)).body
        assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert [column["name"] for column in found["columnDefinitions"]] == [
            "Name",
            "AddressType",
            "Ports",
            "Endpoints",
            "Age",
        ]
        (row,) = found["rows"]
        assert row["cells"][:4] == ["web-0", "IPv4", "8080", "10.0.0.1,10.0.0.4,10.0.0.2 + 1 more..."]
        assert (row["object"]["kind"], row["object"]["metadata"]["name"]) == ("PartialObjectMetadata", "web-0")
    alone = (await api.get(f"{SLICES}?includeObject=None", headers=accept)).body
    assert alone["rows"][0]["object"] is None
    refused = await api.get(SLICES, headers={"Accept": "text/html"})
    assert refused.code == 406


async def test_they_are_to_be_read_and_no_more(api: Api) -> None:
    for method, path in (("POST", SLICES), ("DELETE", f"{SLICES}/web-0"), ("GET", f"{SLICES}?watch=1")):
        assert (await api.ask(method, path)).code == 405
    for path in (f"{METRICS}/services", f"{METRICS}/namespaces/default/nodes", f"{METRICS}/pods/web", f"{SLICES}/a/b"):
        assert (await api.get(path)).code == 404


class Agents:
    """Those of all nodes, by address."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def __call__(self, address: str) -> Any:
        return Agent(self.answers[address])


class Agent:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def stats(self, namespace: str = "") -> agent_pb2.StatsResponse:
        if isinstance(self.answer, Exception):
            raise self.answer
        response: agent_pb2.StatsResponse = self.answer
        return response

    async def aclose(self) -> None:
        return


def node(name: str, address: str) -> core.Node:
    found = core.Node(metadata=core.ObjectMeta(name=name))
    found.status.addresses.add(type="InternalIP", address=address)
    found.status.daemonEndpoints.kubeletEndpoint.Port = 1
    return found


async def test_metrics(api: Api, cluster: MemoryCluster) -> None:
    for name, address in (("n1", "a"), ("n2", "b"), ("n3", "c")):
        cluster.put(node(name, address))
    for name in ("web", "db"):
        cluster.put(pod(name, app=name))
    used = agent_pb2.Usage(cpu_cores=0.0125, memory_bytes=3 * 2**20)
    both = [
        agent_pb2.PodUsage(
            namespace="default", pod=name, containers=[agent_pb2.ContainerUsage(name=each, usage=used) for each in "ab"]
        )
        for name in ("web", "gone")
    ]
    answers: dict[str, Any] = {
        "a:1": agent_pb2.StatsResponse(node="n1", pods=both),
        "b:1": agent_pb2.StatsResponse(node="n2"),
        "c:1": Unavailable("silent"),
    }
    agents = Agents(answers)
    api.server._reach = lambda identity, address: agents(address)
    nodes = (await api.get(f"{METRICS}/nodes")).body
    assert [(item["metadata"]["name"], item["usage"]) for item in nodes["items"]] == [
        ("n1", {"cpu": "50000000n", "memory": "12288Ki"}),
        ("n2", {"cpu": "0n", "memory": "0Ki"}),
    ], "a node that does not answer is left out"
    pods = (await api.get(f"{METRICS}/namespaces/default/pods?labelSelector=app")).body
    assert [item["metadata"]["name"] for item in pods["items"]] == ["web"]
    one = (await api.get(f"{METRICS}/namespaces/default/pods/web")).body
    assert one["containers"][0] == {"name": "a", "usage": {"cpu": "12500000n", "memory": "3072Ki"}}
    answers["b:1"] = Forbidden("serviceaccount:default/robot may not call Stats on a node agent")
    reply = await api.get(f"{METRICS}/nodes")
    told = 'cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope'
    user = "system:serviceaccount:default:robot"
    assert (reply.code, reply.body["message"]) == (403, f'nodes.metrics.k8s.io is forbidden: User "{user}" {told}')
