"""What a pod's status says."""

from __future__ import annotations

from typing import Any

from cluster.api import conditions
from cluster.api.fit import Rejection
from cluster.api.json import to_json
from cluster.api.meta import from_time, to_time
from cluster.pb.v1 import core_pb2 as core
from node_agent.adoption import adopt
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import Admitted, Exited, Phase, PodEvent, Start, Started, StopAsked, Ticked, Unprepared
from node_agent.status import initial_state, last_lines, make_status
from tests.unit.node_agent.kit import BACKOFF, Life, make_pod


def get_condition(status: core.PodStatus, type: str) -> Any:
    return conditions.get_condition(status, type)


def report(life: Life, now_s: float = 500.0, rejection: Rejection | None = None) -> core.PodStatus:
    made = make_status(
        life.pod,
        life.state,
        pod_ip="127.7.16.1",
        host_ip="127.7.0.10",
        start_time_s=99.0,
        now_s=now_s,
        rejection=rejection,
    )
    life.pod.status.CopyFrom(made)
    return made


def ends_nobody_saw(life: Life) -> list[PodEvent]:
    """What a new life of the agent makes of a pod of which nothing runs any more."""
    _, adoptions = adopt(life.state, {}, same_boot=True, now=life.now, now_s=100.0)
    return [event for adoption in adoptions for event in adoption.events]


def test_a_pod_from_creation_to_ready() -> None:
    life = Life.of(make_pod())
    life.on(Admitted())
    made = report(life, 500.0)
    assert made.phase == "Pending"
    assert made.containerStatuses[0].state.waiting.reason == "ContainerCreating"
    assert get_condition(made, "Ready").status == "False"
    assert get_condition(made, "Ready").message == "containers with unready status: [c1]"
    life.on(Started("c1", 0, 501.0, "process://17/4711"))
    made = report(life, 502.0)
    assert (made.phase, made.podIP, made.podIPs[0].ip, made.hostIP, made.qosClass) == (
        "Running",
        "127.7.16.1",
        "127.7.16.1",
        "127.7.0.10",
        "BestEffort",
    )
    assert from_time(made.startTime) == 99.0
    c = made.containerStatuses[0]
    assert (c.ready, c.started, c.restartCount, c.containerID) == (True, True, 0, "process://17/4711")
    printed = to_json(c)
    assert (printed["lastState"], printed["image"], printed["imageID"]) == ({}, "", ""), "as Kubernetes prints them"
    assert from_time(c.state.running.startedAt) == 501.0
    ready, initialized = get_condition(made, "Ready"), get_condition(made, "Initialized")
    assert (ready.status, from_time(ready.lastTransitionTime)) == ("True", 502.0)
    assert from_time(initialized.lastTransitionTime) == 500.0


def test_a_crash_loop() -> None:
    life = Life.of(make_pod(uid="u"))
    life.on(Admitted())
    for run in range(2):
        life.on(Started("c1", run, 100.0 + run, f"process://{run}/1"))
        life.on(Exited("c1", run, 100.5 + run, 3, message="boom"))
    made = report(life)
    c = made.containerStatuses[0]
    assert c.containerID == c.lastState.terminated.containerID == "process://1/1", "as long as none comes after it"
    assert made.phase == "Running"
    assert (c.state.waiting.reason, c.restartCount) == ("CrashLoopBackOff", 1)
    assert c.state.waiting.message.startswith("back-off 10s restarting failed container=c1")
    last = c.lastState.terminated
    assert (last.exitCode, last.reason, last.message) == (3, "Error", "boom")


def test_a_restart_for_which_something_is_missing_has_not_happened() -> None:
    life = Life.of(make_pod())
    life.on(Admitted())
    life.on(Started("c1", 0, 100.0))
    life.on(Exited("c1", 0, 100.5, 3))
    life.on(Unprepared("c1", 1, "CreateContainerConfigError", 'secret "s" not found'))
    c = report(life).containerStatuses[0]
    assert (c.state.waiting.reason, c.restartCount) == ("CreateContainerConfigError", 0)
    life.now = next_deadline(life.state)
    assert life.on(Ticked()) == [Start("c1", 1)]
    life.on(StopAsked(0, remove=False))
    life.on(Unprepared("c1", 1, "CreateContainerConfigError", 'secret "s" not found'))
    c = report(life).containerStatuses[0]
    assert (c.state.terminated.exitCode, c.restartCount) == (3, 0)


