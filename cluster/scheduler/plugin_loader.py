"""Finds plug-ins by name: those that installed packages announce, and "module:function" of whatever can be imported.

[project.entry-points."podium.scheduler.plugins"]
away-from-crowds = "mine.placing:away_from_crowds"
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import cast

from cluster.scheduler.plugins import ENTRY_POINTS, Function


def find_plugin(name: str) -> Function:
    """The function of that name. Raises LookupError, with what there is instead, or what went wrong."""
    module, colon, attribute = name.partition(":")
    if colon:
        return _imported(module, attribute)
    announced = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in announced:
        there = f"installed packages announce {', '.join(sorted(announced))}" if announced else "none is installed"
        raise LookupError(f"{there}; or write MODULE:FUNCTION")
    try:
        return _callable(announced[name].load(), name)
    except Exception as error:
        raise LookupError(f"importing {announced[name].value} failed: {type(error).__name__}: {error}") from error


def _imported(module: str, attribute: str) -> Function:
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise LookupError(f"importing {module} failed: {type(error).__name__}: {error}") from error
    if not hasattr(loaded, attribute):
        raise LookupError(f"module {module} has no {attribute}")
    return _callable(getattr(loaded, attribute), f"{module}:{attribute}")


def _callable(found: object, name: str) -> Function:
    if not callable(found):
        raise LookupError(f"{name} is {type(found).__name__}, not a function")
    return cast("Function", found)
