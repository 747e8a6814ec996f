"""What may go."""

from __future__ import annotations

from cluster.api.events import last_seen
from cluster.api.meta import Key, to_time
from cluster.controllers.garbage import (
    Quarantine,
    expired_events,
    finished_beyond,
    owners_to_look_up,
    unscheduled_terminating,
)
from cluster.pb.v1 import core_pb2 as core
from tests.kit.widgets import definition, widget
from tests.unit.controllers.objects import NOW_S, controller, names, pod


def test_the_oldest_finished_pods_go_first() -> None:
    pods = [pod(f"p{age}", phase="Succeeded", created_s=NOW_S - age) for age in (1, 5, 3)]
    pods += [pod("running"), pod("going", phase="Failed", terminating=True)]
    assert names(finished_beyond(pods, 1)) == ["p5", "p3"]
    assert finished_beyond(pods, 3) == []


def test_unscheduled_terminating() -> None:
    pods = [pod("a", terminating=True), pod("b", terminating=True, node="n"), pod("c")]
    assert names(unscheduled_terminating(pods)) == ["a"]


def event(name: str, first_s: float, last_s: float = 0) -> core.Event:
    result = core.Event(metadata=core.ObjectMeta(name=name))
    for field, value in (("firstTimestamp", first_s), ("lastTimestamp", last_s)):
        if value:
            getattr(result, field).CopyFrom(to_time(value))
    return result


def test_events_expire_by_when_they_last_happened() -> None:
    events = [event("old", 10), event("repeated", 10, 950), event("new", 990)]
    assert [e.metadata.name for e in expired_events(events, 1000, 100)] == ["old"]
    created = core.Event(metadata=core.ObjectMeta(creationTimestamp=to_time(7)))
    assert last_seen(created) == 7


def test_quarantine_waits_for_a_node_to_register_again() -> None:
    quarantine = Quarantine(40)
    assert quarantine.observe(["a", "b", ""], {"a"}, 0.0) == []
    assert quarantine.next_in(10.0) == 30.0
    assert quarantine.observe(["a", "b"], {"a"}, 39.0) == []
    assert quarantine.observe(["a", "b", "c"], {"a"}, 40.0) == ["b"]
    assert quarantine.next_in(50.0) == 30.0, "for c: b has waited long enough"
    assert quarantine.observe(["a", "b"], {"a", "b"}, 41.0) == []
    assert quarantine.next_in(41.0) is None
    assert quarantine.observe(["a", "b"], {"a"}, 42.0) == [], "it was back: the time counts anew"


def test_owners_that_cannot_be_looked_up_are_never_gone() -> None:
    owned = pod("a", owner=controller())
    found = owners_to_look_up(owned, nothing_defined)
    assert found is not None
    assert [(str(key), uid) for key, uid in found] == [("ReplicationController/default/web", "uid-web")]
    owned.metadata.ownerReferences.add(apiVersion="example.com/v1", kind="Widget", name="w", uid="u")
    assert owners_to_look_up(owned, nothing_defined) is None
    assert owners_to_look_up(pod("b"), nothing_defined) is None


def nothing_defined(group: str, kind: str) -> None:
    return None


def test_an_owner_of_a_kind_that_users_define_is_found_by_its_definition() -> None:
    kinds = [definition(), definition("services", "Service", group="serving.example.com", scope="Cluster")]

    def define(group: str, kind: str) -> core.CustomResourceDefinition | None:
        wanted = (group, kind)
        return next((each for each in kinds if (each.spec.group, each.spec.names.kind) == wanted), None)

    owned = pod("a")
    owned.metadata.ownerReferences.add(apiVersion="example.com/v1beta1", kind="Widget", name="w", uid="u1")
    owned.metadata.ownerReferences.add(apiVersion="serving.example.com/v1", kind="Service", name="s", uid="u2")
    assert owners_to_look_up(owned, define) == [
        (Key("CustomObject", "default", "widgets.example.com/w"), "u1"),
        (Key("CustomObject", "", "services.serving.example.com/s"), "u2"),
    ]
    nowhere = widget(namespace="")
    nowhere.metadata.ownerReferences.add(apiVersion="v1", kind="Pod", name="a", uid="u")
    assert owners_to_look_up(nowhere, define) is None, "what is in no namespace has no owner in one"
    nowhere.metadata.ownerReferences[0].apiVersion = "example.com/v1"
    nowhere.metadata.ownerReferences[0].kind = "Widget"
    assert owners_to_look_up(nowhere, define) is None
