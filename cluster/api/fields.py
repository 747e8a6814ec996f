"""Field selectors: choosing objects by a few fields, such as "spec.nodeName=node-1,status.phase!=Running".

Unlike labels, only the fields in the table below can be asked for, per kind; the same ones as in Kubernetes. Of objects
of kinds that users define, those that the definition names as well (`more`). An absent field is the empty string. The
terms with "=" are in `equals`, so that the master can answer from an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from cluster.api import aside
from cluster.api.custom_json import custom_content, custom_status
from cluster.api.errors import BadRequest
from cluster.api.kinds import AnyObject
from cluster.pb.v1 import core_pb2 as core

_EVERY_KIND = ("metadata.name", "metadata.namespace")
SUPPORTED: dict[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName",
        "status.phase",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "type",
        "source",
        "reportingComponent",
    ),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
    "ReplicationController": ("status.replicas",),
    "Secret": ("type",),
    "Service": ("spec.clusterIP", "spec.type"),
    "CustomObject": ("resource",),
}
"""What can be asked of each kind, besides its name and namespace."""


def _put_aside(*paths: str, absent: object) -> Callable[[AnyObject], object]:
    """Reads a field that Podium does not carry out, under the first of these names that it has, where it was put aside:
    what is selected is what is shown."""

    def read(obj: AnyObject) -> object:
        kept = aside.kept(obj)
        return next((kept[path] for path in paths if kept.get(path)), absent)

    return read


_READERS: dict[str, Callable[[Any], object]] = {
    "source": lambda event: event.source.component or event.reportingComponent,
    "spec.serviceAccountName": _put_aside("spec.serviceAccountName", "spec.serviceAccount", absent=""),
    "spec.hostNetwork": _put_aside("spec.hostNetwork", absent=False),
}
"""Fields that are not called so in the object."""


@dataclass(frozen=True, slots=True)
class _Term:
    path: str
    value: str
    equal: bool
    read: Callable[[AnyObject], object] = field(compare=False, repr=False)

    def matches(self, obj: AnyObject) -> bool:
        found = self.read(obj)
        text = found if isinstance(found, str) else str(found).lower()
        return (text == self.value) == self.equal

    def __str__(self) -> str:
        return f"{self.path}{'=' if self.equal else '!='}{_escape(self.value)}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions on fields that must all hold; `str` gives the text that `parse_field_selector` reads."""

    terms: tuple[_Term, ...] = ()

    @property
    def is_empty(self) -> bool:
        """It asks for nothing, so everything matches."""
        return not self.terms

    @property
    def equals(self) -> dict[str, str]:
        """The terms that ask for equality, by path. (Of contradicting ones the last; `matches` knows them all.)"""
        return {term.path: term.value for term in self.terms if term.equal}

    def matches(self, obj: AnyObject) -> bool:
        """Whether the object is selected."""
        return all(term.matches(obj) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def supported_fields(kind_name: str) -> tuple[str, ...]:
    """The paths that a field selector may use for that kind."""
    return _EVERY_KIND + SUPPORTED.get(kind_name, ())


def parse_field_selector(kind_name: str, text: str, more: Sequence[str] = ()) -> FieldSelector:
    """Reads terms "path=value", "path==value", "path!=value", separated by commas; "\\" escapes "," "=" and itself.

    `more`: further paths that may be asked for, of objects of a kind that users define. Raises BadRequest, naming the
    fields that are supported.
    """
    return FieldSelector(tuple(_term(kind_name, term, text, more) for term in _split(text) if term.strip()))


def paths_in(text: str) -> list[str]:
    """The fields that a selector asks for, whether they are supported or not."""
    return [re.split("!=|==|=", term, maxsplit=1)[0].strip() for term in _split(text) if term.strip()]


def asked_for(path: str, text: str) -> str:
    """The value that a selector asks of a field, whatever else it asks; empty: it does not."""
    for term in _split(text):
        asked, found, value = term.replace("==", "=", 1).partition("=")
        if found and asked.strip() == path:
            return value.strip()
    return ""


def _term(kind_name: str, term: str, text: str, more: Sequence[str]) -> _Term:
    for sign in ("!=", "==", "="):
        path, found, value = term.partition(sign)
        if found:
            break
    else:
        raise BadRequest(f'field selector "{text[:200]}": "{term[:80]}" is not of the form field=value or field!=value')
    path = path.strip()
    supported = (*supported_fields(kind_name), *more)
    if path not in supported:
        raise BadRequest(
            f'field selector "{text[:200]}": "{path[:80]}" is not supported for {kind_name};'
            f" supported are {', '.join(supported)}"
        )
    read = _in_content(path) if path in more else _READERS.get(path) or attrgetter(path)
    return _Term(path, _unescape(value.strip(), text), sign != "!=", read)


def _in_content(path: str) -> Callable[[AnyObject], object]:
    """Reads a field of an object of a kind that users define."""
    steps = path.split(".")

    def read(obj: AnyObject) -> object:
        assert isinstance(obj, core.CustomObject)
        place = custom_status(obj) if steps[0] == "status" else custom_content(obj).get(steps[0])
        for step in steps[1:]:
            place = place.get(step) if isinstance(place, dict) else None
        return "" if place is None else place

    return read


def _split(text: str) -> list[str]:
    """Splits at commas that are not escaped."""
    terms, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == ",":
            terms.append(text[start:at])
            start = at + 1
        at += 1
    return [*terms, text[start:]]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str, text: str) -> str:
    out, at = [], 0
    while at < len(value):
        if value[at] == "\\":
            at += 1
            if at == len(value) or value[at] not in "\\,=":
                raise BadRequest(f'field selector "{text[:200]}": "\\" may only stand before "\\", "," and "="')
        elif value[at] in ",=":
            raise BadRequest(f'field selector "{text[:200]}": write "\\{value[at]}" for a "{value[at]}" in a value')
        out.append(value[at])
        at += 1
    return "".join(out)
