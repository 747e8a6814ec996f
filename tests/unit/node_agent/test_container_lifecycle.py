"""The life of one container: back-off, hooks, probes, and what comes too late."""

from __future__ import annotations

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import (
    Admitted,
    Exited,
    Finish,
    HookDone,
    Kill,
    Note,
    Phase,
    ProbeChanged,
    RunHook,
    Signal,
    Start,
    Started,
    StartFailed,
    StartProbes,
    StopAsked,
    StopProbes,
    Ticked,
    Unprepared,
)
from tests.unit.node_agent.kit import Life, make_pod
from tests.unit.node_agent.lifecycle_scene import acts, is_ready, phase, started


def test_back_off_row_on_virtual_time() -> None:
    life = started(Life.of(make_pod()))
    waits = []
    for run in range(8):
        commands = acts(life.on(Exited("c1", run, life.now, 1)))
        began = life.now
        if Start("c1", run + 1) not in commands:
            assert life.state["c1"].phase is Phase.BACKOFF
            life.now = next_deadline(life.state)
            commands = life.on(Ticked())
        assert Start("c1", run + 1) in commands
        waits.append(life.now - began)
        life.on(Started("c1", run + 1, life.now))
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_run_longer_than_ten_minutes_starts_the_row_anew() -> None:
    life = started(Life.of(make_pod()))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    life.on(Exited("c1", 1, 102.0, 1))
    assert life.state["c1"].phase is Phase.BACKOFF
    life.now += 10
    life.on(Ticked())
    life.on(Started("c1", 2, 200.0))
    life.now += 600.1
    assert Start("c1", 3) in life.on(Exited("c1", 2, 800.1, 1))


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_changes_no_back_off(jump_s: float) -> None:
    life = started(Life.of(make_pod()))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    life.now += 5
    life.on(Exited("c1", 1, 106.0 + jump_s, 1))
    assert next_deadline(life.state) == life.now + 10, "no run of ten minutes, and no end in the past"
    life.now += 10
    life.on(Ticked())
    life.on(Started("c1", 2, 116.0 + jump_s))
    life.now += 601
    assert Start("c1", 3) in life.on(Exited("c1", 2, 717.0, 1)), "a run of ten minutes"


def test_back_off_counts_from_the_end_of_the_run_whenever_it_is_heard_of() -> None:
    life = started(Life.of(make_pod()))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    life.now += 8
    life.on(Exited("c1", 1, 102.0, 1, at_mono_s=life.now - 7))
    assert next_deadline(life.state) == life.now + 3
    life.now += 3
    life.on(Ticked())
    life.on(Started("c1", 2, 112.0, at_mono_s=life.now - 1))
    life.now += 60
    assert acts(life.on(Exited("c1", 2, 113.0, 1, at_mono_s=life.now - 60))) == [
        *(StopProbes("c1", 2), Start("c1", 3)),
    ], "the time is over: nobody is told of a wait"


def test_a_tick_before_time_does_nothing() -> None:
    life = started(Life.of(make_pod()))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    life.on(Exited("c1", 1, 102.0, 1))
    life.now += 9.9
    assert life.on(Ticked()) == []


def test_words_of_a_crash_loop() -> None:
    life = started(Life.of(make_pod(uid="u-1")))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    commands = life.on(Exited("c1", 1, 102.0, 1, message="boom"))
    assert Note("Warning", "BackOff", "Back-off restarting failed container c1 in pod web_default(u-1)") in commands
    c = life.state["c1"]
    assert c.waiting == ("CrashLoopBackOff", "back-off 10s restarting failed container=c1 pod=web_default(u-1)")
    assert c.last is not None
    assert (c.last.reason, c.last.message, c.last.exit_code) == ("Error", "boom", 1)
    assert phase(life) == "Running"


def test_a_program_that_cannot_be_started() -> None:
    life = Life.of(make_pod(policy="Never"))
    life.on(Admitted())
    commands = life.on(StartFailed("c1", 0, 100.0, 127, 'exec: "serv": not found'))
    assert commands == [
        Note("Warning", "Failed", 'Error: failed to start container "c1": exec: "serv": not found'),
    ]
    end = life.state["c1"].ended
    assert end is not None
    assert (end.exit_code, end.reason) == (127, "ContainerCannotRun")
    assert phase(life) == "Failed"


def test_a_program_that_cannot_be_started_is_tried_again_with_back_off() -> None:
    life = Life.of(make_pod())
    life.on(Admitted())
    assert Start("c1", 1) in life.on(StartFailed("c1", 0, 100.0, 127, "not found"))
    life.on(StartFailed("c1", 1, 100.0, 127, "not found"))
    c = life.state["c1"]
    assert (c.phase, c.waiting[0]) == (Phase.BACKOFF, "RunContainerError")
    assert "not found" in c.waiting[1]


def test_failed_liveness_ends_the_run_and_restarts_it() -> None:
    life = started(Life.of(make_pod(grace_s=7)))
    commands = life.on(ProbeChanged("c1", 0, "liveness", healthy=False))
    assert commands[0] == Note("Normal", "Killing", "Container c1 failed liveness probe, will be restarted")
    assert acts(commands) == [StopProbes("c1", 0), Signal("c1", 0, 15)]
    assert next_deadline(life.state) == life.now + 7
    assert Start("c1", 1) in life.on(Exited("c1", 0, 101.0, 143, 15))


