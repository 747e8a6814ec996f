"""What the tests of the lifecycle say of a pod, in a word each."""

from __future__ import annotations

from node_agent import status
from node_agent.pod_state import (
    Admitted,
    Command,
    Note,
    Started,
)
from tests.unit.node_agent.kit import Life


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
