"""Two spawners for one node: what the first one did to itself cannot be undone, so trusted pods need another.

The second one confines nothing. It lies in a directory of its own below the node's, and is there only on nodes that may
run trusted pods, or once did. Which of the two has a run is decided at its start, by its profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.api.pods import TRUSTED
from node_agent.runtime.interface import Adopted, Ended, ExecProcess, OnSurvivors, Program, Started
from node_agent.runtime.process import ProcessRuntime
from node_agent.spawner import TRUSTED_DIRECTORY, WHO


def had_trusted(node_dir: Path) -> bool:
    """The node has had a spawner for trusted pods."""
    return (node_dir / TRUSTED_DIRECTORY / WHO).exists()


class TrustingRuntime:
    """A Runtime of two."""

    def __init__(self, confined: ProcessRuntime, trusted: ProcessRuntime) -> None:
        self._confined, self._trusted = confined, trusted
        self._runs: set[str] = set()  # that the second one has

    def _of(self, run_id: str) -> ProcessRuntime:
        return self._trusted if run_id in self._runs else self._confined

    @property
    def adopted(self) -> Mapping[str, Adopted]:
        return {**self._confined.adopted, **self._trusted.adopted}

    @property
    def can_mount(self) -> bool:
        return self._confined.can_mount

    @property
    def hides(self) -> bool:
        return self._confined.hides

    @property
    def names(self) -> bool:
        return self._confined.names

    @property
    def missing(self) -> Sequence[str]:
        return self._confined.missing

    async def start(self) -> None:
        await self._confined.start()
        try:
            await self._trusted.start()
        except BaseException:
            await self._confined.leave()
            raise
        self._runs |= set(self._trusted.adopted)

    async def stop(self) -> None:
        await self._confined.stop()
        await self._trusted.stop()

    async def leave(self) -> None:
        await self._confined.leave()
        await self._trusted.leave()

    async def run(self, program: Program) -> Started:
        if program.confinement.profile == TRUSTED:
            self._runs.add(program.run_id)
        return await self._of(program.run_id).run(program)

    async def exec(self, program: Program, beside: str = "") -> ExecProcess:
        if not beside and program.confinement.profile == TRUSTED:
            self._runs.add(program.run_id)
        return await self._of(beside or program.run_id).exec(program, beside)

    async def wait(self, run_id: str, on_survivors: OnSurvivors | None = None) -> Ended:
        return await self._of(run_id).wait(run_id, on_survivors)

    def forget(self, run_id: str) -> None:
        self._of(run_id).forget(run_id)
        self._runs.discard(run_id)

    def pid_of(self, run_id: str) -> int:
        return self._of(run_id).pid_of(run_id)

    def pids_of(self, run_id: str) -> list[int]:
        return self._of(run_id).pids_of(run_id)

    def signal(self, run_id: str, number: int) -> None:
        self._of(run_id).signal(run_id, number)

    def kill(self, run_id: str) -> None:
        self._of(run_id).kill(run_id)

    async def write_stdin(self, run_id: str, data: bytes) -> None:
        await self._of(run_id).write_stdin(run_id, data)

    def close_stdin(self, run_id: str) -> None:
        self._of(run_id).close_stdin(run_id)

    def resize(self, run_id: str, rows: int, columns: int) -> None:
        self._of(run_id).resize(run_id, rows, columns)