def test_failed_liveness_promises_no_restart_that_does_not_come() -> None:
    life = started(Life.of(make_pod(policy="Never")))
    said = life.on(ProbeChanged("c1", 0, "liveness", healthy=False))
    assert said[0] == Note("Normal", "Killing", "Container c1 failed liveness probe")
    assert acts(life.on(Exited("c1", 0, 101.0, 143, 15))) == [StopProbes("c1", 0)]


def test_news_of_an_earlier_run_is_ignored() -> None:
    life = started(Life.of(make_pod()))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    before = life.state
    for event in (
        Exited("c1", 0, 102.0, 1),
        Started("c1", 0, 102.0),
        ProbeChanged("c1", 0, "liveness", healthy=False),
    ):
        assert life.on(event) == []
    assert life.state == before


def test_a_lost_container_counts_as_failed() -> None:
    life = started(Life.of(make_pod(policy="OnFailure")))
    assert Start("c1", 1) in life.on(Exited("c1", 0, 101.0, 137, lost=True))
    last = life.state["c1"].last
    assert last is not None
    assert last.reason == "ContainerStatusUnknown"


def make_hooked() -> core.Pod:
    pod = make_pod()
    pod.spec.containers[0].lifecycle.postStart.sleep.seconds = 1
    pod.spec.containers[0].lifecycle.preStop.sleep.seconds = 1
    return pod


def test_a_container_runs_when_its_post_start_hook_is_done() -> None:
    life = Life.of(make_hooked())
    life.on(Admitted())
    assert acts(life.on(Started("c1", 0, 1.0))) == [RunHook("c1", 0, "postStart")]
    assert not is_ready(life)
    assert life.on(HookDone("c1", 0, "postStart")) == [StartProbes("c1", 0)]
    assert is_ready(life)


def test_a_post_start_hook_that_fails_ends_the_container() -> None:
    life = Life.of(make_hooked())
    life.on(Admitted())
    life.on(Started("c1", 0, 1.0))
    said = life.on(HookDone("c1", 0, "postStart", "no route"))
    assert said[0] == Note("Warning", "FailedPostStartHook", "PostStartHook failed: no route")
    assert RunHook("c1", 0, "preStop") in said


def test_the_pre_stop_hook_runs_first_and_within_the_grace() -> None:
    life = Life.of(make_hooked())
    life.on(Admitted())
    life.on(Started("c1", 0, 1.0))
    life.on(HookDone("c1", 0, "postStart"))
    assert acts(life.on(StopAsked(30.0, remove=True))) == [StopProbes("c1", 0), RunHook("c1", 0, "preStop")]
    life.now += 12.0
    assert acts(life.on(HookDone("c1", 0, "preStop"))) == [StopProbes("c1", 0), Signal("c1", 0, 15)]
    assert next_deadline(life.state) == 1030.0
    assert acts(life.on(Exited("c1", 0, 2.0, 0))) == [StopProbes("c1", 0), Finish(remove=True)]


def test_a_pre_stop_hook_that_takes_all_the_grace_leaves_two_seconds_for_term() -> None:
    life = Life.of(make_hooked())
    life.on(Admitted())
    life.on(Started("c1", 0, 1.0))
    life.on(HookDone("c1", 0, "postStart"))
    life.on(StopAsked(30.0, remove=True))
    life.now += 30.0
    assert acts(life.on(Ticked())) == [StopProbes("c1", 0), Signal("c1", 0, 15)]
    assert next_deadline(life.state) == 1032.0
    life.now += 2.0
    assert acts(life.on(Ticked())) == [Kill("c1", 0)]


def test_until_the_startup_probe_has_succeeded_no_other_runs() -> None:
    pod = make_pod()
    container = pod.spec.containers[0]
    for probe in (container.startupProbe, container.livenessProbe, container.readinessProbe):
        probe.handler.tcpSocket.port.intVal = 80
    life = Life.of(pod)
    life.on(Admitted())
    assert acts(life.on(Started("c1", 0, 1.0))) == [StartProbes("c1", 0, startup=True)]
    assert life.on(ProbeChanged("c1", 0, "startup", healthy=True)) == [StartProbes("c1", 0)]
    assert not is_ready(life)
    life.on(ProbeChanged("c1", 0, "readiness", healthy=True))
    assert is_ready(life)
    life.on(Exited("c1", 0, 5.0, 1))
    assert acts(life.on(Started("c1", 1, 6.0))) == [StartProbes("c1", 1, startup=True)], "each run anew"
    said = life.on(ProbeChanged("c1", 1, "startup", healthy=False, grace_s=3.0))
    assert said[0] == Note("Normal", "Killing", "Container c1 failed startup probe, will be restarted")
    assert next_deadline(life.state) == life.now + 3.0, "the probe's own grace"


def test_what_is_not_there_yet_is_tried_again() -> None:
    life = Life.of(make_pod())
    life.on(Admitted())
    missing = Unprepared("c1", 0, "CreateContainerConfigError", 'configmap "a" not found')
    assert life.on(missing) == [Note("Warning", "Failed", 'Error: configmap "a" not found')]
    assert phase(life) == "Pending"
    life.now = next_deadline(life.state)
    assert life.on(Ticked()) == [Start("c1", 0)]
    assert life.on(missing) == [], "said once"
    assert life.on(StopAsked(30.0, remove=True)) == [Finish(remove=True)]
