"""Kinds that users define, as their tools use them: kubectl, the clients in Python, an operator, and bad input."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cluster.testing import Cluster
from tests.e2e.conftest import assert_nothing_left
from tests.e2e.nonsense import throw_nonsense
from tests.kit.kubectl import Kubectl, binaries
from tests.unit.kubernetes.customs import definition, version, widget

Story = list[tuple[str, str] | tuple[str, str, int]]

OLD: dict[str, Any] = {"deprecated": True, "deprecationWarning": "example.com/v1beta1 is old: use v1", "storage": False}
CRD = definition(version("v1beta1", **OLD), version("v1"))
GAUGE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "min": {"type": "integer", "default": 1},
                "max": {"type": "integer"},
                "unit": {"type": "string", "maxLength": 10},
                "replicas": {"type": "integer", "x-kubernetes-validations": [{"rule": "self <= 10"}]},
            },
            "x-kubernetes-validations": [
                {
                    "rule": "self.min <= self.max",
                    "messageExpression": "'min is more than max: %d > %d'.format([self.min, self.max])",
                },
                {
                    "rule": "self.unit == oldSelf.unit",
                    "message": "the unit stays",
                    "reason": "FieldValueForbidden",
                    "fieldPath": ".unit",
                },
            ],
        },
        "status": {"type": "object", "properties": {"value": {"type": "integer"}, "replicas": {"type": "integer"}}},
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.status) || !has(self.status.value) || self.status.value <= self.spec.max",
            "message": "the value is beyond the scale",
        }
    ],
}


def gauges(schema: dict[str, Any]) -> dict[str, Any]:
    """The definition of a kind with rules."""
    known = version(schema={"openAPIV3Schema": schema})
    del known["additionalPrinterColumns"], known["selectableFields"]
    return definition(known, plural="gauges")


def gauge(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Gauge", "metadata": {"name": "g"}, "spec": spec}


def with_rule(rule: str, **fields: Any) -> dict[str, Any]:
    """The definition with one rule, in spec."""
    spec = {"type": "object", "properties": fields, "x-kubernetes-validations": [{"rule": rule}]}
    return gauges({"type": "object", "properties": {"spec": spec}})


READY = '{"status":{"phase":"Running","replicas":1,"conditions":[{"type":"Ready","status":"True"}]}}'

STORIES: dict[str, Story] = {
    "a definition": [
        ("apply -f crd.yaml --dry-run=server", r"widgets.example.com created \(server dry run\)"),
        ("get widgets", r"the server doesn't have a resource type \"widgets\"", 1),
        ("apply -f crd.yaml", r"customresourcedefinition.apiextensions.k8s.io/widgets.example.com created"),
        ("apply -f one.yaml", r"widget.example.com/one created"),
        ("apply -f crd.yaml", r"widgets.example.com unchanged"),
        ("diff -f crd.yaml", r"\A\Z"),
        ("wait --for=condition=Established crd/widgets.example.com --timeout=20s", r"condition met"),
        ("get crd", r"^NAME +CREATED AT\s+widgets.example.com +20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$"),
        ("describe crd widgets.example.com", r"(?s)Accepted Names:.*Kind: +Widget.*Stored Versions:\s+v1"),
        ("explain crd.spec.versions.schema", r"(?s)KIND: +CustomResourceDefinition.*openAPIV3Schema"),
        ("api-resources --api-group=example.com", r"^widgets +wi +example.com/v1 +true +Widget"),
        ("api-resources --api-group=example.com -o wide", r"create,delete,deletecollection,get,list.* all,things"),
        ("api-resources --categories=things -o name", r"^widgets.example.com$"),
        ("api-versions", r"(?s)^example.com/v1\nexample.com/v1beta1$"),
        ("label crd widgets.example.com a=b", r"labeled"),
        ('patch crd widgets.example.com -p \'{"metadata":{"labels":{"a":null}}}\'', r"patched"),
    ],
    "reading": [
        ("get widgets", r"^NAME +SIZE +PHASE +SINCE +AGE\s+one +3 +\d+s"),
        ("get wi one -o wide", r"PORTS +AGE"),
        ("get widget.v1.example.com/one -o name", r"^widget.example.com/one$"),
        ("get things", r"^one +3"),
        ("get all", r"^widget.example.com/one +3"),
        ("get widgets -A", r"^default +one"),
        ("get widget one -o yaml", r"(?s)^apiVersion: example.com/v1\nkind: Widget\n.*  color: blue\n.*  size: 3"),
        ("get widget one -o jsonpath={.spec.size}", r"^3$"),
        ("get widgets -o custom-columns=N:.metadata.name,S:.spec.size", r"^N +S\none +3"),
        ("get widgets -l app=w", r"^one"),
        ("get widgets -l app=other", r"No resources found"),
        ("get widgets --field-selector=metadata.name=one -o name", r"^widget.example.com/one$"),
        ("get widgets --field-selector=spec.color=blue -o name", r"^widget.example.com/one$"),
        ("get widgets --field-selector=spec.color!=blue", r"No resources found"),
        ("get widgets --field-selector=spec.size=3", r'field label not supported: "?spec.size', 1),
        (
            "get widgets.v1beta1.example.com one -o yaml",
            r"(?s)v1beta1 is old: use v1.*^apiVersion: example.com/v1beta1",
        ),
        ("explain widget.spec.size", r"(?s)KIND: +Widget.*FIELD: size <integer>.*How big it is"),
        ("explain widget --recursive", r"(?s)metadata\s+<ObjectMeta>.*color\s+<string>"),
        ("describe widget one", r"(?s)Name: +one.*API Version: +example.com/v1.*Spec:.*Size: +3.*Events: +<none>"),
        ("events --for widget/one", r"No events found"),
        ("get widget two", r'\(NotFound\): widgets.example.com "two" not found', 1),
        ("get --raw /apis/example.com/v1/namespaces/default/widgets?limit=1", r'"kind":"WidgetList"'),
        ("get --raw /apis/example.com/v2/namespaces/default/widgets", r"could not find|page not found", 1),
        ("get customobjects", r"the server doesn't have a resource type", 1),
        ("auth can-i create widgets", r"^yes$"),
        ("auth can-i patch widgets.example.com --subresource=status", r"^yes$"),
        ("auth can-i --list", r"^widgets.example.com/scale +\[\]"),
    ],
    "writing": [
        ("create -f one.yaml", r'\(AlreadyExists\).*widgets.example.com "one" already exists', 1),
        ("apply -f one.yaml", r"widget.example.com/one unchanged"),
        ("diff -f one.yaml", r"\A\Z"),
        ("apply -f bigger.yaml --dry-run=server", r"configured \(server dry run\)"),
        ("diff -f bigger.yaml", r"(?s)-  size: 3\n\+  size: 5", 1),
        ("apply -f bigger.yaml", r"widget.example.com/one configured"),
        ("apply -f typo.yaml", r'(?s)\(BadRequest\).*strict decoding error: unknown field "spec.sise"', 1),
        ("apply --validate=warn -f typo.yaml", r'(?s)Warning: unknown field "spec.sise".*configured'),
        ("get widget one -o jsonpath={.spec}", r'\A{"color":"blue","size":5}\Z'),
        ("apply -f wrong.yaml", r"(?s)\(Invalid\)|is invalid: .*spec.color", 1),
        ("replace -f bigger.yaml", r"widget.example.com/one replaced"),
        ('patch widget one --type=merge -p \'{"spec":{"size":6}}\'', r"widget.example.com/one patched"),
        ('patch widget one --type=merge -p \'{"spec":{"size":6}}\'', r"patched \(no change\)"),
        ('patch widget one --type=json -p \'[{"op":"add","path":"/spec/tags","value":["x"]}]\'', r"patched"),
        ('patch widget one -p \'{"spec":{"size":7}}\'', r"strategic-merge-patch\+json is not supported", 1),
        (f"patch widget one --subresource=status --type=merge -p '{READY}'", r"patched"),
        ("wait --for=condition=Ready widget/one --timeout=20s", r"condition met"),
        ("wait --for=jsonpath={.status.phase}=Running widget/one --timeout=20s", r"condition met"),
        ('patch widget one --type=merge -p \'{"status":{"phase":"Lost"},"spec":{"replicas":2}}\'', r"patched"),
        ("get widget one -o jsonpath={.status.phase}", r"^Running$"),
        ("scale widget one --replicas=4", r"widget.example.com/one scaled"),
        ("scale widget one --current-replicas=2 --replicas=1", r"Expected replicas to be 2, was 4", 1),
        ("get widget one --subresource=scale -o jsonpath={.spec.replicas}", r"^4$"),
        ("get widget one --subresource=status -o jsonpath={.spec.replicas}", r"^4$"),
        ("label widget one tier=front", r"widget.example.com/one labeled"),
        ("annotate widget one note=hello", r"widget.example.com/one annotated"),
        ("label widgets --all tier-", r"widget.example.com/one unlabeled"),
        ("create -f named.yaml", r"widget.example.com/gen-\w{5} created"),
        ("delete widgets -l app=gen", r'widget.example.com "gen-\w{5}" deleted'),
        ("apply -f one.yaml", r"widget.example.com/one configured"),
        ("apply view-last-applied widget one", r"size: 3"),
    ],
    "server-side apply": [
        ("apply --server-side --field-manager=one -f ports.yaml", r"widget.example.com/shared serverside-applied"),
        ("apply --server-side --field-manager=two -f ports2.yaml", r"widget.example.com/shared serverside-applied"),
        ("get widget shared -o jsonpath={.spec.ports[*].port}", r"^2 1$|^1 2$"),
        ("get widget shared -o jsonpath={.metadata.managedFields[*].manager}", r"^one two$"),
        ("apply --server-side --field-manager=two -f ports3.yaml", r"conflict with \"one\".*\.spec\.size", 1),
        ("apply --server-side --field-manager=two --force-conflicts -f ports3.yaml", r"serverside-applied"),
        ("get widget shared -o jsonpath={.spec.size}", r"^9$"),
        ("apply --server-side --field-manager=two -f typo.yaml", r'unknown field "spec.sise"', 1),
        ("apply --server-side --subresource=status --field-manager=three -f status.yaml", r"serverside-applied"),
        ("get widget shared -o jsonpath={.metadata.managedFields[*].subresource}", r"^status$"),
        ("get widget shared -o jsonpath={.status.phase}", r"^Up$"),
        (
            "apply --server-side --subresource=status --field-manager=four -f status2.yaml",
            r"conflict with \"three\"",
            1,
        ),
        (f"patch widget shared --subresource=status --type=merge --field-manager=five -p '{READY}'", r"patched"),
        ("get widget shared -o jsonpath={.metadata.managedFields[*].manager}", r"\bfive\b"),
        ("delete widget shared", r'"shared" deleted'),
    ],
    "rules": [
        ("apply -f rules.yaml", r"customresourcedefinition.apiextensions.k8s.io/gauges.example.com created"),
        ("apply -f rules.yaml", r"gauges.example.com unchanged"),
        (
            "apply -f norules.yaml",
            r"(?s)x-kubernetes-validations\[0\].rule: Invalid value: .*compilation failed: .*undefined field 'lowest'",
            1,
        ),
        ("apply -f dear.yaml", r"x-kubernetes-validations\[0\].rule: Forbidden: estimated rule cost exceeds budget", 1),
        (
            "create -f low.yaml",
            r'The Gauge "g" is invalid: spec: Invalid value: "object": min is more than max: 9 > 5',
            1,
        ),
        ("create -f low.yaml --dry-run=server", r"min is more than max", 1),
        ("get gauges", r"No resources found"),
        ("apply -f gauge.yaml", r"gauge.example.com/g created"),
        ('patch gauge g --type=merge -p \'{"spec":{"unit":"m"}}\'', r"spec.unit: Forbidden: the unit stays", 1),
        (
            'patch gauge g --type=json -p \'[{"op":"replace","path":"/spec/max","value":0}]\'',
            r"min is more than max: 1 > 0",
            1,
        ),
        ('patch gauge g --type=merge -p \'{"spec":{"max":7}}\'', r"gauge.example.com/g patched"),
        ("apply --server-side --force-conflicts -f low.yaml", r"min is more than max: 9 > 5", 1),
        ("scale gauge g --replicas=11", r'spec.replicas: Invalid value: "integer": failed rule: self <= 10', 1),
        ("scale gauge g --replicas=10", r"gauge.example.com/g scaled"),
        (
            'patch gauge g --subresource=status --type=merge -p \'{"status":{"value":8}}\'',
            r"the value is beyond the scale",
            1,
        ),
        ('patch gauge g --subresource=status --type=merge -p \'{"status":{"value":6}}\'', r"patched"),
        ("get gauge g -o jsonpath={.spec.max}:{.status.value}", r"^7:6$"),
        ("delete -f rules.yaml --timeout=20s", r'"gauges.example.com" deleted'),
    ],
    "the end": [
        ("delete widget one --cascade=nonsense", r"invalid cascade value", 1),
        ("delete widget one --cascade=foreground", r'widget.example.com "one" deleted'),
        ("delete widget one --ignore-not-found", r"\A\Z"),
        ("apply -f one.yaml", r"widget.example.com/one created"),
        ("delete -f crd.yaml --timeout=20s", r'"widgets.example.com" deleted'),
        ("get --raw /apis/example.com", r"could not find|page not found", 1),
        ("get crd widgets.example.com", r"\(NotFound\)", 1),
        ("apply -f one.yaml", r"no matches for kind|could not find the requested resource", 1),
    ],
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("customs") / "podium"
    with Cluster.start(nodes=1, home=home, options=["--rest"]) as found:
        yield found
    assert "Traceback" not in log_of(found)
    assert_nothing_left(home)


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    found = Kubectl(cluster, tmp_path_factory.mktemp("kubectl"))
    labelled = widget()
    labelled["metadata"]["labels"] = {"app": "w"}
    bigger = {**labelled, "spec": {"size": 5}}
    named = {**widget(), "metadata": {"generateName": "gen-", "labels": {"app": "gen"}}}
    files = {
        "crd": CRD,
        "one": labelled,
        "bigger": bigger,
        "typo": {**labelled, "spec": {"size": 5, "sise": 1}},
        "wrong": {**labelled, "spec": {"size": 5, "color": "green"}},
        "named": named,
        "status": {**widget("shared"), "status": {"phase": "Up"}},
        "status2": {**widget("shared"), "status": {"phase": "Down"}},
        "rules": gauges(GAUGE),
        "norules": with_rule("self.lowest > 1", low={"type": "integer"}),
        "dear": with_rule("self.l.all(a, a in self.l)", l={"type": "array", "items": {"type": "string"}}),
        "gauge": gauge(max=5, unit="kg", replicas=1),
        "low": gauge(min=9, max=5, unit="kg"),
        "ports": widget("shared", ports=[{"port": 1}]),
        "ports2": {**widget("shared"), "spec": {"ports": [{"port": 2}]}},
        "ports3": {**widget("shared"), "spec": {"size": 9, "ports": [{"port": 2}]}},
    }
    for name, content in files.items():
        (found.directory / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return found


def log_of(cluster: Cluster) -> str:
    path = cluster.directory / "log" / "kubernetes.log"
    return path.read_text() if path.exists() else ""


def busy_s(cluster: Cluster) -> float:
    """How long its processor was busy with Kubernetes' API until now."""
    times = psutil.Process(cluster.pid("kubernetes")).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("story", list(STORIES))
