"""What may be said of volumes, and of where variables come from."""

from __future__ import annotations

import pytest

from cluster.pb.v1 import core_pb2 as core
from tests.unit.api.test_validation_life import container, errors

ONCE = "must not be a file and a directory at once: another item says otherwise"


def volume(source: str, name: str = "v") -> str:
    return f'{container()} volumes {{ name: "{name}" volumeSource {{ {source} }} }}'


def items(kind: str, *paths: str) -> str:
    each = " ".join(f'items {{ key: "k" path: "{path}" }}' for path in paths)
    name = 'secretName: "web"' if kind == "secret" else 'localObjectReference { name: "web" }'
    return volume(f"{kind} {{ {name} {each} }}")


def fields(*paths: str) -> str:
    each = " ".join(f'items {{ path: "{path}" fieldRef {{ fieldPath: "metadata.name" }} }}' for path in paths)
    return volume(f"downwardAPI {{ {each} }}")


@pytest.mark.parametrize(
    "text",
    [
        items("configMap", "a", "b/c", "b/d", "ab"),
        items("secret", "a/b", "a.b"),
        fields("a", "b/c"),
        volume('hostPath { path: "/etc" type: "Directory" }'),
        volume('emptyDir { medium: "Memory" sizeLimit { string: "1Mi" } }'),
        volume('dataDirectory { name: "db" }'),
    ],
)
def test_what_is_fine(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (items("configMap", "a", "a"), "configMap.items[1].path", 'Duplicate value: "a"'),
        (items("configMap", "a", "a/b"), "configMap.items[1].path", ONCE),
        (items("secret", "a/b/c", "x", "a/b"), "secret.items[2].path", ONCE),
        (items("secret", "a//b", "a/b"), "secret.items[1].path", "Duplicate value"),
        (fields("a", "a/b/c"), "downwardAPI.items[1].path", ONCE),
        (items("configMap", "../a"), "configMap.items[0].path", "must not contain"),
        (items("configMap", "/a"), "configMap.items[0].path", "must be a relative path"),
        (volume('hostPath { path: "relative" }'), "hostPath.path", "must be an absolute path"),
        (volume('hostPath { path: "/x" type: "CharDevice" }'), "hostPath.type", "Unsupported value"),
        (volume('emptyDir { medium: "HugePages" }'), "emptyDir.medium", "Unsupported value"),
        (volume('dataDirectory { name: "../db" }'), "dataDirectory.name", "Invalid value"),
    ],
)
def test_what_is_refused_and_why(text: str, path: str, words: str) -> None:
    found = errors(text)
    assert len(found) == 1, found
    assert found[0].startswith(f"spec.volumes[0].{path}: ")
    assert words in found[0]


def test_ten_thousand_items_are_judged_at_once() -> None:
    spec = core.PodSpec()
    source = spec.volumes.add(name="v").volumeSource.configMap
    source.localObjectReference.name = "web"
    for number in range(10_000):
        source.items.add(key="k", path=f"a/b/{number}")
    source.items.add(key="k", path="a/b/7/x")
    from google.protobuf import text_format

    found = errors(text_format.MessageToString(spec) + container())
    assert found == [f'spec.volumes[0].configMap.items[10000].path: Invalid value: "a/b/7/x": {ONCE}']
