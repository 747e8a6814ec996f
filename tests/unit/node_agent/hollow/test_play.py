"""What played pods do: by themselves, and when they are told to end."""

from __future__ import annotations

import pytest

from cluster.pb.v1 import core_pb2 as core
from node_agent.hollow.play import Later, Played, Script, play, resumed
from node_agent.pod_state import Admitted, Exited, Finish, Phase, PodEvent, PodState, ProbeChanged, Started, StopAsked
from node_agent.status import initial_state
from tests.unit.node_agent.hollow.kit import BACKOFF, WALL_S
from tests.unit.node_agent.kit import make_pod


class Playing:
    """A pod and its script."""

    def __init__(self, pod: core.Pod, run_s: float | None = None, exit_code: int = 0, delay_s: float = 0.0) -> None:
        containers = {each.name: each for each in (*pod.spec.initContainers, *pod.spec.containers)}
        self.script = Script(containers, run_s, exit_code)
        self.state: PodState = initial_state(pod, BACKOFF, has_images=True)
        self.delay_s = delay_s

    def on(self, event: PodEvent) -> Played:
        played = play(self.state, event, self.script, now=1000.0, now_s=WALL_S, delay=lambda: self.delay_s)
        self.state = played.state
        return played

    def phases(self) -> list[Phase]:
        return [c.phase for c in self.state.containers]


def test_it_runs_at_once_or_after_its_delay() -> None:
    quick = Playing(make_pod(containers=2))
    assert quick.on(Admitted()).later == []
    assert quick.phases() == [Phase.RUNNING, Phase.RUNNING]
    slow = Playing(make_pod(uid="u"), delay_s=2.5)
    assert slow.on(Admitted()).later == [Later(2.5, Started("c1", 0, WALL_S + 2.5, "hollow://u.c1.0"))]
    assert slow.phases() == [Phase.STARTING]


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [("Never", 0, Phase.ENDED), ("Never", 3, Phase.ENDED), ("OnFailure", 0, Phase.ENDED)],
)
def test_it_ends_by_itself_if_it_is_meant_to(policy: str, code: int, phase: Phase) -> None:
    job = Playing(make_pod(policy=policy), run_s=60.0, exit_code=code)
    (end,) = job.on(Admitted()).later
    assert end == Later(60.0, Exited("c1", 0, WALL_S + 60.0, code))
    job.on(end.event)
    assert job.phases() == [phase]
    assert job.state["c1"].ended is not None
    assert job.state["c1"].ended.exit_code == code


def test_one_that_crashes_runs_again_as_a_real_one_does() -> None:
    crashing = Playing(make_pod(policy="Always"), run_s=0.0, exit_code=1)
    played = crashing.on(Admitted())
    assert [note.reason for note in played.notes] == ["Started", "Started", "BackOff"], "the first restart is immediate"
    assert crashing.phases() == [Phase.BACKOFF]
    assert crashing.state["c1"].deadline == 1010.0


def test_init_containers_end_well_and_sidecars_run_on() -> None:
    pod = make_pod()
    pod.spec.initContainers.add(name="first", command=["x"])
    pod.spec.initContainers.add(name="beside", command=["x"], restartPolicy="Always")
    playing = Playing(pod, run_s=5.0)
    (end,) = playing.on(Admitted()).later
    assert playing.phases() == [Phase.ENDED, Phase.RUNNING, Phase.RUNNING]
    assert end.event == Exited("c1", 0, WALL_S + 5.0, 0)


def test_probes_find_what_they_look_for_after_their_first_delay() -> None:
    pod = make_pod()
    container = pod.spec.containers[0]
    container.startupProbe.initialDelaySeconds = 3
    container.readinessProbe.initialDelaySeconds = 2
    container.livenessProbe.initialDelaySeconds = 1
    playing = Playing(pod)
    (startup,) = playing.on(Admitted()).later
    assert startup == Later(3.0, ProbeChanged("c1", 0, "startup", healthy=True))
    assert not playing.state["c1"].started
    (readiness,) = playing.on(startup.event).later
    assert readiness == Later(2.0, ProbeChanged("c1", 0, "readiness", healthy=True))
    assert not playing.state["c1"].ready
    playing.on(readiness.event)
    assert playing.state["c1"].ready


def test_it_ends_when_it_is_told_to() -> None:
    playing = Playing(make_pod())
    playing.on(Admitted())
    played = playing.on(StopAsked(30.0, remove=True))
    assert played.finished == Finish(remove=True)
    ended = playing.state["c1"].ended
    assert ended is not None
    assert (ended.exit_code, ended.signal, ended.reason) == (143, 15, "Error")


def test_hooks_take_no_time_unless_they_sleep() -> None:
    pod = make_pod()
    lifecycle = pod.spec.containers[0].lifecycle
    lifecycle.postStart.exec.command.append("true")
    lifecycle.preStop.sleep.seconds = 4
    playing = Playing(pod)
    assert playing.on(Admitted()).later == []
    assert playing.phases() == [Phase.RUNNING]
    played = playing.on(StopAsked(30.0, remove=True))
    assert playing.phases() == [Phase.PRESTOP]
    (hook,) = played.later
    assert hook.after_s == 4.0
    assert playing.on(hook.event).finished == Finish(remove=True)


def test_what_was_to_happen_to_an_earlier_run_is_ignored() -> None:
    playing = Playing(make_pod(), run_s=60.0)
    (end,) = playing.on(Admitted()).later
    playing.on(Exited("c1", 0, WALL_S, 1))
    assert playing.state["c1"].run == 1
    playing.on(end.event)
    assert playing.state["c1"].run == 1
    assert playing.phases() == [Phase.RUNNING]


def test_what_is_still_to_come_of_a_pod_that_was_taken_over() -> None:
    pod = make_pod()
    status = pod.status.containerStatuses.add(name="c1", started=True)
    status.state.running.startedAt.seconds = int(WALL_S) - 50
    playing = Playing(pod, run_s=60.0, exit_code=2)
    assert list(resumed(playing.state, playing.script, WALL_S)) == [Later(10.0, Exited("c1", 0, WALL_S + 10, 2))]
    late = list(resumed(playing.state, playing.script, WALL_S + 100))
    assert late == [Later(0.0, Exited("c1", 0, WALL_S + 100, 2))]
