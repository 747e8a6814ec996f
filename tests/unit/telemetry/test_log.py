"""Logs: who is heard, in which form, and that nobody's text can pass for ours."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.telemetry import log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's: pytest gets its own back."""
    names = ("", *log.OUR_LOGGERS)
    levels = [logging.getLogger(name).level for name in names]
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def json_lines(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    log.setup("master", level, stream=stream)
    return stream


def documents(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_unless_it_is_a_terminal() -> None:
    stream = json_lines()
    log.get_logger("store").info("opened", revision=7, path="/x", ok=True, none=None, odd=float("nan"), other=[1])
    (document,) = documents(stream)
    assert document.pop("time").endswith("Z")
    head = {"level": "info", "daemon": "master", "logger": "store", "message": "opened"}
    assert document == head | {
        "revision": 7,
        "path": "/x",
        "ok": True,
        "none": None,
        "odd": "nan",
        "other": "[1]",
    }


def test_text_on_a_terminal() -> None:
    stream = Terminal()
    log.setup("master", stream=stream)
    log.get_logger("store").warning("slow", took_s=1.5)
    assert stream.getvalue().split(" ", 1)[1] == "warning store: slow took_s=1.5\n"


def test_positional_arguments_and_percent_signs() -> None:
    stream = json_lines()
    log.get_logger("x").info("%d of %s", 3, "pods")
    log.get_logger("x").info("100% done, %s")
    assert [document["message"] for document in documents(stream)] == ["3 of pods", "100% done, %s"]


def test_a_traceback_goes_to_the_log_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    stream = json_lines()
    try:
        raise ValueError("oh")
    except ValueError as error:
        log.get_logger("x").exception("failed")
        log.get_logger("x").error("failed", exc_info=error)
    for document in documents(stream):
        assert document["message"] == "failed"
        assert document["traceback"].endswith("ValueError: oh")
    assert capsys.readouterr() == ("", "")


def test_what_the_log_says_cannot_be_overwritten() -> None:
    stream = json_lines()
    log.get_logger("x").info("real", message="forged", level="forged")
    (document,) = documents(stream)
    assert (document["message"], document["message_"]) == ("real", "forged")
    assert (document["level"], document["level_"]) == ("info", "forged")


def test_no_text_can_forge_a_line_or_steer_a_terminal() -> None:
    evil = "x\n2026-01-01 error master: hacked \x1b[2J\u202e\r"
    for stream in (io.StringIO(), Terminal()):
        log.setup("master", stream=stream)
        log.get_logger("x").info(evil, name=evil)
        try:
            raise ValueError(evil)
        except ValueError:
            log.get_logger("x").exception("failed")
        text = stream.getvalue()
        assert not set(text) & set("\x1b\u202e\r")
        ours = [line for line in text.splitlines() if not line.startswith("    ")]
        assert len(ours) == 2, "each call starts one line; what follows is indented"


def test_our_modules_are_heard_at_the_level_and_libraries_from_warnings_up() -> None:
    stream = json_lines("debug")
    for name in ("podium.store", "cluster.client.informer", "node_agent.x", "proxy.x", "grpc"):
        logging.getLogger(name).debug(name)
    logging.getLogger("grpc").warning("grpc warns")
    heard = [document["message"] for document in documents(stream)]
    assert heard == ["podium.store", "cluster.client.informer", "node_agent.x", "proxy.x", "grpc warns"]


def test_below_the_level_nothing_is_heard() -> None:
    stream = json_lines("error")
    log.get_logger("x").warning("not heard")
    logging.getLogger("cluster.x").warning("not heard")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="known are debug, info, warning, error"):
        log.setup("master", "loud")
