"""Pods on a hollow node: what is reported of them, plain or not; and that both are the same."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from cluster.api import hollow
from cluster.api.meta import from_time
from cluster.pb.v1 import core_pb2 as core
from node_agent.hollow.pod import HollowPod
from node_agent.pod_lifecycle import step
from node_agent.pod_state import Admitted, Started
from node_agent.status import initial_state, make_status
from tests.unit.node_agent.hollow.kit import BACKOFF, BOUND_S, HOST, WALL_S, FakeStage, Scene, asking, bound, ready


def pods() -> st.SearchStrategy[core.Pod]:
    """Pods with and without requests, ports, several containers, images."""

    def make(containers: int, policy: str, cpu: str, port: int, image: str) -> core.Pod:
        pod = bound(containers=containers, policy=policy)
        if cpu:
            asking(pod, cpu=cpu)
        if port:
            pod.spec.containers[0].ports.add(containerPort=port)
        pod.spec.containers[-1].image = image
        return pod

    policies = st.sampled_from(["Always", "OnFailure", "Never"])
    return st.builds(
        make,
        st.integers(1, 4),
        policies,
        st.sampled_from(["", "100m", "2"]),
        st.sampled_from([0, 80]),
        st.sampled_from(["", "host", "nginx:1"]),
    )


@settings(max_examples=60)
@given(pod=pods(), delay_s=st.sampled_from([0.0, 3.0]))
def test_a_plain_pod_reports_what_the_real_lifecycle_reports(pod: core.Pod, delay_s: float) -> None:
    """Step by step: as taken up, and as running, by the functions of a real agent."""
    scene = Scene(delay_s)
    scene.tell(pod)
    (mine,) = scene.node.pods.values()
    assert mine.active is None
    real = core.Pod()
    real.CopyFrom(pod)
    state, commands = step(initial_state(real, BACKOFF, has_images=True), Admitted(), 1000.0)

    def report(now_s: float) -> core.PodStatus:
        made = make_status(real, state, pod_ip=mine.ip, host_ip=HOST, start_time_s=WALL_S, now_s=now_s)
        real.status.CopyFrom(made)
        return made

    if delay_s:
        assert scene.stage.status == report(WALL_S)
        assert scene.stage.status.phase == "Pending"
        scene.stage.let_pass(delay_s)
    for command in commands:
        at_s = WALL_S + delay_s
        event = Started(command.container, 0, at_s, f"hollow://{mine.uid}.{command.container}.0")  # type: ignore[union-attr]
        state, _ = step(state, event, scene.stage.now())
    assert scene.stage.status == report(WALL_S + delay_s)
    assert scene.stage.status.phase == "Running"
    assert ready(scene.stage.status) == "True"
    active = mine.activate()
    assert active.state == state


@settings(max_examples=40)
@given(pod=pods(), delay_s=st.sampled_from([0.0, 3.0]), passed_s=st.sampled_from([0.0, 1.0, 5.0]))
def test_plain_or_not_makes_no_difference(pod: core.Pod, delay_s: float, passed_s: float) -> None:
    """The same pod twice, one of them active from the beginning: all reports to its end are the same."""
    one, other = Scene(delay_s), Scene(delay_s)
    unplain = core.Pod()
    unplain.CopyFrom(pod)
    unplain.status.message = "somebody has said something before"
    for scene, given_ in ((one, pod), (other, unplain)):
        scene.tell(given_)
        scene.stage.let_pass(passed_s)
        scene.delete(given_)
        scene.stage.let_pass(10.0)
    assert one.stage.removed == other.stage.removed == [pod.metadata.uid]
    assert next(iter(other.node.pods.values())).active is not None
    assert _distinct(one.stage.reports) == _distinct(other.stage.reports)


def _distinct(reports: list[core.Pod]) -> list[core.Pod]:
    """Without repetitions: what says nothing new makes no revision."""
    return [report for i, report in enumerate(reports) if i == 0 or report != reports[i - 1]]


def test_times_are_when_things_happened() -> None:
    scene = Scene(2.0)
    scene.tell(bound())
    scene.stage.let_pass(5.0)
    times = [from_time(condition.lastTransitionTime) for condition in scene.stage.status.conditions]
    assert times == [BOUND_S, WALL_S, WALL_S + 2, WALL_S + 2]
    assert from_time(scene.stage.status.startTime) == WALL_S
    running = scene.stage.status.containerStatuses[0].state.running
    assert from_time(running.startedAt) == WALL_S + 2


def test_a_job_that_ends_well_and_one_that_does_not() -> None:
    scene = Scene()
    for name, code in (("good", "0"), ("bad", "3")):
        pod = bound(name, policy="Never")
        pod.metadata.annotations.update({hollow.RUN_SECONDS: "60", hollow.EXIT_CODE: code})
        scene.tell(pod)
    scene.stage.let_pass(59.0)
    assert {report.status.phase for report in scene.stage.reports} == {"Running"}
    scene.stage.let_pass(2.0)
    ends = {report.metadata.name: report.status for report in scene.stage.reports}
    assert (ends["good"].phase, ends["bad"].phase) == ("Succeeded", "Failed")
    end = ends["bad"].containerStatuses[0].state.terminated
    assert (end.exitCode, end.reason) == (3, "Error")
    assert from_time(end.finishedAt) - from_time(end.startedAt) == 60.0
    assert scene.node.heartbeat(1).usage["pods"].string == "0", "what is over holds nothing"


def test_a_crash_loop_backs_off_and_goes_on() -> None:
    scene = Scene()
    pod = bound(policy="Always")
    pod.metadata.annotations.update({hollow.RUN_SECONDS: "1", hollow.EXIT_CODE: "1"})
    scene.tell(pod)
    scene.stage.let_pass(2.5)
    status = scene.stage.status.containerStatuses[0]
    assert (status.state.waiting.reason, status.restartCount) == ("CrashLoopBackOff", 1)
    assert "BackOff" in [reason for reason, _ in scene.stage.notes]
    scene.stage.let_pass(10.0)
    assert scene.stage.status.containerStatuses[0].restartCount == 2
    scene.stage.let_pass(22.0)
    assert scene.stage.status.containerStatuses[0].restartCount == 3


@pytest.mark.parametrize(
    ("annotations", "word"),
    [
        ({hollow.RUN_SECONDS: "soon"}, "must be a number of seconds"),
        ({hollow.RUN_SECONDS: ""}, "must be a number of seconds"),
        ({hollow.RUN_SECONDS: "1", hollow.EXIT_CODE: "x"}, "must be an exit code"),
        ({hollow.EXIT_CODE: "1"}, "goes with"),
    ],
)
def test_annotations_that_make_no_sense_are_said(annotations: dict[str, str], word: str) -> None:
    scene = Scene()
    pod = bound()
    pod.metadata.annotations.update(annotations)
    scene.tell(pod)
    status = scene.stage.status
    assert (status.phase, status.reason) == ("Failed", "InvalidAnnotation")
    assert word in status.message
    assert scene.stage.notes == [("InvalidAnnotation", status.message)]


def test_a_deadline_ends_a_pod() -> None:
    scene = Scene()
    pod = bound()
    pod.spec.activeDeadlineSeconds = 20
    scene.tell(pod)
    scene.stage.let_pass(19.0)
    assert scene.stage.status.phase == "Running"
    scene.stage.let_pass(2.0)
    assert (scene.stage.status.phase, scene.stage.status.reason) == ("Failed", "DeadlineExceeded")


@pytest.mark.parametrize("before_s", [None, 600])
@pytest.mark.parametrize("delay_s", [0.0, 3.0])
def test_a_deadline_that_is_set_while_a_pod_runs(before_s: int | None, delay_s: float) -> None:
    scene = Scene(delay_s)
    pod = bound()
    if before_s:
        pod.spec.activeDeadlineSeconds = before_s
    scene.tell(pod)
    changed = scene.reported(pod)
    changed.spec.activeDeadlineSeconds = 20
    scene.tell(changed)
    scene.stage.let_pass(19.0)
    assert scene.stage.status.phase == "Running"
    scene.tell(changed)
    scene.stage.let_pass(2.0)
    assert (scene.stage.status.phase, scene.stage.status.reason) == ("Failed", "DeadlineExceeded")


def test_a_pod_waits_for_what_it_depends_on() -> None:
    scene = Scene()
    pod = bound()
    pod.spec.dependsOn.append("service/db")
    scene.tell(pod)
    waiting = scene.stage.status.containerStatuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("WaitingForDependency", "waiting for service/db to be ready")
    scene.stage.waiting[pod.metadata.uid](())
    assert scene.stage.status.phase == "Running"


def test_pods_that_run_when_the_process_begins_run_on() -> None:
    first = Scene()
    pods = [bound("plain"), bound("job", policy="Never")]
    pods[1].metadata.annotations[hollow.RUN_SECONDS] = "60"
    first.tell(*pods)
    first.stage.let_pass(50.0)
    second = Scene()
    second.stage.let_pass(55.0)
    second.node.replace([first.reported(pod) for pod in pods])
    assert [report.status for report in second.stage.reports] == [first.reported(pod).status for pod in pods]
    second.stage.let_pass(6.0)
    assert second.stage.reports[-1].metadata.name == "job"
    assert second.stage.status.phase == "Succeeded"


def test_pods_that_crashed_before_go_on_in_their_row() -> None:
    first = Scene()
    pod = bound()
    pod.metadata.annotations.update({hollow.RUN_SECONDS: "1", hollow.EXIT_CODE: "1"})
    first.tell(pod)
    first.stage.let_pass(2.5)
    second = Scene()
    second.node.replace([first.reported(pod)])
    assert second.stage.status.containerStatuses[0].restartCount == 2
    assert second.stage.status.containerStatuses[0].state.HasField("running")


def test_shapes_go_with_their_last_pod() -> None:
    scene = Scene()
    doomed = [bound(f"p{number}") for number in range(3)]
    scene.tell(*doomed, asking(bound("other"), cpu="1"))
    assert len(scene.stage.shapes) == 2
    assert len({id(pod.shape) for pod in scene.node.pods.values()}) == 2
    scene.tell(*doomed, deleted=True)
    assert len(scene.stage.shapes) == 1


def test_plain_pods_are_small() -> None:
    stage = FakeStage()
    pod = bound()
    mine = HollowPod(pod, stage.shapes.of(pod), "240.0.0.1", HOST, BACKOFF, WALL_S)
    assert mine.active is None
    assert not hasattr(mine, "__dict__")
