"""Discovery in both forms, and OpenAPI documents that hold together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.kubernetes import discovery, openapi
from cluster.kubernetes.catalog import OWN
from cluster.kubernetes.paths import NoSuchPath
from cluster.kubernetes.resources import RESOURCES
from tests.unit.kubernetes.conftest import Api

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def test_every_kind_is_found_either_way(api: Api) -> None:
    found = set()
    for path in ("/api", "/apis"):
        reply = await api.get(path, headers={"Accept": AGGREGATED})
        assert reply.headers["Content-Type"] == (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        ), "or kubectl takes it for the other form"
        for group in reply.body["items"]:
            for version in group["versions"]:
                assert version["freshness"] == "Current"
                found |= {
                    (group["metadata"].get("name", ""), version["version"], each["resource"])
                    for each in version["resources"]
                }
    classic = set()
    groups = [("", "v1", "/api/v1")]
    for group in (await api.get("/apis/")).body["groups"]:
        assert (await api.get(f"/apis/{group['name']}")).body["preferredVersion"] == group["preferredVersion"]
        groups += [(group["name"], each["version"], f"/apis/{each['groupVersion']}") for each in group["versions"]]
    for name, version, path in groups:
        resources = (await api.get(path)).body["resources"]
        classic |= {(name, version, each["name"]) for each in resources if "/" not in each["name"]}
    assert found == classic
    assert {plural for _, _, plural in found} >= {row.plural for row in RESOURCES}


async def test_subresources_have_the_kinds_of_their_bodies(api: Api) -> None:
    resources = {each["name"]: each for each in (await api.get("/api/v1")).body["resources"]}
    scale = resources["replicationcontrollers/scale"]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    assert (resources["pods/eviction"]["group"], resources["pods/eviction"]["version"]) == ("policy", "v1")
    assert resources["pods/status"]["verbs"] == ["get", "patch", "update"]
    assert resources["pods/log"]["verbs"] == ["get"]


async def test_every_path_that_the_root_names_is_there(api: Api) -> None:
    paths = (await api.get("/")).body["paths"]
    assert {"/api/v1", "/apis/policy", "/apis/metrics.k8s.io/v1beta1", "/readyz"} <= set(paths)
    for path in paths:
        assert (await api.get(path)).code == 200, path


async def test_the_version(api: Api) -> None:
    version = (await api.get("/version/")).body
    assert version["gitVersion"].startswith(f"v{discovery.MAJOR}.{discovery.MINOR}.0+podium-")
    assert (await api.get("/api")).body["versions"] == ["v1"]


def references(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(data, list):
        for value in data:
            yield from references(value)


def test_schemas_hold_together() -> None:
    index = json.loads(openapi.document(["v3"], "", OWN)[0])["paths"]
    kinds = set()
    for name, entry in index.items():
        path, _, digest = entry["serverRelativeURL"].partition("?hash=")
        assert path == f"/openapi/v3/{name}"
        assert len(digest) == 32
        document = json.loads(openapi.document(["v3", *name.split("/")], "", OWN)[0])
        schemas = document["components"]["schemas"]
        assert {each.removeprefix("#/components/schemas/") for each in references(document)} <= set(schemas)
        for schema in schemas.values():
            kinds |= {each["kind"] for each in schema.get("x-kubernetes-group-version-kind", ())}
        patches = [each["patch"] for each in document["paths"].values() if "patch" in each]
        assert patches
        for patch in patches:
            assert {"fieldValidation", "dryRun"} <= {each["name"] for each in patch["parameters"]}
            assert patch["x-kubernetes-group-version-kind"]["kind"] in kinds
        names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
        assert len(names) == len(set(names))
    assert kinds == {row.kind.name for row in RESOURCES}


def test_lists_say_how_they_are_merged() -> None:
    schemas = json.loads(openapi.document(["v3", "api", "v1"], "", OWN)[0])["components"]["schemas"]
    spec = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert spec["containers"]["x-kubernetes-patch-merge-key"] == "name"
    assert spec["containers"]["x-kubernetes-list-type"] == "map"
    assert spec["tolerations"]["x-kubernetes-list-type"] == "atomic"
    grace = spec["terminationGracePeriodSeconds"]
    assert (grace["type"], grace["format"]) == ("integer", "int64")
    assert "hostNetwork" in spec, "what Podium does not carry out is taken, too"
    assert "emptyDir" in schemas["io.k8s.api.core.v1.Volume"]["properties"], "inline fields stand where one writes them"


def test_everything_that_explain_shows_has_a_description() -> None:
    schemas = json.loads(openapi.document(["v3", "api", "v1"], "", OWN)[0])["components"]["schemas"]
    pod, spec = schemas["io.k8s.api.core.v1.Pod"], schemas["io.k8s.api.core.v1.PodSpec"]
    assert pod["description"]
    reference = pod["properties"]["spec"]
    assert reference["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]
    assert reference["description"] == "What is wanted."
    assert spec["description"]
    assert "SIGTERM" in spec["properties"]["terminationGracePeriodSeconds"]["description"]
    for name in ("Pod", "PodSpec", "Container", "ServiceSpec", "ReplicationControllerSpec", "Probe", "PodStatus"):
        for field, schema in schemas[f"io.k8s.api.core.v1.{name}"]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"


def test_comments_become_descriptions(tmp_path: Path) -> None:
    (tmp_path / "x.proto").write_text(
        """
        syntax = "proto2";
        // --- A heading

        // What it is,
        // in two lines.
        message Outer {
          // First.
          optional string a = 1;
          optional string b = 2;  // not above it
          // Inside.
          message Inner {
            // Deep.
            optional string c = 1;
          }
        }
        """
    )
    descriptors = tmp_path / "x.bin"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{tmp_path}", "--include_source_info"]
    subprocess.run([*protoc, f"--descriptor_set_out={descriptors}", "x.proto"], check=True, cwd=tmp_path)
    describe = Path(openapi.__file__).parents[2] / "protos" / "describe.py"
    made = subprocess.run([sys.executable, describe, descriptors], check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = {}
    exec(made, found)
    assert found["DESCRIPTIONS"] == {
        "Outer": "What it is, in two lines.",
        "Outer.a": "First.",
        "Outer.Inner": "Inside.",
        "Outer.Inner.c": "Deep.",
    }


def test_the_second_version_as_json_and_as_protobuf() -> None:
    document = json.loads(openapi.document(["v2"], "application/json", OWN)[0])
    assert {each.removeprefix("#/definitions/") for each in references(document)} <= set(document["definitions"])
    proto, media = openapi.document(["v2"], "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", OWN)
    assert "@" not in media, "it must parse as a type of content"
    assert proto.startswith(b"\n\x032.0")
    for kind in RESOURCES:
        assert f"/{kind.plural}/{{name}}".encode() in proto
    assert proto.count(b"fieldValidation") == len(RESOURCES)


def test_other_documents_there_are_not() -> None:
    for parts in ([], ["v1"], ["v3", "api"], ["v3", "apis", "apps", "v1"], ["v2", "x"]):
        with pytest.raises(NoSuchPath):
            openapi.document(parts, "", OWN)
