"""The watch validators are checked: a correct recording passes, and each violation is named by its guarantee."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.pb.v1 import core_pb2 as core
from tests.kit import watch_validators as validators
from tests.kit.watch_validators import Recording, Seen, check, check_alone, matcher, selected

Event = tuple[str, int, str, str]
"""Type, revision, name, value of the label app; no name: a marker."""


def seen(event: Event) -> Seen:
    type_, revision, name, app = event
    if not name:
        return Seen(type_, revision)
    meta = core.ObjectMeta(name=name, namespace="default", labels={"app": app}, resourceVersion=str(revision))
    return Seen(type_, revision, f"Pod/default/{name}", core.Pod(metadata=meta))


def recording(*batches: list[Event], after: int | None = None, selector: str = "") -> Recording:
    matches = matcher("Pod", label_selector=selector) if selector else None
    return Recording(after, [[seen(event) for event in batch] for batch in batches], matches)


STATE: list[Event] = [("ADDED", 3, "a", "x"), ("ADDED", 5, "b", "x"), ("INITIAL_STATE_END", 5, "", "")]
LATER: list[Event] = [("MODIFIED", 6, "a", "y"), ("ADDED", 7, "c", "x"), ("DELETED", 7, "b", "x")]
END: list[Event] = [("BOOKMARK", 8, "", ""), ("DELETED", 9, "a", "y")]
LOG = [seen(event) for event in LATER + END if event[2]]


def test_a_correct_recording_passes() -> None:
    check(recording(STATE, LATER, END), LOG)
    check(recording(LATER, END, after=5), LOG)
    check(recording([("BOOKMARK", 6, "", "")], [*LATER[1:]], END), LOG)
    check(recording(after=5), LOG)


WRONG: dict[str, tuple[Recording, Callable[[Recording], None]]] = {
    "ordered": (recording(STATE, [LATER[1]], [LATER[0]]), validators.ordered_and_unique),
    "ordered: before": (recording([LATER[0]], after=6 + 1), validators.ordered_and_unique),
    "unique": (recording(STATE, LATER, [LATER[2]]), validators.ordered_and_unique),
    "atomic": (recording(STATE, LATER[:2], LATER[2:]), validators.atomic),
    "bookmarkable: a bookmark went back": (
        recording(STATE, [("BOOKMARK", 8, "", ""), ("BOOKMARK", 7, "", "")]),
        validators.bookmarkable,
    ),
    "bookmarkable": (recording(STATE, [("BOOKMARK", 7, "", "")], LATER[1:]), validators.bookmarkable),
    "filtered": (recording(STATE, LATER, selector="app=x"), validators.filtered),
    "created: a second time": (recording(STATE, [("ADDED", 6, "a", "x")]), validators.created),
    "created: changed without having been there": (recording(STATE, [("MODIFIED", 6, "z", "x")]), validators.created),
    "created: deleted twice": (
        recording([("DELETED", 6, "a", "x")], [("DELETED", 7, "a", "x")], after=5),
        validators.created,
    ),
    "previous": (recording(STATE, [("DELETED", 6, "a", "never told")]), validators.previous),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_violation_is_named(what: str) -> None:
    wrong, validator = WRONG[what]
    with pytest.raises(AssertionError, match=what.split(":")[0]):
        validator(wrong)
    with pytest.raises(AssertionError, match=what.split(":")[0]):
        check_alone(wrong)


def test_a_version_that_is_not_the_events_is_named() -> None:
    wrong = recording(STATE, LATER)
    obj = wrong.batches[1][0].object
    assert obj is not None
    obj.metadata.resourceVersion = "5"
    with pytest.raises(AssertionError, match="stamped"):
        check_alone(wrong)
    wrong = recording(STATE)
    obj = wrong.batches[0][0].object
    assert obj is not None
    obj.metadata.resourceVersion = "4"
    with pytest.raises(AssertionError, match="stamped"):
        check_alone(wrong)


def test_what_is_left_out_is_named() -> None:
    with pytest.raises(AssertionError, match=r"reliable.*missing.*Pod/default/c"):
        check(recording(STATE, [LATER[0], LATER[2]], END), LOG)
    with pytest.raises(AssertionError, match=r"reliable.*not in the log.*Pod/default/z"):
        check(recording(STATE, [*LATER[:1], ("ADDED", 7, "z", "x"), *LATER[1:]], END), LOG)
    with pytest.raises(AssertionError, match="reliable"):
        check(recording([("INITIAL_STATE_END", 5, "", "")], [("BOOKMARK", 9, "", "")]), LOG)


def test_a_resumption_that_begins_too_late_is_named() -> None:
    with pytest.raises(AssertionError, match="resumable"):
        check(recording(LATER[1:], END, after=5), LOG)


def test_a_selector_is_entered_and_left() -> None:
    """What is derived from a watch of everything is what a watch with the selector must be told."""
    everything = recording(
        STATE,
        LATER,
        [("MODIFIED", 10, "c", "x"), ("MODIFIED", 11, "a", "x"), ("DELETED", 12, "c", "x"), ("DELETED", 13, "a", "x")],
    )
    log = selected(everything, matcher("Pod", label_selector="app=x"))
    assert [(event.type, event.revision, event.key[-1]) for event in log] == [
        ("DELETED", 6, "a"),
        ("ADDED", 7, "c"),
        ("DELETED", 7, "b"),
        ("MODIFIED", 10, "c"),
        ("ADDED", 11, "a"),
        ("DELETED", 12, "c"),
        ("DELETED", 13, "a"),
    ]
    told: list[Event] = [("DELETED", 6, "a", "x"), ("ADDED", 7, "c", "x"), ("DELETED", 7, "b", "x")]
    check(recording(STATE, told, selector="app=x"), log)
    with pytest.raises(AssertionError, match="resumable"):
        check(recording(STATE, told[1:], selector="app=x"), log)


def test_a_matcher_looks_at_kind_namespace_labels_and_fields() -> None:
    pod = core.Pod(metadata=core.ObjectMeta(name="a", namespace="default", labels={"app": "x"}))
    pod.spec.nodeName = "n1"
    assert matcher("Pod")(pod)
    assert matcher("Pod", "default", "app=x", "spec.nodeName=n1")(pod)
    assert not matcher("Service")(pod)
    assert not matcher("Pod", "other")(pod)
    assert not matcher("Pod", "", "app!=x")(pod)
    assert not matcher("Pod", "", "", "spec.nodeName=n2")(pod)
