"""Three-way patches: what was applied last, what is wanted, what there is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.api.diff import LAST_APPLIED
from cluster.client.apply import three_way_patch

DESIRED: dict[str, Any] = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}


def live(**annotations: str) -> dict[str, Any]:
    return {**DESIRED, "metadata": {"name": "c", "uid": "u", "annotations": annotations}}


@pytest.mark.parametrize(
    ("applied", "gone"),
    [
        ({}, {}),  # kubectl notes that there were none
        ({"ours": "x"}, {"ours": None}),
    ],
)
def test_a_manifest_without_annotations_takes_away_its_own_and_no_others(
    applied: dict[str, str], gone: dict[str, None]
) -> None:
    last = {**DESIRED, "metadata": {"name": "c", "annotations": applied}}
    patch = three_way_patch(last, DESIRED, live(theirs="y", **applied))
    assert patch["metadata"].keys() == {"annotations"}
    noted = patch["metadata"]["annotations"].pop(LAST_APPLIED)
    assert json.loads(noted) == DESIRED
    assert patch == {"metadata": {"annotations": gone}}


def test_what_was_applied_just_so_is_left_alone() -> None:
    first = three_way_patch({}, DESIRED, live())
    noted = first["metadata"]["annotations"][LAST_APPLIED]
    assert three_way_patch(DESIRED, DESIRED, live(**{LAST_APPLIED: noted})) == {}
