"""Who may ask, what is answered when something is wrong, and what cannot be done to the server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from cluster.api.errors import Forbidden, Overloaded, StoreRewound, Unavailable
from cluster.kubernetes.readiness import Readiness
from cluster.rpc.identity import Identity, issue, make_ca
from cluster.rpc.tokens import issue_token
from tests.kit.clock import VirtualClock
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, manifest, pod

PODS = "/api/v1/namespaces/default/pods"


async def as_nobody(api: Api, **headers: str) -> tuple[int, dict[str, str]]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.trust())) as session,
        session.get(f"https://{api.address}{PODS}", headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_a_certificate_says_who_asks(api: Api) -> None:
    assert (await api.get(PODS)).code == 200
    assert api.callers == ["admin"]


async def test_without_certificate_and_token_nobody_is_told_anything(api: Api) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer a.b.c"},
    ):
        code, status = await as_nobody(api, **headers)
        assert (code, status["reason"], status["kind"]) == (401, "Unauthorized", "Status")
    assert api.callers == []


async def test_a_token_says_who_asks(api: Api) -> None:
    token = issue_token(api.directory / "ca", Identity("node", "n1"), lifetime_s=60)
    code, _ = await as_nobody(api, Authorization=f"Bearer {token}")
    assert code == 200
    assert api.callers == ["node:n1"]


async def test_a_token_of_another_cluster_is_worth_nothing(api: Api, tmp_path: Path) -> None:
    make_ca(tmp_path / "other", "demo")
    token = issue_token(tmp_path / "other", Identity("admin"), lifetime_s=60)
    assert (await as_nobody(api, Authorization=f"Bearer {token}"))[0] == 401


async def test_a_certificate_of_another_authority_does_not_get_through(api: Api, tmp_path: Path) -> None:
    make_ca(tmp_path / "other", "demo")
    issue(tmp_path / "other", tmp_path / "stranger", Identity("admin"))
    context = ssl.create_default_context(cafile=str(api.directory / "ca" / "ca.crt"))
    context.load_cert_chain(tmp_path / "stranger" / "tls.crt", tmp_path / "stranger" / "tls.key")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://{api.address}{PODS}")
    assert api.callers == []


async def test_nobody_acts_as_somebody_else(api: Api) -> None:
    for headers in (
        {"Impersonate-User": "bob"},
        {"impersonate-group": "system:masters"},
        {"Impersonate-Extra-scopes": "a"},
    ):
        reply = await api.get(PODS, headers=headers)
        assert (reply.code, reply.reason) == (403, "Forbidden")
        assert "cannot impersonate" in reply.body["message"]
    assert api.callers == []


async def test_health_is_anybodys_to_ask(api: Api) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping"):
        reply = await api.get(path)
        assert (reply.code, reply.body) == (200, "ok")
    assert (await api.get("/readyz?verbose")).body == "[+]ping ok\n[+]master ok\nreadyz check passed\n"
    assert (await api.get("/livez?verbose")).body == "[+]ping ok\nlivez check passed\n"
    assert (await api.get("/readyz/master?verbose")).body == "ok"
    assert (await api.get("/livez/master")).code == 404


async def test_it_is_not_ready_without_a_master(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.kubernetes.readiness.KNOWN_S", 0.0)
    cluster.fail_next(Unavailable("no master is there"))
    reply = await api.get("/readyz")
    assert (reply.code, reply.body) == (500, "[-]master failed: no master is there\nreadyz check failed\n")
    assert (await api.get("/readyz")).code == 200


async def test_that_is_found_out_once_in_a_while(api: Api, cluster: MemoryCluster) -> None:
    assert (await api.get("/readyz")).code == 200
    cluster.fail_next(Unavailable("no master is there"))
    assert (await api.get("/readyz")).code == 200, "nobody asks the master again so soon"
    assert (await api.get(f"{PODS}/web")).code == 503


async def test_and_once_for_all_who_ask_meanwhile(cluster: MemoryCluster) -> None:
    own, asked = cluster.client("kubernetes"), 0

    class Slow:
        async def list(self, *args: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            return await own.list(*args, **options)

    ready = Readiness(cast(Any, Slow()), VirtualClock())
    assert await asyncio.gather(*(ready.problem() for _ in range(50))) == [""] * 50
    assert asked == 1


async def test_a_reader_of_a_list_that_takes_nothing_is_cut_off(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.kubernetes.outgoing.WRITE_TIMEOUT_S", 0.05)
    for number in range(500):
        large = pod(f"large-{number}")
        large.metadata.annotations["x"] = "y" * 40_000
        cluster.put(large)
    async with api.stream(PODS) as response:
        response.content._protocol.transport.pause_reading()
        assert api.server._runner is not None
        served = api.server._runner.server
        assert served is not None
        async with asyncio.timeout(20):
            while served.connections:
                await asyncio.sleep(0.01)


async def test_what_the_master_refuses_is_a_status(api: Api, cluster: MemoryCluster) -> None:
    for error, code, reason in (
        (Forbidden("no"), 403, "Forbidden"),
        (Overloaded("later"), 429, "TooManyRequests"),
        (StoreRewound("other"), 410, "Expired"),
        (Unavailable("gone"), 503, "ServiceUnavailable"),
    ):
        cluster.fail_next(error)
        reply = await api.get(f"{PODS}/web")
        assert (reply.code, reply.reason, reply.body["code"]) == (code, reason, code)
        assert ("Retry-After" in reply.headers) == (code == 429)


ROBOT = "serviceaccount:default/robot"
USER = 'is forbidden: User "system:serviceaccount:default:robot" cannot'
BUDGETS = '"poddisruptionbudgets" in API group "policy"'
HERE = 'in API group "" in the namespace "default"'


@pytest.mark.parametrize(
    ("method", "path", "said", "told"),
    [
        ("GET", PODS, f"{ROBOT} may not list pods", f'pods {USER} list resource "pods" {HERE}'),
        ("GET", f"{PODS}?watch=1", f"{ROBOT} may not watch pods", f'pods {USER} watch resource "pods" {HERE}'),
        ("GET", f"{PODS}/web", f"{ROBOT} may not get pods", f'pods "web" {USER} get resource "pods" {HERE}'),
        ("DELETE", f"{PODS}/web", f"{ROBOT} may not get pods", f'pods "web" {USER} delete resource "pods" {HERE}'),
        ("DELETE", PODS, f"{ROBOT} may not list pods", f'pods {USER} deletecollection resource "pods" {HERE}'),
        (
            "GET",
            f"{PODS}/web/status",
            f"{ROBOT} may not get pods",
            f'pods "web" {USER} get resource "pods/status" {HERE}',
        ),
        (
            "GET",
            "/api/v1/namespaces/default",
            f"{ROBOT} may not get namespaces",
            f'namespaces "default" {USER} get resource "namespaces" {HERE}',
        ),
        (
            "GET",
            "/apis/policy/v1/poddisruptionbudgets",
            f"{ROBOT} may not list poddisruptionbudgets: only its own",
            f"poddisruptionbudgets.policy {USER} list resource {BUDGETS} at the cluster scope: only its own",
        ),
        (
            "GET",
            "/api/v1/nodes",
            "node:n1 may not list nodes",
            'nodes is forbidden: User "node:n1" cannot list resource "nodes" in API group "" at the cluster scope',
        ),
        ("DELETE", f"{PODS}/web", 'pods "web" is forbidden: it may not go', 'pods "web" is forbidden: it may not go'),
    ],
)
async def test_who_may_not_is_told_in_kubernetes_words(
    api: Api, cluster: MemoryCluster, method: str, path: str, said: str, told: str
) -> None:
    cluster.fail_next(Forbidden(said))
    reply = await api.ask(method, path)
    assert (reply.code, reply.reason, reply.body["message"]) == (403, "Forbidden", told)


async def test_a_bug_is_no_traceback(api: Api, cluster: MemoryCluster) -> None:
    def stumble(actor: str, operations: object) -> None:
        raise KeyError("secret detail")

    cluster.on_write = stumble
    reply = await api.ask("POST", PODS, manifest())
    assert (reply.code, reply.reason) == (500, "InternalError")
    assert "secret detail" not in str(reply.body)
    assert "Traceback" not in str(reply.body)


async def test_paths_that_are_not_served(api: Api) -> None:
    for path in ("/nothing", "/api/v1/nothing", "/apis/apps/v1", "/apis/nothing.example", "/openapi/v4"):
        reply = await api.get(path)
        assert (reply.code, reply.body) == (404, "404 page not found\n"), path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/pods"),
        ("PUT", PODS),
        ("PATCH", PODS),
        ("POST", f"{PODS}/web"),
        ("DELETE", f"{PODS}/web/status"),
        ("GET", f"{PODS}/web/eviction"),
        ("DELETE", "/api/v1/namespaces/default/replicationcontrollers/web/scale"),
        ("POST", "/version"),
        ("OPTIONS", PODS),
    ],
)
async def test_methods_that_are_not_allowed(api: Api, method: str, path: str) -> None:
    reply = await api.ask(method, path)
    assert (reply.code, reply.reason) == (405, "MethodNotAllowed")


async def test_bodies_have_a_limit(api: Api) -> None:
    reply = await api.ask("POST", PODS, b"x" * (3 * 1024 * 1024 + 1))
    assert (reply.code, reply.reason) == (413, "RequestEntityTooLarge")


async def test_so_has_a_body_whose_length_is_not_said(api: Api) -> None:
    async def endless() -> object:
        for _ in range(100):
            yield b"x" * 65536

    reply = await api.ask("POST", PODS, data=endless())
    assert reply.code == 413


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /api HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"NOT HTTP AT ALL\r\n\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 500) for n in range(400)) + b"\r\n",
        b"GET /api/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_requests_that_are_no_http_get_400_or_nothing(
    api: Api, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await _connected(api)
    writer.write(request_bytes)
    async with asyncio.timeout(20):
        answer = await reader.read(65536)
    writer.close()
    assert not answer or answer.split(b" ")[1] in (b"400", b"405", b"404", b"414", b"431"), answer[:200]
    assert b"Traceback" not in answer
    assert "Traceback" not in caplog.text, "it is no news of ours"
    assert (await api.get(PODS)).code == 200, "and it serves on"


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connected(api: Api, identity: str = "admin") -> Connection:
    host, _, port = api.address.rpartition(":")
    return await asyncio.open_connection(host, int(port), ssl=api.trust(identity))


async def _told(api: Api, *pieces: bytes) -> bytes:
    """What is answered to bytes that come piece by piece, each when the server has read the one before."""
    reader, writer = await _connected(api)
    try:
        async with asyncio.timeout(20):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await api.get("/version")  # by now it has taken the piece as well
            return await reader.read(65536)
    finally:
        writer.close()


HEAD = f"POST {PODS} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde"], 415),
        ([HEAD + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nabcde"], 415),
        ([HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], 501),
        ([b"GET /version HTTP/2.0\r\nHost: a\r\n\r\n"], 505),
        ([b"GET /version HTTP/0.9\r\n\r\n"], 505),
    ],
)
async def test_http_that_is_not_understood(
    api: Api, pieces: list[bytes], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await _told(api, *pieces)
    assert answer.split(b" ")[1] == str(code).encode(), answer
    assert not [record for record in caplog.records if record.exc_info], "it is no news of ours"


async def test_who_waits_to_be_told_to_go_on_is_told(api: Api) -> None:
    body = b'{"kind": "nonsense"}'
    answer = await _told(api, HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_body_that_does_not_come(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.kubernetes.incoming.BODY_S", 0.05)
    for pieces in (
        [HEAD + b"Content-Length: 99\r\n\r\n{"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"no size of a chunk\r\n"],
    ):
        answer = await _told(api, *pieces)
        assert answer.startswith(b"HTTP/1.1 408 ")


async def _takes(api: Api, taken: Callable[[int], bool]) -> None:
    """Waits until what bodies take is so."""
    async with asyncio.timeout(20):
        while not taken(api.server.room.taken):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("head", [b"Content-Length: 99999\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"])
async def test_who_hangs_up_in_the_middle_of_a_body_is_noticed_at_once(api: Api, head: bytes) -> None:
    _, writer = await _connected(api)
    writer.write(HEAD + head)
    await _takes(api, lambda taken: taken > 0)
    writer.close()
    await _takes(api, lambda taken: taken == 0)


async def test_large_bodies_that_come_slowly_take_only_so_much_room(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    path, json_type = "/api/v1/namespaces/default/configmaps", {"Content-Type": "application/json"}
    large = {"metadata": {"name": "large"}, "data": {"x": "y" * 1_000_000}}
    body = json.dumps(large).encode()
    monkeypatch.setattr("cluster.kubernetes.room.ROOM", 6 * len(body))
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    slow = [await _connected(api) for _ in range(20)]
    async with asyncio.timeout(60):
        for _, writer in slow[:3]:
            writer.write(head.encode() + body[:70_000])
        await _takes(api, lambda taken: taken == 3 * len(body))
        for reader, writer in slow[3:]:
            writer.write(head.encode() + body[:70_000])
            refused = await reader.readuntil(b"\r\n\r\n")
            assert refused.startswith(b"HTTP/1.1 429 "), "one caller has no more than half"
            assert b"Retry-After: 1\r\n" in refused
        assert api.server.room.taken == 3 * len(body)

        assert (await api.ask("POST", PODS, manifest("small"))).code == 201, "small ones need none"
        assert (await api.ask("POST", path, body, headers=json_type)).code == 429
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=api.trust("node:n1"))) as session,
            session.post(f"https://{api.address}{path}", data=body, headers=json_type) as response,
        ):
            assert response.status == 201, "others have the other half"

        reader, writer = slow[0]
        writer.write(body[70_000:])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 409 "), "what was begun is read"
        await _takes(api, lambda taken: taken == 2 * len(body))
        for _, writer in slow:
            writer.close()
        await _takes(api, lambda taken: taken == 0)


async def test_what_is_too_much_at_a_time_is_refused(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.put(pod("web"))
    for limit, path in (
        ("MAX_CALLS", PODS),
        ("MAX_CALLS", "/apis/discovery.k8s.io/v1/endpointslices"),
        ("MAX_WATCHES", f"{PODS}?watch=1"),
        ("MAX_STREAMS", f"{PODS}/web/log"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"cluster.kubernetes.server.{limit}", 0)
            reply = await api.get(path)
        assert (reply.code, reply.reason, reply.headers["Retry-After"]) == (429, "TooManyRequests", "1"), path
    assert (await api.get(PODS)).code == 200


async def test_a_watch_that_has_ended_counts_no_more(
    api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.kubernetes.server.MAX_WATCHES", 1)
    cluster.put(pod("web"))
    async with api.stream(f"{PODS}?watch=1") as response:
        assert await response.content.readline()
        assert (await api.get(f"{PODS}?watch=1")).code == 429
    async with asyncio.timeout(20):
        while api.server.watches:
            await asyncio.sleep(0.01)
    assert (await api.get(f"{PODS}?watch=1&timeoutSeconds=1")).code == 200


async def test_stopping_ends_watches_and_calls(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    async with api.stream(f"{PODS}?watch=1") as response:
        assert await response.content.readline()
        async with asyncio.timeout(20):
            await api.server.stop()
            assert await response.content.readline() == b""
    await api.server.stop()


async def test_a_watch_of_http_1_0_ends_with_its_connection(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("a"))
    reader, writer = await _connected(api)
    try:
        writer.write(f"GET {PODS}?watch=1&timeoutSeconds=1 HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    assert head.startswith(b"HTTP/1.0 200 OK")
    assert b"chunked" not in head.lower()
    assert body.startswith(b'{"type":"ADDED"')
