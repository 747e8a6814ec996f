"""Profiles: how the pods of one spec.schedulerName are placed; from what ships and what a file says.

    default-scheduler    spreads: least allocated, balanced, apart from pods of the same service or controller
    binpack              fills nodes up (Nomad's formula), and leaves whole nodes empty

A profile of a file is based on one of these and says what is different. What it names must be there: scores, filters,
plug-ins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from cluster.config.errors import ConfigError
from cluster.scheduler.cycle import Cycle, Dice
from cluster.scheduler.filters import FILTERS
from cluster.scheduler.plugins import Function, PlugIn
from cluster.scheduler.settings import BINPACK, DEFAULT_SCHEDULER, MAX_WEIGHT, ProfileSettings, Weights
from cluster.scheduler.snapshot import Snapshot

FIXED_FILTERS = frozenset({"NodeName", "NodeAffinity", "ImageRuntime", "HostPorts", "Resources", "DataDirectories"})
"""Without them pods would be bound to nodes that refuse them, or that cannot run them."""

_FILTER_NAMES = tuple(each.name for each in FILTERS)
_SHIPPED = {
    DEFAULT_SCHEDULER: Weights(),
    BINPACK: Weights(least_allocated=0, balanced_allocation=0, spread=0, binpack=1),
}


@dataclass(frozen=True, slots=True)
class SchedulingProfile:
    """How pods of one spec.schedulerName are placed."""

    name: str
    weights: Weights
    without_filters: frozenset[str] = frozenset()
    filters: tuple[PlugIn, ...] = ()
    """Further ones, after all others."""
    scores: tuple[tuple[PlugIn, int], ...] = ()
    """Further ones, with their weights."""

    def cycle(self, snapshot: Snapshot, dice: Dice) -> Cycle:
        """What decides by this profile."""
        return Cycle(
            snapshot,
            self.weights,
            dice,
            without_filters=self.without_filters,
            more_filters=[plugin.as_filter() for plugin in self.filters],
            more_scores=[(plugin.as_score(), weight) for plugin, weight in self.scores if weight],
        )

    @property
    def plugins(self) -> tuple[PlugIn, ...]:
        """All functions of other people's."""
        return (*self.filters, *(plugin for plugin, _ in self.scores))


def shipped() -> dict[str, SchedulingProfile]:
    """The profiles that are always there."""
    return {name: SchedulingProfile(name, weights) for name, weights in _SHIPPED.items()}


def score_name(field: str) -> str:
    """As people see it: "least_allocated" is LeastAllocated."""
    return "".join(word.capitalize() for word in field.split("_"))


SCORES = {score_name(field.name): field.name for field in fields(Weights)}
"""Name of a score -> field of its weight."""


def resolve(
    configured: Mapping[str, ProfileSettings], find: Callable[[str], Function], source: str = ""
) -> dict[str, SchedulingProfile]:
    """All profiles by name: those that ship, and those of a file.

    `find` gives the plug-in of a name, and raises LookupError with the names that
    there are. Raises ConfigError, which names the source.
    """
    where = f"{source}: profiles" if source else "profiles"
    chosen = {name: ProfileSettings() for name in _SHIPPED} | dict(configured)
    return {name: _profile(f"{where}.{name}", name, settings, find) for name, settings in chosen.items()}


def _profile(where: str, name: str, settings: ProfileSettings, find: Callable[[str], Function]) -> SchedulingProfile:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) or len(name) > 253:
        raise ConfigError(
            f"{where}: {name!r} is not a name that spec.schedulerName could be: lowercase letters, digits, '-' and '.'"
        )
    for each in settings.without_filters:
        if each not in _FILTER_NAMES:
            raise ConfigError(
                f"{where}.without_filters: there is no filter {each!r}; known are {', '.join(_FILTER_NAMES)}"
            )
        if each in FIXED_FILTERS:
            may = ", ".join(name for name in _FILTER_NAMES if name not in FIXED_FILTERS)
            raise ConfigError(
                f"{where}.without_filters: {each} cannot be left out, nodes would refuse what was placed without it;"
                f" those that can are {may}"
            )
    weights: dict[str, int] = {}
    scores = []
    for score, weight in settings.weights.items():
        if not 0 <= weight <= MAX_WEIGHT:
            raise ConfigError(f"{where}.weights.{score} is {weight}, but must be from 0 to {MAX_WEIGHT}")
        if score in SCORES:
            weights[SCORES[score]] = weight
        else:
            known = f"a score (known are {', '.join(SCORES)}) nor a plug-in"
            scores.append((_plugin(f"{where}.weights", score, find, known), weight))
    base = settings.based_on or (name if name in _SHIPPED else DEFAULT_SCHEDULER)
    return SchedulingProfile(
        name,
        replace(_SHIPPED[base], **weights),
        frozenset(settings.without_filters),
        tuple(_plugin(f"{where}.filters", each, find, "a plug-in") for each in settings.filters),
        tuple(scores),
    )


def _plugin(where: str, name: str, find: Callable[[str], Function], wanted: str) -> PlugIn:
    try:
        return PlugIn(name, find(name))
    except LookupError as error:
        raise ConfigError(f"{where}: {name!r} is not {wanted}: {error.args[0]}") from error
