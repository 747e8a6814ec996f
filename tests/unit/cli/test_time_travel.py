"""Moments as users name them; and what history, diff, undo and trace print."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest

from cluster.api.kinds import wrap
from cluster.api.meta import to_time
from cluster.cli import diff, history, past, trace, undo
from cluster.cli.at import NOW, Moment, parse_moment
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

HERE = timezone(timedelta(hours=2))
TODAY = datetime(2026, 11, 23, 12, 0, 0, tzinfo=HERE)
NOW_S = TODAY.timestamp()


def moment(text: str) -> Moment:
    return parse_moment(text, NOW_S, HERE)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-23T10:00:00Z", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("2026-11-23T10:00:00+01:00", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T10:00:00", datetime(2026, 11, 23, 10, tzinfo=HERE)),
        ("2026-11-23 09:30", datetime(2026, 11, 23, 9, 30, tzinfo=HERE)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=HERE)),
        ("10:00", datetime(2026, 11, 23, 10, tzinfo=HERE)),
        ("9:05:07", datetime(2026, 11, 23, 9, 5, 7, tzinfo=HERE)),
        ("13:00", datetime(2026, 11, 22, 13, tzinfo=HERE)),
        ("5m", TODAY - timedelta(minutes=5)),
        ("5m ago", TODAY - timedelta(minutes=5)),
        ("1h30m", TODAY - timedelta(hours=1, minutes=30)),
        ("2d", TODAY - timedelta(days=2)),
        ("1.5s ago", TODAY - timedelta(seconds=1.5)),
    ],
)
def test_times(text: str, meant: datetime) -> None:
    assert moment(text) == Moment(time_s=meant.timestamp())


def test_revisions_and_now() -> None:
    assert moment("1432") == Moment(revision=1432)
    assert moment("now") == NOW
    assert NOW.is_now
    assert not moment("1432").is_now


@pytest.mark.parametrize("text", ["", "soon", "ago", "25:00", "-5", "5x", "2026-13-01", "10:00pm", "²"])
def test_what_is_no_moment_is_told_what_is(text: str) -> None:
    with pytest.raises(click.UsageError, match=r'no moment: give a revision, or a time such as .* or "5m ago"'):
        moment(text)


def test_a_time_to_come() -> None:
    with pytest.raises(click.UsageError, match="has not come yet"):
        moment("2027-01-01")


# --- words


def change(path: str, old: object, new: object) -> wire.FieldChange:
    sides = {name: json.dumps(value) for name, value in (("old", old), ("new", new)) if value is not None}
    return wire.FieldChange(path=path, **sides)


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (core.Cause(), ""),
        (core.Cause(reason="apply"), "apply"),
        (core.Cause(revision=40, reason="schedule"), "schedule"),
        (core.Cause(revision=41, object="replicationcontrollers/default/web", reason="scale"), "scale (rc/web at 41)"),
        (core.Cause(revision=7, object="pods/other/a", reason="replace"), "replace (pod/other/a at 7)"),
        (core.Cause(revision=7, object="nodes/n1"), "node/n1 at 7"),
        (core.Cause(revision=7), "revision 7"),
    ],
)
def test_causes(cause: core.Cause, text: str) -> None:
    assert past.cause_text(cause, "default") == text


def test_changes() -> None:
    assert past.change_text(change("spec.replicas", 3, 5)) == "spec.replicas: 3 -> 5"
    assert past.change_text(change("metadata.labels.a", None, "b")) == "metadata.labels.a: (nothing) -> b"
    assert past.change_text(change("x", "y" * 100, None), 10) == "x: yyyyyyy... -> (nothing)"
    several = [change("a", 1, 2), change("b", 1, 2), change("c", 1, 2)]
    assert past.changes_text(several, 2) == "a: 1 -> 2, b: 1 -> 2, and 1 more"
    assert past.change_documents([change("a", None, [1])]) == [{"path": "a", "new": [1]}]


def test_times_of_the_log() -> None:
    time = to_time(1_700_000_000.123456)
    assert past.time_text(time) == "2023-11-14T22:13:20Z"
    assert past.time_text(time, 3) == "2023-11-14T22:13:20.123Z"


# --- history


def entries() -> list[wire.HistoryEntry]:
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="web"))
    scaled = wire.HistoryEntry(
        type=wire.WatchEvent.MODIFIED,
        revision=60,
        time=to_time(NOW_S - 65),
        actor="admin",
        cause=core.Cause(reason="scale"),
        changes=[change("spec.replicas", 3, 5), change("a", 1, 2), change("b", 1, 2)],
        object=wrap(rc),
    )
    made = wire.HistoryEntry(
        type=wire.WatchEvent.ADDED, revision=41, time=to_time(NOW_S - 7200), actor="admin", object=wrap(rc)
    )
    return [scaled, made]


def test_the_table_of_a_history() -> None:
    assert history.table(entries(), NOW_S, "default").split("\n") == [
        "REVISION   AGE    WHO     CAUSE    CHANGE",
        "60         65s    admin   scale    spec.replicas: 3 -> 5, a: 1 -> 2, and 1 more",
        "41         120m   admin   <none>   created",
    ]
    assert history.table(entries(), NOW_S, "default", wide=True, headers=False).split("\n") == [
        "60   2026-11-23T09:58:55Z   admin   scale    spec.replicas: 3 -> 5, a: 1 -> 2, b: 1 -> 2",
        "41   2026-11-23T08:00:00Z   admin   <none>   created",
    ]


def test_what_was_before_may_not_be_known() -> None:
    unknown = wire.HistoryEntry(type=wire.WatchEvent.MODIFIED, revision=41)
    assert past.what_text(unknown, 2) == "(what was before is no longer kept)"
    assert past.what_text(wire.HistoryEntry(type=wire.WatchEvent.DELETED), 2) == "deleted"


def test_why_a_history_ends_where_it_ends() -> None:
    whole, cut = entries(), entries()[:1]
    answer = wire.HistoryResponse(oldest_revision=50, revision=70)
    assert history.note_of(whole, answer, 20, None) == ""
    assert history.note_of(cut, answer, 1, None) == "only the newest 1 are shown; --limit shows more"
    assert history.note_of(cut, answer, 20, None).startswith("history begins at revision 50")
    assert history.note_of(cut, answer, 20, 55) == ""
    assert history.note_of([], answer, 20, 65) == "nothing was changed after revision 65"
    assert history.note_of([], answer, 20, None).startswith("nothing but the status was changed")


def test_a_history_as_a_document() -> None:
    document = history.document(entries(), wire.HistoryResponse(oldest_revision=0, revision=70))
    assert json.loads(json.dumps(document)) == document
    first = document["entries"][0]
    assert (first["revision"], first["type"], first["actor"], first["cause"]) == (
        60,
        "MODIFIED",
        "admin",
        {"reason": "scale"},
    )
    assert first["changes"][0] == {"path": "spec.replicas", "old": 3, "new": 5}
    assert first["object"]["kind"] == "ReplicationController"
    assert document["revision"] == 70


# --- diff


def controller(replicas: int, revision: str) -> core.ReplicationController:
    rc = core.ReplicationController(metadata=core.ObjectMeta(name="web", resourceVersion=revision, actor="admin"))
    rc.spec.replicas = replicas
    rc.status.replicas = replicas
    return rc


def test_a_unified_diff_and_a_diff_of_fields() -> None:
    old, new = (diff.shown(controller(n, str(n)), everything=False) for n in (3, 5))
    assert diff.unified(old, new, ["a", "b"])[:3] == ["--- a", "+++ b", "@@ -3,4 +3,4 @@"]
    assert diff.unified(old, new, ["a", "b"])[-2:] == ["-  replicas: 3", "+  replicas: 5"]
    assert diff.fields(old, new, "fields") == "spec.replicas: 3 -> 5"
    assert json.loads(diff.fields(old, new, "json")) == [{"path": "spec.replicas", "old": 3, "new": 5}]
    with_status = [diff.shown(controller(n, str(n)), everything=True) for n in (3, 5)]
    assert diff.fields(with_status[0], with_status[1], "fields") == "spec.replicas: 3 -> 5\nstatus.replicas: 3 -> 5"


def test_nothing_is_different_but_what_differs_always(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (diff.shown(controller(3, revision), everything=True) for revision in ("7", "8"))
    assert diff.show(old, new, ["a", "b"], "diff") == 0
    assert diff.show(old, new, ["a", "b"], "json") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[]\n", "no difference\n")


def test_an_object_that_was_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    new = diff.shown(controller(3, "7"), everything=False)
    assert diff.show(None, new, ["a", "b"], "diff") == diff.DIFFERENT
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("+") for line in lines[3:])
    assert "\x1b" not in "".join(lines), "no colours but on a terminal"


# --- undo


def test_what_undo_says() -> None:
    undone = wire.UndoResponse(to_revision=41, changes=[change("spec.replicas", 5, 3)])
    assert undo.text("rc/web", undone, dry_run=False) == "rc/web is as it was at revision 41\n  spec.replicas: 5 -> 3"
    assert undo.text("rc/web", undone, dry_run=True).startswith("rc/web is as it was at revision 41 (dry run)\n")
    again = wire.UndoResponse(to_revision=41)
    assert undo.text("rc/web", again, dry_run=False) == "rc/web made again, as it was at revision 41"
    again.result.unchanged = True
    assert undo.text("rc/web", again, dry_run=False) == "rc/web unchanged: it is as it was at revision 41"


# --- trace


def steps() -> list[wire.TraceStep]:
    def step(word: str, kind: str, at_s: float, revision: int, actor: str, **more: object) -> wire.TraceStep:
        time = to_time(1_700_000_000 + at_s)
        return wire.TraceStep(step=word, object=kind, time=time, revision=revision, actor=actor, **more)  # type: ignore[arg-type]

    because = core.Cause(revision=41, object="replicationcontrollers/default/web", reason="scale")
    pod = "pods/default/web-1"
    return [
        step("Applied", "replicationcontrollers/default/web", 0, 41, "admin", message="3 replicas"),
        step("Created", pod, 0.012, 42, "controllers", cause=because),
        step("Scheduled", pod, 0.02, 44, "scheduler", message="bound to node-2"),
        step("Ready", pod, 1.5, 49, "node:node-2"),
    ]


def test_the_timeline_of_a_trace() -> None:
    assert trace.text(steps(), "default").split("\n") == [
        "begins 2023-11-14T22:13:20.000Z",
        "",
        "REVISION   AT      TOOK     STEP        OBJECT      WHO           WHAT",
        "41         0       +0       Applied     rc/web      admin         3 replicas",
        "42         12ms    +12ms    Created     pod/web-1   controllers   scale (rc/web at 41)",
        "44         20ms    +8ms     Scheduled   pod/web-1   scheduler     bound to node-2",
        "49         1.50s   +1.48s   Ready       pod/web-1   node:node-2",
        "",
        "1.50s from Applied to Ready",
    ]


def test_steps_whose_revision_is_not_known() -> None:
    (step,) = steps()[:1]
    step.ClearField("revision")
    assert "-          0    +0     Applied" in trace.text([step], "default")
    assert trace.text([], "default") == "nothing is known of how it came to be"


def test_a_trace_as_a_document() -> None:
    document = trace.document(wire.TraceResponse(steps=steps(), gap="", revision=60))
    assert json.loads(json.dumps(document)) == document
    assert document["steps"][1]["cause"] == {
        "revision": 41,
        "object": "replicationcontrollers/default/web",
        "reason": "scale",
    }
    assert document["steps"][0]["time"] == "2023-11-14T22:13:20.000000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (-1, "0"), (0.0001, "1ms"), (0.25, "250ms"), (1.5, "1.50s"), (75, "75s"), (300, "5m")],
)
def test_durations(seconds: float, text: str) -> None:
    assert trace.duration(seconds) == text
