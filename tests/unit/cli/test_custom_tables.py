"""What objects of kinds that users define look like on a terminal."""

from __future__ import annotations

from typing import Any

from cluster.api.definitions import row_of
from cluster.api.json import custom_from_json
from cluster.api.meta import to_time
from cluster.cli.printers import table
from cluster.pb.v1 import core_pb2 as core
from tests.kit.customs import established, version, widget


def stored(name: str, **status: Any) -> core.CustomObject:
    obj = custom_from_json({**widget(name, ports=[{"port": 1}]), "status": status}, "widgets.example.com")
    obj.metadata.namespace = "team"
    obj.metadata.labels["tier"] = "fe"
    obj.metadata.creationTimestamp.CopyFrom(to_time(1000.0))
    return obj


def test_the_columns_are_those_of_the_definition() -> None:
    kind = row_of(established())
    objects = [stored("one", phase="Ready"), stored("two", phase="\x1b[31mred", since="1970-01-01T00:16:00Z")]
    assert table(kind, objects, 1010.0).splitlines() == [
        "NAME   SIZE   PHASE         SINCE   AGE",
        "one    3      Ready                 10s",
        "two    3      \\x1b[31mred   50s     10s",
    ]
    assert table(kind, objects[:1], 1010.0, wide=True, namespaces=True, show_labels=True).splitlines() == [
        "NAMESPACE   NAME   SIZE   PHASE   SINCE   PORTS          AGE   LABELS",
        'team        one    3      Ready           [{"port":1}]   10s   tier=fe',
    ]
    assert table(kind, objects[:1], 1010.0, headers=False, kind_prefix=True).split() == [
        *("widget.example.com/one", "3", "Ready", "10s"),
    ]


def test_of_several_versions_they_are_those_of_the_one_that_is_offered_first() -> None:
    bare = version("v2", storage=False, additionalPrinterColumns=[])
    for versions in ([version("v1"), bare], [bare, version("v1")]):
        assert table(row_of(established(*versions)), [stored("one")], 1010.0).splitlines() == [
            "NAME   AGE",
            "one    10s",
        ]
    unserved = version("v2", storage=False, served=False, additionalPrinterColumns=[])
    assert "PHASE" in table(row_of(established(version("v1"), unserved)), [stored("one")], 1010.0)
