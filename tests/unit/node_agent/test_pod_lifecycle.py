"""The life of a pod: a conversation with the pure lifecycle."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.pb.v1 import core_pb2 as core
from node_agent import status
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import (
    Admitted,
    Command,
    DependenciesChanged,
    Exited,
    FailAsked,
    Finish,
    HookDone,
    Kill,
    Note,
    Phase,
    PodEvent,
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


def started(life: Life) -> Life:
    """All containers run."""
    life.on(Admitted())
    for container in life.state.containers:
        life.on(Started(container.name, 0, 100.0, "process://1/1"))
    life.log.clear()
    return life


def acts(commands: list[Command]) -> list[Command]:
    """What is done, without what is said about it."""
    return [command for command in commands if not isinstance(command, Note)]


def is_ready(life: Life) -> bool:
    return life.state["c1"].ready


def phase(life: Life) -> str:
    return status.phase_of(life.state)


def test_birth() -> None:
    life = Life.of(make_pod())
    assert phase(life) == "Pending"
    assert life.on(Admitted()) == [Start("c1", 0)]
    assert phase(life) == "Pending"
    assert life.on(Started("c1", 0, 100.0)) == [Note("Normal", "Started", "Started container c1"), StartProbes("c1", 0)]
    assert phase(life) == "Running"
    assert is_ready(life)


def test_with_a_readiness_probe_it_is_ready_when_the_probe_says_so() -> None:
    pod = make_pod()
    pod.spec.containers[0].readinessProbe.handler.tcpSocket.port.intVal = 80
    life = started(Life.of(pod))
    assert not is_ready(life)
    life.on(ProbeChanged("c1", 0, "readiness", healthy=True))
    assert is_ready(life)
    assert acts(life.on(ProbeChanged("c1", 0, "readiness", healthy=False))) == []
    assert not is_ready(life)


CLASSIC = [
    # What happens to which container (of how many), then per policy: (restarted, phase). docs/pod-states.md of
    # Kubernetes 1.0 lists these twelve.
    (1, [("c1", 0)], {"Always": (True, "Running"), "OnFailure": (False, "Succeeded"), "Never": (False, "Succeeded")}),
    (1, [("c1", 1)], {"Always": (True, "Running"), "OnFailure": (True, "Running"), "Never": (False, "Failed")}),
    (2, [("c1", 1)], {"Always": (True, "Running"), "OnFailure": (True, "Running"), "Never": (False, "Running")}),
    (1, [("c1", 137)], {"Always": (True, "Running"), "OnFailure": (True, "Running"), "Never": (False, "Failed")}),
]


@pytest.mark.parametrize(
    ("containers", "exits", "policy", "expected"),
    [(n, exits, policy, expected) for n, exits, table in CLASSIC for policy, expected in table.items()],
)
def test_the_twelve_classic_examples(
    containers: int, exits: list[tuple[str, int]], policy: str, expected: tuple[bool, str]
) -> None:
    life = started(Life.of(make_pod(policy=policy, containers=containers)))
    for name, code in exits:
        commands = life.on(Exited(name, 0, 101.0, code))
    restarted = Start("c1", 1) in commands
    if restarted:
        life.on(Started("c1", 1, 101.0))
    assert (restarted, phase(life)) == expected


def test_never_with_two_containers_fails_when_the_second_ends_too() -> None:
    life = started(Life.of(make_pod(policy="Never", containers=2)))
    life.on(Exited("c1", 0, 101.0, 1))
    assert phase(life) == "Running"
    life.on(Exited("c2", 0, 101.0, 0))
    assert phase(life) == "Failed"


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


def test_graceful_stop() -> None:
    life = started(Life.of(make_pod(containers=2)))
    commands = life.on(StopAsked(30.0, remove=True))
    assert [c for c in commands if isinstance(c, Signal)] == [Signal("c1", 0, 15), Signal("c2", 0, 15)]
    assert Note("Normal", "Killing", "Stopping container c1") in commands
    assert StopProbes("c1", 0) in commands
    assert next_deadline(life.state) == life.now + 30
    assert Finish(True) not in life.on(Exited("c1", 0, 101.0, 0))
    assert life.on(Exited("c2", 0, 101.0, 143, 15))[-1] == Finish(True)


def test_what_ignores_term_is_killed_when_the_grace_is_over() -> None:
    life = started(Life.of(make_pod(containers=2)))
    life.on(StopAsked(30.0, remove=True))
    life.on(Exited("c1", 0, 101.0, 143, 15))
    life.now += 29.9
    assert life.on(Ticked()) == []
    life.now += 0.1
    assert life.on(Ticked()) == [Kill("c2", 0)]
    assert life.on(Ticked()) == []
    assert life.on(Exited("c2", 0, 131.0, 137, 9))[-1] == Finish(True)


def test_at_least_two_seconds_of_grace() -> None:
    life = started(Life.of(make_pod()))
    life.on(StopAsked(0.0, remove=True))
    assert next_deadline(life.state) == life.now + 2


def test_what_was_deleted_is_ready_while_it_runs_and_what_is_ended_otherwise_is_not() -> None:
    for ready in (True, False):
        pod = make_pod()
        pod.spec.containers[0].readinessProbe.handler.tcpSocket.port.intVal = 80
        life = started(Life.of(pod))
        life.on(ProbeChanged("c1", 0, "readiness", ready))
        life.on(StopAsked(30.0, remove=True))
        assert life.state["c1"].phase is Phase.STOPPING
        assert is_ready(life) is ready, "as its probe said last"
        life.on(Exited("c1", 0, 101.0, 0))
        assert not is_ready(life)
    events: list[PodEvent] = [FailAsked("Evicted", "", 30.0), StopAsked(30.0, remove=False)]
    for event in events:
        life = started(Life.of(make_pod()))
        life.on(event)
        assert life.state["c1"].phase is Phase.STOPPING
        assert not is_ready(life)


def test_a_second_stop_only_shortens() -> None:
    life = started(Life.of(make_pod()))
    life.on(StopAsked(30.0, remove=False))
    life.on(StopAsked(60.0, remove=True))
    assert next_deadline(life.state) == life.now + 30
    life.on(StopAsked(5.0, remove=False))
    assert next_deadline(life.state) == life.now + 5
    assert life.on(Exited("c1", 0, 101.0, 0))[-1] == Finish(True)


def test_stop_before_anything_ran() -> None:
    life = Life.of(make_pod())
    assert life.on(StopAsked(30.0, remove=True)) == [Finish(True)]


def test_stop_while_it_starts() -> None:
    life = Life.of(make_pod())
    life.on(Admitted())
    assert life.on(StopAsked(30.0, remove=True)) == []
    commands = life.on(Started("c1", 0, 100.0))
    assert Signal("c1", 0, 15) in commands
    assert StartProbes("c1", 0) not in commands
    assert life.on(Exited("c1", 0, 101.0, 143, 15))[-1] == Finish(True)


def test_stop_during_back_off_is_immediate_and_keeps_the_last_end() -> None:
    life = started(Life.of(make_pod()))
    life.on(Exited("c1", 0, 101.0, 1))
    life.on(Started("c1", 1, 101.0))
    life.on(Exited("c1", 1, 102.0, 3))
    assert life.on(StopAsked(30.0, remove=True)) == [Finish(True)]
    c = life.state["c1"]
    assert c.ended is not None
    assert (c.ended.exit_code, c.run) == (3, 1)


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


def test_an_image_that_this_node_cannot_run_keeps_the_pod_pending() -> None:
    pod = make_pod()
    pod.spec.containers[0].image = "nginx:1"
    life = Life.of(pod)
    assert acts(life.on(Admitted())) == []
    assert phase(life) == "Pending"
    assert life.state["c1"].waiting[0] == "ErrImageNeverPull"
    assert life.on(StopAsked(30, remove=True)) == [Finish(True)]


def test_a_lost_container_counts_as_failed() -> None:
    life = started(Life.of(make_pod(policy="OnFailure")))
    assert Start("c1", 1) in life.on(Exited("c1", 0, 101.0, 137, lost=True))
    last = life.state["c1"].last
    assert last is not None
    assert last.reason == "ContainerStatusUnknown"


_names = st.sampled_from(["c1", "c2"])
_runs = st.integers(0, 2)
_events: st.SearchStrategy[PodEvent] = st.one_of(
    st.just(Admitted()),
    st.builds(Started, _names, _runs, st.just(100.0)),
    st.builds(StartFailed, _names, _runs, st.just(100.0), st.just(127), st.just("no")),
    st.builds(Exited, _names, _runs, st.just(101.0), st.sampled_from([0, 1, 137])),
    st.builds(ProbeChanged, _names, _runs, st.booleans(), st.booleans()),
    st.builds(StopAsked, st.sampled_from([0.0, 5.0]), st.booleans()),
    st.just(Ticked()),
)


@settings(max_examples=150)
@given(st.lists(_events, max_size=25), st.sampled_from(["Always", "OnFailure", "Never"]))
def test_invariants(events: list[PodEvent], policy: str) -> None:
    """Whatever comes in whatever order: no run is started twice, nothing starts after a stop, phases make sense."""
    life = Life.of(make_pod(policy=policy, containers=2))
    for event in events:
        life.now += 3.0
        was_stopping = life.state.stop is not None
        commands = life.on(event)
        if was_stopping:
            assert not [command for command in commands if isinstance(command, Start | StartProbes)]
        for c in life.state.containers:
            ending = c.phase in (Phase.PRESTOP, Phase.STOPPING) and life.state.stop is not None
            assert not c.ready or c.phase is Phase.RUNNING or ending
            assert (c.phase is Phase.BACKOFF) <= (c.deadline < float("inf"))
        assert phase(life) in ("Pending", "Running", "Succeeded", "Failed")
    starts = [command for command in life.log if isinstance(command, Start)]
    assert len(starts) == len(set(starts))
    if any(isinstance(command, Finish) for command in life.log):
        assert all(c.phase is Phase.ENDED for c in life.state.containers)


# --- the order of containers


def make_ordered(*, policy: str = "Always", sidecar: bool = True) -> core.Pod:
    """An init container, a sidecar, another init container, and one that does the work."""
    pod = make_pod(policy=policy)
    pod.spec.initContainers.add(name="first", command=["prepare"])
    if sidecar:
        pod.spec.initContainers.add(name="side", command=["serve"], restartPolicy="Always")
    pod.spec.initContainers.add(name="second", command=["migrate"])
    return pod


def test_init_containers_run_one_after_the_other_and_before_all_others() -> None:
    life = Life.of(make_ordered(sidecar=False))
    assert life.on(Admitted()) == [Start("first", 0)]
    assert acts(life.on(Started("first", 0, 1.0))) == [StartProbes("first", 0)]
    assert phase(life) == "Pending"
    assert acts(life.on(Exited("first", 0, 2.0, 0))) == [StopProbes("first", 0), Start("second", 0)]
    life.on(Started("second", 0, 3.0))
    assert life.state["c1"].waiting == ("PodInitializing", "")
    assert acts(life.on(Exited("second", 0, 4.0, 0))) == [StopProbes("second", 0), Start("c1", 0)]
    life.on(Started("c1", 0, 5.0))
    assert phase(life) == "Running"


@pytest.mark.parametrize(
    ("policy", "then", "phase_then"),
    [
        ("Always", [Start("first", 1)], "Pending"),
        ("OnFailure", [Start("first", 1)], "Pending"),
        ("Never", [], "Failed"),
    ],
)
def test_an_init_container_that_fails(policy: str, then: list[Command], phase_then: str) -> None:
    life = Life.of(make_ordered(policy=policy, sidecar=False))
    life.on(Admitted())
    life.on(Started("first", 0, 1.0))
    assert acts(life.on(Exited("first", 0, 2.0, 1))) == [StopProbes("first", 0), *then]
    assert phase(life) == phase_then
    assert (life.state["c1"].phase is Phase.ENDED) is (policy == "Never"), "what will never run holds nothing"


def test_an_init_container_that_ends_well_does_not_run_again_whatever_the_policy() -> None:
    life = Life.of(make_ordered(sidecar=False))
    life.on(Admitted())
    life.on(Started("first", 0, 1.0))
    life.on(Exited("first", 0, 2.0, 0))
    assert (life.state["first"].phase, life.state["first"].run) == (Phase.ENDED, 0)


def test_a_sidecar_lets_the_next_one_begin_when_it_has_started_and_outlives_the_others() -> None:
    pod = make_ordered(policy="Never")
    pod.spec.initContainers[1].startupProbe.handler.tcpSocket.port.intVal = 80
    life = Life.of(pod)
    life.on(Admitted())
    life.on(Started("first", 0, 1.0))
    assert Start("side", 0) in life.on(Exited("first", 0, 2.0, 0))
    assert acts(life.on(Started("side", 0, 3.0))) == [StartProbes("side", 0, startup=True)]
    assert life.on(ProbeChanged("side", 0, "startup", healthy=True)) == [StartProbes("side", 0), Start("second", 0)]
    life.on(Started("second", 0, 4.0))
    assert Start("c1", 0) in life.on(Exited("second", 0, 5.0, 0))
    life.on(Started("c1", 0, 6.0))
    assert acts(life.on(Exited("side", 0, 7.0, 1))) == [StopProbes("side", 0), Start("side", 1)], "it always restarts"
    life.on(Started("side", 1, 8.0))
    assert acts(life.on(Exited("c1", 0, 9.0, 0))) == [
        *(StopProbes("c1", 0), StopProbes("side", 1), Signal("side", 1, 15)),
    ]
    assert phase(life) == "Succeeded"
    life.on(Exited("side", 1, 10.0, 143, 15))
    assert life.state["side"].phase is Phase.ENDED
    assert phase(life) == "Succeeded"


def make_with_sidecar(*, probed: bool = False) -> core.Pod:
    pod = make_pod()
    side = pod.spec.initContainers.add(name="side", command=["serve"], restartPolicy="Always")
    if probed:
        side.startupProbe.handler.tcpSocket.port.intVal = 80
    return pod


def test_a_sidecar_that_cannot_be_started_holds_the_pod_back() -> None:
    life = Life.of(make_with_sidecar())
    life.on(Admitted())
    assert acts(life.on(StartFailed("side", 0, 1.0, 127, "no such program"))) == [Start("side", 1)]
    assert acts(life.on(StartFailed("side", 1, 1.0, 127, "no such program"))) == []
    assert (life.state["side"].phase, life.state["c1"].phase) == (Phase.BACKOFF, Phase.WAITING)
    assert (phase(life), life.state["c1"].waiting) == ("Pending", ("PodInitializing", ""))
    life.now = next_deadline(life.state)
    assert acts(life.on(Ticked())) == [Start("side", 2)]
    assert acts(life.on(Started("side", 2, 2.0))) == [StartProbes("side", 2), Start("c1", 0)]


def test_a_sidecar_whose_startup_probe_fails_holds_the_pod_back() -> None:
    life = Life.of(make_with_sidecar(probed=True))
    life.on(Admitted())
    life.on(Started("side", 0, 1.0))
    life.on(ProbeChanged("side", 0, "startup", healthy=False))
    assert acts(life.on(Exited("side", 0, 2.0, 143, 15))) == [StopProbes("side", 0), Start("side", 1)]
    assert phase(life) == "Pending"
    life.on(Started("side", 1, 3.0))
    assert Start("c1", 0) in life.on(ProbeChanged("side", 1, "startup", healthy=True))


def test_a_sidecar_that_had_started_holds_nobody_back_when_it_crashes() -> None:
    pod = make_with_sidecar()
    pod.spec.initContainers.add(name="second", command=["migrate"])
    life = Life.of(pod)
    life.on(Admitted())
    life.on(Started("side", 0, 1.0))
    life.on(Started("second", 0, 1.0))
    life.on(StartFailed("side", 0, 2.0, 127, "late news of a run that has begun"))
    life.on(Exited("side", 0, 2.0, 1))
    life.on(StartFailed("side", 1, 2.0, 127, "no such program"))
    assert life.state["side"].phase is Phase.BACKOFF
    assert acts(life.on(Exited("second", 0, 3.0, 0))) == [StopProbes("second", 0), Start("c1", 0)]


def test_sidecars_are_stopped_after_the_others_the_last_one_first() -> None:
    pod = make_pod()
    for name in ("one", "two"):
        pod.spec.initContainers.add(name=name, command=["serve"], restartPolicy="Always")
    life = Life.of(pod)
    life.on(Admitted())
    for name in ("one", "two", "c1"):
        life.on(Started(name, 0, 1.0))
    assert acts(life.on(StopAsked(30.0, remove=True))) == [StopProbes("c1", 0), Signal("c1", 0, 15)]
    assert acts(life.on(Exited("c1", 0, 2.0, 143, 15)))[1:] == [StopProbes("two", 0), Signal("two", 0, 15)]
    assert acts(life.on(Exited("two", 0, 3.0, 143, 15)))[1:] == [StopProbes("one", 0), Signal("one", 0, 15)]
    assert acts(life.on(Exited("one", 0, 4.0, 143, 15)))[1:] == [Finish(remove=True)]


def test_sidecars_whose_turn_never_came_get_their_two_seconds_all_the_same() -> None:
    life = Life.of(make_with_sidecar())
    life.on(Admitted())
    life.on(Started("side", 0, 1.0))
    life.on(Started("c1", 0, 1.0))
    life.on(StopAsked(30.0, remove=True))
    life.now += 30.0
    assert acts(life.on(Ticked())) == [StopProbes("side", 0), Signal("side", 0, 15), Kill("c1", 0)]
    assert next_deadline(life.state) == life.now + 2.0
    life.on(Exited("c1", 0, 31.0, 137, 9))
    life.on(StopAsked(0.0, remove=True))
    life.now += 1.9
    assert acts(life.on(Ticked())) == [], "whoever asks again takes nothing of it"
    life.now += 0.1
    assert acts(life.on(Ticked())) == [Kill("side", 0)]


def test_a_sidecar_whose_turn_comes_late_gets_two_seconds() -> None:
    life = Life.of(make_with_sidecar())
    life.on(Admitted())
    life.on(Started("side", 0, 1.0))
    life.on(Started("c1", 0, 1.0))
    life.on(StopAsked(30.0, remove=True))
    life.now += 29.5
    assert Signal("side", 0, 15) in life.on(Exited("c1", 0, 2.0, 143, 15))
    assert next_deadline(life.state) == life.now + 2.0


def test_the_hook_of_a_sidecar_whose_turn_never_came_runs() -> None:
    pod = make_with_sidecar()
    pod.spec.initContainers[0].lifecycle.preStop.sleep.seconds = 1
    life = Life.of(pod)
    life.on(Admitted())
    life.on(Started("side", 0, 1.0))
    life.on(Started("c1", 0, 1.0))
    life.on(StopAsked(30.0, remove=True))
    life.now += 30.0
    assert acts(life.on(Ticked())) == [StopProbes("side", 0), RunHook("side", 0, "preStop"), Kill("c1", 0)]
    life.now += 1.0
    assert Signal("side", 0, 15) in life.on(HookDone("side", 0, "preStop"))
    assert next_deadline(life.state) == life.now + 2.0


def test_what_starts_after_the_grace_gets_two_seconds() -> None:
    life = Life.of(make_pod())
    life.on(Admitted())
    life.on(StopAsked(5.0, remove=True))
    life.now += 60.0
    assert Signal("c1", 0, 15) in life.on(Started("c1", 0, 1.0))
    assert next_deadline(life.state) == life.now + 2.0


def test_a_container_waits_for_those_that_it_depends_on() -> None:
    pod = make_pod(containers=2)
    pod.spec.containers[0].dependsOn.append("c2")
    pod.spec.containers[1].readinessProbe.handler.tcpSocket.port.intVal = 80
    life = Life.of(pod)
    assert life.on(Admitted()) == [Start("c2", 0)]
    life.on(Started("c2", 0, 1.0))
    assert life.state["c1"].waiting == ("WaitingForDependency", "waiting for container c2 to be ready")
    assert life.on(ProbeChanged("c2", 0, "readiness", healthy=True)) == [Start("c1", 0)]
    assert acts(life.on(ProbeChanged("c2", 0, "readiness", healthy=False))) == [], "it has been started: that is all"


def test_a_pod_waits_for_objects_of_the_cluster() -> None:
    life = Life.of(make_ordered())
    life.on(DependenciesChanged(("service/db", "rc/cache")))
    assert life.on(Admitted()) == []
    assert life.state["c1"].waiting == ("WaitingForDependency", "waiting for service/db, rc/cache to be ready")
    assert life.on(DependenciesChanged(("rc/cache",))) == []
    assert life.on(DependenciesChanged(())) == [Start("first", 0)]


# --- hooks, startup probes, deadlines, what is not there yet


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


def test_a_pod_that_is_active_for_too_long_fails() -> None:
    life = Life.of(make_pod())
    life.on(Admitted(active_deadline=1060.0))
    life.on(Started("c1", 0, 1.0))
    assert next_deadline(life.state) == 1060.0
    life.now = 1060.0
    said = life.on(Ticked())
    message = "Pod was active on the node longer than the specified deadline"
    assert said[0] == Note("Warning", "DeadlineExceeded", message)
    assert Signal("c1", 0, 15) in said
    assert phase(life) == "Running", "until it has ended"
    assert acts(life.on(Exited("c1", 0, 2.0, 0))) == [StopProbes("c1", 0), Finish(remove=False)]
    assert phase(life) == "Failed"
    assert acts(life.on(StopAsked(30.0, remove=True))) == [Finish(remove=True)]


def test_a_pod_that_is_evicted_fails_even_if_it_always_restarts() -> None:
    life = started(Life.of(make_pod()))
    assert Signal("c1", 0, 15) in life.on(FailAsked("Evicted", "The node was low on memory", 5.0))
    life.on(Exited("c1", 0, 2.0, 143, 15))
    assert (phase(life), life.state.failed) == ("Failed", ("Evicted", "The node was low on memory"))


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
