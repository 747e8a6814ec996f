"""Tables of kinds that users define, and their objects."""

from __future__ import annotations

import json
from typing import Any

from cluster.api.json import custom_from_json
from cluster.api.meta import to_time
from cluster.kubernetes.definitions import rows_of
from cluster.kubernetes.encoding import Encoder
from cluster.kubernetes.tables import Tables
from cluster.pb.v1 import core_pb2 as core
from tests.kit.customs import established, version, widget


def stored(name: str, number: int, **spec: Any) -> core.CustomObject:
    obj = custom_from_json(widget(name, **spec), "widgets.example.com")
    obj.metadata.uid, obj.metadata.resourceVersion = f"uid-{name}", str(number)
    obj.metadata.creationTimestamp.CopyFrom(to_time(1000.0))
    return obj


def test_a_table() -> None:
    tables, row = Tables(Encoder()), rows_of(established())[0]

    def table(now_s: float) -> Any:
        return json.loads(tables.table(row, [stored("one", 1, ports=[{"port": 1}])], now_s, {"resourceVersion": "9"}))

    found = table(1005.0)
    assert [(each["name"], each["type"], each["priority"]) for each in found["columnDefinitions"]] == [
        ("Name", "string", 0),
        ("Size", "integer", 0),
        ("Phase", "string", 0),
        ("Since", "date", 0),
        ("Ports", "string", 1),
        ("Age", "date", 0),
    ]
    assert found["rows"][0]["cells"] == ["one", 3, None, None, '[{"port":1,"protocol":"TCP"}]', "5s"]
    assert found["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert table(1060.0)["rows"][0]["cells"][-1] == "60s", "what ages is of now, though cells are kept"


def test_other_columns_are_not_taken_from_what_was_kept() -> None:
    tables, obj = Tables(Encoder()), stored("one", 1)
    first = rows_of(established())[0]
    narrow = rows_of(established(version(additionalPrinterColumns=[]), number=8))[0]
    for row, width in ((first, 6), (narrow, 2), (first, 6)):
        assert len(json.loads(tables.table(row, [obj], 1001.0, {}))["rows"][0]["cells"]) == width


def test_objects_are_encoded_in_the_version_that_is_asked_for() -> None:
    encoder = Encoder()
    newer, older = rows_of(established(version("v1", storage=False), version("v2")))
    obj = stored("one", 1)
    obj.status = b'{"phase":"Done"}'
    for row in (older, newer, older):
        data = json.loads(encoder.json(obj, row))
        assert data["apiVersion"] == row.kind.api_version
        assert (data["kind"], data["spec"], data["status"]) == (
            "Widget",
            {"size": 3, "color": "blue"},
            {"phase": "Done"},
        )
        assert encoder.json(obj, row) is encoder.json(obj, row)
    assert json.loads(encoder.metadata(obj))["apiVersion"] == "meta.k8s.io/v1"
    bare = custom_from_json({"metadata": {"name": "bare"}}, "widgets.example.com")
    assert set(json.loads(encoder.json(bare, newer))) == {"apiVersion", "kind", "metadata"}