def test_what_people_type(kubectl: Kubectl, story: str) -> None:
    for command, pattern, *code in STORIES[story]:
        kubectl.expect(command, pattern, code=code[0] if code else 0)


@pytest.fixture
def widgets(kubectl: Kubectl) -> Iterator[Kubectl]:
    """The definition, for a test; it and all widgets are gone afterwards."""
    kubectl.expect("apply -f crd.yaml", r"created|unchanged")
    kubectl.expect("delete widgets --all", r"deleted|No resources found")
    yield kubectl
    kubectl.expect("delete crd widgets.example.com --timeout=20s", "deleted")


def test_an_editor_changes_a_widget(widgets: Kubectl) -> None:
    widgets.expect("apply -f one.yaml", "created")
    editor = widgets.directory / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/  size: 3/  size: 8/" "$1"\n')
    editor.chmod(0o700)
    output = widgets.run("edit", "widget", "one", environment={"KUBE_EDITOR": str(editor)})
    assert "widget.example.com/one edited" in output.out, output
    widgets.expect("get widget one -o jsonpath={.spec.size}", "^8$")


def test_the_own_command_shows_the_same_columns(cluster: Cluster, widgets: Kubectl) -> None:
    widgets.expect("apply -f one.yaml", "created")
    widgets.expect(f"patch widget one --subresource=status --type=merge -p '{READY}'", r"patched")

    def words(text: str) -> list[list[str]]:
        return [[re.sub(r"^\d+s$", "AGE", word) for word in line.split()] for line in text.splitlines()]

    for more in ([], ["-o", "wide"], ["-A", "--show-labels"]):
        said = cluster.podium("get", "widgets", *more).stdout
        assert words(said) == words(widgets.run("get", "widgets", *more).out)
    assert words(said)[0] == ["NAMESPACE", "NAME", "SIZE", "PHASE", "SINCE", "AGE", "LABELS"]


