"""What differs between two states of an object, field by field.

Objects are compared as Kubernetes' JSON (`cluster.api.json`), so a path reads like the manifest it came from:

    spec.replicas                               3 -> 5
    spec.containers[name=web].image             "web:1" -> "web:2"
    metadata.labels.tier                        (nothing) -> "fe"
    metadata.annotations["podium.dev/note"]     "old" -> (nothing)

Elements of a list of objects are matched by the field that names them (a container's name, a port's name or number, a
condition's type), as Kubernetes' merge keys do: what moved has not changed. A list without such a field is compared by
position, a list of plain values as a whole.

What the master keeps for itself (resourceVersion, generation, who wrote and why) is left out: it differs always. So is
the memory of `podium apply`, unless nothing else differs: it repeats the rest. Secret values are the business of
`cluster.api.secrets`, which comes before.

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.api.json import object_to_json
from cluster.api.kinds import AnyObject

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation in which `podium apply` keeps what it applied last."""


class _Absent:
    """There is no such field; null is something else."""

    def __repr__(self) -> str:
        return "(nothing)"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not the same in both."""

    path: str
    old: Any
    """JSON's value, or ABSENT."""
    new: Any
    """JSON's value, or ABSENT."""

    def __str__(self) -> str:
        return f"{self.path}: {as_text(self.old)} -> {as_text(self.new)}"


def as_text(value: Any) -> str:
    """A value in one line: plain words as they are, all else as JSON."""
    if value is ABSENT:
        return "(nothing)"
    if isinstance(value, str) and _plain(value):
        return value
    return json.dumps(value, ensure_ascii=False)


_PLAIN = re.compile(r"[\w./:@%+=,*-]+")
_LITERALS = re.compile(r"true|false|null|-?[0-9.]+([eE][-+]?[0-9]+)?")


def _plain(text: str) -> bool:
    """It cannot be taken for anything but a string, nor for the syntax around it."""
    return _PLAIN.fullmatch(text) is not None and _LITERALS.fullmatch(text) is None


# --- comparing

_NOISE = frozenset(
    {
        "apiVersion",
        "kind",
        "metadata.resourceVersion",
        "metadata.generation",
        "metadata.actor",
        "metadata.cause",
        "metadata.managedFields",
    }
)

_NAMED_BY: Mapping[str, Sequence[tuple[str, ...]]] = {
    "containers": [("name",)],
    "containerStatuses": [("name",)],
    "env": [("name",)],
    "volumes": [("name",)],
    "volumeMounts": [("mountPath",)],
    "ports": [("name",), ("containerPort", "protocol"), ("port", "protocol"), ("containerPort",), ("port",)],
    "conditions": [("type",)],
    "taints": [("key", "effect")],
    "ownerReferences": [("uid",)],
    "addresses": [("ip",), ("type",)],
    "notReadyAddresses": [("ip",)],
    "images": [("names",)],
    "schedulingGates": [("name",)],
    "topologySpreadConstraints": [("topologyKey", "whenUnsatisfiable")],
}
"""Name of a list -> fields that tell its elements apart, the first that do so in both; others go by position."""


def differences(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Difference]:
    """What differs between two objects as JSON, in the order of their fields; None is an object that does not exist."""
    memory = f"metadata.annotations{_step(LAST_APPLIED)}"
    found: list[Difference] = []
    remembered: list[Difference] = []
    for difference in _compare("", dict(old or {}), dict(new or {})):
        (remembered if difference.path == memory else found).append(difference)
    return found or remembered


def object_differences(old: AnyObject | None, new: AnyObject | None) -> list[Difference]:
    """The same of two objects."""
    return differences(
        object_to_json(old) if old is not None else None, object_to_json(new) if new is not None else None
    )


def _compare(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if path in _NOISE or old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in _union(old, new):
            step = _step(name)
            inner = path + step if path else step.removeprefix(".")
            yield from _compare(inner, old.get(name, ABSENT), new.get(name, ABSENT))
    elif _are_objects(old) and _are_objects(new):
        yield from _compare_elements(path, old, new)
    elif _descends(path) and (old is ABSENT or new is ABSENT):
        # A map's entries are told one by one, whether the map was there before or not.
        yield from _compare(path, {} if old is ABSENT else old, {} if new is ABSENT else new)
    else:
        yield Difference(path, old, new)


def _compare_elements(path: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Difference]:
    before, after = _by_position(old), _by_position(new)
    for fields in _NAMED_BY.get(path.rpartition(".")[2], ()):
        named_before, named_after = _by_fields(old, fields), _by_fields(new, fields)
        if named_before is not None and named_after is not None:
            before, after = named_before, named_after
            break
    for name in _union(before, after):
        yield from _compare(f"{path}[{name}]", before.get(name, ABSENT), after.get(name, ABSENT))


def _by_position(elements: Sequence[Any]) -> dict[str, Any]:
    return {str(place): element for place, element in enumerate(elements)}


def _by_fields(elements: Sequence[Any], fields: tuple[str, ...]) -> dict[str, Any] | None:
    """The elements by what these fields say; None if they do not tell all of them apart."""
    named: dict[str, Any] = {}
    for element in elements:
        if any(field not in element for field in fields):
            return None
        named[",".join(f"{field}={as_text(element[field])}" for field in fields)] = element
    return named if len(named) == len(elements) else None


def _union(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys of both, each once: those of the new one where they stand there, those that went at the end."""
    return [*new, *(name for name in old if name not in new)]


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(element, dict) for element in value)


def _descends(path: str) -> bool:
    return path in ("metadata", "metadata.labels", "metadata.annotations", "spec", "status")


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _step(name: str) -> str:
    return f".{name}" if _NAME.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"
