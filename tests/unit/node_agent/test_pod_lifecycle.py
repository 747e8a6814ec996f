"""The life of a pod: a conversation with the pure lifecycle."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_order import is_closed
from node_agent.pod_state import (
    NEVER,
    Admitted,
    Exited,
    FailAsked,
    Finish,
    Kill,
    KillStandIn,
    Note,
    Phase,
    PodEvent,
    ProbeChanged,
    Signal,
    StandInEnded,
    StandInStarted,
    Start,
    Started,
    StartFailed,
    StartProbes,
    StopAsked,
    StopProbes,
    Ticked,
)
from tests.unit.node_agent.kit import Life, make_pod
from tests.unit.node_agent.lifecycle_scene import acts, is_ready, phase, started


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


def test_an_image_that_this_node_cannot_run_keeps_the_pod_pending() -> None:
    pod = make_pod()
    pod.spec.containers[0].image = "nginx:1"
    life = Life.of(pod)
    assert acts(life.on(Admitted())) == []
    assert phase(life) == "Pending"
    assert life.state["c1"].waiting[0] == "ErrImageNeverPull"
    assert life.on(StopAsked(30, remove=True)) == [Finish(True)]


_names = st.sampled_from(["c1", "c2"])


_runs = st.integers(0, 2)
_stand_ins = st.sampled_from(["s1", "s2"])


_events: st.SearchStrategy[PodEvent] = st.one_of(
    st.just(Admitted()),
    st.builds(Started, _names, _runs, st.just(100.0)),
    st.builds(StartFailed, _names, _runs, st.just(100.0), st.just(127), st.just("no")),
    st.builds(Exited, _names, _runs, st.just(101.0), st.sampled_from([0, 1, 137])),
    st.builds(ProbeChanged, _names, _runs, st.booleans(), st.booleans()),
    st.builds(StopAsked, st.sampled_from([0.0, 5.0]), st.booleans()),
    st.just(Ticked()),
    st.builds(StandInStarted, _stand_ins),
    st.builds(StandInEnded, _stand_ins),
)


@settings(max_examples=150)
@given(st.lists(_events, max_size=25), st.sampled_from(["Always", "OnFailure", "Never"]))
def test_invariants(events: list[PodEvent], policy: str) -> None:
    """Whatever comes in whatever order: no run is started twice, nothing starts after a stop, phases make sense; what
    stands in for a container is killed with the last of them, and all is over after that."""
    life = Life.of(make_pod(policy=policy, containers=2))
    for event in events:
        life.now += 3.0
        was_stopping = life.state.stop is not None
        commands = life.on(event)
        if was_stopping:
            assert not [command for command in commands if isinstance(command, Start | StartProbes)]
        killed = [command.run_id for command in commands if isinstance(command, KillStandIn)]
        assert killed == (list(life.state.stand_ins) if is_closed(life.state) else [])
        assert not killed or not any(isinstance(command, Finish) for command in commands)
        for c in life.state.containers:
            ending = c.phase in (Phase.PRESTOP, Phase.STOPPING) and life.state.stop is not None
            assert not c.ready or c.phase is Phase.RUNNING or ending
            assert (c.phase is Phase.BACKOFF) <= (c.deadline < float("inf"))
        assert phase(life) in ("Pending", "Running", "Succeeded", "Failed")
    starts = [command for command in life.log if isinstance(command, Start)]
    assert len(starts) == len(set(starts))
    if any(isinstance(command, Finish) for command in life.log):
        assert all(c.phase is Phase.ENDED for c in life.state.containers)


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


def test_a_pod_that_is_over_in_time_does_not_fail_later() -> None:
    life = Life.of(make_pod(policy="Never"))
    life.on(Admitted(active_deadline=1060.0))
    life.on(Started("c1", 0, 1.0))
    life.on(Exited("c1", 0, 2.0, 0))
    assert (phase(life), next_deadline(life.state)) == ("Succeeded", NEVER)
    life.now = 1060.0
    assert life.on(Ticked()) == []
    assert life.state.failed is None


def test_a_pod_that_is_evicted_fails_even_if_it_always_restarts() -> None:
    life = started(Life.of(make_pod()))
    assert Signal("c1", 0, 15) in life.on(FailAsked("Evicted", "The node was low on memory", 5.0))
    life.on(Exited("c1", 0, 2.0, 143, 15))
    assert (phase(life), life.state.failed) == ("Failed", ("Evicted", "The node was low on memory"))