def test_an_editor_is_told_which_rule_forbids_a_change(kubectl: Kubectl) -> None:
    kubectl.expect("apply -f rules.yaml", "created")
    kubectl.expect("apply -f gauge.yaml", "created")
    editor, told = kubectl.directory / "unit", kubectl.directory / "told"
    editor.write_text(f'#!/bin/sh\ngrep "unit stays" "$1" >{told} && exit 1\nsed -i "s/  unit: kg/  unit: m/" "$1"\n')
    editor.chmod(0o700)
    output = kubectl.run("edit", "gauge", "g", environment={"KUBE_EDITOR": str(editor)})
    assert output.code == 1, output
    assert told.read_text() == "# * spec.unit: Forbidden: the unit stays\n"
    kubectl.expect("get gauge g -o jsonpath={.spec.unit}", "^kg$")
    kubectl.expect("delete -f rules.yaml --timeout=20s", "deleted")


def test_widgets_are_watched_until_their_kind_is_gone(widgets: Kubectl) -> None:
    widgets.expect("apply -f one.yaml", "created")
    watching = widgets.start("get", "widgets", "-w", "--no-headers")
    try:
        assert watching.stdout is not None
        seen = watching.stdout.readline()
        widgets.expect('patch widget one --type=merge -p \'{"spec":{"size":9}}\'', "patched")
        seen += watching.stdout.readline()
        assert re.fullmatch(r"one +3 .*\none +9 .*\n", seen), seen
        widgets.expect("delete crd widgets.example.com --timeout=20s", "deleted")
        assert watching.wait(20) is not None, "the watch has ended"
    finally:
        watching.kill()
        watching.communicate()
    widgets.expect("apply -f crd.yaml", "created")


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


