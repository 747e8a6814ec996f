"""JSONPath as definitions of kinds use it: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.

    path = parse('.spec.hosts[0]')        once, when a definition is read
    values = path.find(data)              all that it leads to, in order; nothing for what is not there

The subset that has a meaning for columns and paths of subresources:

    .name   ['name']   ["name"]           a field; a dot in it is written \\.
    [0]   [-1]   [1:3]                    items of a list
    [*]   .*                              all of them, or all fields
    ..name                                a field at any depth
    [?(@.type=="Ready")]                  items for which that holds: == != < <= > >=, or that have it: [?(@.type)]

Whatever it is given, `find` does not fail; what it visits is bounded by the size of the data. `parse` takes time as the
length of the path. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

Step: TypeAlias = Callable[[Any], Iterable[Any]]
"""From a value to those that one step leads to."""

MAX_LENGTH = 1000
MAX_FOUND = 10_000
"""Values; of what is more, the first."""

_NAME = re.compile(r"(?:\\.|[^.\[\]\\'\"(){}\s])+")
_QUOTED = re.compile(r"\s*(?:'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\")\s*")
_INDEX = re.compile(r"\s*(-?\d{1,9})\s*")
_SLICE = re.compile(r"\s*(?:(-?\d{1,9})\s*)?:\s*(?:(-?\d{1,9})\s*)?")
_OPERATOR = re.compile(r"==|!=|<=|>=|<|>")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path that was understood."""

    text: str
    steps: tuple[Step, ...]
    names: tuple[str, ...] | None
    """The fields on the way, if it is made of nothing else."""

    def find(self, data: Any) -> list[Any]:
        """See the head of this file."""
        found = [data]
        for step in self.steps:
            found = list(islice((value for each in found for value in step(each)), MAX_FOUND))
        return found

    def first(self, data: Any) -> Any:
        """The first of them; None if there is none."""
        if self.names is None:
            return next(iter(self.find(data)), None)
        for name in self.names:  # what most paths are, ten times as fast
            if not isinstance(data, dict):
                return None
            data = data.get(name)
        return data


def parse(text: str) -> JsonPath:
    """Raises ValueError, with what is wrong, for what is not of that subset."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the path is longer than {MAX_LENGTH} characters")
    stripped = text.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        stripped = stripped[1:-1].strip()
    stripped = stripped.removeprefix("$")
    if not stripped:
        raise ValueError("the path is empty")
    steps: list[Step] = []
    names: list[str] | None = []
    at = 0
    while at < len(stripped):
        if stripped[at] == ".":
            deep = stripped.startswith("..", at)
            at += 2 if deep else 1
            if deep:
                steps.append(_descendants)
                names = None
            if stripped.startswith("*", at):
                steps.append(_every)
                names, at = None, at + 1
                continue
            if deep and stripped.startswith("[", at):
                continue
            name = _NAME.match(stripped, at)
            if name is None:
                if at == len(stripped) and not deep and not steps:
                    break  # "." is the whole
                raise ValueError(f'a name is expected after "{stripped[:at][-20:]}"')
            at = name.end()
            field = re.sub(r"\\(.)", r"\1", name[0])
            steps.append(_field(field))
            names = None if names is None else [*names, field]
        elif stripped[at] == "[":
            end = _closing(stripped, at)
            step, field_ = _bracket(stripped[at + 1 : end])
            steps.append(step)
            names = None if names is None or field_ is None else [*names, field_]
            at = end + 1
        else:
            raise ValueError(f'"." or "[" is expected at "{stripped[at : at + 20]}"')
    return JsonPath(text, tuple(steps), tuple(names) if names else None)


def _closing(text: str, at: int) -> int:
    """Where the bracket at that place is closed; brackets in quotes do not count. Raises ValueError."""
    depth, quote = 0, ""
    place = at
    while place < len(text):
        char = text[place]
        if quote:
            if char == "\\":
                place += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if not depth:
                return place
        place += 1
    raise ValueError('a "[" is not closed')


def _bracket(inside: str) -> tuple[Step, str | None]:
    """The step, and the name of the field if it is one. Raises ValueError."""
    if inside.strip() == "*":
        return _every, None
    if (quoted := _QUOTED.fullmatch(inside)) is not None:
        name = re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2])
        return _field(name), name
    if (index := _INDEX.fullmatch(inside)) is not None:
        return _item(int(index[1])), None
    if (bounds := _SLICE.fullmatch(inside)) is not None:
        return _items(slice(*(int(each) if each else None for each in bounds.groups()))), None
    if (condition := _condition(inside)) is not None:
        return _filter(*condition), None
    raise ValueError(f'"[{inside[:40]}]" is not understood')


def _condition(inside: str) -> tuple[str, str | None, str | None] | None:
    """The path, the operator and what it is compared with, of `?(@.type=="Ready")`; None: that is no filter.

    By hand: a regular expression for it takes half a minute for a path that is full of spaces.
    """
    text = inside.strip()
    if not text.startswith("?"):
        return None
    text = text[1:].lstrip()
    if not (text.startswith("(") and text.endswith(")")):
        return None
    text = text[1:-1].strip()
    if not text.startswith("@"):
        return None
    at = 1
    while at < len(text):
        if text[at] == "[":  # a filter of its own, or a name in quotes
            at = _closing(text, at)
        elif (operator := _OPERATOR.match(text, at)) is not None:
            return text[1:at].strip(), operator[0], text[operator.end() :].strip()
        at += 1
    return text[1:].strip(), None, None


def _field(name: str) -> Step:
    def step(value: Any) -> Iterable[Any]:
        return (value[name],) if isinstance(value, dict) and name in value else ()

    return step


def _item(index: int) -> Step:
    def step(value: Any) -> Iterable[Any]:
        return (value[index],) if isinstance(value, list) and -len(value) <= index < len(value) else ()

    return step


def _items(bounds: slice) -> Step:
    def step(value: Any) -> Iterable[Any]:
        return value[bounds] if isinstance(value, list) else ()

    return step


def _every(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _descendants(value: Any) -> Iterable[Any]:
    """The value, and all that is in it, outside first."""
    found, level = [value], [value]
    while level and len(found) < MAX_FOUND:
        level = [inner for each in level for inner in _every(each)]
        found += level
    return found


def _filter(path: str, operator: str | None, operand: str | None) -> Step:
    wanted_path = parse(path) if path else None
    wanted = _literal(operand) if operand is not None else None

    def holds(item: Any) -> bool:
        values = wanted_path.find(item) if wanted_path is not None else [item]
        if operator is None:
            return bool(values)
        return any(_compare(value, operator, wanted) for value in values)

    def step(value: Any) -> Iterable[Any]:
        return [item for item in value if holds(item)] if isinstance(value, list) else ()

    return step


def _literal(text: str) -> Any:
    if (quoted := _QUOTED.fullmatch(text)) is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1] if quoted[1] is not None else quoted[2])
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'"{text[:40]}" is no text in quotes, no number, and neither true nor false') from None


def _compare(value: Any, operator: str, wanted: Any) -> bool:
    if isinstance(value, bool) is not isinstance(wanted, bool):
        return operator == "!="
    if operator == "==":
        return bool(value == wanted)
    if operator == "!=":
        return bool(value != wanted)
    both = (isinstance(value, str) and isinstance(wanted, str)) or (
        isinstance(value, int | float) and isinstance(wanted, int | float)
    )
    if not both:
        return False
    return bool({"<": value < wanted, "<=": value <= wanted, ">": value > wanted, ">=": value >= wanted}[operator])
