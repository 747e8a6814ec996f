"""What was encoded once is used again, for the same version only, and does not grow without end."""

from __future__ import annotations

import json
import tracemalloc

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.api import aside
from cluster.api.custom_json import set_content
from cluster.api.json import object_to_json
from cluster.api.meta import to_time
from cluster.api.raw_json import LEAST, MOST, misfit
from cluster.kubernetes import encoding, views
from cluster.kubernetes.definitions import rows_of
from cluster.kubernetes.encoding import TAIL, Encoder, list_head
from cluster.kubernetes.resources import BY_KIND
from cluster.kubernetes.tables import Tables
from cluster.pb.v1 import core_pb2 as core
from tests.kit.customs import established, version
from tests.unit.api.messages import messages
from tests.unit.api.plain_printer import plainly
from tests.unit.kubernetes.conftest import pod

POD = BY_KIND["Pod"]


def stored(name: str, version: int, note: str = "") -> core.Pod:
    found = pod(name)
    found.metadata.uid, found.metadata.resourceVersion = f"uid-{name}", str(version)
    found.metadata.annotations["note"] = note
    found.metadata.creationTimestamp.CopyFrom(to_time(1000.0))
    return found


def test_the_same_version_is_encoded_once() -> None:
    encoder = Encoder()
    first = encoder.json(stored("a", 1), POD)
    assert encoder.json(stored("a", 1), POD) is first
    assert json.loads(encoder.json(stored("a", 2, "x"), POD))["metadata"]["annotations"] == {"note": "x"}
    assert encoder.json(stored("a", 1), POD) == first, "an older version is encoded anew"
    unsaved = pod("b")
    assert encoder.json(unsaved, POD) is not encoder.json(unsaved, POD)


@given(st.lists(messages(core.Pod), min_size=1, max_size=3), st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_what_pods_have_in_common_is_printed_alike(pods: list[core.Pod], data: st.DataObject) -> None:
    encoder = Encoder()
    for found in (*pods, *pods):
        found.metadata.annotations.pop(aside.ANNOTATION, None)
        found.metadata.ClearField("uid")  # else it is kept by its version, which does not tell what is changed here
        if data.draw(st.booleans()):
            found.spec.CopyFrom(pods[0].spec)  # as of one template
        expected = {"apiVersion": "v1", "kind": "Pod", **plainly(found)}
        assert encoder.json(found, POD) == orjson.dumps(expected)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(LEAST, MOST) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
).filter(lambda value: misfit(value) is None)


@given(_VALUES, _VALUES)
def test_what_objects_of_other_kinds_hold_is_read_as_it_was_written(spec: object, status: object) -> None:
    found = core.CustomObject(resource="widgets.example.com", apiVersion="example.com/v1", kind="Widget")
    found.metadata.name = "one"
    found.metadata.creationTimestamp.CopyFrom(to_time(1000.0))
    set_content(found, {"spec": spec, "status": status})
    (row,) = rows_of(established(version(schema={"openAPIV3Schema": {"type": "object"}})))
    # As text: 1 is no 1.0, and neither is true.
    assert repr(views.plain(found, row)) == repr(object_to_json(found))


def test_what_pods_have_in_common_is_kept_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_SHARED", 3)
    printed: list[str] = []

    def printer(container: core.Container) -> str:
        printed.append(container.name)
        return container.name

    once = encoding._once(printer)
    for name in ("a", "a", "b", "c", "a", "d", "a"):  # with the fourth, the first three are forgotten
        assert orjson.loads(orjson.dumps(once(core.Container(name=name)))) == name
    assert printed == ["a", "b", "c", "d", "a"]
    for _ in range(2):
        once(core.Container(name="large", command=["x" * 9000]))
    assert printed[5:] == ["large", "large"]


def test_there_is_a_limit() -> None:
    encoder = Encoder(max_bytes=10_000)
    for number in range(100):
        encoder.json(stored(f"p{number}", 1, "x" * 500), POD)
        encoder.metadata(stored(f"p{number}", 1, "x" * 500))
        assert encoder._bytes <= 10_000
    last = stored("p99", 1, "x" * 500)
    assert encoder.metadata(last) is encoder.metadata(last)
    encoder.json(stored("huge", 1, "x" * 20_000), POD)
    assert encoder._bytes <= 10_000


def test_what_is_kept_takes_about_as_much_memory_as_it_has_bytes() -> None:
    encoder = Encoder()
    pods = [stored(f"p{number}", 1, "x" * 500) for number in range(200)]
    tracemalloc.start()
    try:
        for found in pods:
            encoder.json(found, POD)
            encoder.metadata(found)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 2 * encoder._bytes


def test_what_is_aside_is_shown_where_it_was_written() -> None:
    found = stored("a", 1)
    aside.keep(found, [("spec.hostNetwork", True)])
    data = json.loads(Encoder().json(found, POD))
    assert data["spec"]["hostNetwork"] is True
    assert data["metadata"]["annotations"] == {"note": ""}
    partial = json.loads(Encoder().metadata(found))
    assert partial["metadata"]["annotations"] == {"note": ""}
    assert list(partial) == ["kind", "apiVersion", "metadata"]


def test_lists_are_put_together() -> None:
    head = list_head("PodList", "v1", {"resourceVersion": "7"})
    assert json.loads(head + b'{"a":1},{"b":2}' + TAIL) == {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7"},
        "items": [{"a": 1}, {"b": 2}],
    }
    assert json.loads(list_head("PodList", "v1", {}) + TAIL)["items"] == []


def test_ages_are_of_now_though_cells_are_kept() -> None:
    tables = Tables(Encoder())

    def age(now_s: float) -> str:
        table = json.loads(tables.table(POD, [stored("a", 1)], now_s, {}))
        cell: str = table["rows"][0]["cells"][4]
        return cell

    assert [age(1005.0), age(1300.0), age(1000.0 + 86400 * 3)] == ["5s", "5m", "3d"]


def test_nodes_have_the_columns_of_kubernetes() -> None:
    node = core.Node(metadata=core.ObjectMeta(name="n1"))
    node.status.addresses.add(type="InternalIP", address="10.0.0.1")
    shown = json.loads(Tables(Encoder()).table(BY_KIND["Node"], [node], 0.0, {}))
    names = [column["name"] for column in shown["columnDefinitions"]]
    assert names[5:8] == ["Internal-IP", "External-IP", "OS-Image"]
    assert shown["rows"][0]["cells"][5:7] == ["10.0.0.1", "<none>"]
    node.status.addresses.add(type="ExternalIP", address="192.0.2.1")
    shown = json.loads(Tables(Encoder()).table(BY_KIND["Node"], [node], 0.0, {}))
    assert shown["rows"][0]["cells"][6] == "192.0.2.1"


def test_cells_cannot_break_out_of_the_table() -> None:
    odd = stored('a"],"x":["', 1)
    odd.status.reason = '\u2028\\"\n'
    table = json.loads(Tables(Encoder()).table(POD, [odd], 0.0, {}, include="None"))
    assert table["rows"][0]["cells"][0] == 'a"],"x":["'
    assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
