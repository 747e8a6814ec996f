"""Kinds that users define, and requests that none of their tools sends: nonsense, much of it, and at bad moments."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.testing import Cluster
from tests.e2e.custom_resources.conftest import CRD, log_of
from tests.e2e.nonsense import throw_nonsense
from tests.kit.customs import definition, version, widget
from tests.kit.kubectl import Kubectl
from tests.kit.raw_requests import Raw

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"


def schema(content: Any) -> dict[str, Any]:
    return definition(version(schema={"openAPIV3Schema": content}), plural="bads")


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        found = {"type": "object", "properties": {"a": found}}
    return found


@pytest.mark.parametrize(
    ("crd", "code", "field"),
    [
        ({}, 422, ""),
        ({**definition(plural="bads"), "metadata": {"name": "other.example.com"}}, 422, "metadata.name"),
        (definition(plural="bads", scope="Galaxy"), 422, "spec.scope"),
        (definition(plural="bads", group=""), 422, "spec.group"),
        (definition(plural="bads", versions=[]), 422, "spec.versions"),
        (definition(version(), version(), plural="bads"), 422, "spec.versions"),
        (definition(version(storage=False), plural="bads"), 422, "spec.versions"),
        (schema({"type": "object", "properties": {"spec": {"type": "nonsense"}}}), 422, "spec.versions[0].schema"),
        (schema({"type": "object", "properties": {"spec": {}}}), 422, "spec.versions[0].schema"),
        (schema({"type": "object", "$ref": "#/x"}), 422, "spec.versions[0].schema"),
        (schema({"type": "object", "properties": 3}), 422, ""),
        (schema("text"), 422, ""),
        (schema(deep(80)), 400, ""),
        (
            definition(version(additionalPrinterColumns=[{"name": "X"}]), plural="bads"),
            422,
            "spec.versions[0].additional",
        ),
    ],
)
def test_definitions_that_make_no_sense(raw: Raw, crd: Any, code: int, field: str) -> None:
    found, status, _ = raw.ask("POST", CRDS, crd)
    assert found == code, status
    assert status["kind"] == "Status"
    causes = [cause.get("field", "") for cause in status.get("details", {}).get("causes", [])]
    assert not field or any(cause.startswith(field) for cause in causes), status
    assert raw.ask("GET", f"{CRDS}/bads.example.com")[0] == 404


def test_bodies_that_make_no_sense(raw: Raw, widgets: Kubectl) -> None:
    sent: list[tuple[Any, str, int]] = [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"spec": NaN}', "application/json", 400),
        (b'{"spec":' * 100 + b"1" + b"}" * 100, "application/json", 400),
        (b"k8s\0nonsense", "application/vnd.kubernetes.protobuf", 415),
        (b"x", "text/plain", 415),
        (b'"' + b"x" * (3 * 2**20) + b'"', "application/json", 413),
        ({**widget(), "apiVersion": "example.com/v9"}, "application/json", 400),
        ({**widget(), "kind": "Gadget"}, "application/json", 400),
        ({**widget(), "metadata": {"name": "one", "namespace": "other"}}, "application/json", 400),
        ({**widget(), "metadata": "x"}, "application/json", 422),
        ({**widget(), "metadata": {"name": "Not A Name"}}, "application/json", 422),
        ({**widget(), "spec": {"size": "3"}}, "application/json", 422),
        ({**widget(), "spec": {"size": 10**30}}, "application/json", 422),
        ({**widget(), "spec": {}}, "application/json", 422),
        ({**widget(), "spec": "\ud800"}, "application/json", 422),
    ]
    for body, media, code in sent:
        found, status, _ = raw.ask("POST", WIDGETS, body, media)
        assert found == code, (body if len(str(body)) < 500 else "", status)
        assert status["kind"] == "Status"
    assert raw.ask("POST", WIDGETS, widget())[0] == 201
    one = f"{WIDGETS}/one"
    merge = "application/merge-patch+json"
    changes: list[tuple[str, str, Any, str, int]] = [
        ("PATCH", one, {"spec": {"size": 1}}, "application/strategic-merge-patch+json", 415),
        ("PATCH", one, [], merge, 400),
        ("PATCH", one, {"spec": {"size": None}}, merge, 422),
        ("PATCH", one, [{"op": "test", "path": "/spec/size", "value": 9}], "application/json-patch+json", 422),
        ("PATCH", f"{one}?fieldValidation=Strict", {"spec": {"x": 1}}, merge, 400),
        ("PATCH", f"{one}?fieldValidation=Ignore", {"spec": {"x": 1}}, merge, 200),
        ("PATCH", f"{one}/scale", {"spec": {"replicas": -1}}, merge, 500),
        ("PUT", one, widget(), "application/json", 422),
        ("PUT", f"{one}/status", {**widget(), "metadata": {"name": "two"}}, "application/json", 400),
        ("PATCH", f"{one}/status", {"status": 7}, merge, 422),
        ("POST", one, widget(), "application/json", 405),
        ("GET", f"{one}/exec", None, "", 404),
        ("GET", f"{WIDGETS}?fieldSelector=spec.size%3D3", None, "", 400),
        ("GET", f"{WIDGETS}?labelSelector=%3D%3D", None, "", 400),
        ("GET", "/apis/example.com/v1/widgets/one", None, "", 404),
        ("GET", "/apis/podium.dev/v1/namespaces/default/customobjects", None, "", 404),
        ("DELETE", f"{WIDGETS}/two", None, "", 404),
    ]
    for method, path, body, media, code in changes:
        found, status, _ = raw.ask(method, path, body, media)
        assert found == code, (method, path, body, status)
    warned = raw.ask("PATCH", one, {"spec": {"x": 1}}, merge)[2].get_all("Warning")
    assert warned == ['299 - "unknown field \\"spec.x\\""']


def busy_s(cluster: Cluster) -> float:
    """How long its processor was busy with Kubernetes' API until now."""
    times = psutil.Process(cluster.pid("kubernetes")).cpu_times()
    return float(times.user + times.system)


