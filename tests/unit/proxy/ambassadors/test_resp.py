"""Where commands and replies end, wherever the stream is cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.ambassadors.resp import CommandScanner, ProtocolError, ReplyScanner

TEXT = st.binary(max_size=40)
LINE = st.from_regex(rb"\A[a-z ]{0,20}\Z")
SIMPLE = st.one_of(
    st.builds(lambda kind, text: kind + text + b"\r\n", st.sampled_from([b"+", b"-", b"(", b","]), LINE),
    st.builds(lambda number: b":%d\r\n" % number, st.integers(-99, 99)),
    st.builds(lambda kind, text: b"%s%d\r\n%s\r\n" % (kind, len(text), text), st.sampled_from([b"$", b"="]), TEXT),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"%0\r\n", b"_\r\n", b"#t\r\n"]),
)


def aggregates(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    kinds = st.sampled_from([b"*", b"~"])
    several = st.lists(inner, min_size=1, max_size=4)
    pairs = st.lists(st.tuples(inner, inner), min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda kind, of: b"%s%d\r\n" % (kind, len(of)) + b"".join(of), kinds, several),
        st.builds(lambda parts: b"%%%d\r\n" % len(parts) + b"".join(a + b for a, b in parts), pairs),
        st.builds(lambda parts, it: b"|%d\r\n" % len(parts) + b"".join(a + b for a, b in parts) + it, pairs, inner),
    )  # fmt: skip


REPLY = st.recursive(SIMPLE, aggregates, max_leaves=8)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """The same bytes in pieces."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    for start, end in itertools.pairwise(edges):
        yield data[start:end]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(REPLY, max_size=6), PLACES)
def test_replies_are_whole_wherever_they_are_cut(replies: list[bytes], places: list[int]) -> None:
    scanner = ReplyScanner()
    found, current = [], b""
    for part in cut(b"".join(replies), places):
        for piece in scanner.feed(part):
            assert piece.begins == (current == b"")
            current += piece.data
            if piece.ends:
                found.append(current)
                current = b""
    assert found == replies
    assert current == b""
    assert scanner.is_between


WORDS = st.lists(st.binary(max_size=300), min_size=1, max_size=7)


def command(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@given(st.lists(WORDS, max_size=5), PLACES, st.integers(1, 400))
def test_commands_are_whole_wherever_they_are_cut(commands: list[list[bytes]], places: list[int], keep: int) -> None:
    scanner = CommandScanner(keep)
    found, current = [], b""
    for part in cut(b"".join(map(command, commands)), places):
        for piece in scanner.feed(part):
            assert piece.begins == (current == b"")
            current += piece.data
            if piece.ends:
                found.append((piece.words, current))
                current = b""
    assert scanner.rest() == b""
    assert not scanner.is_within
    assert found == [
        ((words[0][:256].upper(), *(word[:256] for word in words[1:4])), command(words)) for words in commands
    ]


@given(st.lists(WORDS, min_size=1, max_size=3), st.integers(0, 2000))
def test_what_was_not_handed_out_can_be_had(commands: list[list[bytes]], place: int) -> None:
    data = b"".join(map(command, commands))
    said = data[: place % len(data)]
    scanner = CommandScanner()
    assert b"".join(piece.data for piece in scanner.feed(said)) + scanner.rest() == said


def test_inline_commands() -> None:
    said = b"  get  key \r\n\r\nPING\n*0\r\n"
    assert [(piece.words, piece.data) for piece in CommandScanner().feed(said)] == [
        ((b"GET", b"key"), b"  get  key \r\n"),
        ((b"PING",), b"PING\n"),
    ]


def test_a_large_command_comes_in_parts() -> None:
    scanner = CommandScanner(100)
    said = command([b"SET", b"key", b"x" * 1000])
    parts = [piece for start in range(0, len(said), 64) for piece in scanner.feed(said[start : start + 64])]
    assert b"".join(part.data for part in parts) == said
    assert len(parts) > 5
    assert max(len(part.data) for part in parts) <= 100 + 64
    assert [part.begins for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [part.ends for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(part.words[:2] == (b"SET", b"key") for part in parts)


@pytest.mark.parametrize(
    "said",
    [b"*x\r\n", b"*1\r\n+OK\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$x\r\n", b"*2000000\r\n", b"*1\r\n$2\r\nabcd",
     b"x" * 70_000, b"*1\r\n$99999999999\r\n", b"x" * 70_000 + b"\r\n"],
)  # fmt: skip
def test_what_is_no_command(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(CommandScanner().feed(said))


@pytest.mark.parametrize("said", [b"hello\r\n", b"\r\n", b"$x\r\n", b"*1\r\n" * 40, b"+" + b"x" * 70_000, b"+OK\n"])
def test_what_is_no_reply(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(ReplyScanner().feed(said))


def test_pushes_are_no_answers() -> None:
    pieces = list(ReplyScanner().feed(b">2\r\n+message\r\n+x\r\n+OK\r\n"))
    assert [(piece.data, piece.is_push) for piece in pieces] == [
        (b">2\r\n+message\r\n+x\r\n", True),
        (b"+OK\r\n", False),
    ]
