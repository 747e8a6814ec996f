"""`podium describe` of definitions of kinds, and of objects of such kinds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cluster.cli.printers import clean
from cluster.cli.rows import conditions, row, rows

if TYPE_CHECKING:
    from cluster.pb.v1 import core_pb2 as core


def definition(crd: core.CustomResourceDefinition) -> Iterable[str]:
    """What it is called, which versions it has, and whether it counts."""
    from cluster.api.caveats import caveats

    spec = crd.spec
    yield row("Group", spec.group)
    yield row("Kind", spec.names.kind)
    yield row("Names", ", ".join(filter(None, (spec.names.plural, spec.names.singular, *spec.names.shortNames))))
    yield row("Scope", spec.scope)
    yield from rows("Versions", [_version(version) for version in spec.versions])
    yield row("Stored Versions", ", ".join(crd.status.storedVersions))
    if warnings := caveats(crd):
        yield from rows("Not Enforced", warnings)
    yield from conditions(crd.status.conditions)


def _version(version: core.CustomResourceDefinitionVersion) -> str:
    words = [
        "served" if version.served else "not served",
        *(["stored"] if version.storage else []),
        *(["deprecated"] if version.deprecated else []),
        *(["status apart"] if version.subresources.HasField("status") else []),
    ]
    return f"{version.name} ({', '.join(words)})"


def custom_object(obj: core.CustomObject) -> Iterable[str]:
    """All of it, below each other."""
    from cluster.api.custom_json import custom_content, custom_status

    yield row("API Version", obj.apiVersion)
    yield row("Kind", obj.kind)
    status = custom_status(obj)
    yield from _lines({**custom_content(obj), **({} if status is None else {"status": status})}, 0)


def _lines(value: Any, indent: int) -> Iterator[str]:
    """A line for each value, those of an object or a list further in."""
    pairs = value.items() if isinstance(value, dict) else ((f"[{index}]", inner) for index, inner in enumerate(value))
    for key, inner in pairs:
        name = clean(key)
        if isinstance(inner, dict | list) and inner:
            yield row(name, " ", indent).rstrip()
            yield from _lines(inner, indent + 2)
        else:
            yield row(name, _text(inner), indent)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value in (None, {}, []) else str(value)
