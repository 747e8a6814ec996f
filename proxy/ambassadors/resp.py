r"""Where commands and replies of Redis end: RESP 2 and 3, as far as that question goes. Pure.

Nothing is decoded that need not be: bytes are passed on as they came, and the scanners say where one value ends and the
next begins, wherever the stream was cut. Of a command its first words are kept, for they say where it goes.

    *2\r\n $3\r\nGET\r\n $1\r\nk\r\n    a command: an array of bulk strings; or words in a line ("inline")
    +OK\r\n   :1\r\n   $-1\r\n   *0\r\n    replies that are over with their line
    $5\r\nhello\r\n                    ... with so many bytes more
    *2\r\n ...  %1\r\n ...  ~ >        ... with so many values more (maps have two for each entry)
    |1\r\n ...                        attributes: values that do not count, the real one follows
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_LINE: Final = 1 << 16
MAX_DEPTH: Final = 32
MAX_WORDS: Final = 4
MAX_WORD: Final = 256
"""Bytes of a word that are kept; no command's name is longer."""
MAX_ARGUMENTS: Final = 1 << 20
"""Redis' own limit."""

_SIMPLE = b"+-:_,#("
_BULK = b"$=!"
_AGGREGATE = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}


class ProtocolError(ValueError):
    """What came is not RESP; the stream cannot be followed any further."""


class Piece(NamedTuple):
    """A part of one reply, or all of it."""

    data: bytes
    begins: bool
    ends: bool
    is_push: bool
    """It answers no command (RESP 3)."""


