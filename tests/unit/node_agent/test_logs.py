"""Writing logs that rotate, and reading them while they do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.log_file import LogFile
from node_agent.runtime.logs import LogReader, log_path, next_log, parts_of, remove_old_logs


def read_all(path: Path, tail: int | None = None) -> bytes:
    reader, data = LogReader(path, tail), b""
    while piece := reader.read():
        data += piece
    reader.close()
    return data


def test_rotation_keeps_the_newest_parts(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_bytes=10, files=3)
    for number in range(6):
        log.write(b"line %03d\n\n" % number, 1.0)
    log.close()
    assert [part.name for part in parts_of(path)] == ["0.log.2", "0.log.1", "0.log"]
    assert read_all(path) == b"line 003\n\nline 004\n\nline 005\n\n"


@pytest.mark.parametrize("files", [1, 2])
def test_few_files(tmp_path: Path, files: int) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_bytes=4, files=files)
    for piece in (b"aaaa", b"bbbb", b"cccc"):
        log.write(piece, 1.0)
    log.close()
    assert read_all(path) == b"aaaabbbbcccc"[-4 * files :]


@settings(max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=0, max_size=30), st.integers(0, 30), st.integers(8, 60))
def test_tail_is_what_tail_says(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], tail: int, limit: int
) -> None:
    path = tmp_path_factory.mktemp("logs") / "0.log"
    log = LogFile(str(path), max_bytes=limit, files=100)
    content = b"".join(b"x" * length + b"\n" for length in lengths)
    for length in lengths:
        log.write(b"x" * length + b"\n", 1.0)
    log.close()
    assert read_all(path) == content
    assert read_all(path, tail) == b"".join(content.splitlines(keepends=True)[-tail:] if tail else [])


def test_tail_of_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"one\ntwo\nthr")
    assert read_all(path, 2) == b"two\nthr"
    assert read_all(path, 9) == b"one\ntwo\nthr"


def test_following_through_rotations_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), max_bytes=50, files=3)
    reader, seen, written = LogReader(path), b"", b""
    for number in range(200):
        line = b"line %d\n" % number
        log.write(line, 1.0)
        written += line
        if number % 7 == 0:
            while piece := reader.read():
                seen += piece
    while piece := reader.read():
        seen += piece
    assert seen == written
    reader.close()
    log.close()


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    reader = LogReader(path)
    assert reader.read() == b""
    path.write_bytes(b"now\n")
    assert reader.read() == b"now\n"
    assert reader.read() == b""
    reader.close()


def test_logs_of_this_run_and_the_one_before_are_kept(tmp_path: Path) -> None:
    for run in range(4):
        path = log_path(tmp_path, "c", run)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.with_name(path.name + ".1").touch()
    remove_old_logs(tmp_path, "c", 4)
    assert sorted(file.name for file in (tmp_path / "logs" / "c").iterdir()) == ["3.log", "3.log.1"]


def test_the_log_of_the_run_that_came_next(tmp_path: Path) -> None:
    for restarts in (9, 10, 12):
        path = log_path(tmp_path, "main", restarts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path.with_name("10.log.1").touch()
    assert next_log(log_path(tmp_path, "main", 9)) == log_path(tmp_path, "main", 10)
    assert next_log(log_path(tmp_path, "main", 10)) == log_path(tmp_path, "main", 12), "that of 11 is not kept"
    assert next_log(log_path(tmp_path, "main", 12)) is None
