"""What an object is after a patch: worked examples of each kind."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api.errors import ApiError, BadRequest, Invalid
from cluster.kubernetes.patching import APPLY, JSON_PATCH, MERGE, STRATEGIC, apply_patch
from cluster.kubernetes.resources import BY_KIND
from cluster.kubernetes.statuses import Refused

DESCRIPTOR = BY_KIND["Pod"].descriptor

POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"a": "1", "b": "2"}, "finalizers": ["x/1"]},
    "spec": {
        "nodeSelector": {"disk": "ssd"},
        "containers": [
            {"name": "one", "image": "1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "two", "image": "2", "args": ["x", "y"]},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "k", "operator": "Exists"}],
    },
}


def patched(media: str, patch: Any) -> dict[str, Any]:
    before = copy.deepcopy(POD)
    outcome = apply_patch(media, before, patch, DESCRIPTOR)
    assert before == POD, "what is patched is left alone"
    return outcome


def containers(patch: list[Any], **further: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = patched(STRATEGIC, {"spec": {"containers": patch, **further}})["spec"]["containers"]
    return found


def test_a_merge_patch_merges_objects_and_replaces_lists() -> None:
    outcome = patched(MERGE, {"metadata": {"labels": {"a": None, "c": "3"}}, "spec": {"containers": []}})
    assert outcome["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert outcome["spec"]["containers"] == []
    assert outcome["spec"]["volumes"] == POD["spec"]["volumes"]


def test_a_json_patch_is_a_list_of_operations() -> None:
    outcome = patched(
        JSON_PATCH,
        [
            {"op": "test", "path": "/metadata/name", "value": "web"},
            {"op": "replace", "path": "/spec/containers/0/image", "value": "9"},
            {"op": "add", "path": "/metadata/labels/x~1y", "value": "z"},
            {"op": "remove", "path": "/spec/volumes"},
        ],
    )
    assert outcome["spec"]["containers"][0]["image"] == "9"
    assert outcome["metadata"]["labels"]["x/y"] == "z"
    assert "volumes" not in outcome["spec"]


@pytest.mark.parametrize(
    ("patch", "error"),
    [
        ({}, BadRequest),
        ([1], BadRequest),
        ([{"op": "fly", "path": "/a"}], BadRequest),
        ([{"op": "add"}], BadRequest),
        ([{"op": "test", "path": "/metadata/name", "value": "other"}], Invalid),
        ([{"op": "remove", "path": "/spec/nothing"}], Invalid),
        ([{"op": "replace", "path": "/spec/containers/9/image", "value": "x"}], Invalid),
        ([{"op": "replace", "path": "", "value": 7}], Invalid),
        ([{"op": "remove", "path": "/x"}] * 10_001, Invalid),
    ],
)
def test_json_patches_that_do_not_apply(patch: Any, error: type[ApiError]) -> None:
    with pytest.raises(error):
        patched(JSON_PATCH, patch)


def test_containers_are_merged_by_their_names() -> None:
    assert containers([{"name": "two", "image": "9"}, {"name": "three", "image": "3"}]) == [
        POD["spec"]["containers"][0],
        {"name": "two", "image": "9", "args": ["x", "y"]},
        {"name": "three", "image": "3"},
    ]


def test_and_their_variables_by_theirs() -> None:
    assert containers([{"name": "one", "env": [{"name": "B", "value": "9"}, {"name": "A", "$patch": "delete"}]}])[
        0
    ] == {
        "name": "one",
        "image": "1",
        "env": [{"name": "B", "value": "9"}],
    }


def test_an_item_is_deleted_or_the_list_replaced() -> None:
    assert [each["name"] for each in containers([{"name": "one", "$patch": "delete"}])] == ["two"]
    assert containers([{"$patch": "replace"}, {"name": "new"}]) == [{"name": "new"}]


def test_the_order_is_set() -> None:
    order = {"$setElementOrder/containers": [{"name": "three"}, {"name": "two"}, {"name": "one"}]}
    found = containers([{"name": "three"}], **order)
    assert [each["name"] for each in found] == ["three", "two", "one"]


def test_what_the_order_does_not_name_stays_behind_its_neighbour() -> None:
    order = {"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}
    spec = copy.deepcopy(POD)
    spec["spec"]["containers"].append({"name": "theirs"})
    found = apply_patch(STRATEGIC, spec, {"spec": order}, DESCRIPTOR)
    assert [each["name"] for each in found["spec"]["containers"]] == ["two", "theirs", "one"]


def test_lists_without_a_key_are_replaced() -> None:
    outcome = patched(
        STRATEGIC, {"spec": {"tolerations": [{"key": "z"}], "containers": [{"name": "two", "args": ["z"]}]}}
    )
    assert outcome["spec"]["tolerations"] == [{"key": "z"}]
    assert outcome["spec"]["containers"][1]["args"] == ["z"]


def test_lists_of_values_that_are_sets() -> None:
    outcome = patched(STRATEGIC, {"metadata": {"finalizers": ["x/1", "x/2"]}})
    assert outcome["metadata"]["finalizers"] == ["x/1", "x/2"]
    outcome = patched(STRATEGIC, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/1"]}})
    assert outcome["metadata"]["finalizers"] == []


def test_objects_are_merged_deleted_or_replaced() -> None:
    assert patched(STRATEGIC, {"metadata": {"labels": None}})["metadata"].get("labels") is None
    assert patched(STRATEGIC, {"metadata": {"labels": {"$patch": "replace", "z": "9"}}})["metadata"]["labels"] == {
        "z": "9"
    }
    assert patched(STRATEGIC, {"metadata": {"labels": {"$patch": "delete"}}})["metadata"]["labels"] == {}


def test_keys_are_retained() -> None:
    volume = {"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}
    assert patched(STRATEGIC, {"spec": {"volumes": [volume]}})["spec"]["volumes"] == [
        {"name": "v", "hostPath": {"path": "/x"}}
    ]


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"$patch": "fly"},
        {"spec": {"$fly": 1}},
        {"spec": {"containers": [{"image": "x"}]}},
        {"spec": {"containers": ["x"]}},
        {"spec": {"$setElementOrder/containers": 7}},
        {"spec": {"$retainKeys": {}}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}},
    ],
)
def test_strategic_patches_that_make_no_sense(patch: Any) -> None:
    with pytest.raises(BadRequest):
        patched(STRATEGIC, patch)


@pytest.mark.parametrize("media", [APPLY, "application/json", "text/plain"])
def test_other_kinds_of_patches(media: str) -> None:
    with pytest.raises(Refused) as refused:
        patched(media, {})
    assert refused.value.code == 415


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("name", "spec", "$patch", "env")), inner)
    ),
    max_leaves=8,
)


@given(_values, st.sampled_from((MERGE, STRATEGIC, JSON_PATCH)))
def test_whatever_is_sent_is_applied_or_refused(patch: Any, media: str) -> None:
    with suppress(BadRequest, Invalid):
        assert isinstance(patched(media, patch), dict)


@given(st.permutations([{"name": "one"}, {"name": "two"}]))
def test_a_patch_of_what_is_there_changes_nothing(items: list[Any]) -> None:
    assert sorted(containers(items), key=lambda each: str(each["name"])) == POD["spec"]["containers"]