class ReplyScanner:
    """Cuts what a server says into replies."""

    __slots__ = ("_at_start", "_line", "_push", "_skip", "_stack")

    def __init__(self) -> None:
        self._line = b""
        """Of the line that was cut."""
        self._skip = 0
        """Bytes of a bulk string still to come, with its end of line."""
        self._stack: list[int] = []
        """Values still to come, of each aggregate around."""
        self._at_start = True
        self._push = False

    @property
    def is_between(self) -> bool:
        """Nothing of a reply has come that is not over yet."""
        return self._at_start and not self._line

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces of the replies in it, in order. Raises ProtocolError at the place where it makes no sense."""
        start = at = 0
        begins = self.is_between
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                at += step
                self._skip -= step
                over = not self._skip and self._value_over()
            else:
                end = data.find(b"\n", at)
                if end < 0:
                    self._line += data[at:]
                    if len(self._line) > MAX_LINE:
                        raise ProtocolError("too long a line")
                    at = len(data)
                    break
                line = self._line + data[at : end + 1]
                self._line = b""
                at = end + 1
                over = self._read_line(line)
            if over:
                yield Piece(data[start:at], begins, True, self._push)
                start, begins, self._at_start, self._push = at, True, True, False
        if start < len(data):
            yield Piece(data[start:], begins, False, self._push)

    def _read_line(self, line: bytes) -> bool:
        """True: the whole reply is over."""
        if len(line) < 3 or line[-2:] != b"\r\n":
            raise ProtocolError(f"{line[:40]!r} is no line of a reply")
        kind = line[0]
        if self._at_start:
            self._at_start = False
            self._push = kind == ord(">")
        if kind in _SIMPLE:
            return self._value_over()
        count = _number(line[1:-2])
        if kind in _BULK:
            if count < 0:
                return self._value_over()
            self._skip = count + 2
            return False
        factor = _AGGREGATE.get(kind)
        if factor is None:
            raise ProtocolError(f"{line[:40]!r} is no line of a reply")
        if kind == ord("|"):
            self._stack.append(count * 2 + 1)  # the value that they describe stands in their place
        elif count > 0:
            self._stack.append(count * factor)
        else:
            return self._value_over()
        if len(self._stack) > MAX_DEPTH:
            raise ProtocolError("too deeply nested")
        return False

    def _value_over(self) -> bool:
        while self._stack:
            self._stack[-1] -= 1
            if self._stack[-1]:
                return False
            self._stack.pop()
        return True


class Command(NamedTuple):
    """A part of one command, or all of it."""

    words: tuple[bytes, ...]
    """The first words, each cut at 256 bytes; the name in capitals. The same for each part."""
    data: bytes
    begins: bool
    ends: bool


class CommandScanner:
    """Cuts what a client says into commands. A command comes in one piece if it is not larger than `keep` bytes."""

    __slots__ = ("_arguments", "_begun", "_bulk", "_held", "_keep", "_line", "_words")

    def __init__(self, keep: int = 1 << 14) -> None:
        self._keep = keep
        self._line = b""
        self._held = bytearray()
        """Of the current command, what was not handed out yet."""
        self._arguments = -1
        """Still to come; -1: between commands."""
        self._bulk = -1
        """Bytes of the current argument still to come, with its end of line; -1: its line comes first."""
        self._words: list[bytearray] = []
        self._begun = False
        """A part of the current command was handed out."""

    def feed(self, data: bytes) -> Iterator[Command]:
        """The commands in it, in order. Raises ProtocolError."""
        at = 0
        while at < len(data):
            if self._bulk > 0:
                step = min(self._bulk, len(data) - at)
                if len(self._words) <= MAX_WORDS and self._bulk > 2:
                    room = MAX_WORD - len(self._words[-1])
                    self._words[-1] += data[at : at + min(step, self._bulk - 2, room)]
                self._held += data[at : at + step]
                at += step
                self._bulk -= step
                if not self._bulk:
                    if self._held[-2:] != b"\r\n" and not (len(self._held) < 2 and self._begun):
                        raise ProtocolError("an argument does not end where it says")
                    self._bulk = -1
                    self._arguments -= 1
                    if not self._arguments:
                        yield self._hand_out(ends=True)
                        continue
                if len(self._held) > self._keep:
                    yield self._hand_out(ends=False)
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                if len(self._line) > MAX_LINE:
                    raise ProtocolError("too big a line")
                return
            line = self._line + data[at : end + 1]
            self._line = b""
            at = end + 1
            if self._arguments < 0:
                yield from self._first_line(line)
            else:
                self._argument_line(line)

    @property
    def is_within(self) -> bool:
        """A part of a command was handed out, and its end was not."""
        return self._begun

    def rest(self) -> bytes:
        """What has come of a command that is not complete and was not handed out."""
        return bytes(self._held) + self._line

    def _first_line(self, line: bytes) -> Iterator[Command]:
        if line[:1] != b"*":
            if len(line) > MAX_LINE:
                raise ProtocolError("too big a line")
            words = line.split()
            if words:  # Redis answers nothing to an empty line
                self._words = [bytearray(word[:MAX_WORD]) for word in words[:MAX_WORDS]]
                self._held += line
                yield self._hand_out(ends=True)
            return
        count = _number(line[1:].rstrip(b"\r\n"))
        if count > MAX_ARGUMENTS:
            raise ProtocolError("invalid multibulk length")
        if count > 0:  # Redis answers nothing to less
            self._arguments = count
            self._held += line

    def _argument_line(self, line: bytes) -> None:
        if line[:1] != b"$":
            raise ProtocolError(f"expected '$', got {line[:1]!r}")
        size = _number(line[1:].rstrip(b"\r\n"))
        if not 0 <= size <= 1 << 32:
            raise ProtocolError("invalid bulk length")
        self._held += line
        self._bulk = size + 2
        if len(self._words) <= MAX_WORDS:
            self._words.append(bytearray())

    def _hand_out(self, *, ends: bool) -> Command:
        name, *others = self._words[:MAX_WORDS]
        command = Command(
            (bytes(name).upper(), *map(bytes, others)), bytes(self._held), begins=not self._begun, ends=ends
        )
        self._held.clear()
        self._begun = not ends
        if ends:
            self._arguments = -1
            self._words = []
        return command


def _number(text: bytes) -> int:
    if len(text) > 20 or not text.lstrip(b"-").isdigit():
        raise ProtocolError(f"{text[:40]!r} is no number")
    return int(text)
