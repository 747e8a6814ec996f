"""Manifests: everything is read or nothing is, limits hold, and each problem has its file, line, path and reason."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api.errors import Invalid
from cluster.api.json import object_to_json
from cluster.api.manifest import read_manifests, read_path
from cluster.api.yaml_reader import Refused, read_yaml
from cluster.pb.v1 import core_pb2 as core

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]
GOOD = """# the frontend
apiVersion: v1
kind: ReplicationController
metadata:
  name: web
spec:
  replicas: 3
  template:
    metadata:
      labels: {app: web, 1: "x"}
    spec:
      containers:
      - name: main
        command: [python3, -m, http.server]
        resources: {requests: {cpu: 0.1, memory: 64Mi}}
---
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec:
    ports: [{port: 80}]
- apiVersion: v1
  kind: Namespace
  metadata: {name: a}
"""


def problems_of(text: str | bytes, source: str = "x.yaml") -> list[str]:
    with pytest.raises(Invalid) as caught:
        read_manifests(text, source)
    return [str(cause) for cause in caught.value.causes]


def test_documents_and_lists() -> None:
    manifests = read_manifests(GOOD, "web.yaml")
    assert [(m.source, m.line, type(m.object), m.object.metadata.name) for m in manifests] == [
        ("web.yaml", 2, core.ReplicationController, "web"),
        ("web.yaml", 21, core.Service, "web"),
        ("web.yaml", 26, core.Namespace, "a"),
    ]
    rc = manifests[0].object
    assert isinstance(rc, core.ReplicationController)
    assert rc.spec.template.metadata.labels["1"] == "x"
    assert rc.spec.template.spec.containers[0].resources.requests["cpu"].string == "100m"
    assert not rc.spec.selector, "what nobody said is not in the object"
    assert manifests[1].data["spec"] == {"ports": [{"port": 80}]}


def test_what_we_print_can_be_read_as_yaml_and_as_json() -> None:
    for manifest in read_manifests(GOOD, ""):
        data = object_to_json(manifest.object)
        for text in (json.dumps(data), json.dumps(data, indent="\t"), yaml.safe_dump(data)):
            (again,) = read_manifests(text, "")
            assert again.object == manifest.object


def test_a_typed_list_need_not_repeat_the_kind() -> None:
    text = '{"apiVersion": "v1", "kind": "NamespaceList", "items": [{"metadata": {"name": "a"}}]}'
    (manifest,) = read_manifests(text, "")
    assert isinstance(manifest.object, core.Namespace)


def test_every_problem_of_every_document_has_its_line() -> None:
    text = """apiVersion: v1
kind: Pod
metadata:
  name: a
  name: b
  labels:
    app: 5
spec:
  containers:
  - name: a
    imag: x
    ports:
    - containerPort: 80
    - containerPort: "80"
---
apiVersion: v1
kind: Pod
metadata:
  name: UPPER
spec:
  containers:
  - name: a
    ports:
    - containerPort: 80
    - containerPort: 80
---
apiVersion: v1
kind: List
items:
- kind: Deployment
- 3
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {}
"""
    problems = problems_of(text)
    assert problems[:4] == [
        "x.yaml:5: metadata.name: the key is there twice; first in line 4",
        "x.yaml:7: metadata.labels[app]: must be a string, not the number 5; put it in quotes",
        'x.yaml:11: spec.containers[0].imag: unknown field; did you mean "image"?',
        'x.yaml:14: spec.containers[0].ports[1].containerPort: must be a whole number, not the string "80"',
    ]
    assert problems[4].startswith('x.yaml:19: metadata.name: Invalid value: "UPPER": a lowercase RFC 1123')
    assert problems[5].startswith("x.yaml:22: spec.containers[0].command: Required value: without an image")
    assert problems[6] == 'x.yaml:25: spec.containers[0].ports[1].containerPort: Duplicate value: "80/TCP"'
    assert problems[7].startswith('x.yaml:30: items[0].kind: kind "Deployment" is not known')
    assert problems[8:] == [
        "x.yaml:31: items[1]: an object is expected, not the number 3",
        "x.yaml:35: items[2].spec.ports: Required value",
    ]


def billion_laughs() -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        (billion_laughs(), 2, "aliases are not allowed"),
        ("[" * 100_000, 1, "nested too deeply"),
        ("{a: " * 100_000, 1, "nested too deeply"),
        ("- " * 100_000, 1, "nested too deeply"),
        ("? " * 50_000, 1, "a key must be a word"),
        ("- a\n" * 100_001, 100_000, "more than 100000 values"),
        ("a: [", 1, "this is not YAML"),
        ("a: 1\nb: [1,\n}", 3, "this is not YAML"),
        ("a: b\n\tc: d", 2, "this is not YAML"),
        ("a: 1\n\x01", 2, "this is not YAML"),
        ("a: 1\n? [a]\n: b", 3, "a key must be a word"),
        ("a: !!python/object/apply:os.system [x]", 1, "is not allowed here"),
        ("a: !!binary eA==", 1, "is not allowed here"),
        ("a: !own x", 1, "is not allowed here"),
        ("a: !!int x", 1, "is not allowed here"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_bombs_and_nonsense_are_refused(loader: Any, text: str, line: int, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint) as caught:
        read_yaml(text, loader)
    assert abs(caught.value.line - line) <= 1  # the two parsers differ on where a line that is missing something ends


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("true", True), ("False", False),
        ("~", None), ("null", None), ("010", "010"), ("-07", "-07"), ("0", 0), ("-5", -5), ("+5", 5), ("0x1F", 31),
        ("0o17", 15), ("9" * 50, float("9" * 50)), ("{}", {}), ("[]", []),
        ("0b1", "0b1"), ("1_000", "1_000"), ("12:30:45", "12:30:45"), ("2026-03-01", "2026-03-01"), ("1e3", 1000.0),
        ("1.5", 1.5), (".5", 0.5), ("1.2.3", "1.2.3"), (".inf", ".inf"), (".nan", ".nan"), ("'5'", "5"),
        ("!!str 5", "5"), ("! 5", "5"), ("!!int 5", 5), ("|\n   5", "5"), ("<<", "<<"), ("&a x", "x"),
        ('"true"', "true"),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(loader: Any, text: str, value: Any) -> None:
    (document,) = read_yaml(f"a: {text}", loader)
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


def _same_in_both_versions(text: str) -> bool:
    """False for a string such as 0E0, which YAML 1.1, the writer's, leaves plain, and which is a number in 1.2."""
    return re.fullmatch(r"[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?0o[0-7]+", text) is None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=6).filter(_same_in_both_versions),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(plain.filter(lambda value: value is not None))
