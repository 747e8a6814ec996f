"""Structured logs on standard error: text for a terminal, JSON lines otherwise.

Values that users chose (names, messages, commands) never reach the stream raw: JSON escapes them, and in text control
characters are shown as escapes, so that a log line cannot be forged and a terminal not be steered.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog


def setup(name: str, level: str = "info", *, json_lines: bool | None = None, stream: TextIO | None = None) -> None:
    """Sets up logging for this process, also of libraries that use `logging`. Default form: by what the stream is."""
    out = stream or sys.stderr
    as_json = not out.isatty() if json_lines is None else json_lines
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(name, as_json))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("podium").setLevel(number)


def get_logger(name: str) -> Any:
    """A structlog logger: `log.info("what happened", key=value)`."""
    logger = logging.getLogger(f"podium.{name}")
    return structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, structlog.processors.ExceptionPrettyPrinter(), _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _to_record(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """The logging call that structlog makes: the message, and the pairs in `extra`."""
    message = str(event.pop("event", ""))
    error = event.pop("exc_info", None)
    call: dict[str, Any] = {"extra": {"pairs": dict(event)}}
    if error:
        call["exc_info"] = error
    return (message,), call


class _Formatter(logging.Formatter):
    def __init__(self, name: str, as_json: bool) -> None:
        super().__init__()
        self._name = name
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pairs: Mapping[str, Any] = getattr(record, "pairs", {})
        message = record.getMessage()
        error = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if self._as_json:
            document = {
                "time": time,
                "level": record.levelname.lower(),
                "daemon": self._name,
                "logger": record.name.removeprefix("podium."),
                "message": message,
                **{key: value if isinstance(value, int | float | bool) else str(value) for key, value in pairs.items()},
            }
            if error:
                document["error"] = error
            return json.dumps(document, ensure_ascii=True)
        words = "".join(f" {key}={_escape(str(value))}" for key, value in pairs.items())
        line = f"{time} {record.levelname.lower():<7} {record.name.removeprefix('podium.')}: {_escape(message)}{words}"
        return f"{line}\n{error}" if error else line


def _escape(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
