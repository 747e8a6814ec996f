"""What a benchmark is, how it is run, and what is written down about it.

A benchmark is an async context manager that sets the stage and yields `Sides`: a function that measures ours once and
returns a number, and, if there is a peer, one that measures the peer. The harness calls them in turns. To add one,
write it in a module of this package that `registry` imports:

    @benchmark("writes_1", unit="writes/s", what="one create per call, 8 writers")
    @asynccontextmanager
    async def writes_1() -> AsyncIterator[Sides]:
        async with daemons() as cluster:
            yield Sides(ours=lambda: measure(cluster))
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Sides:
    """Who is measured; each call gives one number in the benchmark's unit."""

    ours: Measure
    peer: Measure | None = None
    peer_name: str = ""
    """Of the peer that belongs here, also if it is not installed."""


class Shared(Generic[T]):
    """What takes long to set up, and several benchmarks measure one after the other: made for the first of them."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._open: tuple[AbstractAsyncContextManager[T], T] | None = None

    async def get(self) -> T:
        """What was made; it stays until `close`, which whoever runs the benchmarks calls after the last of them."""
        if self._open is None:
            context = self._make()
            self._open = context, await context.__aenter__()
        return self._open[1]

    async def close(self) -> None:
        """Twice is fine."""
        if self._open is not None:
            (context, _), self._open = self._open, None
            await context.__aexit__(None, None, None)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One thing worth knowing."""

    name: str
    unit: str
    """A time ("s", "ms"): less is better. Anything else ("pods/s", "MB/s"): more is better."""
    what: str
    """What is measured, in a line."""
    stage: Callable[[], AbstractAsyncContextManager[Sides]]
    aim: str = ""
    """What it should be on two cores, for people to compare with."""
    runs: int = 5
    warm_up: bool = True
    """Whether a first run is made that does not count."""
    shares: Shared[Any] | None = None
    """What it has in common with its neighbours."""


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(
    name: str,
    *,
    unit: str,
    what: str,
    aim: str = "",
    runs: int = 5,
    warm_up: bool = True,
    shares: Shared[Any] | None = None,
) -> Callable[[Callable[[], AbstractAsyncContextManager[Sides]]], Callable[[], AbstractAsyncContextManager[Sides]]]:
    """Registers the decorated stage under this name."""

    def register(
        stage: Callable[[], AbstractAsyncContextManager[Sides]],
    ) -> Callable[[], AbstractAsyncContextManager[Sides]]:
        if name in BENCHMARKS:
            raise ValueError(f"there are two benchmarks named {name}")
        BENCHMARKS[name] = Benchmark(name, unit, what, stage, aim, runs, warm_up, shares)
        return stage

    return register


class Unavailable(Exception):
    """The benchmark cannot be run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of build/bench.json."""

    name: str
    unit: str
    median: float
    min: float
    max: float
    runs: int
    peer: str | None
    peer_median: float | None
    ratio: float | None
    """Ours divided by the peer's."""
    commit: str
    cores: int


async def run(chosen: Benchmark, runs: int, tell: Callable[[str], None]) -> Result:
    """Runs a benchmark, ours and peer in turns, mostly after one warm-up of each that does not count."""
    ours: list[float] = []
    peers: list[float] = []
    async with chosen.stage() as sides:
        if chosen.warm_up:
            await sides.ours()
            if sides.peer is not None:
                await sides.peer()
        if sides.peer is None and sides.peer_name:
            tell(f"{chosen.name}: {sides.peer_name} is not installed here; without a peer")
        for _ in range(runs):
            ours.append(await sides.ours())
            if sides.peer is not None:
                peers.append(await sides.peer())
    return summarise(chosen, ours, peers, sides.peer_name if sides.peer is not None else None)


def summarise(chosen: Benchmark, ours: list[float], peers: list[float], peer: str | None) -> Result:
    """Medians and extremes, rounded to four digits that mean something."""
    median = statistics.median(ours)
    peer_median = statistics.median(peers) if peers else None
    return Result(
        name=chosen.name,
        unit=chosen.unit,
        median=_round(median),
        min=_round(min(ours)),
        max=_round(max(ours)),
        runs=len(ours),
        peer=peer,
        peer_median=None if peer_median is None else _round(peer_median),
        ratio=None if not peer_median else _round(median / peer_median),
        commit=commit(),
        cores=os.cpu_count() or 1,
    )


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def commit() -> str:
    """The commit that was measured; "+" if the tree has changes. Empty where there is no git."""
    root = Path(__file__).parents[2]
    try:
        revision = _git(root, "rev-parse", "--short", "HEAD")
        return revision + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def table(results: list[Result]) -> str:
    """The results for people."""
    head = ("benchmark", "median", "min", "max", "unit", "runs", "peer", "its median", "ratio", "aim")
    rows = [head] + [
        (
            result.name,
            *(f"{value:g}" for value in (result.median, result.min, result.max)),
            result.unit,
            str(result.runs),
            result.peer or "-",
            "-" if result.peer_median is None else f"{result.peer_median:g}",
            "-" if result.ratio is None else f"{result.ratio:.2f}",
            BENCHMARKS[result.name].aim if result.name in BENCHMARKS else "",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    numeric = {1, 2, 3, 5, 7, 8}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write(results: list[Result], path: Path) -> None:
    """Writes build/bench.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
