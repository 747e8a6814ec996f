"""Exit codes, and how an error is told: what, why, and the next command. Data goes to stdout, everything else here.

0 ok; 1 error; 2 wrong usage; 3 not found; 4 timed out; 5 a pod cannot be placed; 6 the cluster cannot be reached;
7 processes were left after `down`; 130 interrupted. `exec` passes on the code of its command.
"""

from __future__ import annotations

import os
import traceback
from enum import IntEnum

import click

from cluster.api.errors import ApiError, DeadlineExceeded, NotFound, Unavailable
from cluster.config.errors import ConfigError


class ExitCode(IntEnum):
    """What the shell gets."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    UNSCHEDULABLE = 5
    UNREACHABLE = 6
    SURVIVORS = 7
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.code = code


_CODES: dict[type[ApiError], ExitCode] = {
    NotFound: ExitCode.NOT_FOUND,
    DeadlineExceeded: ExitCode.TIMEOUT,
    Unavailable: ExitCode.UNREACHABLE,
}


def say(message: str = "") -> None:
    """Tells the user something that is not data."""
    click.echo(message, err=True)


def error_text(error: ApiError) -> str:
    """The message, and a line for each thing that is wrong if the message does not say it."""
    lines = [error.message]
    lines += [f"  {cause}" for cause in error.causes if cause.message not in error.message]
    return "\n".join(lines)


def report(error: Exception) -> int:
    """Prints an error and returns the exit code for it. A traceback is shown for bugs, and with PODIUM_DEBUG=1."""
    if os.environ.get("PODIUM_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, CommandError):
        say(f"error: {error}")
        return error.code
    if isinstance(error, ApiError):
        say(f"error: {error_text(error)}")
        return _CODES.get(type(error), ExitCode.ERROR)
    if isinstance(error, ConfigError):
        say(f"error: {error}")
        return ExitCode.ERROR
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}")
        return ExitCode.ERROR
    traceback.print_exception(error)
    say("error: this is a bug in podium; the lines above say where")
    return ExitCode.ERROR
