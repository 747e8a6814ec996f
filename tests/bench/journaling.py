"""The journal alone: how many rows of 512 bytes a second become durable, by how many share a commit.

No gRPC, no checks of what is written: the ceiling of what a master on this disk can acknowledge.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cluster.store.journal import SqliteJournal
from cluster.store.version import Record
from tests.bench.harness import Sides, benchmark

ROWS = 20_000
KEYS = 1000
_DATA = bytes(range(256)) * 2


def rows(first: int, count: int) -> list[Record]:
    """Updates of KEYS pods in turns, one revision each."""
    return [
        Record(n, 0, "Pod", "default", f"pod-{n % KEYS}", max(0, n - KEYS), False, f"node-{n % 50}", n / 1000, _DATA)
        for n in range(first, first + count)
    ]


def _register(size: int) -> None:
    @benchmark(f"journal_{size}", unit="rows/s", what=f"appends of {size} rows of 512 bytes to the journal alone")
    @asynccontextmanager
    async def run() -> AsyncIterator[Sides]:
        with tempfile.TemporaryDirectory(prefix="podium-bench-") as directory:
            journal = SqliteJournal(Path(directory), lambda: "bench")
            await journal.open()
            revision = 0

            async def measure() -> float:
                nonlocal revision
                total = min(ROWS, 2000 * size)
                batches = [rows(revision + 1 + start, size) for start in range(0, total, size)]
                begun = time.perf_counter()
                for batch in batches:
                    await journal.append(batch)
                revision += total
                return total / (time.perf_counter() - begun)

            try:
                yield Sides(measure)
            finally:
                await journal.close()


for _size in (1, 10, 100, 1000):
    _register(_size)
