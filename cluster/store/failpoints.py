"""Places where a test may make a process die or dawdle: the crash points of the kill tests.

`PODIUM_FAILPOINTS="store.before_commit=exit:1in50;store.after_commit=sleep:200ms"`: at that place, once in fifty
times, the process ends as if killed (exit code 137, nothing flushed); or it waits. Without the variable a failpoint
costs one look into an empty dictionary. Names are given where `hit` is called; an action that does not parse stops the
process at once, for a test that tests nothing is worse than one that fails.

Called from the thread that does the work (the writer's), so that waiting delays just that work.
"""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass

VARIABLE = "PODIUM_FAILPOINTS"
EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class Failpoint:
    """What happens at one place."""

    exits: bool
    sleep_s: float = 0.0
    one_in: int = 1


def parse(text: str) -> dict[str, Failpoint]:
    """The failpoints of a variable's value. Raises ValueError naming the part that does not parse."""
    failpoints: dict[str, Failpoint] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, action = part.partition("=")
        word, *arguments = action.split(":")
        one_in, sleep_s = 1, 0.0
        try:
            for argument in arguments:
                if argument.startswith("1in"):
                    one_in = int(argument[3:])
                else:
                    sleep_s = float(argument.removesuffix("ms")) / 1000
            if not name or word not in ("exit", "sleep") or one_in < 1 or (word == "sleep") != (sleep_s > 0):
                raise ValueError
        except ValueError:
            raise ValueError(f"{VARIABLE}: {part!r} is not name=exit[:1inN] or name=sleep:NNNms[:1inN]") from None
        failpoints[name] = Failpoint(word == "exit", sleep_s, one_in)
    return failpoints


_active: dict[str, Failpoint] = parse(os.environ.get(VARIABLE, ""))
_dice = random.Random()
os.register_at_fork(after_in_child=_dice.seed)  # or all children of a warm parent would die at the same throw
_pause = threading.Event()


def hit(name: str) -> None:
    """Does here what the environment asked for: nothing, usually."""
    if not _active:
        return
    failpoint = _active.get(name)
    if failpoint is None or _dice.randrange(failpoint.one_in) != 0:
        return
    if failpoint.exits:
        os._exit(EXIT_CODE)
    _pause.wait(failpoint.sleep_s)
