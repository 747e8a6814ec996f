"""Server-side apply: who answers for what, what goes away, and what is a conflict."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import Conflict
from cluster.api.field_sets import fields_of, from_fields_v1, readable, to_fields_v1
from cluster.api.managers import managers_of
from cluster.kubernetes import applying
from cluster.kubernetes.patching import APPLY, JSON_PATCH, MERGE
from cluster.kubernetes.resources import BY_KIND
from tests.unit.kubernetes.conftest import Api, Reply

POD = BY_KIND["Pod"].shape
SERVICE = BY_KIND["Service"].shape


def pod(labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "web"}
    if labels is not None:
        metadata["labels"] = labels
    found: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return {**found, "spec": spec} if spec else found


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def apply(live: dict[str, Any] | None, wanted: dict[str, Any], name: str, force: bool = False) -> dict[str, Any]:
    before = copy.deepcopy((live, wanted))
    outcome = applying.apply(live, wanted, POD, name, force=force, now="2026-01-01T00:00:00Z")
    assert (live, wanted) == before, "what was there is left alone"
    return outcome


def owned(data: dict[str, Any]) -> dict[str, list[str]]:
    """Managers, and the fields that they answer for."""
    return {
        f"{manager.name} {manager.operation}": sorted(map(readable, paths))
        for manager, paths in managers_of(data).items()
    }


def test_the_paths_of_an_object() -> None:
    data = pod(
        {"a": "b"},
        containers=[container("main", command=["x"], ports=[{"containerPort": 80}], env=[{"name": "A", "value": "1"}])],
        nodeSelector={"disk": "ssd"},
        hostNetwork=True,
    )
    data["metadata"] |= {"finalizers": ["x/y"], "uid": "1", "resourceVersion": "2"}
    data["status"] = {"phase": "Running"}
    assert sorted(map(readable, fields_of(data, POD))) == sorted(
        [
            ".metadata.labels.a",
            '.metadata.finalizers[="x/y"]',
            '.spec.containers[name="main"]',
            '.spec.containers[name="main"].name',
            '.spec.containers[name="main"].command',
            '.spec.containers[name="main"].ports[containerPort=80,protocol="TCP"]',
            '.spec.containers[name="main"].ports[containerPort=80,protocol="TCP"].containerPort',
            '.spec.containers[name="main"].env[name="A"]',
            '.spec.containers[name="main"].env[name="A"].name',
            '.spec.containers[name="main"].env[name="A"].value',
            ".spec.nodeSelector",
            ".spec.hostNetwork",
            ".status.phase",
        ]
    )


def test_sets_are_written_as_kubernetes_does() -> None:
    paths = fields_of(pod({"a": "b"}, containers=[container("main", image="x")]), POD)
    written = to_fields_v1(paths)
    assert written == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {"f:containers": {'k:{"name":"main"}': {".": {}, "f:image": {}, "f:name": {}}}},
    }
    assert from_fields_v1(written) == paths


STEPS = ("f:spec", "f:x", "k:", "k:x", "k:1", 'k:{"name":"main"}', "v:", "v:1", ".")
STEP = st.text(max_size=4) | st.sampled_from(STEPS)


@given(st.recursive(st.none() | st.text(max_size=3), lambda x: st.dictionaries(STEP, x, max_size=3)))
def test_what_somebody_else_wrote_there_does_no_harm(data: Any) -> None:
    paths = from_fields_v1(data)
    assert all(readable(path) for path in paths)
    live = pod({"a": "b"}, containers=[container("main", image="1")])
    live["metadata"]["managedFields"] = [{"manager": "one", "operation": "Apply", "fieldsV1": data}]
    made = apply(live, pod({"a": "b"}), "one")
    assert owned(made) == {"one Apply": [".metadata.labels.a"]}


def test_the_first_to_apply_answers_for_what_it_applied() -> None:
    made = apply(None, pod({"a": "b"}, containers=[container("main")]), "one")
    assert owned(made) == {
        "one Apply": [".metadata.labels.a", '.spec.containers[name="main"]', '.spec.containers[name="main"].name']
    }


def test_what_was_there_before_the_first_apply_is_somebodys() -> None:
    live = pod({"a": "b", "x": "y"}, containers=[container("main", image="1")])
    with pytest.raises(Conflict) as conflict:
        apply(live, pod({"a": "c"}), "one")
    assert conflict.value.message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .metadata.labels.a'
    )
    assert [(cause.path, cause.reason) for cause in conflict.value.causes] == [
        (".metadata.labels.a", "FieldManagerConflict")
    ]
    same = apply(live, pod({"a": "b"}), "one")
    assert owned(same)["one Apply"] == [".metadata.labels.a"], "who wants what is there has it together"
    forced = apply(live, pod({"a": "c"}), "one", force=True)
    assert forced["metadata"]["labels"] == {"a": "c", "x": "y"}
    assert ".metadata.labels.a" not in owned(forced)["before-first-apply Update"]


def test_what_is_no_longer_applied_goes_away() -> None:
    first = apply(
        None,
        pod({"a": "b", "c": "d"}, containers=[container("main", image="1", env=[{"name": "A"}, {"name": "B"}])]),
        "one",
    )
    second = apply(first, pod({"a": "b"}, containers=[container("main", env=[{"name": "B"}])]), "one")
    assert second["metadata"]["labels"] == {"a": "b"}
    assert second["spec"]["containers"] == [container("main", env=[{"name": "B"}])]
    third = apply(second, pod({"a": "b"}), "one")
    assert third["spec"] == {}


def test_nothing_is_left_of_what_a_volume_was_made_of() -> None:
    """Not even what came by itself."""

    def wanted(**source: Any) -> dict[str, Any]:
        return pod(volumes=[{"name": "v", **source}], containers=[container("main")])

    first = apply(None, wanted(secret={"secretName": "s"}), "one")
    first["spec"]["volumes"][0]["secret"]["defaultMode"] = 420
    second = apply(first, wanted(configMap={"name": "c"}), "one")
    assert second["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]
    shared = apply(first, wanted(secret={"optional": True}), "two")
    third = apply(shared, wanted(), "one")
    assert third["spec"]["volumes"] == [{"name": "v", "secret": {"optional": True, "defaultMode": 420}}]


def test_unless_somebody_else_answers_for_it_too() -> None:
    first = apply(None, pod({"a": "b"}, containers=[container("main", image="1")]), "one")
    both = apply(first, pod({"a": "b"}, containers=[container("main", image="1"), container("side")]), "two")
    assert [each["name"] for each in both["spec"]["containers"]] == ["main", "side"]
    left = apply(both, pod(), "one")
    assert left["metadata"]["labels"] == {"a": "b"}
    assert left["spec"]["containers"] == [container("main", image="1"), container("side")]
    assert list(owned(left)) == ["two Apply"]
    gone = apply(left, pod(), "two")
    assert gone["spec"] == {}


def test_an_item_stays_as_long_as_somebody_has_a_part_of_it() -> None:
    first = apply(None, pod(containers=[container("main", image="1")]), "one")
    second = apply(first, pod(containers=[container("main", command=["x"])]), "two")
    left = apply(second, pod(), "one")
    assert left["spec"]["containers"] == [container("main", command=["x"])]


def test_fields_that_others_have_are_a_conflict_only_if_they_change() -> None:
    first = apply(None, pod(priority=1, hostNetwork=True), "one")
    with pytest.raises(Conflict, match=r'conflict with "one": \.spec\.priority'):
        apply(first, pod(priority=2, hostNetwork=True), "two")
    forced = apply(first, pod(priority=2, hostNetwork=True), "two", force=True)
    assert owned(forced) == {
        "one Apply": [".spec.hostNetwork"],
        "two Apply": [".spec.hostNetwork", ".spec.priority"],
    }


def test_to_apply_the_same_again_changes_nothing() -> None:
    wanted = pod({"a": "b"}, containers=[container("main", ports=[{"containerPort": 80}])])
    first = apply(None, wanted, "one")
    again = applying.apply(first, wanted, POD, "one", force=False, now="2027-01-01T00:00:00Z")
    assert again == first, "not even the time"


def test_what_kubectl_applied_itself_before_is_no_conflict_for_it() -> None:
    def live(image: str) -> dict[str, Any]:
        applied = pod({"a": "b"}, containers=[container("main", image="1")])
        found = pod({"a": "b"}, containers=[container("main", image=image, command=["x"])])
        found["metadata"]["annotations"] = {applying.LAST_APPLIED: json.dumps(applied)}
        return found

    wanted = pod({"a": "c"}, containers=[container("main", image="2")])
    taken = apply(live("1"), wanted, "kubectl")
    assert taken["metadata"]["labels"] == {"a": "c"}
    assert json.loads(taken["metadata"]["annotations"][applying.LAST_APPLIED]) == wanted, "kubectl goes on from here"
    assert ".metadata.labels.a" not in owned(taken)["before-first-apply Update"]
    for name, there in (("other", "1"), ("kubectl", "changed since")):
        with pytest.raises(Conflict, match="before-first-apply"):
            apply(live(there), wanted, name)


def test_kubectl_takes_away_what_it_applied_itself_before() -> None:
    applied = pod({"a": "b", "gone": "soon"}, priority=1, containers=[container("main", env=[{"name": "A"}])])
    live = copy.deepcopy(applied)
    live["metadata"] |= {
        "annotations": {applying.LAST_APPLIED: json.dumps(applied)},
        "labels": {"gone": "soon", "a": "c"},
    }
    live["spec"] |= {"restartPolicy": "Always", "nodeName": "n"}

    def complete(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "spec": {"restartPolicy": "Always", **data["spec"]}}

    def again(**labels: str) -> dict[str, Any]:
        wanted = pod(labels or None, containers=[container("main")], restartPolicy="Never")
        return applying.apply(live, wanted, POD, "kubectl", force=False, now="", complete=complete)

    done = again()
    assert done["metadata"]["labels"] == {"a": "c"}, "which somebody else has changed"
    assert done["spec"] == {"containers": [container("main")], "restartPolicy": "Never", "nodeName": "n"}
    main = '.spec.containers[name="main"]'
    assert owned(done)["kubectl Apply"] == [main, f"{main}.name", ".spec.restartPolicy"]
    # kubectl looks for whoever has the annotation, and makes all that it has its own.
    noted = readable(("f:metadata", "f:annotations", f"f:{applying.LAST_APPLIED}"))
    assert owned(done)["kubectl-client-side-apply Update"] == [noted]
    assert noted not in owned(done)["before-first-apply Update"]
    assert ".spec.nodeName" in owned(done)["before-first-apply Update"]
    with pytest.raises(Conflict, match=r"before-first-apply.*labels\.a"):
        again(a="d")


def test_several_conflicts_are_told_as_kubernetes_does() -> None:
    first = apply(None, pod({"a": "b"}, priority=1), "one")
    second = apply(first, pod({"x": "y"}), "two")
    with pytest.raises(Conflict) as conflict:
        apply(second, pod({"a": "c", "x": "z"}, priority=2), "three")
    assert conflict.value.message == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .metadata.labels.a\n- .spec.priority\n'
        'conflicts with "two":\n- .metadata.labels.x'
    )
    assert len(conflict.value.causes) == 3


def test_ports_are_told_apart_by_number_and_protocol() -> None:
    def service(*ports: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": list(ports)}}

    live = service({"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"})
    merged = applying.apply(
        live, service({"port": 53, "protocol": "UDP", "name": "dns"}), SERVICE, "one", force=False, now=""
    )
    assert merged["spec"]["ports"] == [
        {"port": 53, "protocol": "UDP", "name": "dns"},
        {"port": 53, "protocol": "TCP"},
    ]


_labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)
_steps = st.lists(st.tuples(st.sampled_from(("one", "two")), _labels, st.booleans()), max_size=8)


@given(_steps)
def test_what_is_wanted_is_there_and_nothing_else(
    steps: list[tuple[str, dict[str, str], bool]],
) -> None:
    live: dict[str, Any] | None = None
    wanted: dict[str, dict[str, str]] = {}
    for name, labels, force in steps:
        try:
            live = apply(live, pod(labels), name, force)
        except Conflict:
            assert not force
            continue
        wanted[name] = labels
        found = live["metadata"].get("labels", {})
        assert labels.items() <= found.items()
        assert set(found) <= {key for labels in wanted.values() for key in labels}


# --- over HTTP

PODS = "/api/v1/namespaces/default/pods"


async def send(api: Api, manager: str, body: Any, **query: str) -> Reply:
    parameters = {"fieldManager": manager, **query}
    return await api.ask("PATCH", f"{PODS}/web", body, headers={"Content-Type": APPLY}, params=parameters)


def real(**labels: str) -> dict[str, Any]:
    return pod(labels, containers=[container("main", command=["sleep"])])


async def test_an_object_is_made_changed_and_fought_about(api: Api) -> None:
    made = await send(api, "one", real(a="b"))
    assert made.code == 201
    version = made.body["metadata"]["resourceVersion"]
    again = await send(api, "one", real(a="b"))
    assert (again.code, again.body["metadata"]["resourceVersion"]) == (200, version), "nothing has changed"
    refused = await send(api, "two", real(a="c"))
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert refused.body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".metadata.labels.a"}
    ]
    assert (await send(api, "two", real(a="c"), force="true")).body["metadata"]["labels"] == {"a": "c"}
    await api.ask(
        "PATCH",
        f"{PODS}/web",
        {"metadata": {"labels": {"a": "d"}}},
        headers={"Content-Type": MERGE},
        params={"fieldManager": "editor"},
    )
    assert 'conflict with "editor"' in (await send(api, "two", real(a="c"))).body["message"]
    shown = (await api.get(f"{PODS}/web")).body
    del shown["metadata"]["managedFields"]
    shown["metadata"]["labels"]["a"] = "e"
    replaced = await api.ask("PUT", f"{PODS}/web", shown, headers={"User-Agent": "robot/1.0"})
    managers = [entry["manager"] for entry in replaced.body["metadata"]["managedFields"]]
    assert managers == ["one", "two", "robot"]


async def test_yaml_dry_runs_and_quantities(api: Api) -> None:
    body = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: m, command: [x]}\n"
    assert (await send(api, "one", body, dryRun="All")).code == 201
    assert (await api.get(f"{PODS}/web")).code == 404
    resources = {"requests": {"cpu": "0.5"}}
    wanted = pod(containers=[container("m", command=["x"], resources=resources)])
    first = await send(api, "one", wanted)
    assert first.body["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "500m"}}
    second = await send(api, "two", wanted)
    assert second.code == 200, "0.5 and 500m are the same"


async def test_what_is_there_but_for_defaults_is_no_conflict(api: Api) -> None:
    """A fieldRef is one value; its apiVersion is a default."""
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    wanted = pod(containers=[container("m", command=["x"], env=env)])
    full = copy.deepcopy(wanted)
    full["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
    full["metadata"]["annotations"] = {applying.LAST_APPLIED: json.dumps(wanted)}
    assert (await api.ask("POST", PODS, full)).code == 201
    for manager in ("kubectl", "other"):
        applied = await send(api, manager, wanted)
        assert applied.code == 200, applied.body
        found = applied.body["spec"]["containers"][0]["env"]
        assert found == full["spec"]["containers"][0]["env"]


async def test_what_cannot_be_applied(api: Api) -> None:
    for body, query, code in (
        (real(), {"fieldManager": ""}, 422),
        (real(), {"fieldManager": "x" * 129}, 422),
        ([], {}, 400),
        ({}, {}, 400),
        ({**real(), "metadata": {"name": "other"}}, {}, 400),
        ({**real(), "metadata": {"name": "web", "managedFields": [{"manager": "x"}]}}, {}, 400),
        (pod(contaners=[]), {"fieldValidation": "Strict"}, 400),
        (pod(containers=7), {}, 422),
        (pod(), {}, 422),
    ):
        assert (await send(api, "one", body, **query)).code == code, body


RCS = "/api/v1/namespaces/default/replicationcontrollers"


def controller(replicas: int | None = None) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": real()["spec"]}
    spec = {"selector": {"app": "web"}, "template": template} | ({} if replicas is None else {"replicas": replicas})
    return {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web"}, "spec": spec}


async def apply_at(api: Api, path: str, manager: str, body: Any, **query: str) -> Reply:
    parameters = {"fieldManager": manager, **query}
    return await api.ask("PATCH", f"{RCS}/web{path}", body, headers={"Content-Type": APPLY}, params=parameters)


def managers(reply: Reply) -> dict[str, Any]:
    return {
        " ".join((each["manager"], each["operation"], each.get("subresource", ""))).strip(): each["fieldsV1"]
        for each in reply.body["metadata"]["managedFields"]
    }


def scale(replicas: int | None) -> dict[str, Any]:
    spec = {} if replicas is None else {"replicas": replicas}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": spec}


async def test_who_scales_answers_for_the_replicas(api: Api) -> None:
    await apply_at(api, "", "one", controller(2))
    patch = {"spec": {"replicas": 3}}
    scaled = await api.ask(
        "PATCH", f"{RCS}/web/scale", patch, headers={"Content-Type": MERGE, "User-Agent": "kubectl/1"}
    )
    assert scaled.body["spec"] == {"replicas": 3}
    refused = await apply_at(api, "", "one", controller(2))
    assert refused.body["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using v1: .spec.replicas'
    )
    assert (await apply_at(api, "", "one", controller())).code == 200, "it says nothing of the replicas any more"
    assert (await api.get(f"{RCS}/web/scale")).body["spec"] == {"replicas": 3}


async def test_the_scale_can_be_applied(api: Api) -> None:
    assert (await apply_at(api, "/scale", "hpa", scale(3))).code == 404
    await apply_at(api, "", "one", controller(2))
    refused = await apply_at(api, "/scale", "hpa", scale(3))
    assert (refused.code, refused.body["message"]) == (
        409,
        'Apply failed with 1 conflict: conflict with "one": .spec.replicas',
    )
    taken = await apply_at(api, "/scale", "hpa", scale(3), force="true")
    assert (taken.code, taken.body["kind"], taken.body["spec"]) == (200, "Scale", {"replicas": 3})
    shown = await api.get(f"{RCS}/web")
    assert managers(shown)["hpa Apply scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in managers(shown)["one Apply"]["f:spec"]
    assert (await apply_at(api, "/scale", "hpa", scale(None))).body["spec"] == {"replicas": 0}
    assert "hpa Apply scale" not in managers(await api.get(f"{RCS}/web"))
    refused = await apply_at(api, "/scale", "hpa", {**scale(1), "metadata": {"name": "web", "resourceVersion": "1"}})
    assert refused.code == 409
    assert (await apply_at(api, "/scale", "", scale(1))).code == 422


async def test_the_status_can_be_applied(api: Api) -> None:
    await apply_at(api, "", "one", controller(2))
    status = {"replicas": 2, "conditions": [{"type": "Odd", "status": "True"}]}
    applied = await apply_at(api, "/status", "robot", {**controller(7), "status": status})
    assert (applied.body["spec"]["replicas"], applied.body["status"]) == (2, status), "the status and nothing else"
    fields: dict[str, Any] = {
        "f:replicas": {},
        "f:conditions": {'k:{"type":"Odd"}': {".": {}, "f:status": {}, "f:type": {}}},
    }
    assert managers(applied)["robot Apply status"] == {"f:status": fields}
    again = await apply_at(api, "/status", "robot", {**controller(), "status": status})
    assert again.body == applied.body, "it is as it was"
    refused = await apply_at(api, "/status", "other", {**controller(), "status": {"replicas": 1}})
    assert refused.body["message"] == (
        'Apply failed with 1 conflict: conflict with "robot" with subresource "status": .status.replicas'
    )
    less = await apply_at(api, "/status", "robot", {**controller(), "status": {"replicas": 2}})
    assert less.body["status"] == {"replicas": 2}
    changed = {**less.body, "status": {"replicas": 5}}
    put = await api.ask("PUT", f"{RCS}/web/status", changed, params={"fieldManager": "counter"})
    assert managers(put) == {
        "one Apply": managers(applied)["one Apply"],
        "counter Update status": {"f:status": {"f:replicas": {}}},
    }


@pytest.mark.parametrize(
    ("method", "query", "field"),
    [
        ("POST", {"fieldManager": "x" * 129}, "fieldManager"),
        ("PUT", {"fieldManager": "a\tb"}, "fieldManager"),
        ("PATCH", {"force": "true"}, "force"),
    ],
)
async def test_managers_that_are_refused(api: Api, method: str, query: dict[str, str], field: str) -> None:
    path = RCS if method == "POST" else f"{RCS}/web"
    refused = await api.ask(method, path, controller(1), headers={"Content-Type": MERGE}, params=query)
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert [cause["field"] for cause in refused.body["details"]["causes"]] == [field]


async def test_managed_fields_are_stripped_by_one_empty_entry_and_by_nothing_else(api: Api) -> None:
    await send(api, "one", real(a="b"))
    for value, left in (([], ["one"]), ([{"manager": "x", "operation": "Steal"}], None), ([{}], [])):
        patch: list[dict[str, Any]] = [{"op": "replace", "path": "/metadata/managedFields", "value": value}]
        reply = await api.ask("PATCH", f"{PODS}/web", patch, headers={"Content-Type": JSON_PATCH})
        if left is None:
            assert (reply.code, reply.body["details"]["causes"][0]["field"]) == (
                422,
                "metadata.managedFields[0].operation",
            )
        else:
            assert [each["manager"] for each in reply.body["metadata"].get("managedFields", [])] == left
