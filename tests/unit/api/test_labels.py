"""Selectors: the grammar, what they match, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.api import aside
from cluster.api.errors import BadRequest
from cluster.api.fields import parse_field_selector
from cluster.api.kinds import AnyObject
from cluster.api.labels import (
    Operator,
    Requirement,
    Selector,
    label_key_problems,
    label_value_problems,
    parse_selector,
    selector_from_map,
)
from cluster.pb.v1 import core_pb2 as core

LABELS = {"app": "web", "tier": "fe", "example.com/x": "", "in": "out"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web , tier = fe ", True),
        ("app=web,tier=be", False),
        ("app!=web", False),
        ("missing!=web", True),
        ("missing=web", False),
        ("app in (web, api)", True),
        ("app in (api)", False),
        ("app notin (api)", True),
        ("missing notin (api)", True),
        ("app notin (web,api)", False),
        ("app", True),
        ("!app", False),
        ("! missing", True),
        ("missing", False),
        ("example.com/x=", True),
        ("example.com/x", True),
        ("example.com/x in (,y)", True),
        ("in in (out)", True),
        ("in=out", True),
    ],
)
def test_matching(text: str, matches: bool) -> None:
    selector = parse_selector(text)
    assert selector.matches(LABELS) is matches
    assert parse_selector(str(selector)) == selector
    assert selector.is_empty is (not text.strip())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("=a", "at character 1"),
        ("a=b c", 'at character 5, found "c"'),
        ("a,,b", "at character 3"),
        ("a,", "found the end"),
        ("a in b", r"expected '\('"),
        ("a in (b", r"expected '\)'"),
        ("a in (b c)", r"expected '\)'"),
        ("!", "expected a label's key"),
        ("a=b=c", "expected ','"),
        ("a<b", "must consist of"),
        ("a/b/c=d", "qualified name"),
        ("a=-b", "a valid label must be"),
        ("a=" + "b" * 64, "no more than 63"),
        ("a" * 64, "no more than 63"),
    ],
)
def test_nonsense_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        parse_selector(text)


keys = st.sampled_from(["app", "tier", "example.com/x", "in", "notin"])
values = st.sampled_from(["", "web", "fe", "v1.2_3-x"])
requirements = st.one_of(
    st.builds(
        lambda key, operator, some: Requirement(key, operator, tuple(sorted(some))),
        keys,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.sets(values, min_size=1),
    ),
    st.builds(Requirement, keys, st.sampled_from([Operator.EXISTS, Operator.NOT_EXISTS])),
)


@given(st.lists(requirements, max_size=4))
def test_the_text_of_a_selector_is_read_as_the_same_selector(some: list[Requirement]) -> None:
    selector = Selector(tuple(some))
    assert parse_selector(str(selector)) == selector


@given(st.text(alphabet="ab=!(), in", max_size=20))
@settings(max_examples=200)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_selector(text)
    except BadRequest:
        pass


def test_a_map_asks_for_all_of_it() -> None:
    selector = selector_from_map({"tier": "fe", "app": "web"})
    assert str(selector) == "app=web,tier=fe"
    assert selector.matches(LABELS)
    assert not selector.matches({"app": "web"})
    assert selector_from_map({}).is_empty


@pytest.mark.parametrize("key", ["a", "A.b_c-d", "example.com/a", "a" * 63, "a.b-c.d/x"])
def test_good_keys(key: str) -> None:
    assert label_key_problems(key) == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "-a", "a b", "EXAMPLE.com/a", "a/b/c", "a" * 64, "a\n", "ä"])
def test_bad_keys(key: str) -> None:
    assert label_key_problems(key)


def test_values() -> None:
    assert not any(label_value_problems(value) for value in ["", "a", "1", "a.b_C-d", "a" * 63])
    assert all(label_value_problems(value) for value in ["-", "a-", "a b", "a" * 64, "a\n", "a/b"])


# --- Field selectors

POD = core.Pod(
    metadata=core.ObjectMeta(name="a", namespace="default"),
    spec=core.PodSpec(nodeName="node-1"),
    status=core.PodStatus(phase="Running", nominatedNodeName="node-2"),
)
NODE = core.Node(metadata=core.ObjectMeta(name="node-1"), spec=core.NodeSpec(unschedulable=True))
RC = core.ReplicationController(status=core.ReplicationControllerStatus(replicas=2))
SERVICE = core.Service(spec=core.ServiceSpec(type="ClusterIP", clusterIP="None"))
EVENT = core.Event(involvedObject=core.ObjectReference(kind="Pod", name="a,b=c"), type="Warning")


@pytest.mark.parametrize(
    ("kind", "obj", "text", "matches"),
    [
        ("Pod", POD, "", True),
        ("Pod", POD, "spec.nodeName=node-1,status.phase!=Failed", True),
        ("Pod", POD, "spec.nodeName==node-2", False),
        ("Pod", POD, "status.podIP=", True),
        ("Pod", POD, "status.nominatedNodeName=node-2", True),
        ("Pod", POD, "status.nominatedNodeName=", False),
        ("Pod", POD, "metadata.namespace=default, metadata.name = a", True),
        ("Node", NODE, "spec.unschedulable=true", True),
        ("Node", core.Node(), "spec.unschedulable=false", True),
        ("Event", EVENT, r"involvedObject.name=a\,b\=c,type=Warning", True),
        ("Event", EVENT, "reason!=Started", True),
        ("Namespace", core.Namespace(status=core.NamespaceStatus(phase="Active")), "status.phase=Active", True),
        ("ReplicationController", RC, "status.replicas=2", True),
        ("ReplicationController", RC, "status.replicas=3", False),
        ("Secret", core.Secret(type="Opaque"), "type!=Opaque", False),
        ("Service", SERVICE, "spec.type=ClusterIP,spec.clusterIP!=None", False),
    ],
)
def test_fields(kind: str, obj: AnyObject, text: str, matches: bool) -> None:
    selector = parse_field_selector(kind, text)
    assert selector.matches(obj) is matches
    assert parse_field_selector(kind, str(selector)) == selector


@pytest.mark.parametrize(
    ("kept", "text", "matches"),
    [
        ({}, "spec.serviceAccountName=,spec.hostNetwork=false", True),
        ({}, "spec.hostNetwork!=false", False),
        ({"spec.serviceAccountName": "robot"}, "spec.serviceAccountName=robot", True),
        ({"spec.serviceAccountName": "robot"}, "spec.serviceAccountName=", False),
        ({"spec.serviceAccount": "robot"}, "spec.serviceAccountName=robot", True),
        ({"spec.hostNetwork": True}, "spec.hostNetwork=true,spec.serviceAccountName!=robot", True),
        ({"spec.hostNetwork": True}, "spec.hostNetwork=false", False),
        ({"spec.hostNetwork": False}, "spec.hostNetwork=false", True),
    ],
)
def test_fields_of_pods_that_are_only_put_aside(kept: dict[str, object], text: str, matches: bool) -> None:
    pod = core.Pod()
    aside.keep(pod, kept.items())
    assert parse_field_selector("Pod", text).matches(pod) is matches


def test_equality_terms_are_offered_to_an_index() -> None:
    selector = parse_field_selector("Pod", "spec.nodeName=node-1,status.phase!=Failed")
    assert selector.equals == {"spec.nodeName": "node-1"}
    assert not selector.is_empty


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("Pod", "spec.hostname=x", "supported are metadata.name, metadata.namespace, spec.nodeName"),
        ("ConfigMap", "data.a=x", "supported are metadata.name, metadata.namespace$"),
        ("Pod", "status.phase", "is not of the form"),
        ("Pod", "status.phase=a=b", r'write "\\='),
        ("Pod", "status.phase=a\\", "may only stand before"),
    ],
)
def test_field_selectors_that_are_refused(kind: str, text: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        parse_field_selector(kind, text)
