"""What a text of SQL does to a server and to the connection: as much as is needed to choose a server for it. Pure.

Not a parser: it knows where words, strings and comments of PostgreSQL's SQL begin and end, and a few words. What it
does not know for sure to be a read counts as a write: the mistake costs a little load on the master. The other mistake,
a function that writes behind a SELECT's back, is caught by the replica, which refuses it, and the master is asked then.

    READ    one that keeps nothing at the server: SELECT, VALUES, TABLE, WITH ... SELECT
    WRITE   anything else
    PIN     keeps something with the connection that a replica would not have: SET, PREPARE, LISTEN, temporary tables,
            advisory locks, COPY ...; from then on everything has to go where it was kept
"""

from __future__ import annotations

import itertools
import re
from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """The greater one of several counts."""

    READ = 0
    WRITE = 1
    PIN = 2


_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<number>\$?[0-9][0-9A-Za-z_.]*)
    | (?P<sign>[^'"])
    """,
    re.VERBOSE | re.DOTALL,
)

_READS: Final = frozenset(("select", "values", "table", "with"))
_NO_READ: Final = frozenset(("into", "for", "insert", "update", "delete", "merge"))
"""Anywhere in a statement: SELECT INTO, FOR UPDATE, a WITH that changes something."""
_PINS: Final = frozenset(
    ("call", "copy", "deallocate", "discard", "do", "execute", "listen", "load", "prepare", "reset", "unlisten")
)
_HARMLESS_AFTER_SET: Final = frozenset(("local", "transaction", "constraints"))
_WRITING: Final = frozenset(("nextval", "setval", "currval", "lastval", "txid_current"))
_PINNING: Final = ("set_config", "dblink", "pg_advisory", "pg_try_advisory")
"""Beginnings of names of functions that keep something with the connection."""
_FINE: Final = frozenset(("pg_is_in_recovery", "pg_sleep", "pg_typeof"))


def classify(text: str) -> Kind:
    """What all the statements of a text do, together."""
    kind = Kind.READ
    statement: list[str] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:  # a string or an identifier without its end: the server will say so
            return max(kind, Kind.WRITE)
        place = match.end()
        group, token = match.lastgroup, match.group()
        if group == "comment":
            place = _end_of_comment(text, place)
        elif group == "dollar":
            end = text.find(token, place)
            if end < 0:
                return max(kind, Kind.WRITE)
            place = end + len(token)
            statement.append("''")
        elif group == "string":
            if "\\" in token:  # its end depends on a setting of the server
                return Kind.PIN
            statement.append("''")
        elif token == ";":
            kind = max(kind, _of_statement(statement))
            statement = []
        elif group == "word":
            statement.append(token.lower())
        elif group == "quoted":
            statement.append('"')
        elif group == "sign":
            statement.append(token)
        elif group in ("escaped", "number"):
            statement.append("''")
    return max(kind, _of_statement(statement))


def _end_of_comment(text: str, place: int) -> int:
    """Comments nest. Without its end, it goes on to the end of the text."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, place):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _of_statement(words: list[str]) -> Kind:
    while words and words[0] == "(":
        words = words[1:]
    if not words:
        return Kind.READ
    first = words[0]
    called = [name for name, after in itertools.pairwise(words) if after == "("]
    if first in _PINS or any(name.startswith(_PINNING) for name in called):
        return Kind.PIN
    if first == "set":
        return Kind.WRITE if words[1:2] and words[1] in _HARMLESS_AFTER_SET else Kind.PIN
    if first == "declare":
        return Kind.PIN if "hold" in words else Kind.WRITE
    if first == "create" or "into" in words:
        return Kind.PIN if {"temp", "temporary"} & set(words) else Kind.WRITE
    if first not in _READS or _NO_READ & set(words):
        return Kind.WRITE
    if any(name == '"' or name in _WRITING or _is_of_the_server(name) for name in called):
        return Kind.WRITE
    return Kind.READ


def _is_of_the_server(name: str) -> bool:
    """Functions that say or do something with the very server that is asked."""
    return name.startswith(("pg_", "lo_")) and name not in _FINE