def test_a_definition_that_came_over_grpc_is_served(cluster: Cluster, kubectl: Kubectl) -> None:
    cluster.apply(yaml.safe_dump(definition(plural="gadgets", scope="Cluster")))
    cluster.wait_until(lambda: kubectl.run("get", "gadgets").code == 0, "gadgets are served")
    (kubectl.directory / "gadget.yaml").write_text(yaml.safe_dump({**widget("wide"), "kind": "Gadget"}))
    kubectl.expect("apply -f gadget.yaml", "gadget.example.com/wide created")
    kubectl.expect("get gadgets", r"^wide +3")
    kubectl.expect("get --raw /apis/example.com/v1/namespaces/default/gadgets", "could not find|not found", code=1)
    cluster.delete("crd", "gadgets.example.com")
    cluster.wait_until(lambda: kubectl.run("get", "gadgets").code == 1, "gadgets are served no more")


def test_the_process_that_comes_back_knows_what_there_is(cluster: Cluster, widgets: Kubectl) -> None:
    widgets.expect("apply -f one.yaml", "created")
    cluster.kill_process("kubernetes")
    cluster.wait_until(lambda: widgets.run("get", "widgets").code == 0, "kubectl works again")
    widgets.expect("get widgets", "^one +3")


def test_what_a_widget_owns_goes_with_it(cluster: Cluster, widgets: Kubectl) -> None:
    widgets.expect("apply -f one.yaml", "created")
    uid = widgets.expect("get widget one -o jsonpath={.metadata.uid}", r"\w").out
    owner = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "one", "uid": uid, "controller": True}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [owner]}}
    (widgets.directory / "owned.yaml").write_text(yaml.safe_dump(owned))
    widgets.expect("apply -f owned.yaml", "created")
    widgets.expect("delete widget one", "deleted")
    cluster.wait_until(lambda: widgets.run("get", "configmap", "owned").code == 1, "what it owned is gone")