def test_the_end_of_a_job() -> None:
    life = Life.of(make_pod(policy="OnFailure"))
    life.on(Admitted())
    life.on(Started("c1", 0, 100.0))
    life.on(Exited("c1", 0, 101.0, 0))
    made = report(life)
    assert made.phase == "Succeeded"
    assert made.containerStatuses[0].state.terminated.reason == "Completed"
    assert not made.containerStatuses[0].state.terminated.message
    assert get_condition(made, "Ready").reason == "PodCompleted"


def test_a_final_phase_stays() -> None:
    life = Life.of(make_pod(policy="Never"))
    life.on(Admitted())
    life.on(Started("c1", 0, 100.0))
    life.on(Exited("c1", 0, 101.0, 1))
    assert report(life).phase == "Failed"
    life.on(StopAsked(0, remove=True))
    assert report(life).phase == "Failed"


def test_a_rejected_pod() -> None:
    made = report(Life.of(make_pod()), rejection=Rejection("OutOfcpu", "Pod was rejected: no cpu"))
    assert (made.phase, made.reason, made.message) == ("Failed", "OutOfcpu", "Pod was rejected: no cpu")


def running(pod: core.Pod, restarts: int = 2) -> core.Pod:
    status = pod.status.containerStatuses.add(name="c1", restartCount=restarts, containerID="process://1/2")
    status.state.running.startedAt.CopyFrom(to_time(50.0))
    return pod


def test_what_ran_before_the_agent_started_is_lost_and_runs_again() -> None:
    life = Life(pod := running(make_pod()), initial_state(pod, BACKOFF))
    (end,) = ends_nobody_saw(life)
    assert isinstance(end, Exited)
    assert (end.exit_code, end.lost, end.run) == (137, True, 2)
    assert Start("c1", 3) in life.on(end)
    made = report(life)
    last = made.containerStatuses[0].lastState.terminated
    assert (last.exitCode, last.reason, last.containerID) == (137, "ContainerStatusUnknown", "process://1/2")
    assert made.containerStatuses[0].restartCount == 3


def test_with_never_it_is_lost_for_good() -> None:
    life = Life(pod := running(make_pod(policy="Never")), initial_state(pod, BACKOFF))
    for end in ends_nobody_saw(life):
        life.on(end)
    assert life.on(Admitted()) == []
    assert report(life).phase == "Failed"


def test_what_waited_to_run_again_runs_again() -> None:
    pod = make_pod()
    status = pod.status.containerStatuses.add(name="c1", restartCount=4)
    status.state.waiting.reason = "CrashLoopBackOff"
    status.lastState.terminated.exitCode = 1
    life = Life(pod, initial_state(pod, BACKOFF))
    assert ends_nobody_saw(life) == []
    assert life.on(Admitted()) == [Start("c1", 5)]


def test_what_ended_before_is_judged_by_how_it_ended() -> None:
    pod = make_pod(policy="OnFailure")
    status = pod.status.containerStatuses.add(name="c1")
    status.state.terminated.exitCode = 0
    life = Life(pod, initial_state(pod, BACKOFF))
    for end in ends_nobody_saw(life):
        life.on(end)
    assert life.state["c1"].phase is Phase.ENDED
    assert report(life).phase == "Succeeded"


def test_last_lines() -> None:
    assert last_lines("one\ntwo\n") == "one\ntwo"
    many = "\n".join(str(n) for n in range(500))
    assert last_lines(many).splitlines() == [str(n) for n in range(420, 500)]
    long = "x" * 1000 + "\n" + "y" * 1500 + "\n" + "z" * 100
    assert last_lines(long) == "y" * 1500 + "\n" + "z" * 100
    assert len(last_lines("ä" * 5000).encode()) <= 2048
