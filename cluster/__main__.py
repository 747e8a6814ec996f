"""The cluster's own daemons: `python -m cluster master ...`. The first word names the role.

Each role is imported when it is wanted, so that a process holds no more than it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def _master(argv: list[str]) -> int:
    from cluster.master.main import main as run

    return run(argv)


def _manager(argv: list[str]) -> int:
    from cluster.manager import main as run

    return run(argv)


def _kubernetes(argv: list[str]) -> int:
    from cluster.kubernetes.main import main as run

    return run(argv)


ROLES: dict[str, Callable[[list[str]], int]] = {"master": _master, "manager": _manager, "kubernetes": _kubernetes}


def main(argv: list[str]) -> int:
    """Runs the role that the first word names with the other words, and returns the exit code."""
    role = ROLES.get(argv[0]) if argv else None
    if role is None:
        print(f"usage: python -m cluster {{{'|'.join(ROLES)}}} ...; ROLE --help tells more", file=sys.stderr)
        return 2
    return role(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