def test_a_big_schema(cluster: Cluster, raw: Raw) -> None:
    """Of the size that operators have: a thousand fields, each with a text."""
    fields = {f"field{number}": {"type": "string", "description": "x" * 300} for number in range(1000)}
    spec = {"type": "object", "properties": fields}
    crd = definition(
        version(
            schema={"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            selectableFields=[],
            additionalPrinterColumns=[],
        ),
        plural="bigs",
    )
    assert raw.ask("POST", CRDS, crd)[0] == 201
    try:
        big = {"apiVersion": "example.com/v1", "kind": "Big", "metadata": {"name": "b"}, "spec": {"field7": "x"}}
        place = WIDGETS.replace("widgets", "bigs")
        assert raw.ask("POST", place, big)[0] == 201
        code, document, headers = raw.ask("GET", "/openapi/v3/apis/example.com/v1")
        assert code == 200
        assert len(document["components"]["schemas"]["com.example.v1.Big"]["properties"]["spec"]["properties"]) == 1000
        before_s = busy_s(cluster)
        for _ in range(5):
            assert raw.ask("GET", "/openapi/v3/apis/example.com/v1")[2]["ETag"] == headers["ETag"]
            assert raw.ask("GET", place)[0] == 200
        assert busy_s(cluster) - before_s < 5.0, "it is not made anew for each"
    finally:
        assert raw.ask("DELETE", f"{CRDS}/bigs.example.com")[0] == 200


def test_definitions_come_and_go_while_widgets_are_read(raw: Raw) -> None:
    """Whoever reads meanwhile gets a list or is told that there is nothing, and never anything else."""
    stop, codes = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            codes.add(raw.ask("GET", WIDGETS)[0])
            codes.add(raw.ask("GET", "/apis")[0])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(5):
            assert raw.ask("POST", CRDS, CRD)[0] == 201
            assert raw.ask("POST", WIDGETS, widget())[0] == 201
            assert raw.ask("GET", f"{WIDGETS}/one")[0] == 200
            assert raw.ask("DELETE", f"{CRDS}/widgets.example.com")[0] == 200
            deadline_s = time.monotonic() + 20
            while raw.ask("GET", f"{CRDS}/widgets.example.com")[0] != 404:
                assert time.monotonic() < deadline_s, "the definition goes when its objects have gone"
            assert raw.ask("GET", WIDGETS)[0] == 404
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert codes <= {200, 404}


def test_nonsense_that_is_made_of_its_own_document(
    cluster: Cluster, raw: Raw, widgets: Kubectl, tmp_path: Path
) -> None:
    pid = cluster.pid("kubernetes")
    widgets.expect("apply -f one.yaml", "created")
    assert throw_nonsense(raw.server, raw.token, "apis/example.com/v1", "one", tmp_path) > 0
    assert cluster.pid("kubernetes") == pid, "it is the same process"
    assert "Traceback" not in log_of(cluster)


def test_a_watch_follows_what_its_selectors_choose(raw: Raw, widgets: Kubectl) -> None:
    """Whatever begins or ceases to be chosen is added or deleted, as the watcher sees it."""
    told: list[tuple[str, str, str]] = []
    begun = threading.Event()

    def watch() -> None:
        query = "watch=1&fieldSelector=spec.color%3Dred&labelSelector=app%3Dw&timeoutSeconds=30&allowWatchBookmarks=1"
        request = raw.request("GET", f"{WIDGETS}?{query}&sendInitialEvents=1&resourceVersionMatch=NotOlderThan")
        with urllib.request.urlopen(request, context=raw.context, timeout=30) as response:
            for line in response:
                event = json.loads(line)
                told.append((event["type"], event["object"]["kind"], event["object"].get("spec", {}).get("color", "")))
                begun.set()
                if event["type"] == "DELETED":
                    return

    watching = threading.Thread(target=watch)
    watching.start()
    assert begun.wait(20)
    widgets.expect("apply -f one.yaml", "created")
    for color in ("red", "blue"):
        widgets.expect(f'patch widget one --type=merge -p \'{{"spec":{{"color":"{color}"}}}}\'', "patched")
    watching.join(20)
    assert told == [("BOOKMARK", "Widget", ""), ("ADDED", "Widget", "red"), ("DELETED", "Widget", "red")]
