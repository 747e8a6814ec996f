"""Secret values do not leave the master by history, undo and trace. There is no secret kind yet, so one is made."""

from __future__ import annotations

import pytest

from cluster.api import secrets
from cluster.api.diff import LAST_APPLIED
from cluster.client import operations as ops
from cluster.pb.v1 import core_pb2 as core
from tests.unit.master.rig import Rig
from tests.unit.master.travels import RC, controller, history, trace, undo, write

VALUES = ("hunter2", "swordfish")


@pytest.fixture(autouse=True)
def _labels_are_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = (("metadata", "labels"), ("metadata", "annotations", LAST_APPLIED))
    monkeypatch.setattr(secrets, "SECRET_FIELDS", {**secrets.SECRET_FIELDS, RC.kind: paths})


async def test_history_undo_and_trace_show_that_it_changed_and_not_to_what(rig: Rig) -> None:
    made = controller(1)
    made.metadata.labels["password"] = VALUES[0]
    made.metadata.annotations[LAST_APPLIED] = '{"metadata": {"labels": {"password": "hunter2"}}}'
    await rig.create(made)
    change = {"metadata": {"labels": {"password": VALUES[1]}}}
    await write(rig, ops.patch(RC, change), cause=core.Cause(reason="change"))

    answers = [await history(rig), await trace(rig, RC.kind), await undo(rig)]
    entries = (await history(rig)).entries
    for answer in (*answers, *entries):
        assert not any(value in str(answer) for value in VALUES), answer
        assert secrets.HIDDEN in str(answer)
    paths = [[change.path for change in entry.changes] for entry in entries]
    assert paths == [["metadata.labels.password"], ["metadata.labels.password"], []]

    restored = rig.find(RC.kind, "web")
    assert restored is not None
    assert restored.metadata.labels["password"] == VALUES[0], "what is written is the value, not the word"
