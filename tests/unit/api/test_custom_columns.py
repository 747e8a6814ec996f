"""Columns that definitions ask for, and of which version they are."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.api.custom_columns import custom_columns
from cluster.api.definitions import version_order
from cluster.pb.v1 import core_pb2 as core


def cell(type: str, value: Any, now_s: float = 0.0) -> Any:
    given = core.CustomResourceColumnDefinition(name="X", type=type, jsonPath=".spec.x")
    column = custom_columns([given])[1]
    data = {"spec": {"x": value} if value is not ... else {}}
    return column.cell(data if column.moment is None else column.moment(data), now_s)


@pytest.mark.parametrize(
    ("type", "value", "shown"),
    [
        ("string", "text", "text"),
        ("string", 3, "3"),
        ("string", 2.5, "2.5"),
        ("string", 3.0, "3"),
        ("string", 1234567.5, "1234567.5"),
        ("string", 1e20, "1e+20"),
        ("string", True, "true"),
        ("string", {"a": [1]}, '{"a":[1]}'),
        ("string", None, None),
        ("string", ..., None),
        ("integer", 3, 3),
        ("integer", 3.7, 3),
        ("integer", "3", None),
        ("integer", True, None),
        ("number", 2.5, 2.5),
        ("number", "2.5", None),
        ("boolean", False, False),
        ("boolean", "false", None),
        ("date", "1970-01-01T00:01:00Z", "40s"),
        ("date", "1970-01-01T01:00:00Z", "<invalid>"),
        ("date", "yesterday", "<invalid>"),
        ("date", 7, None),
        ("date", ..., None),
    ],
)
def test_cells(type: str, value: Any, shown: Any) -> None:
    found = cell(type, value, now_s=100.0)
    assert found == shown
    assert found.__class__ is shown.__class__


def test_without_columns_there_is_the_age() -> None:
    columns = custom_columns([])
    assert [(column.name, column.type) for column in columns] == [("Name", "string"), ("Age", "date")]
    assert len(custom_columns([core.CustomResourceColumnDefinition(name="X", type="string", jsonPath="?")])) == 1


def test_versions_are_offered_as_kubernetes_orders_them() -> None:
    names = ["foo10", "v11alpha2", "v10beta3", "v1", "v12alpha1", "foo1", "v3beta1", "v10", "v2", "v11beta2"]
    assert sorted(names, key=version_order) == [
        *("v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10")
    ]
