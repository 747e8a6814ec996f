"""Names of runs: whose each one is, so that the next life of an agent knows what it finds. Pure.

    UID.CONTAINER.2             a container's run after two restarts
    UID.CONTAINER.2.1           the same, started by the worker that came after one that crashed
    UID.CONTAINER.exec-x7k2p    a command that somebody runs beside the container's run, or in the container's place

They are made and read here, and nowhere else. Neither uids nor containers' names have dots. None is used twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.names import Dice, generate_name

_COMMAND = "exec-"


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """Names a run of a container: by its pod, the number of restarts before it, and the worker that started it."""

    uid: str
    container: str
    run: int
    incarnation: int = 0
    """Workers of the pod that crashed before: ids of runs are never used twice."""

    def __str__(self) -> str:
        suffix = f".{self.incarnation}" if self.incarnation else ""
        return f"{self.uid}.{self.container}.{self.run}{suffix}"

    @classmethod
    def parse(cls, text: str) -> RunId | None:
        """None if it is not one."""
        words = text.split(".")
        if len(words) not in (3, 4) or not all(word.isdigit() for word in words[2:]):
            return None
        return cls(words[0], words[1], *map(int, words[2:]))


@dataclass(frozen=True, slots=True)
class CommandId:
    """Names a command that somebody runs: by the container that it is run as. One that runs in the container's place
    has control groups of this name."""

    uid: str
    container: str
    word: str

    def __str__(self) -> str:
        return f"{self.uid}.{self.container}.{self.word}"

    @classmethod
    def new(cls, uid: str, container: str, rng: Dice) -> CommandId:
        """One that no other command has, in whichever life of the agent."""
        return cls(uid, container, generate_name(_COMMAND, rng))

    @classmethod
    def parse(cls, text: str) -> CommandId | None:
        """None if it is not one."""
        words = text.split(".")
        return cls(*words) if len(words) == 3 and words[2].startswith(_COMMAND) else None


def pod_of(text: str) -> str:
    """The uid of the pod whose run this is; empty if it is no pod's."""
    found = RunId.parse(text) or CommandId.parse(text)
    return found.uid if found is not None else ""
