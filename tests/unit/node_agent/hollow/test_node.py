"""A hollow node: what it takes, what it gives back, and that it says again what somebody else unsaid."""

from __future__ import annotations

import pytest

from cluster.api.conditions import set_condition
from cluster.pb.v1 import core_pb2 as core
from tests.unit.node_agent.hollow.kit import CIDR, ROOM, WALL_S, Scene, asking, bound, ready


def test_each_pod_has_an_address_of_the_node() -> None:
    scene = Scene()
    scene.tell(bound("a"), bound("b"))
    assert [report.status.podIP for report in scene.stage.reports] == ["240.0.0.1", "240.0.0.2"]
    assert {report.status.hostIP for report in scene.stage.reports} == {"127.7.0.250"}


def test_pods_wait_until_the_node_has_addresses() -> None:
    scene = Scene(cidr="")
    scene.tell(bound("a"), bound("b"))
    scene.tell(bound("b"), deleted=True)
    assert scene.stage.reports == []
    scene.node.set_addresses(CIDR)
    assert [report.metadata.name for report in scene.stage.reports] == ["a"]


def test_other_addresses_are_for_new_pods() -> None:
    scene = Scene()
    scene.tell(bound("a"))
    scene.node.set_addresses("240.0.1.0/25")
    scene.tell(bound("b"))
    assert [report.status.podIP for report in scene.stage.reports] == ["240.0.0.1", "240.0.1.1"]


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (asking(bound("big"), cpu="5"), "OutOfcpu"),
        (asking(bound("big"), memory="1Ti"), "OutOfmemory"),
        (asking(bound("odd"), fpga="1"), "OutOffpga"),
    ],
)
def test_what_does_not_fit_is_rejected_as_a_real_node_does(pod: core.Pod, reason: str) -> None:
    scene = Scene()
    scene.tell(pod, bound("small"))
    rejected, taken = scene.stage.reports
    assert (rejected.status.phase, rejected.status.reason) == ("Failed", reason)
    assert rejected.status.podIP == ""
    assert taken.status.phase == "Running"
    assert scene.stage.notes[0][0] == reason


def test_a_node_selector_is_asked_of_the_labels_that_the_node_has_now() -> None:
    scene = Scene()
    for name, disk in (("fits", "ssd"), ("does-not", "hdd")):
        pod = bound(name)
        pod.spec.nodeSelector["disk"] = disk
        scene.tell(pod)
    assert [report.status.phase for report in scene.stage.reports] == ["Running", "Failed"]
    scene.node.labels = {"disk": "hdd"}
    pod = bound("fits-now")
    pod.spec.nodeSelector["disk"] = "hdd"
    scene.tell(pod)
    assert scene.stage.status.phase == "Running"


def test_what_is_given_back_can_be_had_again() -> None:
    scene = Scene()
    pods = [asking(bound(f"p{number}"), cpu="2") for number in range(3)]
    scene.tell(*pods)
    assert [report.status.reason for report in scene.stage.reports] == ["", "", "OutOfcpu"]
    scene.tell(pods[0], deleted=True)
    scene.tell(asking(bound("next"), cpu="2"))
    assert scene.stage.status.phase == "Running"
    scene.tell(*pods[1:], asking(bound("next"), cpu="2"), deleted=True)
    assert scene.node.heartbeat(1).usage["cpu"].string == "0"
    assert scene.node.pods == {}


def test_a_full_node_takes_no_more() -> None:
    scene = Scene()
    scene.tell(*(bound(f"p{number}") for number in range(ROOM["pods"] + 1)))
    assert [report.status.reason for report in scene.stage.reports][-1] == "OutOfpods"


def test_it_says_what_its_pods_have_asked_for() -> None:
    scene = Scene()
    scene.tell(asking(bound("a"), cpu="250m", memory="1Gi"), asking(bound("b"), cpu="1"))
    beat = scene.node.heartbeat(7)
    assert (beat.node, beat.sequence) == ("h-1", 7)
    assert {name: used.string for name, used in beat.usage.items()} == {
        "cpu": "1250m",
        "memory": "1Gi",
        "ephemeral-storage": "0",
        "pods": "2",
    }
    assert scene.node.heartbeat(8).sequence == 8


