"""Answers in YAML: they say what those in JSON say, to every reader of YAML."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.api.yaml_reader import read_yaml
from cluster.kubernetes import reading, yaml_writer
from cluster.kubernetes.call import in_turns
from tests.kit.memory_client import MemoryCluster
from tests.unit.kubernetes.conftest import Api, manifest, pod

PODS = "/api/v1/namespaces/default/pods"
YAML = {"Accept": "application/yaml"}
MISREAD = (
    *("1e5", "1E5", "12e", "08", "0_8", "0o17", "0x1F", "0x_f", "0b1", "1_000", "+1", "-1.", "-.5e3", "1__0", ".inf"),
    *(
        "y",
        "Y",
        "n",
        "yes",
        "No",
        "on",
        "OFF",
        "true",
        "null",
        "~",
        "",
        "=",
        "<<",
        "12:30:45",
        "2001-1-1",
        "2001-01-01",
    ),
    *("- a", "? a", "a: b", "#x", "a #b", "!a", "&a", "*a", "%a", "@", "|", "---", "...", "'", '"', "\\", "a" * 200),
    *("\n", "a\n", "a\n\n", " a\nb", "a \nb", "a\n b\n", "a\n\nb", "a\tb\nc", "...\n", "a\n---\nb", "a\r\nb"),
    *("\x00", "\x7f", "a\x85b\n", "\u2028x", "\ufeffa", "\U0001f600"),
)
"""Texts that some reader takes for something else, unless they are written with care."""
texts = st.one_of(st.sampled_from(MISREAD), st.text(max_size=12), st.text("ab \n:-#'\"\t0.e|>", max_size=12))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars, lambda part: st.one_of(st.lists(part, max_size=4), st.dictionaries(texts, part, max_size=4)), max_leaves=25
)


def written(value: Any) -> str:
    return b"".join(yaml_writer.pieces(value)).decode()


@given(st.dictionaries(texts, values, max_size=4), st.sampled_from([1, 2, 5, 100]))
@example({"of": list(MISREAD)}, 1)
@example({text: text for text in MISREAD}, 100)
def test_it_is_read_as_what_it_was(value: dict[str, Any], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(yaml_writer, "AT_ONCE", at_once)
        text = written(value)
    assert yaml.safe_load(text) == value
    assert [each.data for each in read_yaml(text)] == [value]


@given(st.lists(values, max_size=5))
def test_a_list_is_made_of_items(found: list[Any]) -> None:
    head, tail = yaml_writer.around(
        b'{"kind":"PodList","metadata":{"resourceVersion":"5"}}', "items", is_empty=not found
    )
    text = b"".join((head, *yaml_writer.items(list(map(orjson.dumps, found))), tail)).decode()
    data = {"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": found}
    assert yaml.safe_load(text) == data


def test_it_looks_as_in_kubernetes() -> None:
    value = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "data": {"of": "1e5", "script": "#!/bin/sh\nexec true\n", "size": "10Mi", "image": "registry:5000/web:1.2"},
        "list": [{"name": "a", "args": ["b", "on"]}, {}],
    }
    assert written(value) == (
        "apiVersion: v1\n"
        "data:\n"
        "  image: registry:5000/web:1.2\n"
        "  of: '1e5'\n"
        "  script: |\n"
        "    #!/bin/sh\n"
        "    exec true\n"
        "  size: 10Mi\n"
        "kind: ConfigMap\n"
        "list:\n"
        "- args:\n"
        "  - b\n"
        "  - 'on'\n"
        "  name: a\n"
        "- {}\n"
    )


@pytest.mark.parametrize(
    "large", [{f"k{number}": "v" for number in range(5_000)}, [[1, 2]] * 5_000, {"a": {"b": [0] * 9999}}]
)
def test_what_is_large_comes_in_pieces(large: Any) -> None:
    found = list(yaml_writer.pieces({"data": large, "kind": "X"}))
    assert len(found) > 40
    assert max(len(piece.splitlines()) for piece in found) <= 2 * yaml_writer.AT_ONCE


async def test_objects_and_lists(api: Api, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PAGE", 3)
    monkeypatch.setattr(reading, "_ENCODE_AT_ONCE", 2)
    for number in range(7):
        cluster.put(pod(f"p{number}", looks="1e5"))
    for path in (f"{PODS}/p1", PODS, f"{PODS}?limit=2", f"{PODS}?labelSelector=a%3Db", f"{PODS}/none"):
        in_json, in_yaml = await api.get(path), await api.get(path, headers=YAML)
        assert (in_yaml.code, in_yaml.headers["Content-Type"]) == (in_json.code, "application/yaml")
        (document,) = read_yaml(in_yaml.body)
        assert document.data == in_json.body, path


@pytest.mark.parametrize(
    "form",
    ["as=Table;v=v1;g=meta.k8s.io", "as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"],
    ids=["table", "metadata"],
)
@pytest.mark.parametrize("path", [PODS, f"{PODS}?labelSelector=a%3Db"], ids=["three", "none"])
async def test_the_other_forms_too(api: Api, cluster: MemoryCluster, form: str, path: str) -> None:
    for number in range(3):
        cluster.put(pod(f"p{number}"))
    in_json = await api.get(path, headers={"Accept": f"application/json;{form}"})
    in_yaml = await api.get(path, headers={"Accept": f"application/yaml;{form}"})
    assert yaml.safe_load(in_yaml.body) == in_json.body


async def test_what_is_written_is_answered_in_it(api: Api) -> None:
    made = await api.ask(
        "POST", PODS, written(manifest()).encode(), headers={**YAML, "Content-Type": "application/yaml"}
    )
    assert (made.code, yaml.safe_load(made.body)["metadata"]["name"]) == (201, "web")
    gone = await api.ask("DELETE", f"{PODS}/web", headers=YAML)
    assert (gone.code, yaml.safe_load(gone.body)["kind"]) == (200, "Pod")


@pytest.mark.parametrize(
    "path",
    [
        *("/api", "/apis", "/apis/policy", "/api/v1", "/apis/policy/v1"),
        *("/apis/metrics.k8s.io/v1beta1/pods", "/apis/discovery.k8s.io/v1/endpointslices"),
    ],
)
async def test_discovery_and_what_is_made_when_it_is_asked_for(api: Api, path: str) -> None:
    in_json, in_yaml = await api.get(path), await api.get(path, headers=YAML)
    assert (in_yaml.code, in_yaml.headers["Content-Type"]) == (200, "application/yaml")
    assert yaml.safe_load(in_yaml.body) == in_json.body
    assert in_json.headers["Content-Type"] == "application/json"


async def test_a_watch_is_not_told_in_it(api: Api) -> None:
    refused = await api.get(f"{PODS}?watch=1", headers=YAML)
    assert (refused.code, yaml.safe_load(refused.body)["reason"]) == (406, "NotAcceptable")


async def test_others_have_their_turn_in_between() -> None:
    turns: list[str] = []

    def pieces(name: str) -> Iterator[bytes]:
        for _ in range(3):
            turns.append(name)
            yield name.encode()

    one, other = await asyncio.gather(in_turns(pieces("a")), in_turns(pieces("b")))
    assert (one, other) == (b"aaa", b"bbb")
    assert turns == ["a", "b"] * 3
