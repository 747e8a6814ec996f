"""From the proxy's metrics to a table."""

from __future__ import annotations

from cluster.cli.top_services import read, rows
from cluster.telemetry.metrics import Metrics
from proxy.exposition import Exposition
from proxy.policies import Target
from proxy.routing import RouteKey, ServiceName
from proxy.stats import Stats

WEB = RouteKey(ServiceName("default", "web"), "http")
DB = RouteKey(ServiceName("other", "db"), "5432")
A, B = Target("127.9.16.1", 8080), Target("127.9.16.2", 8080)


def text(stats: Stats) -> str:
    metrics = Metrics()
    metrics.register(Exposition(lambda: stats))
    return metrics.render().decode()


def stats() -> Stats:
    made = Stats()
    web, db = made.of(WEB), made.of(DB)
    web.endpoint(A)
    web.endpoint(B)
    db.accepted = 7
    return made


def after_two_seconds(made: Stats) -> Stats:
    web = made.of(WEB)
    web.accepted, web.active, web.gave_up_dial, web.dial_failures = 30, 2, 1, 5
    web.ejected = frozenset({B})
    one = web.endpoint(A)
    one.connections, one.active = 30, 2
    one.up.bytes, one.down.bytes = 400, 6 << 20
    for _ in range(10):
        one.first_byte.observe(0.0125)
    web.endpoint(B).dial_failures = 5
    return made


def test_services() -> None:
    made = stats()
    before = read(text(made))
    after = read(text(after_two_seconds(made)))
    assert rows(before, after, 2.0, namespace="default", by_endpoint=False) == [
        ["NAME", "PORT", "ACTIVE", "CONN/s", "IN/s", "OUT/s", "FIRST-BYTE", "DIAL-FAILURES", "REFUSED"],
        ["web", "http", "2", "15.0", "200B", "3.0MiB", "12.5ms", "5", "1"],
    ]
    every = rows(before, after, 2.0, namespace="", by_endpoint=False)
    assert [row[:3] for row in every] == [
        ["NAMESPACE", "NAME", "PORT"],
        ["default", "web", "http"],
        ["other", "db", "5432"],
    ]
    assert every[2][3:] == ["0", "0.0", "0B", "0B", "-", "0", "0"]


def test_endpoints() -> None:
    made = stats()
    before = read(text(made))
    after = read(text(after_two_seconds(made)))
    table = rows(before, after, 2.0, namespace="default", by_endpoint=True)
    assert table[0][:3] == ["NAME", "PORT", "ENDPOINT"]
    assert table[1:] == [
        ["web", "http", str(A), "2", "15.0", "200B", "3.0MiB", "12.5ms", "0", "fit"],
        ["web", "http", str(B), "0", "0.0", "0B", "0B", "-", "5", "left out"],
    ]


def test_what_is_not_about_services_is_left_alone() -> None:
    assert dict(read('podium_proxy_listeners 3.0\nrubbish{\nother_total{service="a"} 1\n# HELP x\n').of) == {}
