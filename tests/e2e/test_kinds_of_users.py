"""Kinds that users define, on a real cluster: by gRPC and by the command; over a restart, a backup and a what-if."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.api.errors import NotFound
from cluster.api.json import object_to_json
from cluster.api.meta import Key, custom_key
from cluster.client import operations as ops
from cluster.client.interface import EventType
from cluster.pb.v1 import core_pb2 as core
from cluster.testing import Cluster
from tests.kit.widgets import SCHEMA, definition, widget

GROUP = "shop.example.com"
WIDGETS = f"widgets.{GROUP}"
BLUE = custom_key(WIDGETS, "default", "blue")
MANIFEST = f"""
apiVersion: {GROUP}/v1
kind: Widget
metadata:
  name: blue
spec:
  size: 3
---
{json.dumps(object_to_json(definition(group=GROUP, shortNames=["wd"])))}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster.start(nodes=1, home=tmp_path / "podium") as cluster:
        yield cluster


def shown(cluster: Cluster, name: str = "blue") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(cluster.podium("get", f"widgets/{name}", "-o", "json").stdout)
    return data


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in text.splitlines()]


def test_from_manifest_to_the_end(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "widget.yaml"
    path.write_text(MANIFEST)
    # The object stands before its definition, and both are made in one write.
    applied = cluster.podium("apply", "-f", str(path)).stdout.splitlines()
    assert applied == [
        f"customresourcedefinition/{WIDGETS} created",
        f"widget.{GROUP}/blue created",
    ]
    assert shown(cluster)["spec"] == {"size": 3, "colour": "red"}
    assert cluster.podium("apply", "-f", str(path)).stdout.splitlines()[1].endswith("unchanged")
    for word in ("widgets", "widget", "wd", "Widget", WIDGETS, f"widget.{GROUP}"):
        assert [row[0] for row in rows(cluster.podium("get", word).stdout)] == ["NAME", "blue"]
    assert cluster.podium("get", "wd", "-o", "name").stdout == f"widget.{GROUP}/blue\n"
    assert [row[0] for row in rows(cluster.podium("get", "crd").stdout)] == ["NAME", WIDGETS]
    assert [row[0] for row in rows(cluster.podium("get", "customobjects", "-A").stdout)] == ["NAMESPACE", "default"]

    path.write_text(MANIFEST.replace("size: 3", "size: 3\n  bogus: 1"))
    refused = cluster.podium("apply", "-f", str(path), check=False)
    assert f"{path}:2: spec.bogus: unknown field" in refused.stderr
    path.write_text(MANIFEST.replace("size: 3", "size: 30"))
    refused = cluster.podium("apply", "-f", str(path), check=False)
    assert refused.returncode != 0
    assert "spec.size in body should be less than or equal to 10" in refused.stderr
    path.write_text(MANIFEST.replace("size: 3", "size: 4"))
    cluster.podium("apply", "-f", str(path))

    name = f"customobject/{WIDGETS}/blue"
    assert "spec.size" in cluster.podium("history", name).stdout
    assert cluster.podium("undo", "wd/blue").stdout.startswith(f"widget.{GROUP}/blue is as it was at revision")
    assert shown(cluster)["spec"]["size"] == 3
    assert "Undone" in cluster.podium("trace", "widget/blue").stdout
    assert "spec.size" in cluster.podium("history", "widgets/blue").stdout
    told = cluster.podium("diff", "wd/blue", "--from", "1", check=False)
    assert (told.returncode, "+  size: 3" in told.stdout) == (1, True)
    cluster.podium("label", "wd/blue", "a=b")
    both = cluster.podium("label", "wd/blue", "-l", "a=b", "c=d", check=False)
    assert (both.returncode, "names and selectors exclude each other" in both.stderr) == (2, True)
    assert rows(cluster.podium("get", "wd", "-l", "a=b", "--no-headers").stdout)[0][0] == "blue"
    described = cluster.podium("describe", "wd/bl").stdout
    assert re.search(r"(?m)^  size: +3$", described)
    assert "v1 (served, stored, status apart)" in cluster.podium("describe", "crd").stdout
    waiting = cluster.podium("wait", "wd/blue", "--for", "delete", "--timeout", "0.5", check=False)
    assert waiting.returncode == 4
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cluster.run(lambda client: client.write([ops.patch(BLUE, ready, status=True)]))
    assert cluster.podium("wait", "wd/blue", "--for", "condition=Ready").returncode == 0
    assert cluster.podium("wait", name, "--for", "condition=Ready").returncode == 0

    cluster.podium("delete", "wd", "blue")
    assert cluster.podium("get", "widgets/blue", check=False).returncode == 3
    cluster.podium("undo", name)
    cluster.podium("delete", "-f", str(path))
    assert cluster.podium("get", "widgets", check=False).returncode != 0
    assert rows(cluster.podium("get", "crd").stdout) == []


def test_a_kind_that_nobody_defined(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "widget.yaml"
    path.write_text(MANIFEST.partition("---")[0])
    refused = cluster.podium("apply", "-f", str(path), check=False)
    assert f'no matches for kind "Widget" in version "{GROUP}/v1": nobody has defined it' in refused.stderr
    refused = cluster.podium("get", "widgets", check=False)
    assert 'there is no kind "widgets"' in refused.stderr


def test_the_whole_way_over_grpc(cluster: Cluster) -> None:
    crd = definition(group=GROUP)

    async def body(client: Any) -> None:
        written = await client.write([ops.create(crd), ops.create(widget(resource=WIDGETS, spec={"size": 1}))])
        made = [outcome.unwrap() for outcome in written.outcomes]
        assert made[1].apiVersion == f"{GROUP}/v1"
        async with client.watch(
            core.CustomObject, field_selector=f"resource={WIDGETS},metadata.name=blue", initial_state=True
        ) as batches:
            heard: list[Any] = []
            async for batch in batches:
                heard += [(event.type.name, event.object.status) for event in batch if event.object is not None]
                if batch[-1].type is EventType.INITIAL_STATE_END:
                    await client.write([ops.update_status(widget(resource=WIDGETS, status={"ready": True}))])
                    await client.write([ops.create(widget("red", resource=WIDGETS))])
                    await client.write([ops.delete(BLUE)])
                if heard[-1][0] == "DELETED":
                    break
        assert heard == [("ADDED", b""), ("MODIFIED", b'{"ready":true}'), ("DELETED", b'{"ready":true}')]
        owner = (await client.get(core.CustomObject, f"{WIDGETS}/red", "default")).metadata
        part = core.ConfigMap(metadata=core.ObjectMeta(name="part", namespace="default"))
        part.metadata.ownerReferences.add(apiVersion=f"{GROUP}/v1", kind="Widget", name="red", uid=owner.uid)
        await client.write([ops.create(part)])
        await client.write([ops.delete(Key("CustomResourceDefinition", "", WIDGETS))])

    cluster.run(body)

    def is_gone(kind: str, name: str) -> bool:
        try:
            cluster.get(kind, name)
        except NotFound:
            return True
        return False

    left = (("customobject", f"{WIDGETS}/red"), ("crd", WIDGETS), ("configmap", "part"))
    cluster.wait_until(lambda: all(is_gone(*each) for each in left), "the kind and all of it is gone", timeout_s=20.0)


def test_they_outlive_the_master_and_come_back_from_a_backup(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run(
        lambda client: client.write([ops.create(definition(group=GROUP)), ops.create(widget(resource=WIDGETS))])
    )
    before = shown(cluster)
    cluster.kill_process("master")
    assert shown(cluster) == before
    assert cluster.list("customobjects", field_selector=f"resource={WIDGETS}")[0].metadata.name == "blue"
    path = tmp_path / "backup.podium"
    cluster.podium("backup", str(path))
    cluster.podium("delete", "widgets", "--all")
    assert cluster.list("customobjects") == []
    cluster.podium("restore", str(path), "--yes")
    again = shown(cluster)
    assert again["spec"] == before["spec"]
    assert again["metadata"]["uid"] == before["metadata"]["uid"]


def test_what_if_takes_them_along(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run(
        lambda client: client.write([ops.create(definition(group=GROUP)), ops.create(widget(resource=WIDGETS))])
    )
    path = tmp_path / "widget.yaml"
    path.write_text(MANIFEST.replace("size: 3", "size: 5"))
    said = cluster.podium("what-if", "-f", str(path), check=False).stdout
    assert "blue" in said
    assert shown(cluster)["spec"]["size"] == SCHEMA["properties"]["spec"]["properties"]["size"]["minimum"] + 2
