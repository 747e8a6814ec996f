"""Kinds that users define, with kubectl."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cluster.testing import Cluster
from tests.kit.customs import definition, widget
from tests.kit.kubectl import Kubectl, Story, binaries

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


@pytest.mark.parametrize("story", list(STORIES))
def test_what_people_type(kubectl: Kubectl, story: str) -> None:
    kubectl.tell(STORIES[story])


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


def test_widgets_are_watched_until_their_kind_is_gone(widgets: Kubectl) -> None:
    widgets.expect("apply -f one.yaml", "created")
    with widgets.running("get", "widgets", "-w", "--no-headers") as watching:
        seen = watching.said.readline()
        widgets.expect('patch widget one --type=merge -p \'{"spec":{"size":9}}\'', "patched")
        seen += watching.said.readline()
        assert re.fullmatch(r"one +3 .*\none +9 .*\n", seen), seen
        widgets.expect("delete crd widgets.example.com --timeout=20s", "deleted")
        assert watching.process.wait(20) is not None, "the watch has ended"
    widgets.expect("apply -f crd.yaml", "created")


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
