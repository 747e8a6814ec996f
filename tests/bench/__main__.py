"""`python -m tests.bench`: choose, run, print a table, write build/bench.json."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback
from pathlib import Path

from tests.bench import registry  # noqa: F401 - imported for its registrations
from tests.bench.harness import BENCHMARKS, Result, Unavailable, run, table, write

OUTPUT = Path(__file__).parents[2] / "build" / "bench.json"


def tell(line: str) -> None:
    """Progress goes to stderr; stdout has the table only."""
    print(line, file=sys.stderr, flush=True)


async def measure(names: list[str], runs: int | None) -> tuple[list[Result], list[str]]:
    """The results, and the names of those that failed."""
    results, failed = [], []
    for number, name in enumerate(names):
        chosen = BENCHMARKS[name]
        tell(f"{name}: {chosen.what}")
        try:
            results.append(await run(chosen, runs or chosen.runs, tell))
        except Unavailable as missing:
            tell(f"{name}: left out: {missing}")
        except Exception:
            traceback.print_exc()
            failed.append(name)
        finally:
            shared = chosen.shares
            if shared is not None and all(BENCHMARKS[later].shares is not shared for later in names[number + 1 :]):
                await shared.close()
    return results, failed


def choose(words: list[str]) -> list[str]:
    """The benchmarks of these names; a word that is nobody's name stands for all whose names begin with it."""
    return [
        name
        for name in BENCHMARKS
        if name in words or any(name.startswith(word) for word in words if word not in BENCHMARKS)
    ]


def main() -> int:
    """Returns 0, or 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures Podium.")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="those whose name begins with this; may be repeated"
    )
    parser.add_argument("--runs", type=int, metavar="N", help="measured runs of each (default: each one's own)")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help="default: build/bench.json")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    arguments = parser.parse_args()
    names = choose(arguments.only or [""])
    if not names:
        parser.error(f"there is no such benchmark; there are {', '.join(BENCHMARKS)}")
    if arguments.list:
        for name in names:
            print(f"{name:32} {BENCHMARKS[name].what}")
        return 0
    results, failed = asyncio.run(measure(names, arguments.runs))
    if results:
        print(table(results))
        write(results, arguments.output)
        tell(f"written to {arguments.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