def test_another_kubectl_of_the_machine_works_as_well(cluster: Cluster, widgets: Kubectl, tmp_path: Path) -> None:
    others = [binary for binary in binaries() if binary != widgets.binary]
    if not others:
        pytest.skip("this machine has no other kubectl")
    other = Kubectl(cluster, tmp_path, others[0])
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(widget(replicas=1)))
    other.expect("apply -f one.yaml", "widget.example.com/one created")
    other.expect("apply -f one.yaml", "widget.example.com/one unchanged")
    other.expect("get wi", "^one +3")
    other.expect("explain widget.spec.size", "How big it is")
    other.expect("scale widget one --replicas=2", "scaled")
    other.expect('patch widget one --type=merge -p \'{"spec":{"size":4}}\'', "patched")
    other.expect("delete widget one", "deleted")


# --- the clients in Python


@pytest.fixture
def config(widgets: Kubectl) -> Path:
    return widgets.config


def test_the_official_client(config: Path) -> None:
    client = pytest.importorskip("kubernetes.client")
    dynamic = pytest.importorskip("kubernetes.dynamic")
    from kubernetes import watch
    from kubernetes.config import new_client_from_config

    connection = new_client_from_config(str(config))
    try:
        extensions = client.ApiextensionsV1Api(connection)
        (crd,) = extensions.list_custom_resource_definition().items
        assert (crd.metadata.name, crd.spec.names.kind) == ("widgets.example.com", "Widget")
        assert {each.type: each.status for each in crd.status.conditions}["Established"] == "True"
        api = client.CustomObjectsApi(connection)
        place = ("example.com", "v1", "default", "widgets")
        assert api.create_namespaced_custom_object(*place, widget("py"))["spec"] == {"size": 3, "color": "blue"}
        events = watch.Watch().stream(api.list_namespaced_custom_object, *place, timeout_seconds=20)
        assert next(events)["object"]["metadata"]["name"] == "py"
        patched = api.patch_namespaced_custom_object(*place, "py", {"spec": {"size": 4}})
        assert patched["spec"]["size"] == 4
        status = {"status": {"phase": "Ready", "replicas": 1}}
        api.patch_namespaced_custom_object_status(*place, "py", status)
        found = api.get_namespaced_custom_object(*place, "py")
        assert (found["spec"]["size"], found["status"]["phase"]) == (4, "Ready")
        found["spec"]["replicas"] = 2
        api.replace_namespaced_custom_object(*place, "py", found)
        with pytest.raises(client.ApiException) as refused:
            api.replace_namespaced_custom_object(*place, "py", found)
        assert refused.value.status == 409
        assert api.get_namespaced_custom_object_scale(*place, "py")["spec"]["replicas"] == 2
        api.patch_namespaced_custom_object_scale(*place, "py", {"spec": {"replicas": 5}})
        assert len(api.list_cluster_custom_object("example.com", "v1", "widgets")["items"]) == 1
        kinds = dynamic.DynamicClient(connection)
        widgets = kinds.resources.get(api_version="example.com/v1", kind="Widget")
        assert [each.spec.replicas for each in widgets.get(namespace="default").items] == [5]
        applied = widgets.server_side_apply(
            body=widget("ssa"), name="ssa", namespace="default", field_manager="py", force_conflicts=True
        )
        assert [each.manager for each in applied.metadata.managedFields] == ["py"]
        api.delete_namespaced_custom_object(*place, "py")
        api.delete_collection_namespaced_custom_object(*place)
        assert api.list_namespaced_custom_object(*place)["items"] == []
        with pytest.raises(client.ApiException) as refused:
            api.get_namespaced_custom_object(*place, "py")
        assert refused.value.status == 404
    finally:
        connection.close()


