"""YAML from strangers, read safely: plain data, and the line of every part of it.

A YAML loader composes whatever it is given: 300 bytes of aliases become a billion nodes, 200 kB of "[" end the process
in the C loader's recursion. So the parser's events are walked one by one (the parser keeps its own stack on the heap),
counted against the limits, and turned into lists and dictionaries here, without recursion. Aliases are refused; anchors
nobody refers to are harmless.

Plain words mean what they mean in YAML 1.2: only true and false are booleans; no, on and 12:30:45 are strings. A number
with a leading zero (010: eight in YAML 1.1, ten in 1.2) is left a string, so that it can't silently become the wrong
one. Keys are always strings, as written. A key that comes twice is noted, and reading goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
TOO_DEEP = f"this is nested too deeply; the most is {MAX_DEPTH} levels"
MAX_NODES = 100_000
MAX_DUPLICATES = 100
"""Noted of each document; more would only bury the first ones."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"

_null = re.compile(r"|~|null|Null|NULL")
_true = re.compile(r"true|True|TRUE")
_false = re.compile(r"false|False|FALSE")
_integer = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,39})")
_based_integer = re.compile(r"0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_leading_zero = re.compile(r"[-+]?0[0-9]+")
_float = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_step = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


class Refused(Exception):
    """The text breaks a limit or is no YAML; nothing of it can be used."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(slots=True)
class Lines:
    """Where a value stands, and where its parts do, by key or index. An entry stands where its key does."""

    line: int
    parts: dict[str, Lines] = field(default_factory=dict)

    def find(self, path: str) -> int:
        """The line of a path such as spec.containers[0].name; of the last part of it that exists."""
        return self.at(path).line

    def at(self, path: str) -> Lines:
        """The lines of the part that the path leads to, as far as it exists."""
        here = self
        for step in _step.findall(path):
            part = here.parts.get(step.strip("[]"))
            if part is None:
                break
            here = part
        return here


class Duplicate(NamedTuple):
    """A key that came twice; the last one counts."""

    line: int
    path: str
    message: str
    key: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its data, where its parts stand, and the keys that came twice."""

    data: Any
    lines: Lines
    duplicates: list[Duplicate]


@dataclass(slots=True)
class _Frame:
    """A list or dictionary under construction."""

    value: dict[str, Any] | list[Any]
    lines: Lines
    key: str | None = None
    """Of the entry whose value comes next; None: a key comes next."""
    key_line: int = 0
    latest: str = ""
    """How the path goes on to the latest entry."""


def read_yaml(text: str, loader: Any = _LOADER) -> list[Document]:
    """The documents of a text, empty ones left out. Raises Refused."""
    try:
        return list(_Composer().compose(yaml.parse(text, Loader=loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        if "nesting depth" in (error.problem or ""):
            # libyaml looks ahead, and newer ones have a limit of their own, which a long run of "[" meets before ours.
            raise Refused(line, TOO_DEEP) from error
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise Refused(line, f"this is not YAML: {what}") from error
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        raise Refused(text.count("\n", 0, position) + 1, f"this is not YAML: {error.reason}") from error
    except yaml.YAMLError as error:
        raise Refused(1, f"this is not YAML: {error}") from error


class _Composer:
    """From events to data, with a stack of its own."""

    def __init__(self) -> None:
        self._stack: list[_Frame] = []
        self._nodes = 0
        self._root: tuple[Any, Lines] | None = None
        self._duplicates: list[Duplicate] = []

    def compose(self, events: Iterable[Any]) -> Iterable[Document]:
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.ScalarEvent):
                self._count(line)
                self._scalar(event, line)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._count(line)
                self._open(event, line)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._stack.pop()
            elif isinstance(event, yaml.AliasEvent):
                raise Refused(line, f'aliases are not allowed here ("*{event.anchor or "":.40}"): write the value out')
            elif isinstance(event, yaml.DocumentEndEvent) and self._root is not None:
                data, lines = self._root
                if data is not None:
                    yield Document(data, lines, self._duplicates)
                self._root, self._duplicates = None, []

    def _count(self, line: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Refused(line, f"this has more than {MAX_NODES} values; the most is {MAX_NODES}")

    def _open(self, event: Any, line: int) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise Refused(line, TOO_DEEP)
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}map" if mapping else f"{_TAG}seq"):
            raise Refused(line, f"the tag {event.tag[:80]} is not allowed here")
        frame = _Frame({} if mapping else [], Lines(line))
        frame.lines = self._add(frame.value, line)
        self._stack.append(frame)

    def _scalar(self, event: Any, line: int) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            word: str = event.value
            if word in frame.value and len(self._duplicates) < MAX_DUPLICATES:
                message = f"the key is there twice; first in line {frame.lines.parts[word].line}"
                self._duplicates.append(Duplicate(line, self._path(word), message, word[:80]))
            frame.key, frame.key_line = word, line
        else:
            self._add(_resolve(event, line), line)

    def _add(self, value: Any, line: int) -> Lines:
        """Puts a value where it belongs, and returns the place of its lines."""
        if not self._stack:
            self._root = (value, Lines(line))
            return self._root[1]
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            lines = frame.lines.parts[str(len(frame.value))] = Lines(line)
            frame.latest = f"[{len(frame.value)}]"
            frame.value.append(value)
            return lines
        if frame.key is None:
            raise Refused(line, "a key must be a word, not a list or an object")
        key = frame.key
        frame.key = None
        lines = frame.lines.parts[key] = Lines(frame.key_line)
        frame.value[key] = value
        frame.latest = f".{key[:80]}"
        return lines

    def _path(self, key: str) -> str:
        """The path of a key of the innermost object."""
        return "".join([*(frame.latest for frame in self._stack[:-1]), f".{key[:80]}"]).removeprefix(".")


def _resolve(event: Any, line: int) -> Any:
    """The value of a scalar by YAML 1.2's core schema."""
    text: str = event.value
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return _plain(text) if tag is None and event.implicit[0] and not event.style else text
    if tag == f"{_TAG}str":
        return text
    value = _plain(text)
    expected = {f"{_TAG}int": int, f"{_TAG}float": float, f"{_TAG}bool": bool, f"{_TAG}null": type(None)}.get(tag)
    if expected is None or type(value) is not expected:
        raise Refused(line, f"the tag {tag[:80]} is not allowed here")
    return value


def _plain(text: str) -> Any:
    if _null.fullmatch(text):
        return None
    if _true.fullmatch(text):
        return True
    if _false.fullmatch(text):
        return False
    if _integer.fullmatch(text):
        return int(text)
    if _based_integer.fullmatch(text):
        return int(text, 0)
    if _float.fullmatch(text) and not _leading_zero.fullmatch(text):
        return float(text)
    return text
