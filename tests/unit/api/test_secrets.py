"""Secret values never appear; that they changed does."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from cluster.api.diff import LAST_APPLIED, differences
from cluster.api.kinds import KINDS
from cluster.api.secrets import HIDDEN, SECRET_FIELDS, hide, hide_object
from cluster.pb.v1 import core_pb2 as core

KEY = b"0123456789abcdef"
PASSWORD = base64.b64encode(b"hunter2").decode()
SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "db",
        "uid": "u-1",
        "labels": {"app": "db"},
        "annotations": {LAST_APPLIED: json.dumps({"data": {"password": PASSWORD}}), "note": "kept"},
    },
    "type": "Opaque",
    "data": {"password": PASSWORD, "user": "cm9vdA=="},
    "stringData": {"token": "tiger"},
}


def test_secret_values_never_appear_and_all_else_does() -> None:
    shown = hide("Secret", SECRET, KEY)
    text = json.dumps(shown)
    for value in (PASSWORD, "hunter2", "tiger", "cm9vdA=="):
        assert value not in text
    assert shown["type"] == "Opaque"
    assert shown["metadata"]["labels"] == {"app": "db"}
    assert shown["metadata"]["annotations"]["note"] == "kept"
    assert set(shown["data"]) == {"password", "user"}
    assert SECRET["data"]["password"] == PASSWORD, "the original is not touched"


def test_a_change_of_a_secret_value_shows_as_one_without_its_value() -> None:
    new = copy.deepcopy(SECRET)
    new["data"]["password"] = base64.b64encode(b"correct horse").decode()
    found = differences(hide("Secret", SECRET, KEY), hide("Secret", new, KEY))
    assert [difference.path for difference in found] == ["data.password"]
    assert found[0].old.startswith(HIDDEN)
    assert found[0].new.startswith(HIDDEN)
    assert hide("Secret", SECRET, KEY) == hide("Secret", copy.deepcopy(SECRET), KEY)


def test_the_word_for_a_value_says_nothing_about_other_places_or_to_who_has_not_the_key() -> None:
    same = copy.deepcopy(SECRET)
    same["data"]["user"] = PASSWORD
    shown = hide("Secret", same, KEY)
    assert shown["data"]["user"] != shown["data"]["password"]
    other = copy.deepcopy(SECRET)
    other["metadata"]["uid"] = "u-2"
    assert hide("Secret", other, KEY)["data"] != hide("Secret", SECRET, KEY)["data"]
    assert hide("Secret", SECRET, b"another key 1234")["data"] != hide("Secret", SECRET, KEY)["data"]


def test_the_word_fits_into_a_field_of_bytes() -> None:
    for value in hide("Secret", SECRET, KEY)["data"].values():
        base64.b64decode(value, validate=True)


def test_of_a_kind_that_nobody_thought_of_everything_is_hidden() -> None:
    shown = hide("Vault", {"kind": "Vault", "metadata": {"name": "v"}, "spec": {"pin": 1234, "list": ["a"]}}, KEY)
    assert shown["metadata"] == {"name": "v"}
    assert shown["spec"]["pin"].startswith(HIDDEN)
    assert shown["spec"]["list"][0].startswith(HIDDEN)


def test_kinds_without_secrets_are_not_even_copied() -> None:
    pod = core.Pod()
    assert hide_object(pod, KEY) is pod
    data = {"kind": "Pod", "spec": {}}
    assert hide("Pod", data, KEY) is data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_says_what_is_secret_of_it(kind: Any) -> None:
    """Whoever adds a kind must think about it: without a row in SECRET_FIELDS everything of it would be hidden."""
    assert kind.name in SECRET_FIELDS, f"add a row for {kind.name} to SECRET_FIELDS in cluster/api/diff.py"
    for path in SECRET_FIELDS[kind.name]:
        assert path[0] in kind.message.DESCRIPTOR.fields_by_name, f"{kind.name} has no field {path[0]}"
    if "secret" in kind.name.lower():
        assert SECRET_FIELDS[kind.name], f"{kind.name} is called a secret, but nothing of it is hidden"
