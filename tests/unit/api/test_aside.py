"""Fields that Podium does not carry out are kept with the object, and come back where they were."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from cluster.api import aside
from cluster.api.errors import Invalid
from cluster.api.json import object_to_json, read_object
from cluster.pb.v1 import core_pb2 as core

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "annotations": {"a": "b"}},
    "spec": {
        "hostNetwork": True,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {"fsGroup": 5},
        "containers": [
            {"name": "one", "image": "x"},
            {"name": "two", "imagePullPolicy": "Always", "volumeMounts": [{"name": "v", "mountPropagation": "None"}]},
        ],
    },
}


def stored(data: dict[str, Any]) -> tuple[Any, list[str]]:
    reading = read_object(data)
    assert reading.unknown == []
    warnings = aside.keep(reading.object, reading.not_carried_out)
    return reading.object, warnings


def test_what_was_put_aside_comes_back_where_it_was() -> None:
    obj, _ = stored(POD)
    data = object_to_json(obj)
    assert "hostNetwork" not in data["spec"]
    aside.restore(data)
    assert data == POD


def test_what_asks_for_something_is_warned_of() -> None:
    _, warnings = stored(POD)
    assert [warning.partition(":")[0] for warning in warnings] == [
        "spec.hostNetwork",
        "spec.securityContext.fsGroup",
        "spec.containers[1].imagePullPolicy",
        "spec.containers[1].volumeMounts[0].mountPropagation",
    ], "the default of dnsPolicy is what happens anyway"


def test_nobody_is_warned_again_of_what_was_there_before() -> None:
    obj, warnings = stored(POD)
    reading = read_object(POD)
    assert aside.keep(reading.object, reading.not_carried_out, aside.kept(obj)) == []
    changed = [(path, 7 if "fsGroup" in path else value) for path, value in reading.not_carried_out]
    assert aside.keep(reading.object, changed, aside.kept(obj)) == [warnings[1]]


def test_a_field_that_is_taken_out_is_no_longer_aside() -> None:
    obj, _ = stored(POD)
    assert aside.ANNOTATION in obj.metadata.annotations
    assert aside.keep(obj, []) == []
    assert dict(obj.metadata.annotations) == {"a": "b"}


def test_a_path_that_leads_nowhere_is_passed_over() -> None:
    obj, _ = stored(POD)
    del obj.spec.containers[1]
    data = object_to_json(obj)
    aside.restore(data)
    assert data["spec"]["containers"] == [{"name": "one", "image": "x"}]
    assert data["spec"]["hostNetwork"] is True


def test_who_does_not_know_of_it_may_change_the_order_of_items() -> None:
    obj, _ = stored(POD)
    assert 'spec.containers[name="two"].imagePullPolicy' in aside.kept(obj)
    first, second = core.Container(), core.Container()
    first.CopyFrom(obj.spec.containers[0])
    second.CopyFrom(obj.spec.containers[1])
    del obj.spec.containers[:]
    obj.spec.containers.extend([second, core.Container(name="new", image="y"), first])
    data = object_to_json(obj)
    aside.restore(data)
    assert data["spec"]["containers"] == [
        POD["spec"]["containers"][1],
        {"name": "new", "image": "y"},
        {"name": "one", "image": "x"},
    ]


def test_keys_are_numbers_and_texts_of_all_sorts() -> None:
    path = '/a]"\\b'
    data = copy.deepcopy(POD)
    data["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "v", "mountPath": "/first"},
        {"name": "w", "mountPath": path, "mountPropagation": "None"},
    ]
    obj, _ = stored(data)
    del obj.spec.containers[0].volumeMounts[0]
    back = object_to_json(obj)
    aside.restore(back)
    assert back["spec"]["containers"][0]["volumeMounts"] == [data["spec"]["containers"][0]["volumeMounts"][1]]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    read = read_object(service).object
    aside.keep(read, [("spec.ports[0].something", 1)])
    assert list(aside.kept(read)) == ["spec.ports[port=80].something"]


def test_what_was_put_aside_by_index_is_found_too() -> None:
    data = copy.deepcopy(POD)
    data["metadata"]["annotations"] = {aside.ANNOTATION: '{"spec.containers[0].imagePullPolicy":"Never"}'}
    aside.restore(data)
    assert data["spec"]["containers"][0]["imagePullPolicy"] == "Never"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"":1}',
        '{"[0]":1}',
        '{"spec.containers.x":1}',
        '{"metadata.name.x":1}',
        '{"a[9].b":1}',
        '{"a[b=9].b":1}',
        '{"spec.containers[name=9].b":1}',
        "[",
        r'{"spec.containers[name=\"\\x\"].b":1}',
        r'{"spec.containers[name=\"\u0001\"].b":1}',
        '{"spec.containers[%s].b":1}' % ("9" * 5000),
        '{"spec.containers[name=%s].b":1}' % ("9" * 5000),
        '{{"spec.{}":1}}'.format(".".join("a" * 1000)),
        '{"spec.b":%s}' % ("9" * 30),
        '{{"spec.b":{}1{}}}'.format("[" * 500, "]" * 500),
        r'{"spec.b":"\ud800"}',
    ],
)
def test_what_somebody_else_wrote_there_does_no_harm(text: str) -> None:
    data = copy.deepcopy(POD)
    data["metadata"]["annotations"] = {aside.ANNOTATION: text}
    aside.restore(data)
    assert data["spec"] == POD["spec"]
    assert data["metadata"]["name"] == "web"
    assert orjson.loads(orjson.dumps(data)) == data, "it can be shown"


def test_it_cannot_say_what_podium_does_carry_out() -> None:
    data = copy.deepcopy(POD)
    data["metadata"]["annotations"] = {aside.ANNOTATION: '{"metadata.name":"evil","spec.hostNetwork":false}'}
    aside.restore(data)
    assert data["metadata"]["name"] == "web"
    assert data["spec"]["hostNetwork"] is True


def test_what_the_server_owns_is_not_kept() -> None:
    data = copy.deepcopy(POD)
    data["metadata"]["selfLink"] = "/api/v1/x"
    obj, warnings = stored(data)
    assert "selfLink" not in obj.metadata.annotations[aside.ANNOTATION]
    assert not any("selfLink" in warning for warning in warnings)


@pytest.mark.parametrize("value", [10**30, "\ud800", [10**30], {"\ud800": 1}])
def test_what_no_json_can_hold_is_refused(value: Any) -> None:
    obj, _ = stored(POD)
    with pytest.raises(Invalid, match=r"spec\.hostNetwork"):
        aside.keep(obj, [("spec.hostNetwork", value)])


def test_there_is_a_limit() -> None:
    data = copy.deepcopy(POD)
    data["spec"]["runtimeClassName"] = "x" * aside.MAX_BYTES
    reading = read_object(data)
    with pytest.raises(Invalid, match="the most is 65536"):
        aside.keep(reading.object, reading.not_carried_out)


def test_fields_that_nobody_knows_are_told_apart() -> None:
    reading = read_object({**POD, "spec": {**POD["spec"], "contaners": []}})
    assert [str(problem) for problem in reading.unknown] == [
        'spec.contaners: unknown field; did you mean "containers"?'
    ]
    assert ("spec.hostNetwork", True) in reading.not_carried_out
    with pytest.raises(Invalid, match=r"spec\.restartPolicy: must be a string"):
        read_object({**POD, "spec": {"restartPolicy": 3, "contaners": []}})