def test_kr8s(config: Path) -> None:
    kr8s = pytest.importorskip("kr8s")
    objects = pytest.importorskip("kr8s.objects")
    api = kr8s.api(kubeconfig=str(config))
    kind = objects.new_class("Widget", "example.com/v1", namespaced=True, scalable=True, asyncio=False)
    found = kind({**widget("kr", replicas=1)}, api=api)
    found.create()
    found.scale(3)
    found.label({"x": "y"})
    assert [(each.name, each.spec.replicas) for each in api.get("widgets.example.com", label_selector="x=y")] == [
        ("kr", 3)
    ]
    found.delete()
    found.wait("delete", timeout=20)


def test_lightkube(config: Path) -> None:
    lightkube = pytest.importorskip("lightkube")
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.types import PatchType

    client = lightkube.Client(config=lightkube.KubeConfig.from_file(str(config)), field_manager="lk")
    kind = create_namespaced_resource("example.com", "v1", "Widget", "widgets")
    client.create(kind(metadata={"name": "lk", "namespace": "default"}, spec={"size": 1}))
    found = client.get(kind, "lk", namespace="default")
    assert found.spec == {"size": 1, "color": "blue"}
    client.patch(kind.Status, "lk", {"status": {"phase": "Up"}}, namespace="default", patch_type=PatchType.MERGE)
    client.apply(kind(metadata={"name": "lk", "namespace": "default"}, spec={"size": 2}), force=True)
    for event, each in client.watch(kind, namespace="default"):
        assert (event, each.spec["size"], each.status) == ("ADDED", 2, {"phase": "Up"})
        break
    client.delete(kind, "lk", namespace="default")
    assert list(client.list(kind, namespace="default")) == []


