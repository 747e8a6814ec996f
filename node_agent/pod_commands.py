"""Commands that somebody runs in a pod: beside a container that runs, or in the place of one that does not.

Beside a container (`podium exec`, probes, hooks) a command is in that one's control groups and ends with its run. In
its place (`podium debug` while it waits for its next start) it has all that the container would have, in control groups
of its own, and the pod knows it as a stand-in: the container's starts and ends are nothing to it, and the pod is not
over before it is. Either is its caller's, who holds its streams.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.api.errors import BadRequest
from node_agent.container_runs import ContainerRuns
from node_agent.environment import UnknownField, at_terminal
from node_agent.host import group_name, limits_of
from node_agent.pod_order import is_closed
from node_agent.pod_state import ALIVE, StandInStarted
from node_agent.preparation import NotPrepared, Prepared, contained, prepare_command, within
from node_agent.run_ids import CommandId
from node_agent.runtime.interface import ExecProcess, Program, StartFailure
from node_agent.surroundings import PodHands


class PodCommands:
    """Of one pod. One that was rejected has none."""

    def __init__(self, hands: PodHands, runs: ContainerRuns, *, rejected: bool) -> None:
        self._hands, self._runs, self._rejected = hands, runs, rejected
        self._around, self._home = hands.around, hands.home

    async def exec(
        self, container: str, command: Sequence[str], *, tty: bool = False, detached: bool = False
    ) -> ExecProcess:
        """Runs a command with the container's environment and directory, and what confines it. Raises StartFailure, and
        BadRequest if there is nothing to run it beside.

        If the container runs, beside it: in its control groups, and it ends with that run. If not and `detached`, in
        its place: prepared as for a start, in control groups of its own, and it goes on when the container starts. It
        ends with the pod. Whoever has called is to `close` it: it is for him alone.
        """
        command_id = CommandId.new(self._home.pod.metadata.uid, container, self._around.rng)
        if self._hands.state()[container].phase in ALIVE:
            return await self._exec_beside(container, command_id, command, tty)
        if not detached:
            raise not_running(container)
        return await self._exec_in_place(container, command_id, command, tty)

    async def _exec_beside(
        self, container: str, command_id: CommandId, command: Sequence[str], tty: bool
    ) -> ExecProcess:
        run = self._hands.run_id(container, self._hands.state()[container].run)
        groups = self._around.host.cgroups().groups_of(group_name(self._home, container))
        with _start_failures():
            if container not in self._runs.programs:  # an earlier life of this agent started it: as it would be now
                self._runs.programs[container] = within(await self._prepare_command(container, run), groups)
            program = self._command(container, self._runs.programs[container], command_id, command, tty)
        return await self._around.runtime.exec(program, beside=run)

    async def _exec_in_place(
        self, container: str, command_id: CommandId, command: Sequence[str], tty: bool
    ) -> ExecProcess:
        around, run_id = self._around, str(command_id)
        self._refuse_if_over()
        self._hands.step(StandInStarted(run_id))
        try:
            with _start_failures():
                prepared = await self._prepare_command(container, run_id)
                self._refuse_if_over()
                groups = around.host.cgroups().make(run_id, limits_of(self._hands.specs[container]))
                program = self._command(container, within(prepared, groups), command_id, command, tty)
            return await around.runtime.exec(program)
        finally:
            self._hands.spawn(self._runs.stay_with(command_id), name=f"stay with {run_id}")

    def _refuse_if_over(self) -> None:
        if self._rejected or is_closed(self._hands.state()):
            raise StartFailure(
                126, f"pod {self._home.pod.metadata.name} has been ended on this node: nothing is run in it"
            )

    async def _prepare_command(self, container: str, run_id: str) -> Prepared:
        return await prepare_command(self._around.host, self._home, self._hands.specs[container], run_id)

    def _command(
        self, container: str, prepared: Prepared, command_id: CommandId, command: Sequence[str], tty: bool
    ) -> Program:
        """The container's program, but for what it runs."""
        env = at_terminal(prepared.program.env) if tty else prepared.program.env
        beside = replace(prepared.program, run_id=str(command_id), argv=tuple(command), env=env)
        program = replace(beside, log_path="", tty=tty)
        its = replace(prepared, program=program)
        return contained(self._around.host, self._home, self._hands.specs[container], its)


def not_running(container: str) -> BadRequest:
    """That there is no run of that container, as Kubernetes' agents say it. No command has failed: none was begun."""
    return BadRequest(f'container not found ("{container}")')


@contextlib.contextmanager
def _start_failures() -> Iterator[None]:
    """What keeps a command from being prepared, as callers know it."""
    try:
        yield
    except (UnknownField, NotPrepared, OSError) as error:
        raise StartFailure(126, str(error)) from error
