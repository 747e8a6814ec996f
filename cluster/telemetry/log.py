"""Structured logs on standard error: text for a terminal, JSON lines otherwise.

Values that users chose (names, messages, commands) never reach the stream raw: JSON escapes them, and in text control
characters are shown as escapes, so that a log line cannot be forged and a terminal not be steered.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

OUR_LOGGERS = ("podium", "cluster", "node_agent", "proxy")
"""Roots of the names that our modules log under, be it through `get_logger` or `logging.getLogger(__name__)`."""


def setup(name: str, level: str = "info", *, json_lines: bool | None = None, stream: TextIO | None = None) -> None:
    """Sets up logging for this process. Default form: text if the stream is a terminal, else JSON lines.

    `level` (debug, info, warning, error) is that of our own packages; libraries that use `logging` are heard from
    warnings up. Again: replaces the earlier setting. Raises ValueError for an unknown level.
    """
    out = stream or sys.stderr
    as_json = not out.isatty() if json_lines is None else json_lines
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"there is no log level {level!r}; known are debug, info, warning, error")
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(name, as_json))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for package in OUR_LOGGERS:
        logging.getLogger(package).setLevel(number)


def get_logger(name: str) -> Any:
    """A structlog logger: `log.info("what happened", key=value)`, also `log.info("%d things", count)`."""
    logger = logging.getLogger(f"podium.{name}")
    return structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.PositionalArgumentsFormatter(), _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _to_record(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """The logging call that structlog makes: the message, and the pairs in `extra`."""
    message = str(event.pop("event", ""))
    call: dict[str, Any] = {name: event.pop(name) for name in ("exc_info", "stack_info") if name in event}
    # "%s", because a message that holds a % must not be taken for a format by `logging`.
    return ("%s", message), call | {"extra": {"pairs": dict(event)}}  # type: ignore[return-value]


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
            document: dict[str, Any] = {
                "time": time,
                "level": record.levelname.lower(),
                "daemon": self._name,
                "logger": record.name.removeprefix("podium."),
                "message": message,
            }
            if error:
                document["traceback"] = error
            # What the log itself says cannot be overwritten by a pair of that name.
            document.update((f"{key}_" if key in document else key, _plain(value)) for key, value in pairs.items())
            return json.dumps(document, ensure_ascii=True)
        words = "".join(f" {key}={_escape(str(value))}" for key, value in pairs.items())
        line = f"{time} {record.levelname.lower():<7} {record.name.removeprefix('podium.')}: {_escape(message)}{words}"
        # A traceback's lines are ours, but their text may hold what a user sent: no line of it can pass for a log line.
        return "\n".join([line, *(f"    {_escape(row)}" for row in error.splitlines())])


def _plain(value: object) -> str | int | float | bool | None:
    """As it is in JSON; what JSON has no word for, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _escape(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
