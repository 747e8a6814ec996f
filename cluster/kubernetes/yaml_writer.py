"""JSON's values as YAML, for those who prefer to read that: application/yaml.

It says what JSON says: nothing has a form in YAML only. As in Kubernetes, keys are sorted. Texts of several lines stand
as they are (`|`), and a text that any reader of YAML could take for something else is in quotes. Readers differ: "1e5"
is a number to Go and to YAML 1.2, and none to the library that writes here; "08" is one to Go alone; "y" is true in
YAML 1.1. So what is in quotes is what any of them would misread.

The library takes thirty times as long as it takes to write JSON. So a document comes in pieces of about AT_ONCE values,
and whoever puts them together can look at what else there is to do in between. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import yaml

AT_ONCE = 100
"""Values of which one piece is made: about a millisecond."""
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TEXT = "tag:yaml.org,2002:str"
_MISREAD = "tag:podium.dev:misread"
"""Not a text's own tag: what seems to be of it gets quotes."""
_WIDE = 1 << 30
"""No line is broken: whoever reads it may do that."""
_NUMBER = re.compile(
    r"""[-+]?(?:
        \.?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9_]+)?
        |0[oO][0-7_]+
        |0[xX][0-9a-fA-F_]+
        |0[bB][01_]+
        |[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}.*
    )""",
    re.VERBOSE | re.DOTALL,
)
_NOT_PLAIN = re.compile("[\x85\u2028\u2029\ufeff]")
"""Ends of lines to some readers, and none to others; and what is passed over where a text begins."""
_AS_IT_STANDS = re.compile(r"[^\s](?:.*[^\s])?(?:\n+.*[^\s])*\n?")
"""Lines that a block keeps as they are: the first does not begin with space, none ends with it, and no empty ones are
the last."""
_LINE = re.compile(r"^(?=.)", re.MULTILINE)


class _Writer(_Dumper):  # type: ignore[misc]
    """Of plain values: lists, objects, texts, numbers, true, false and null."""

    def ignore_aliases(self, data: Any) -> bool:
        """The same thing twice is written twice: aliases are what careful readers refuse."""
        return True


def _text(writer: Any, text: str) -> Any:
    style = None
    if _NOT_PLAIN.search(text):
        style = '"'
    elif "\n" in text:
        style = "|" if _AS_IT_STANDS.fullmatch(text) else '"'
    return writer.represent_scalar(_TEXT, text, style=style)


_Writer.add_representer(str, _text)
_Writer.add_implicit_resolver(_MISREAD, re.compile(rf"(?:{_NUMBER.pattern})\Z", _NUMBER.flags), list("-+.0123456789"))
_Writer.add_implicit_resolver(_MISREAD, re.compile(r"[yYnN]\Z"), list("yYnN"))


def pieces(value: dict[str, Any] | list[Any]) -> Iterator[bytes]:
    """A document, which is these one after the other."""
    for text in _pieces(value):
        yield text.encode()


def items(encoded: list[bytes]) -> Iterator[bytes]:
    """Items of a list that are there as JSON, as they stand below its key."""
    for item in encoded:
        yield from pieces([orjson.loads(item)])


def around(document: bytes, key: str, *, is_empty: bool) -> tuple[bytes, bytes]:
    """What comes before and after the items at `key` of a document, which is given in JSON and without them; or with
    none, if it is to have none."""
    data: dict[str, Any] = orjson.loads(document)
    before = {name: value for name, value in data.items() if name < key}
    after = {name: value for name, value in data.items() if name > key}
    head, tail = (_dump(part) if part else "" for part in (before, after))
    return f"{head}{key}:{' []' if is_empty else ''}\n".encode(), tail.encode()


def _dump(value: dict[str, Any] | list[Any]) -> str:
    text: str = yaml.dump(value, Dumper=_Writer, default_flow_style=False, allow_unicode=True, width=_WIDE)
    return text


def _pieces(value: dict[str, Any] | list[Any]) -> Iterator[str]:
    """Of an object, runs of small entries, and large ones in pieces of their own; so of a list."""
    if _size(value) <= AT_ONCE:
        yield _dump(value)
    elif isinstance(value, dict):
        run: dict[str, Any] = {}
        room = AT_ONCE
        for key, part in sorted(value.items()):
            size = _size(part)
            if run and size > room:
                yield _dump(run)
                run, room = {}, AT_ONCE
            if size <= AT_ONCE:
                run[key] = part
                room -= size
            elif isinstance(part, dict):
                yield _dump({key: 0}).removesuffix(" 0\n") + "\n"
                yield from map(_indented, _pieces(part))
            else:
                yield _dump({key: 0}).removesuffix(" 0\n") + "\n"
                yield from _pieces(part)
        if run:
            yield _dump(run)
    else:
        several: list[Any] = []
        room = AT_ONCE
        for part in value:
            size = _size(part)
            if several and size > room:
                yield _dump(several)
                several, room = [], AT_ONCE
            if size <= AT_ONCE:
                several.append(part)
                room -= size
            else:
                first, *others = _pieces(part)
                yield "- " + _indented(first).removeprefix("  ")
                yield from map(_indented, others)
        if several:
            yield _dump(several)


def _indented(text: str) -> str:
    return _LINE.sub("  ", text)


def _size(value: Any, most: int = 0) -> int:
    """About how many values there are in this one, itself included; no more than AT_ONCE + 1 are counted."""
    most = most or AT_ONCE + 1
    if not isinstance(value, dict | list):
        return 1
    size = 1
    for part in value.values() if isinstance(value, dict) else value:
        if size >= most:
            break
        size += _size(part, most - size)
    return size