OPERATOR = """
import kopf

@kopf.on.create('example.com', 'v1', 'widgets')
def created(spec, patch, **_):
    patch.status['phase'] = f"made of {spec['color']}"
    return {'size': spec['size']}

@kopf.on.update('example.com', 'v1', 'widgets', field='spec.size')
def changed(old, new, patch, **_):
    patch.status['phase'] = f"grown from {old} to {new}"

@kopf.on.delete('example.com', 'v1', 'widgets')
def deleted(name, **_):
    open('deleted', 'w').write(name)

@kopf.timer('example.com', 'v1', 'widgets', interval=0.2)
def beat(status, patch, **_):
    patch.status['replicas'] = status.get('replicas', 0) + 1
"""


PEERING = definition(
    {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        },
    },
    plural="kopfpeerings",
    group="kopf.dev",
    names={"plural": "kopfpeerings", "kind": "KopfPeering"},
)


def test_an_operator(cluster: Cluster, widgets: Kubectl, tmp_path: Path) -> None:
    """Run as its users run it, with the object by which operators of a kind know of each other."""
    pytest.importorskip("kopf")
    (tmp_path / "operator.py").write_text(OPERATOR)
    peering = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "default"}}
    for name, content in (("crd", PEERING), ("peering", peering)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        widgets.expect(f"apply -f {tmp_path}/{name}.yaml", "created")
    operator = subprocess.Popen(
        [sys.executable, "-m", "kopf", "run", "--peering=default", "-n", "default", "operator.py"],
        env={**os.environ, "KUBECONFIG": str(widgets.config)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def read(path: str) -> str:
        return widgets.run("get", "widget", "one", "-o", f"jsonpath={{{path}}}").out

    try:
        widgets.expect("apply -f one.yaml", "created")
        cluster.wait_until(lambda: read(".status.phase") == "made of blue", "the operator has made it")
        assert read(".metadata.finalizers") == '["kopf.zalando.org/KopfFinalizerMarker"]'
        peers = widgets.expect("get kopfpeering default -o jsonpath={.status}", r"\w").out
        assert len(json.loads(peers)) == 1, "the operator has said that it is there"
        cluster.wait_until(lambda: int(read(".status.replicas") or 0) >= 3, "the timer has run three times")
        widgets.expect('patch widget one --type=merge -p \'{"spec":{"size":4}}\'', "patched")
        cluster.wait_until(lambda: read(".status.phase") == "grown from 3 to 4", "the operator has seen it grow")
        widgets.expect("delete widget one --timeout=20s", "deleted")
        assert (tmp_path / "deleted").read_text() == "one"
    finally:
        operator.terminate()
        said, _ = operator.communicate(timeout=60)
        print(said)
        widgets.expect("delete crd kopfpeerings.kopf.dev --timeout=20s", "deleted")
    assert "Traceback" not in said


# --- bad input


class Raw:
    """Requests as nobody's tool sends them."""

    def __init__(self, cluster: Cluster) -> None:
        config = yaml.safe_load(cluster.podium("kubeconfig", "--token").stdout)
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        self.context = ssl.create_default_context(cafile=str(cluster.directory / "pki" / "admin" / "ca.crt"))

    def request(
        self, method: str, path: str, body: Any = None, media: str = "application/json"
    ) -> urllib.request.Request:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": media}
        return urllib.request.Request(self.server + path, data=data, method=method, headers=headers)

    def ask(self, method: str, path: str, body: Any = None, media: str = "application/json") -> tuple[int, Any, Any]:
        try:
            with urllib.request.urlopen(
                self.request(method, path, body, media), context=self.context, timeout=30
            ) as response:
                return response.status, _json(response.read()), response.headers
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read()), error.headers


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


@pytest.fixture(scope="module")
def raw(cluster: Cluster) -> Raw:
    return Raw(cluster)


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