# --- deletion


def test_a_deleted_pod_ends_is_reported_and_removed() -> None:
    scene = Scene()
    pod = bound()
    scene.tell(pod)
    doomed = scene.delete(pod)
    assert scene.stage.removed == [pod.metadata.uid]
    ended = scene.stage.status.containerStatuses[0].state.terminated
    assert (ended.exitCode, ended.signal) == (143, 15)
    assert ready(scene.stage.status) == "False"
    scene.tell(doomed)
    assert scene.stage.removed == [pod.metadata.uid], "it is told once"
    scene.tell(doomed, deleted=True)
    assert scene.node.pods == {}


def test_one_that_is_deleted_before_it_has_started_ends_when_it_has() -> None:
    scene = Scene(5.0)
    pod = bound()
    scene.tell(pod)
    scene.delete(pod)
    assert scene.stage.removed == []
    scene.stage.let_pass(6.0)
    assert scene.stage.removed == [pod.metadata.uid]


def test_one_that_is_being_deleted_when_it_is_first_seen_goes() -> None:
    scene = Scene()
    pod = bound()
    pod.metadata.deletionTimestamp.seconds = int(WALL_S)
    scene.tell(pod)
    assert scene.stage.removed == [pod.metadata.uid]


def test_a_rejected_pod_that_is_deleted_goes() -> None:
    scene = Scene()
    pod = asking(bound(), cpu="100")
    scene.tell(pod)
    scene.delete(pod)
    assert scene.stage.removed == [pod.metadata.uid]


def test_a_pod_that_was_removed_by_force_is_forgotten_with_what_was_to_be_said_of_it() -> None:
    scene = Scene(5.0)
    scene.stage.held = True
    pod = bound()
    scene.tell(pod)
    scene.tell(pod, deleted=True)
    scene.stage.let_pass(10.0)
    scene.stage.flush()
    assert scene.stage.reports == []


def test_a_new_pod_of_the_same_name_is_another_one() -> None:
    scene = Scene()
    scene.node.replace([bound("web", uid="old")])
    scene.node.replace([bound("web", uid="new")])
    assert [report.metadata.uid for report in scene.stage.reports] == ["old", "new"]
    assert list(scene.node.pods) == ["new"]


# --- what others say


def test_what_somebody_else_said_is_put_right() -> None:
    scene = Scene()
    pod = bound()
    scene.tell(pod)
    mine = scene.reported(pod)
    scene.tell(mine)
    assert len(scene.stage.reports) == 1, "its own words come back"
    other = core.Pod()
    other.CopyFrom(mine)
    set_condition(other.status, "Ready", "False", WALL_S)
    scene.tell(other)
    assert scene.stage.reports[-1].status == mine.status
    assert len(scene.stage.reports) == 2


def test_what_is_on_its_way_is_not_said_twice() -> None:
    scene = Scene()
    scene.stage.held = True
    pod = bound()
    scene.tell(pod)
    scene.tell(pod)
    scene.stage.flush()
    assert len(scene.stage.reports) == 1


def test_finished_pods_are_nobodys() -> None:
    scene = Scene()
    pod = bound()
    pod.status.phase = "Succeeded"
    scene.tell(pod)
    assert scene.node.pods == {}


def test_pods_that_must_not_run_unseen_end() -> None:
    scene = Scene()
    careful, careless = bound("careful"), bound("careless")
    careful.spec.stopAfterDisconnectSeconds = 10
    scene.tell(careful, careless)
    scene.node.cut_off(9.0)
    assert len(scene.stage.reports) == 2
    scene.node.cut_off(11.0)
    scene.node.cut_off(12.0)
    assert scene.stage.reports[-1].metadata.name == "careful"
    assert (scene.stage.status.phase, scene.stage.status.reason) == ("Failed", "StoppedAfterDisconnect")
