"""How long, as users write it wherever they are asked: 30, 30s, 500ms, 1h30m, 2d. A number alone means seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(s|ms)?)?")
_SCALE = {None: 1.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError with a sentence."""
    parts = _PARTS.fullmatch(text)
    if not text or parts is None:
        raise ValueError(f'"{text}" is not a time; write 30s, 500ms, 2m or 1h30m')
    days, hours, minutes, seconds = (float(part or 0) for part in parts.groups()[:4])
    return days * 86400 + hours * 3600 + minutes * 60 + seconds * _SCALE[parts[5]]


if TYPE_CHECKING:
    _Type = click.ParamType[float]
else:
    _Type = click.ParamType  # which older versions of click do not tell the result of


class Duration(_Type):
    """The type of an option that is given a time; the parameter is in seconds."""

    name = "time"

    def __init__(self, at_least_s: float = 0.0) -> None:
        self._at_least_s = at_least_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = parse_duration(value) if isinstance(value, str) else float(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds < self._at_least_s:
            self.fail(f'"{value}" is too short: at least {self._at_least_s:g}s', param, ctx)
        return seconds


def timeout_option(help: str, default: str = "60s") -> Callable[[F], F]:
    """Adds --timeout as the parameter `timeout`, in seconds."""
    return click.option("--timeout", type=Duration(), default=default, show_default=True, metavar="TIME", help=help)
