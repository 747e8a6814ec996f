"""The suite's part about names: who is behind a service, now and from now on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.api.errors import NotFound, Unavailable
from cluster.api.meta import Key, revision_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.client.resolved import EndpointState, ServiceView
from cluster.pb.v1 import core_pb2 as core
from tests.contract.client_kit import PATIENCE_S, ClusterClientFactory, create_pod, write


def service(name: str = "web", **spec: object) -> core.Service:
    ports = [core.ServicePort(name="http", port=80), core.ServicePort(name="admin", port=81)]
    return core.Service(
        metadata=core.ObjectMeta(name=name, namespace="default"),
        spec=core.ServiceSpec(ports=ports, **spec),  # type: ignore[arg-type]
    )


def address(ip: str, pod: str = "", **labels: str) -> core.EndpointAddress:
    made = core.EndpointAddress(ip=ip, labels={key.replace("__", "/").replace("_", "."): labels[key] for key in labels})
    if pod:
        made.nodeName, made.hostname = "node-1", f"{pod}-host"
        made.targetRef.CopyFrom(core.ObjectReference(kind="Pod", name=pod, uid=f"uid-{pod}"))
    return made


def endpoints(*subsets: core.EndpointSubset, name: str = "web") -> core.Endpoints:
    return core.Endpoints(metadata=core.ObjectMeta(name=name, namespace="default"), subsets=subsets)


def subset(*ready: core.EndpointAddress, **ports: int) -> core.EndpointSubset:
    return core.EndpointSubset(
        addresses=ready, ports=[core.EndpointPort(name=name, port=number) for name, number in ports.items()]
    )


def shown(view: ServiceView) -> list[str]:
    return [f"{each.address} {each.state.value} {dict(each.ports)} {each.shard}".rstrip() for each in view.endpoints]


async def until(views: AsyncIterator[ServiceView], *expected: str) -> ServiceView:
    """The view that shows just these; others may come before."""
    seen: list[list[str]] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for view in views:
                seen.append(shown(view))
                if seen[-1] == list(expected):
                    return view
    except TimeoutError:
        pass
    raise AssertionError(f"never {expected}, but {seen}")


class ServiceContract:
    """Resolve and watch_service."""

    async def test_a_name_stands_for_all_who_are_behind_it(self, client: ClusterClient) -> None:
        first = subset(
            address("127.5.16.10", "b", podium_dev__shard="1", role="replica"),
            address("127.5.16.9", "a", podium_dev__shard="0"),
            http=8080,
            admin=8081,
        )
        first.addresses[1].annotations["podium.dev/shard"] = "9"
        first.notReadyAddresses.append(address("127.5.16.11"))
        other = subset(address("127.5.16.12"), http=9090)
        other.addresses[0].annotations["podium.dev/shard"] = "2"
        other.terminatingAddresses.append(address("127.5.16.13"))
        made, behind = await write(client, operations.create(service()), operations.create(endpoints(first, other)))
        view = await client.resolve("web")
        assert shown(view) == [
            "127.5.16.9 READY {'http': 8080, 'admin': 8081} 0",
            "127.5.16.10 READY {'http': 8080, 'admin': 8081} 1",
            "127.5.16.12 READY {'http': 9090} 2",
            "127.5.16.11 NOT_READY {'http': 8080, 'admin': 8081}",
            "127.5.16.13 TERMINATING {'http': 9090}",
        ]
        assert (view.namespace, view.name, view.exists, view.type) == ("default", "web", True, "ClusterIP")
        assert isinstance(made, core.Service)
        assert view.cluster_ip == made.spec.clusterIP
        assert dict(view.ports) == {"http": 80, "admin": 81}
        assert view.revision >= revision_of(behind)
        assert view.store_id
        one = view.endpoints[1]
        assert (one.pod, one.uid, one.node, one.hostname) == ("b", "uid-b", "node-1", "b-host")
        assert one.labels["role"] == "replica"
        assert one.target("admin") == "127.5.16.10:8081"
        with pytest.raises(KeyError, match="name one"):
            one.target()
        assert [each.address for each in view.usable] == ["127.5.16.9", "127.5.16.10", "127.5.16.12"]

    async def test_a_name_that_stands_for_nothing(self, client: ClusterClient) -> None:
        with pytest.raises(NotFound, match='services "web" not found'):
            await client.resolve("web")
        await write(client, operations.create(endpoints(subset(address("127.5.16.1"), http=1))))
        with pytest.raises(NotFound):
            await client.resolve("web", "default")
        await write(client, operations.create(service("new")))
        assert (await client.resolve("new")).endpoints == ()
        outside = core.Service(
            metadata=core.ObjectMeta(name="outside", namespace="default"),
            spec=core.ServiceSpec(type="ExternalName", externalName="db.example"),
        )
        await write(client, operations.create(outside))
        view = await client.resolve("outside", allow_stale=True)
        assert (view.type, view.external_name, view.cluster_ip, view.endpoints) == (
            "ExternalName",
            "db.example",
            "",
            (),
        )

    async def test_who_watches_a_service_sees_it_come_change_and_go(self, client: ClusterClient) -> None:
        async with client.watch_service("web") as views:
            first = await anext(views)
            assert (first.exists, first.namespace, first.name, first.endpoints) == (False, "default", "web", ())
            await write(client, operations.create(service()))
            async with asyncio.timeout(PATIENCE_S):
                while not (view := await anext(views)).exists:
                    pass
            made = endpoints(subset(address("127.5.16.1"), http=8080))
            await write(client, operations.create(made))
            view = await until(views, "127.5.16.1 READY {'http': 8080}")
            assert view.revision > first.revision
            made.subsets[0].addresses.append(address("127.5.16.2"))
            (after,) = await write(client, operations.update(made))
            view = await until(views, "127.5.16.1 READY {'http': 8080}", "127.5.16.2 READY {'http': 8080}")
            assert view.revision >= revision_of(after)
            del made.subsets[:]
            leaving = subset(http=8080)
            leaving.terminatingAddresses.append(address("127.5.16.2"))
            made.subsets.append(leaving)
            await write(client, operations.update(made))
            view = await until(views, "127.5.16.2 TERMINATING {'http': 8080}")
            assert [each.state for each in view.usable] == [EndpointState.TERMINATING]
            await write(client, operations.delete(Key("Service", "default", "web")))
            async with asyncio.timeout(PATIENCE_S):
                while (view := await anext(views)).exists:
                    pass
            assert view.endpoints == ()

    async def test_who_is_busy_gets_what_is_newest(self, client: ClusterClient) -> None:
        made = endpoints(subset(address("127.5.16.1"), http=1))
        await write(client, operations.create(service()), operations.create(made))
        async with client.watch_service("web", "default") as views:
            await anext(views)
            for number in range(2, 30):
                made.subsets[0].ports[0].port = number
                await write(client, operations.update(made))
            view = await until(views, "127.5.16.1 READY {'http': 29}")
            assert view.revision >= 28

    async def test_closing_the_client_ends_it(self, cluster_client_factory: ClusterClientFactory) -> None:
        client = cluster_client_factory("admin")
        async with client.watch_service("web") as views:
            assert not (await anext(views)).exists
            waiting = asyncio.ensure_future(anext(views))
            await asyncio.sleep(0)
            await client.close()
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(Unavailable):
                    await waiting
        with pytest.raises(Unavailable):
            await client.resolve("web")

    async def test_what_concerns_others_is_not_told(self, client: ClusterClient) -> None:
        await write(client, operations.create(service()))
        async with client.watch_service("web") as views:
            assert (await anext(views)).exists
            await write(client, operations.create(service("other")))
            await write(client, operations.create(endpoints(subset(address("127.5.16.9"), http=9), name="other")))
            await create_pod(client, "web")
            await write(client, operations.create(endpoints(subset(address("127.5.16.1"), http=1))))
            async with asyncio.timeout(PATIENCE_S):
                view = await anext(views)
            assert shown(view) == ["127.5.16.1 READY {'http': 1}"], "the next that is told is the next that matters"