@settings(max_examples=100)
def test_json_is_read_as_json(value: Any) -> None:
    (document,) = read_yaml(json.dumps({"a": value}, ensure_ascii=True).replace("\\ud", "\\u0"))
    assert isinstance(document.data, dict)
    (document,) = read_yaml(yaml.safe_dump({"a": value}, allow_unicode=False))
    assert document.data == {"a": value}


@given(st.text(alphabet=" \n:-[]{}\"'&*!|>#%@`a1,?\t\0\x85\ud800é", max_size=40))
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
def test_any_text_is_read_or_refused_as_invalid(text: str) -> None:
    try:
        read_manifests(text, "x")
    except Invalid:
        assert problems_of(text)


def test_limits_of_a_text() -> None:
    assert "larger than 1048576 bytes" in problems_of("#" * 1_048_577)[0]
    assert problems_of(b"a: 1\n\xff")[0] == "x.yaml:2: this is not UTF-8"
    assert "nested too deeply" in problems_of('{"a":' * 5000 + "1" + "}" * 5000)[0]
    assert read_manifests("\ufeff# nothing\n---\n", "x") == []


def test_json_that_is_no_yaml() -> None:
    metadata = '{"name":"a","annotations":{"a":"\\ud83d\\ude00\\/"}}'
    text = f'{{"apiVersion":"v1",\t"kind":"Namespace","metadata":{metadata}}}'
    (manifest,) = read_manifests(text, "x")
    assert manifest.object.metadata.annotations["a"] == "😀/"
    assert problems_of(text.replace('"name":"a","ann', '"name":"a","name":"a","ann'))


def test_the_message_shows_the_first_problems_and_counts_the_rest() -> None:
    text = "apiVersion: v1\nkind: Pod\n" + "".join(f"x{number}: 1\n" for number in range(50))
    with pytest.raises(Invalid) as caught:
        read_manifests(text, "x")
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[0] == "x:3: x0: unknown field"
    assert lines[-1] == "and 30 more"


NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n"


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(NAMESPACE % "b")
    (tmp_path / "a.yaml").write_text(NAMESPACE % "a")
    (tmp_path / "c.json").write_text('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}')
    (tmp_path / "README.md").write_text("not a manifest")
    (tmp_path / "d.yaml").mkdir()
    nothing = io.BytesIO()
    assert [manifest.object.metadata.name for manifest in read_path(str(tmp_path), nothing)] == ["a", "b", "c"]
    (manifest,) = read_path(str(tmp_path / "b.yml"), nothing)
    assert manifest.source == str(tmp_path / "b.yml")
    (manifest,) = read_path("-", io.BytesIO((NAMESPACE % "s").encode()))
    assert (manifest.source, manifest.object.metadata.name) == ("-", "s")


def test_one_bad_file_of_a_directory_refuses_all_and_all_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(NAMESPACE % "A")
    (tmp_path / "b.yaml").write_text(NAMESPACE % "b")
    (tmp_path / "c.yaml").write_text("kind: Pod\n")
    with pytest.raises(Invalid) as caught:
        read_path(str(tmp_path), io.BytesIO())
    assert [cause.path for cause in caught.value.causes] == [
        f"{tmp_path}/a.yaml:3: metadata.name",
        f"{tmp_path}/c.yaml:1: apiVersion",
    ]


def test_paths_with_nothing_in_them(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "empty").mkdir()
    for path, complaint in [
        (tmp_path / "missing", "No such file"),
        (tmp_path / "empty", "no file"),
        (tmp_path / "empty.yaml", "no object"),
    ]:
        with pytest.raises(Invalid, match=complaint):
            read_path(str(path), io.BytesIO())


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(Invalid, match="larger than"):
        read_path("/dev/zero", io.BytesIO())
