"""What a new life of the agent makes of a checkpoint and of the runs that the spawner has."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.adoption import adopt
from node_agent.checkpoint import Checkpoint
from node_agent.pod_state import NEVER, ContainerState, Exited, Phase, PodState, Started, Stop, Termination
from node_agent.restart_policy import CrashBackoff
from node_agent.run_ids import RunId
from node_agent.runtime.interface import Adopted, Ended
from node_agent.runtime.interface import Started as Run
from node_agent.state_json import from_plain, to_plain
from node_agent.status import initial_state
from tests.unit.node_agent.kit import BACKOFF, make_pod

RUN = Run(pid=7, start_ticks=8, at_s=100.0)
ALIVE, OVER = Adopted(RUN, None), Adopted(RUN, Ended(3, 0, 200.0))


def state_of(phase: Phase, run: int = 1, deadline: float = NEVER) -> PodState:
    state = initial_state(make_pod(uid="u"), BACKOFF)
    return replace(state, containers=(replace(state.containers[0], phase=phase, run=run, deadline=deadline),))


def adopted(state: PodState, runs: dict[int, Adopted], *, same_boot: bool = True) -> tuple[ContainerState, list[str]]:
    """The container, and in words what is to be done."""
    ids = {RunId("u", "c1", run): found for run, found in runs.items()} | {RunId("other", "c1", 9): ALIVE}
    after, adoptions = adopt(state, ids, same_boot=same_boot, now=50.0, now_s=300.0)
    words = []
    for adoption in adoptions:
        for event in adoption.events:
            if isinstance(event, Started):
                words.append(f"started {event.run} as {event.container_id}")
            elif isinstance(event, Exited):
                assert event.lost
                words.append(f"lost {event.run}")
        if adoption.run_id is not None:
            words.append(f"follow {adoption.run_id}")
        if adoption.restart:
            words.append("start")
    return after.containers[0], words


@pytest.mark.parametrize(
    ("phase", "run", "runs", "then", "words"),
    [
        (Phase.RUNNING, 1, {1: ALIVE}, (Phase.RUNNING, 1), ["follow u.c1.1"]),
        (Phase.STOPPING, 1, {1: ALIVE}, (Phase.STOPPING, 1), ["follow u.c1.1"]),
        (Phase.RUNNING, 1, {1: OVER}, (Phase.RUNNING, 1), ["follow u.c1.1"]),
        (Phase.STARTING, 1, {1: ALIVE}, (Phase.STARTING, 1), ["started 1 as process://7/8", "follow u.c1.1"]),
        (Phase.STARTING, 1, {0: OVER}, (Phase.STARTING, 1), ["start"]),
        (Phase.RUNNING, 1, {}, (Phase.RUNNING, 1), ["lost 1"]),
        (Phase.WAITING, 0, {0: ALIVE}, (Phase.STARTING, 0), ["started 0 as process://7/8", "follow u.c1.0"]),
        (Phase.WAITING, 0, {}, (Phase.WAITING, 0), []),
        (Phase.BACKOFF, 2, {1: OVER}, (Phase.BACKOFF, 2), []),
        (Phase.BACKOFF, 2, {2: ALIVE}, (Phase.STARTING, 2), ["started 2 as process://7/8", "follow u.c1.2"]),
        (Phase.RUNNING, 1, {1: OVER, 4: ALIVE}, (Phase.STARTING, 4), ["started 4 as process://7/8", "follow u.c1.4"]),
        (Phase.ENDED, 1, {1: OVER}, (Phase.ENDED, 1), []),
    ],
)
def test_table(phase: Phase, run: int, runs: dict[int, Adopted], then: tuple[Phase, int], words: list[str]) -> None:
    container, said = adopted(state_of(phase, run), runs)
    assert ((container.phase, container.run), said) == (then, words)


def test_after_a_reboot_what_waited_is_due() -> None:
    state = replace(state_of(Phase.BACKOFF, 2, deadline=1e9), stop=Stop(deadline=2e9, remove=True))
    after, _ = adopt(state, {}, same_boot=False, now=50.0, now_s=300.0)
    assert (after.containers[0].deadline, after.stop) == (50.0, Stop(50.0, remove=True))
    kept, _ = adopt(state, {}, same_boot=True, now=50.0, now_s=300.0)
    assert kept == state


def test_monotonic_times_are_of_one_boot() -> None:
    ran = state_of(Phase.RUNNING)
    state = replace(ran, active_deadline=1e6, containers=(replace(ran.containers[0], started_mono_s=4e5),))
    kept, _ = adopt(state, {RunId("u", "c1", 1): ALIVE}, same_boot=True, now=50.0, now_s=300.0)
    assert (kept.active_deadline, kept["c1"].started_mono_s) == (1e6, 4e5)
    after, _ = adopt(state, {}, same_boot=False, now=50.0, now_s=300.0)
    assert (after.active_deadline, after["c1"].started_mono_s) == (NEVER, None)


def with_sidecar(side: Phase, main: Phase, **more: object) -> PodState:
    pod = make_pod(uid="u")
    pod.spec.initContainers.add(name="side", restartPolicy="Always")
    state = initial_state(pod, BACKOFF)
    containers = (replace(state["side"], phase=side, **more), replace(state["c1"], phase=main))  # type: ignore[arg-type]
    return replace(state, containers=containers)


@pytest.mark.parametrize(
    ("state", "runs", "was_started"),
    [
        (with_sidecar(Phase.RUNNING, Phase.WAITING), {}, False),
        (with_sidecar(Phase.BACKOFF, Phase.WAITING), {}, False),
        (with_sidecar(Phase.RUNNING, Phase.WAITING, started=True), {}, True),
        (with_sidecar(Phase.BACKOFF, Phase.RUNNING), {}, True),
        (with_sidecar(Phase.RUNNING, Phase.WAITING), {RunId("u", "c1", 0): ALIVE}, True),
        (with_sidecar(Phase.BACKOFF, Phase.WAITING, was_started=True), {}, True),
    ],
)
def test_what_a_sidecar_has_been(state: PodState, runs: dict[RunId, Adopted], was_started: bool) -> None:
    """Also where an older agent wrote nothing of it, or where the checkpoint is a moment old."""
    after, _ = adopt(state, runs, same_boot=True, now=50.0, now_s=300.0)
    assert after["side"].was_started is was_started


_text = st.text(max_size=20)
_time = st.floats(0, 1e12) | st.just(math.inf)
_ends = st.none() | st.builds(Termination, st.integers(0, 255), st.integers(0, 64), _text, _text, _time, _time, _text)
_containers = st.builds(
    ContainerState,
    name=_text,
    run=st.integers(0, 10**6),
    phase=st.sampled_from(Phase),
    ready=st.booleans(),
    waiting=st.tuples(_text, _text),
    ended=_ends,
    last=_ends,
    deadline=_time,
    started_mono_s=st.none() | _time,
)
_states = st.builds(
    PodState,
    *(_text, _text, _text, _text, _time),
    st.builds(CrashBackoff, _time, _time, _time),
    st.lists(_containers, max_size=3).map(tuple),
    stop=st.none() | st.builds(Stop, _time, st.booleans()),
    finished=st.booleans(),
)


@settings(max_examples=60)
@given(_states)
def test_a_checkpoint_says_all_that_a_pod_is(state: PodState) -> None:
    assert from_plain(PodState, to_plain(state)) == state
    pod = make_pod(uid="u").SerializeToString()
    checkpoint = Checkpoint("boot", pod, "127.0.0.9", 12.5, 2, state)
    assert Checkpoint.loads(checkpoint.dumps()) == checkpoint


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "pod": "!"}', "null"])
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(ValueError):
        Checkpoint.loads(text)
