"""Commands that run in the place of a container (`podium debug`): they outlive its runs, and the pod waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config.profiles import PROFILES
from node_agent.adoption import adopt, those_of
from node_agent.pod_order import is_closed
from node_agent.pod_state import (
    Admitted,
    Exited,
    FailAsked,
    Finish,
    KillStandIn,
    Phase,
    StandInEnded,
    StandInStarted,
    Start,
    Started,
    StopAsked,
    Ticked,
)
from node_agent.pod_worker import PodWorker
from node_agent.runtime.interface import Adopted, Ended, StartFailure
from node_agent.runtime.interface import Started as RunStarted
from tests.unit.node_agent.agent_world import World
from tests.unit.node_agent.kit import Life, make_pod, until

ONE, TWO = "u.c1.exec-one", "u.c1.exec-two"


def crashed(life: Life) -> None:
    """Its container waits for its next start."""
    life.on(Admitted())
    life.on(Started("c1", 0, 1.0))
    for run in range(life.state["c1"].run, 2):
        life.on(Exited("c1", run, 2.0, 1))
        if life.state["c1"].phase is Phase.STARTING:
            life.on(Started("c1", run + 1, 3.0))
    assert life.state["c1"].phase is Phase.BACKOFF


def waiting() -> Life:
    life = Life.of(make_pod(uid="u"))
    crashed(life)
    return life


# --- the lifecycle


def test_it_has_nothing_to_do_with_the_runs_of_the_container() -> None:
    life = waiting()
    assert life.on(StandInStarted(ONE)) == []
    run = life.state["c1"].run
    life.now = life.state["c1"].deadline
    assert life.on(Ticked()) == [Start("c1", run)]
    life.on(Started("c1", run, 4.0))
    assert not [each for each in life.on(Exited("c1", run, 5.0, 1)) if isinstance(each, KillStandIn)]
    assert life.state.stand_ins == (ONE,)


def test_the_pod_is_not_over_before_the_last_of_them() -> None:
    life = waiting()
    for each in (ONE, TWO):
        life.on(StandInStarted(each))
    assert life.on(StopAsked(30.0, remove=True)) == [KillStandIn(ONE), KillStandIn(TWO)]
    assert is_closed(life.state)
    assert life.on(StandInEnded(ONE)) == [KillStandIn(TWO)]
    assert not life.state.finished
    assert life.on(StandInEnded(TWO)) == [Finish(remove=True)]


def test_they_may_look_on_while_the_containers_end() -> None:
    life = Life.of(make_pod(uid="u"))
    life.on(Admitted())
    life.on(StandInStarted(ONE))
    life.on(Started("c1", 0, 1.0))
    assert KillStandIn(ONE) not in life.on(StopAsked(30.0, remove=True))
    assert not is_closed(life.state)
    assert life.on(Exited("c1", 0, 2.0, 143, 15))[-1] == KillStandIn(ONE)


def test_one_that_comes_when_all_is_over_is_ended_at_once() -> None:
    life = waiting()
    life.on(FailAsked("Evicted", "too much", 0.0))
    assert life.state.finished
    assert life.on(StandInStarted(ONE)) == [KillStandIn(ONE)]


def test_a_pod_that_is_over_by_itself_can_be_looked_at() -> None:
    life = Life.of(make_pod(uid="u", policy="Never"))
    life.on(Admitted())
    life.on(Started("c1", 0, 1.0))
    life.on(Exited("c1", 0, 2.0, 1))
    assert not is_closed(life.state)
    assert life.on(StandInStarted(ONE)) == []
    assert life.on(StopAsked(30.0, remove=True)) == [KillStandIn(ONE)]


def test_of_those_of_an_earlier_life_only_what_the_runtime_knows_is_waited_for() -> None:
    state = replace(waiting().state, stand_ins=(ONE,))
    over = Adopted(RunStarted(pid=7, start_ticks=8, at_s=100.0), Ended(137, 9, 200.0))
    for known in ((), (TWO,)):
        _, commands = those_of("u", dict.fromkeys((*known, "other.c1.exec-one", "trial-7"), over))
        after, _ = adopt(state, {}, commands, same_boot=True, now=50.0, now_s=300.0)
        assert after.stand_ins == known


# --- the worker, and the agent around it


class CrashLooping(World):
    """Its pod's container crashes at once, and waits for long then."""

    def __init__(self, directory: Path) -> None:
        profile = replace(PROFILES["test"], crash_backoff_initial_s=1000.0, crash_backoff_max_s=1000.0)
        super().__init__(directory, profile=profile)

    async def crash_looping(self) -> PodWorker:
        pod = await self.create(make_pod())
        await until(lambda: pod.metadata.uid in self.agent.workers)
        worker = self.agent.workers[pod.metadata.uid]
        for run in range(2):
            await until(lambda run=run: self.run_id(pod, run) in self.runtime.running)  # type: ignore[misc]
            await until(lambda: worker.state["c1"].phase is Phase.RUNNING)
            self.runtime.end(self.run_id(pod, run), 1)
            await until(lambda run=run: worker.state["c1"].run == run + 1)  # type: ignore[misc]
        assert worker.state["c1"].phase is Phase.BACKOFF
        return worker


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[CrashLooping]:
    world = CrashLooping(tmp_path)
    await world.agent.start()
    yield world
    await world.agent.stop()


