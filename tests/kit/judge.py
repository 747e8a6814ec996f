"""Judges a recorded history again: `python -m tests.kit.judge FILE`. Only for files of your own tests."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from tests.kit.history_recorder import tally
from tests.kit.linearizability import check_rules
from tests.kit.recorded import NotLinearizable
from tests.kit.search_checker import GaveUp, check_by_search, settle


def main(path: str) -> int:
    """Prints both verdicts; 1 if one of them is bad."""
    operations, log = pickle.loads(Path(path).read_bytes())
    print(f"{tally(operations)}; {len(log)} changes")
    bad = 0
    begun = min((op.revision for op in operations if op.revision), default=1) - 1
    for name, check in (
        ("rules", lambda: check_rules(operations, log, min(begun, log[0].revision - 1) if log else 0)),
        ("search", lambda: check_by_search(settle(operations, log))),
    ):
        try:
            check()
            print(f"{name}: linearizable")
        except (NotLinearizable, GaveUp) as error:
            bad = 1
            print(f"{name}: {error}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
