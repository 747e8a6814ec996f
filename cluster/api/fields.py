"""Field selectors: choosing objects by a few fields, such as "spec.nodeName=node-1,status.phase!=Running".

Unlike labels, only the fields in the table below can be asked for, per kind; the same ones as in Kubernetes. An absent
field is the empty string. The terms with "=" are in `equals`, so that the master can answer from an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from cluster.api.errors import BadRequest
from cluster.api.kinds import AnyObject

_EVERY_KIND = ("metadata.name", "metadata.namespace")
SUPPORTED: dict[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName",
        "status.phase",
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    ),
    "Node": ("spec.unschedulable",),
    "CustomObject": ("resource",),
}
"""What can be asked of each kind, besides its name and namespace."""


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


def parse_field_selector(kind_name: str, text: str) -> FieldSelector:
    """Reads terms "path=value", "path==value", "path!=value", separated by commas; "\\" escapes "," "=" and itself.

    Raises BadRequest, naming the fields that the kind supports.
    """
    return FieldSelector(tuple(_term(kind_name, term, text) for term in _split(text) if term.strip()))


def paths_in(text: str) -> list[str]:
    """The fields that a selector asks for, whether they are supported or not."""
    return [re.split("!=|==|=", term, maxsplit=1)[0].strip() for term in _split(text) if term.strip()]


def _term(kind_name: str, term: str, text: str) -> _Term:
    for sign in ("!=", "==", "="):
        path, found, value = term.partition(sign)
        if found:
            break
    else:
        raise BadRequest(f'field selector "{text[:200]}": "{term[:80]}" is not of the form field=value or field!=value')
    path = path.strip()
    supported = supported_fields(kind_name)
    if path not in supported:
        raise BadRequest(
            f'field selector "{text[:200]}": "{path[:80]}" is not supported for {kind_name};'
            f" supported are {', '.join(supported)}"
        )
    return _Term(path, _unescape(value.strip(), text), sign != "!=", attrgetter(path))


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