async def stood_in(world: CrashLooping, worker: PodWorker, *command: str) -> str:
    """A command in the place of the container; its id."""
    before = set(world.runtime.running)
    await worker.exec("c1", command or ("look",), detached=True)
    (run_id,) = set(world.runtime.running) - before
    return run_id


async def test_it_gets_what_the_container_would_get_and_no_log(world: CrashLooping) -> None:
    worker = await world.crash_looping()
    run_id = await stood_in(world, worker, "look", "around")
    program = world.runtime.programs[run_id]
    would = world.runtime.programs[f"{worker.uid}.c1.0"]
    assert (program.argv, program.log_path) == (("look", "around"), "")
    assert (program.env, program.cwd) == (would.env, would.cwd)
    assert world.runtime.attached[run_id] == "", "it is beside nothing"
    assert run_id in worker.group_names


async def test_what_is_deleted_is_there_until_it_is_gone(world: CrashLooping) -> None:
    worker = await world.crash_looping()
    run_id = await stood_in(world, worker)
    world.runtime.undying = True
    await world.delete(worker.pod)
    await until(lambda: run_id in world.runtime.killed)
    assert world.pod() is not None
    assert worker.pod_dir.exists()
    with pytest.raises(StartFailure, match="has been ended on this node"):
        await worker.exec("c1", ["look"], detached=True)
    world.runtime.undying = False
    world.runtime.end(run_id, 137, 9)
    await until(lambda: world.pod() is None)
    await until(lambda: not world.agent.workers)
    assert not world.runtime.running


@pytest.mark.parametrize("who", ["the command", "its caller"])
async def test_its_own_end_and_its_callers_leave_nothing(world: CrashLooping, who: str) -> None:
    worker = await world.crash_looping()
    process = await worker.exec("c1", ["look"], detached=True)
    (run_id,) = world.runtime.running
    if who == "its caller":
        process.close()
    else:
        world.runtime.end(run_id, 3)
    await until(lambda: not worker.state.stand_ins)
    assert run_id not in world.runtime._ends, "the runtime need not remember it"
    assert worker.state["c1"].phase is Phase.BACKOFF


async def test_one_that_cannot_be_started_is_not_waited_for(world: CrashLooping) -> None:
    worker = await world.crash_looping()
    world.runtime.refuse["nothing"] = StartFailure(127, "there is no such program")
    with pytest.raises(StartFailure, match="no such program"):
        await worker.exec("c1", ["nothing"], detached=True)
    await until(lambda: not worker.state.stand_ins)


async def test_the_next_life_of_the_agent_sees_it_off(world: CrashLooping) -> None:
    worker = await world.crash_looping()
    run_id = await stood_in(world, worker)
    await world.saved(worker.pod)
    world.agent.leave_pods()
    await world.agent.stop()
    await world.restart(adopt=True)
    await until(lambda: worker.uid in world.agent.workers)
    await until(lambda: not world.agent.workers[worker.uid].state.stand_ins)
    assert run_id not in world.runtime.adopted
    assert run_id not in world.runtime._ends


async def test_a_rejected_pod_has_no_stand_ins(world: CrashLooping) -> None:
    pod = make_pod()
    pod.spec.containers[0].resources.requests["cpu"].string = "1000"
    created = await world.create(pod)
    await until(lambda: created.metadata.uid in world.agent.workers)
    with pytest.raises(StartFailure, match="has been ended on this node"):
        await world.agent.workers[created.metadata.uid].exec("c1", ["look"], detached=True)
