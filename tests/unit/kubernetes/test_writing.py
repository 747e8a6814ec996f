"""create, update, patch, delete, and the subresources."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.errors import NotFound, TooManyRequests
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.kubernetes.patching import JSON_PATCH, MERGE, STRATEGIC
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, Reply, manifest, pod

PODS = "/api/v1/namespaces/default/pods"
RCS = "/api/v1/namespaces/default/replicationcontrollers"


def rc(replicas: int = 1) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": manifest()["spec"]}
    spec = {"replicas": replicas, "selector": {"app": "web"}, "template": template}
    return {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web"}, "spec": spec}


async def patch(api: Api, path: str, media: str, body: Any) -> Reply:
    return await api.ask("PATCH", path, body, headers={"Content-Type": media})


async def test_create(api: Api, cluster: MemoryCluster) -> None:
    reply = await api.ask("POST", PODS, manifest())
    assert (reply.code, reply.body["kind"]) == (201, "Pod")
    assert reply.body["spec"]["restartPolicy"] == "Always", "defaults are applied"
    assert cluster.find(core.Pod, "web") is not None
    again = await api.ask("POST", PODS, manifest())
    assert (again.code, again.reason) == (409, "AlreadyExists")
    assert again.body["details"] == {"name": "web", "kind": "pods"}


async def test_create_with_a_generated_name(api: Api) -> None:
    body = manifest()
    body["metadata"] = {"generateName": "web-"}
    names = {(await api.ask("POST", PODS, body)).body["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_a_dry_run_writes_nothing(api: Api, cluster: MemoryCluster) -> None:
    assert (await api.ask("POST", f"{PODS}?dryRun=All", manifest())).code == 201
    assert cluster.find(core.Pod, "web") is None
    cluster.put(pod("web"))
    assert (await patch(api, f"{PODS}/web?dryRun=All", MERGE, {"metadata": {"labels": {"a": "b"}}})).code == 200
    assert (await api.ask("DELETE", f"{PODS}/web", {"dryRun": ["All"]})).code == 200
    assert (await api.ask("DELETE", f"{PODS}/web?dryRun=All")).code == 200
    assert (await api.ask("DELETE", f"{PODS}?dryRun=All")).code == 200
    found = cluster.find(core.Pod, "web")
    assert found is not None
    assert not found.metadata.labels
    assert (await api.ask("POST", f"{PODS}?dryRun=some", manifest("other"))).code == 422


async def test_a_dry_run_answers_with_the_version_that_there_is(api: Api, cluster: MemoryCluster) -> None:
    """For `kubectl diff`: nothing but the change is another."""
    created = await api.ask("POST", f"{PODS}?dryRun=All", manifest())
    assert "resourceVersion" not in created.body["metadata"]
    await api.ask("POST", PODS, manifest())
    found = cluster.find(core.Pod, "web")
    assert found is not None
    stored = core.Pod()
    stored.CopyFrom(found)
    stored.status.phase = "Running"
    await cluster.client("controllers").write([operations.update_status(stored)])
    before = (await api.get(f"{PODS}/web")).body
    change = {"metadata": {"labels": {"a": "b"}}}
    patched = (await patch(api, f"{PODS}/web?dryRun=All", MERGE, change)).body
    wanted = {**before, "metadata": before["metadata"] | change["metadata"]}
    replaced = (await api.ask("PUT", f"{PODS}/web?dryRun=All", wanted)).body
    for answer in (patched, replaced):
        assert answer["metadata"].pop("labels") == {"a": "b"}
        assert answer == before


async def test_nobody_is_shown_what_a_dry_run_would_have_written(api: Api, cluster: MemoryCluster) -> None:
    await api.ask("POST", PODS, manifest())
    for media in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
        accept = {"Accept": media, "Content-Type": MERGE}
        for value in ("dry", "real"):
            option = "?dryRun=All" if value == "dry" else ""
            body = {"metadata": {"labels": {"a": value}}}
            said = await api.ask("PATCH", f"{PODS}/web{option}", body, headers=accept)
            assert f'"a": "{value}"'.replace('"', "'") in str(said.body)
        assert (await api.get(f"{PODS}/web")).body["metadata"]["labels"] == {"a": "real"}
        await api.ask("PATCH", f"{PODS}/web", {"metadata": {"labels": None}}, headers={"Content-Type": MERGE})


async def test_kubectl_is_told_what_is_invalid_where_no_field_is(api: Api, cluster: MemoryCluster) -> None:
    """It shows the causes of what is invalid, and not the message."""
    cluster.put(pod("web"))
    wanted = [{"op": "test", "path": "/spec/restartPolicy", "value": "Never"}]
    reply = await patch(api, f"{PODS}/web", "application/json-patch+json", wanted)
    assert (reply.code, reply.reason) == (422, "Invalid")
    assert "details" not in reply.body, "then it shows the message"
    assert reply.body["message"].endswith("a test failed: Always is not equal to tested value Never")
    named = {"metadata": {"name": "new", "resourceVersion": "7"}}
    assert (await api.ask("POST", PODS, manifest() | named)).body["details"]["name"] == "new"
    twice = await api.ask("POST", PODS, manifest("Bad Name"))
    assert twice.body["message"].count("is invalid: ") == 1, "what is named is not named again"
    blind = await api.ask("POST", f"{PODS}?dryRun=Some", manifest("other"))
    (cause,) = blind.body["details"]["causes"]
    assert (cause["field"], cause["message"]) == ("dryRun", 'Unsupported value: "Some": supported values: "All"')


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"kind": "Service"}, 400, 'the object is a "Service"'),
        ({"apiVersion": "v2"}, 400, 'the object is of "v2"'),
        ({"metadata": {"name": "web", "namespace": "other"}}, 400, "does not match the namespace"),
        ({"metadata": {"name": "web", "resourceVersion": "7"}}, 422, "resourceVersion"),
        ({"spec": {}}, 422, "spec.containers"),
        ({"spec": {"containers": 7}}, 400, 'Pod in version "v1" cannot be handled as a Pod: spec.containers: must be'),
        ({"metadata": 7}, 400, "must be an object"),
    ],
)
async def test_objects_that_are_refused(api: Api, change: dict[str, Any], code: int, words: str) -> None:
    reply = await api.ask("POST", PODS, {**manifest(), **change})
    assert reply.code == code, reply.body
    assert words in reply.body["message"]


async def test_what_is_not_there_is_named(api: Api, cluster: MemoryCluster) -> None:
    cluster.fail_next(NotFound('namespaces "nowhere" not found'))
    reply = await api.ask("POST", PODS.replace("default", "nowhere"), manifest(namespace="nowhere"))
    assert (reply.code, reply.body["details"]) == (404, {"name": "nowhere", "kind": "namespaces"})


async def test_an_invalid_object_names_what_is_wrong(api: Api) -> None:
    reply = await api.ask("POST", PODS, manifest(restartPolicy="Sometimes"))
    assert (reply.code, reply.reason) == (422, "Invalid")
    assert reply.body["message"].startswith('Pod "web" is invalid: spec.restartPolicy')
    assert [cause["field"] for cause in reply.body["details"]["causes"]] == ["spec.restartPolicy"]


async def test_what_is_wrong_with_a_whole_object_is_told_of_no_field_as_in_kubernetes(api: Api) -> None:
    body = {"metadata": {"name": "big"}, "data": {"a": "x" * (1 << 20), "b": "x"}}
    reply = await api.ask("POST", "/api/v1/namespaces/default/configmaps", body)
    assert (reply.code, reply.reason) == (422, "Invalid")
    (cause,) = reply.body["details"]["causes"]
    assert (cause["field"], cause["message"]) == ("[]", "Too long: must have at most 1048576 bytes")


async def test_fields_of_a_status_that_are_not_carried_out_are_kept(api: Api, cluster: MemoryCluster) -> None:
    services = "/api/v1/namespaces/default/services"
    spec = {"ports": [{"port": 80}], "ipFamilyPolicy": "PreferDualStack"}
    await api.ask("POST", services, {"kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    balanced = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    told = await patch(api, f"{services}/web/status", MERGE, {"status": balanced})
    assert "status.loadBalancer: is a field" in told.headers["Warning"]
    for answer in (told, await api.get(f"{services}/web")):
        assert answer.body["status"] == balanced
        assert answer.body["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert "annotations" not in answer.body["metadata"]
    of_somebody = core.Service(metadata=core.ObjectMeta(name="web", namespace="default"))
    await cluster.client("controllers").write([operations.update_status(of_somebody)])
    now = (await api.get(f"{services}/web")).body
    assert now["status"] == balanced, "who knows nothing of it changes nothing"
    whole = await api.ask("PUT", f"{services}/web", {**now, "status": {}})
    assert whole.body["status"] == balanced, "a status is written apart"
    replaced = await api.ask("PUT", f"{services}/web/status", {**whole.body, "status": {}})
    assert replaced.code == 200, replaced.body
    last = (await api.get(f"{services}/web")).body
    assert (last["status"], last["spec"]["ipFamilyPolicy"]) == ({}, "PreferDualStack")


async def test_an_image_that_is_changed_too_late_is_told_once(api: Api, cluster: MemoryCluster) -> None:
    await api.ask("POST", PODS, manifest())
    pod = cluster.find(core.Pod, "web")
    assert pod is not None
    name = pod.spec.containers[0].name
    pod.status.containerStatuses.add(name=name, image="host")
    await cluster.client("node:node-1").write([operations.update_status(pod)])
    change = {"spec": {"containers": [{"name": name, "image": "nginx"}]}}
    told = await patch(api, f"{PODS}/web", STRATEGIC, change)
    assert "spec.containers[0].image: has no effect" in told.headers["Warning"]
    again = await patch(api, f"{PODS}/web", MERGE, {"metadata": {"labels": {"a": "b"}}})
    assert (again.code, again.headers.get("Warning")) == (200, None)


async def test_it_is_told_as_well_when_the_pod_is_replaced_without_its_status(api: Api, cluster: MemoryCluster) -> None:
    made = (await api.ask("POST", PODS, manifest())).body
    pod = cluster.find(core.Pod, "web")
    assert pod is not None
    pod.status.containerStatuses.add(name=made["spec"]["containers"][0]["name"], image="host")
    await cluster.client("node:node-1").write([operations.update_status(pod)])
    del made["status"], made["metadata"]["resourceVersion"]
    made["spec"]["containers"][0]["image"] = "nginx"
    told = await api.ask("PUT", f"{PODS}/web", made)
    assert told.code == 200, told.body
    assert "spec.containers[0].image: has no effect" in told.headers["Warning"]


async def test_unknown_fields(api: Api, cluster: MemoryCluster) -> None:
    body = manifest(contaners=[], x=1)
    strict = await api.ask("POST", f"{PODS}?fieldValidation=Strict", body)
    assert strict.code == 400
    assert 'strict decoding error: unknown field "spec.contaners", unknown field "spec.x"' in strict.body["message"]
    assert cluster.find(core.Pod, "web") is None
    warned = await api.ask("POST", f"{PODS}?fieldValidation=Warn", body)
    assert warned.code == 201
    assert warned.headers.getall("Warning") == [
        '299 - "unknown field \\"spec.contaners\\""',
        '299 - "unknown field \\"spec.x\\""',
    ]
    body["metadata"] = {"name": "quiet"}
    ignored = await api.ask("POST", f"{PODS}?fieldValidation=Ignore", body)
    assert ignored.code == 201
    assert "Warning" not in ignored.headers


async def test_fields_that_podium_does_not_carry_out_are_kept(api: Api) -> None:
    reply = await api.ask(
        "POST", f"{PODS}?fieldValidation=Strict", manifest(hostNetwork=True, dnsPolicy="ClusterFirst")
    )
    assert reply.code == 201
    assert reply.headers.getall("Warning") == [
        '299 - "spec.hostNetwork: is a field of Kubernetes that Podium does not carry out"'
    ]
    assert reply.body["spec"]["hostNetwork"] is True
    assert reply.body["spec"]["dnsPolicy"] == "ClusterFirst"
    assert "annotations" not in reply.body["metadata"]
    labelled = await patch(api, f"{PODS}/web", MERGE, {"metadata": {"labels": {"a": "b"}}})
    assert "Warning" not in labelled.headers, "nobody is warned of what is there already"
    gone = await patch(api, f"{PODS}/web", JSON_PATCH, [{"op": "remove", "path": "/spec/hostNetwork"}])
    assert gone.code == 200
    assert "hostNetwork" not in gone.body["spec"]
    assert gone.body["spec"]["dnsPolicy"] == "ClusterFirst"


async def test_what_is_carried_out_otherwise_is_warned_of(api: Api) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    reply = await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    assert reply.code == 201
    assert "pods have no identity of their own" in reply.headers["Warning"]
    unnamed = {**account, "secrets": [{"kind": "Secret"}]}
    assert (await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", unnamed)).code == 422


async def test_newer_fields_of_kubernetes_are_kept_with_a_warning(api: Api) -> None:
    newer = manifest(hostUsers=True, os={"name": "linux"}, resourceClaims=[{"name": "gpu"}])
    reply = await api.ask("POST", f"{PODS}?fieldValidation=Strict", newer)
    assert reply.code == 201, reply.body
    warned = "\n".join(reply.headers.getall("Warning"))
    for field in ("spec.hostUsers", "spec.os", "spec.resourceClaims"):
        assert field in warned
    shown = (await api.get(f"{PODS}/web")).body["spec"]
    assert (shown["hostUsers"], shown["os"], shown["resourceClaims"]) == (True, {"name": "linux"}, [{"name": "gpu"}])


async def test_update(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    shown = (await api.get(f"{PODS}/web")).body
    shown["metadata"]["labels"] = {"a": "b"}
    updated = await api.ask("PUT", f"{PODS}/web", shown)
    assert updated.code == 200
    assert updated.body["metadata"]["labels"] == {"a": "b"}
    stale = await api.ask("PUT", f"{PODS}/web", {**shown, "metadata": {**shown["metadata"], "labels": {"a": "c"}}})
    assert (stale.code, stale.reason) == (409, "Conflict")
    assert "please apply your changes to the latest version and try again" in stale.body["message"]
    assert (await api.ask("PUT", f"{PODS}/other", shown)).code == 400
    assert (await api.ask("PUT", f"{PODS}/gone", manifest("gone"))).code == 404


async def test_of_some_kinds_update_makes_what_is_not_there(api: Api) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {"metadata": {"name": "one"}, "spec": {"holderIdentity": "me"}}
    assert (await api.ask("PUT", f"{leases}/one", lease)).code == 201
    again = await api.ask("PUT", f"{leases}/one", lease)
    assert (again.code, again.body["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")
    named = {"metadata": {"name": "two", "resourceVersion": "7"}}
    assert (await api.ask("PUT", f"{leases}/two", named)).code == 404
    assert (await api.ask("PUT", f"{PODS}/web", manifest())).code == 404


async def test_the_status_is_written_apart(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    body = {**manifest(), "status": {"phase": "Running"}}
    assert (await api.ask("PUT", f"{PODS}/web/status", body)).body["status"]["phase"] == "Running"
    patched = await patch(api, f"{PODS}/web/status", MERGE, {"status": {"phase": "Failed"}})
    assert patched.body["status"]["phase"] == "Failed"
    ignored = await patch(api, f"{PODS}/web", MERGE, {"status": {"phase": "Pending"}})
    assert ignored.body["status"]["phase"] == "Failed"
    assert (await api.get(f"{PODS}/web/status")).body["status"]["phase"] == "Failed"


@pytest.mark.parametrize(
    ("media", "body"),
    [
        (MERGE, {"metadata": {"labels": {"a": "b"}}}),
        (STRATEGIC, {"metadata": {"labels": {"a": "b"}}}),
        (JSON_PATCH, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]),
    ],
)
async def test_patches(api: Api, cluster: MemoryCluster, media: str, body: Any) -> None:
    cluster.put(pod("web"))
    reply = await patch(api, f"{PODS}/web", media, body)
    assert reply.code == 200
    assert reply.body["metadata"]["labels"] == {"a": "b"}
    again = await patch(api, f"{PODS}/web", media, body)
    assert again.body["metadata"]["resourceVersion"] == reply.body["metadata"]["resourceVersion"], "nothing changed"


async def test_a_patch_is_applied_again_when_somebody_was_faster(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    others = [1, 2, 3]

    def interfere(actor: str, operations: object) -> None:
        if others:
            found = core.Pod()
            stored = cluster.find(core.Pod, "web")
            assert stored is not None
            found.CopyFrom(stored)
            found.metadata.labels[f"other-{others.pop()}"] = "x"
            cluster.put(found)

    cluster.on_write = interfere
    reply = await patch(api, f"{PODS}/web", MERGE, {"metadata": {"labels": {"mine": "x"}}})
    assert reply.code == 200
    assert sorted(reply.body["metadata"]["labels"]) == ["mine", "other-1", "other-2", "other-3"]
    others.append(9)
    version = reply.body["metadata"]["resourceVersion"]
    meant = {"metadata": {"resourceVersion": version, "labels": {"mine": "y"}}}
    assert (await patch(api, f"{PODS}/web", MERGE, meant)).code == 409, "it named the version that it is meant for"
    others.append(10)
    version = (await api.get(f"{PODS}/web")).body["metadata"]["resourceVersion"]
    tested = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/metadata/labels/mine", "value": "z"},
    ]
    assert (await patch(api, f"{PODS}/web", JSON_PATCH, tested)).code == 422, "applied again, it fails by its own test"
    others.append(11)
    version = (await api.get(f"{PODS}/web")).body["metadata"]["resourceVersion"]
    replaced = [{"op": "replace", "path": "/metadata/resourceVersion", "value": version}, tested[1]]
    assert (await patch(api, f"{PODS}/web", JSON_PATCH, replaced)).code == 409


async def test_patches_that_are_refused(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    for media, body, code in (
        (MERGE, [], 400),
        (JSON_PATCH, {}, 400),
        ("application/json", {}, 415),
        (MERGE, {"metadata": {"name": "other"}}, 400),
        (MERGE, {"kind": "Node"}, 400),
        (MERGE, {"spec": {"containers": None}}, 422),
        (MERGE, {"spec": {"containers": 7}}, 422),
    ):
        assert (await patch(api, f"{PODS}/web", media, body)).code == code, (media, body)
    assert (await patch(api, f"{PODS}/gone", MERGE, {})).code == 404


async def test_delete(api: Api, cluster: MemoryCluster) -> None:
    await api.ask("POST", RCS, rc())
    uid = (await api.get(f"{RCS}/web")).body["metadata"]["uid"]
    wrong = await api.ask("DELETE", f"{RCS}/web", {"preconditions": {"uid": "x"}})
    assert (wrong.code, wrong.reason) == (409, "Conflict")
    options = {"preconditions": {"uid": uid}, "propagationPolicy": "Background", "somethingNewer": True}
    reply = await api.ask("DELETE", f"{RCS}/web", options)
    assert (reply.code, reply.body["status"]) == (200, "Success")
    assert reply.body["details"] == {"name": "web", "kind": "replicationcontrollers", "uid": uid}
    assert (await api.ask("DELETE", f"{RCS}/web")).code == 404


async def test_a_pod_that_runs_is_still_there(api: Api, cluster: MemoryCluster) -> None:
    placed = pod("web")
    placed.spec.nodeName = "n1"
    cluster.put(placed)
    reply = await api.ask("DELETE", f"{PODS}/web", {"gracePeriodSeconds": 7})
    assert reply.body["kind"] == "Pod"
    assert reply.body["metadata"]["deletionGracePeriodSeconds"] == 7
    assert (await api.ask("DELETE", f"{PODS}/web?gracePeriodSeconds=0")).code == 200
    assert cluster.find(core.Pod, "web") is None


TWICE = {
    "application/json": (
        b'{"metadata":{"name":"web","labels":{"a":"1","a":"2"}},"data":{"k":"1","k":"2","k":"3"},"data":{"k":"4"}}',
        ['duplicate field "data"', 'duplicate field "metadata.labels.a"'],
    ),
    "application/yaml": (
        b"metadata:\n  name: web\n  labels:\n    a: '1'\n    a: '2'\ndata: {k: '3'}\ndata: {k: '4'}\n",
        ['line 5: key "a" already set in map', 'line 7: key "data" already set in map'],
    ),
}
CONFIGS = "/api/v1/namespaces/default/configmaps"


def warned(reply: Any) -> list[str]:
    found = reply.headers.getall("Warning", [])
    return [text.removeprefix('299 - "').removesuffix('"').replace("\\", "") for text in found]


@pytest.mark.parametrize("media", TWICE)
async def test_fields_that_are_there_twice(api: Api, media: str) -> None:
    body, said = TWICE[media]

    async def send(method: str, path: str, strictness: str, **headers: str) -> Any:
        query = f"{path}?fieldManager=me&fieldValidation={strictness}"
        return await api.ask(method, query, body, headers={"Content-Type": media, **headers})

    strict = await send("POST", CONFIGS, "Strict")
    assert (strict.code, strict.reason) == (400, "BadRequest")
    assert strict.body["message"].endswith(f"strict decoding error: {', '.join(said)}")
    silent = await send("POST", CONFIGS, "Ignore")
    assert (silent.code, warned(silent), silent.body["data"]) == (201, [], {"k": "4"})
    assert silent.body["metadata"]["labels"] == {"a": "2"}
    loud = await send("PUT", f"{CONFIGS}/web", "Warn")
    assert (loud.code, warned(loud)) == (200, said)
    assert warned(await send("PUT", f"{CONFIGS}/web", "")) == said, "that is what is usual"


@pytest.mark.parametrize(
    ("media", "body", "said"),
    [
        ("application/merge-patch+json", b'{"data":{"k":"1","k":"2"}}', 'duplicate field "data.k"'),
        ("application/strategic-merge-patch+json", b'{"data":{"k":"1","k":"2"}}', 'duplicate field "data.k"'),
        (
            "application/json-patch+json",
            b'[{"op":"add","path":"/data/k","value":"1","value":"2"}]',
            'duplicate field "[0].value"',
        ),
        (
            "application/apply-patch+yaml",
            b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata:\n  k: '1'\n  k: '2'\n",
            'line 6: key "k" already set in map',
        ),
    ],
)
async def test_patches_that_say_a_thing_twice(
    api: Api, cluster: MemoryCluster, media: str, body: bytes, said: str
) -> None:
    cluster.put(core.ConfigMap(metadata=core.ObjectMeta(name="web", namespace="default"), data={"k": "0"}))

    async def send(strictness: str) -> Any:
        query = f"{CONFIGS}/web?fieldManager=me&force=true&fieldValidation={strictness}"
        path = query if media.startswith("application/apply") else query.replace("&force=true", "")
        return await api.ask("PATCH", path, body, headers={"Content-Type": media})

    strict = await send("Strict")
    assert strict.code == 400
    assert said in strict.body["message"]
    loud = await send("Warn")
    assert (loud.code, warned(loud), loud.body["data"]) == (200, [said], {"k": "2"})
    assert warned(await send("Ignore")) == []


async def test_options_of_a_deletion_that_say_a_thing_twice(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    body = b'{"gracePeriodSeconds":5,"gracePeriodSeconds":0}'
    gone = await api.ask("DELETE", f"{PODS}/web", body, headers={"Content-Type": "application/json"})
    assert (gone.code, warned(gone)) == (200, [])


@pytest.mark.parametrize(("query", "body"), [("?gracePeriodSeconds=-30", None), ("", {"gracePeriodSeconds": -30})])
async def test_a_negative_grace_period_is_a_second(api: Api, cluster: MemoryCluster, query: str, body: Any) -> None:
    placed = pod("web")
    placed.spec.nodeName = "n1"
    cluster.put(placed)
    reply = await api.ask("DELETE", f"{PODS}/web{query}", body)
    assert (reply.code, reply.body["metadata"]["deletionGracePeriodSeconds"]) == (200, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"propagationPolicy": "Sideways"},
        {"orphanDependents": True, "propagationPolicy": "Orphan"},
        {"dryRun": ["Some"]},
        {"gracePeriodSeconds": "soon"},
        {"kind": "Pod"},
    ],
)
async def test_deletes_that_are_refused(api: Api, cluster: MemoryCluster, options: dict[str, Any]) -> None:
    cluster.put(pod("web"))
    assert (await api.ask("DELETE", f"{PODS}/web", options)).code in (400, 422)
    assert cluster.find(core.Pod, "web") is not None


async def test_what_an_object_owns_is_orphaned(api: Api, cluster: MemoryCluster) -> None:
    sent: list[wire.DeleteOperation] = []
    cluster.on_write = lambda actor, operations: sent.extend(
        each.delete for each in operations if each.HasField("delete")
    )
    for body in ({"orphanDependents": True}, {"propagationPolicy": "Orphan"}, {"orphanDependents": False}, {}):
        cluster.put(pod("web"))
        await api.ask("DELETE", f"{PODS}/web", {**body, "gracePeriodSeconds": 0})
    assert [each.propagation_policy for each in sent] == ["Orphan", "Orphan", "Background", ""]


async def test_delete_a_collection(api: Api, cluster: MemoryCluster) -> None:
    for number in range(4):
        cluster.put(pod(f"p{number}", tier="front" if number % 2 else "back"))
    cluster.put(pod("elsewhere", "other", tier="front"))
    reply = await api.ask("DELETE", f"{PODS}?labelSelector=tier%3Dfront")
    assert (reply.code, reply.body["kind"]) == (200, "PodList")
    assert [item["metadata"]["name"] for item in reply.body["items"]] == ["p1", "p3"], "what was deleted"
    assert [found.metadata.name for found in cluster.objects(core.Pod)] == ["p0", "p2", "elsewhere"]
    assert (await api.ask("DELETE", "/api/v1/pods")).code == 405


async def test_scale(api: Api, cluster: MemoryCluster) -> None:
    await api.ask("POST", RCS, rc(2))
    shown = (await api.get(f"{RCS}/web/scale")).body
    assert (shown["kind"], shown["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert shown["spec"] == {"replicas": 2}
    assert shown["status"] == {"replicas": 0, "selector": "app=web"}
    table = await api.get(f"{RCS}/web/scale", headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
    assert [each["name"] for each in table.body["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert table.body["rows"][0]["cells"][:3] == ["web", "2", "0"]
    shown["spec"]["replicas"] = 3
    assert (await api.ask("PUT", f"{RCS}/web/scale", shown)).body["spec"] == {"replicas": 3}
    assert (await api.ask("PUT", f"{RCS}/web/scale", shown)).code == 409, "it was changed meanwhile"
    for media, body in (
        (MERGE, {"spec": {"replicas": 4}}),
        (STRATEGIC, {"spec": {"replicas": 5}}),
        (JSON_PATCH, [{"op": "replace", "path": "/spec/replicas", "value": 0}]),
    ):
        assert (await patch(api, f"{RCS}/web/scale", media, body)).code == 200
    found = cluster.find(core.ReplicationController, "web")
    assert found is not None
    assert found.spec.replicas == 0
    assert (await patch(api, f"{RCS}/web/scale", MERGE, {"spec": {"replicas": -1}})).code == 422
    assert (await patch(api, f"{RCS}/web/scale", MERGE, {"spec": {"nope": 1}})).code == 400
    assert (await api.get(f"{RCS}/gone/scale")).code == 404


async def test_bind(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    cluster.put(core.Node(metadata=core.ObjectMeta(name="n1")))
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "web"},
        "target": {"kind": "Node", "name": "n1"},
    }
    reply = await api.ask("POST", f"{PODS}/web/binding", body)
    assert (reply.code, reply.body["status"]) == (201, "Success")
    found = cluster.find(core.Pod, "web")
    assert found is not None
    assert found.spec.nodeName == "n1"
    assert (await api.ask("POST", f"{PODS}/web/binding", body)).code == 409
    assert (await api.ask("POST", f"{PODS}/web/binding", {**body, "target": {}})).code == 422
    assert (await api.ask("POST", f"{PODS}/web/binding", {**body, "metadata": {"name": "x"}})).code == 400


async def test_evict(api: Api, cluster: MemoryCluster) -> None:
    cluster.put(pod("web"))
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web", "namespace": "default"}}
    cluster.fail_next(TooManyRequests("Cannot evict pod as it would violate the pod's disruption budget."))
    refused = await api.ask("POST", f"{PODS}/web/eviction", body)
    assert (refused.code, refused.reason) == (429, "TooManyRequests")
    assert refused.headers["Retry-After"]
    assert (await api.ask("POST", f"{PODS}/web/eviction", {**body, "deleteOptions": {"dryRun": ["All"]}})).code == 201
    orphaning = {**body, "deleteOptions": {"propagationPolicy": "Orphan"}}
    assert (await api.ask("POST", f"{PODS}/web/eviction", orphaning)).code == 422
    assert cluster.find(core.Pod, "web") is not None
    reply = await api.ask("POST", f"{PODS}/web/eviction", body)
    assert (reply.code, reply.body["status"]) == (201, "Success")
    assert cluster.find(core.Pod, "web") is None


async def test_writes_are_made_in_the_name_of_who_asks(api: Api, cluster: MemoryCluster) -> None:
    await api.ask("POST", PODS, manifest())
    assert [actor for actor, _ in cluster.writes] == ["admin"]
    client: ClusterClient = cluster.client()
    assert (await client.get(core.Pod, "web", "default")).metadata.actor == "admin"
