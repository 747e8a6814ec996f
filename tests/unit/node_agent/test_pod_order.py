"""Whose turn it is: init containers, sidecars, and what waits for others."""

from __future__ import annotations

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import (
    Admitted,
    Command,
    DependenciesChanged,
    Exited,
    Finish,
    HookDone,
    Kill,
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
)
from tests.unit.node_agent.kit import Life, make_pod
from tests.unit.node_agent.lifecycle_scene import acts, phase


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
