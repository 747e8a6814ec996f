"""Frozen dataclasses as JSON and back: what an agent must remember, readable with a pager. Pure.

Driven by the type hints of the dataclasses, so a field that is added is remembered without a line here; a field that is
missing in what was written, by an older agent, has its default. Known are dataclasses, enums, tuples, optional values,
strings, numbers and truths; anything else is a mistake in the program, and raises TypeError.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """What json.dumps takes. Infinite numbers stay what they are: Python's JSON has a word for them."""
    if dataclasses.is_dataclass(value):
        kind: type = type(value)
        return {name: to_plain(getattr(value, name)) for name in _hints(kind)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written down")


def from_plain(hint: type[T], plain: Any) -> T:
    """The value of that type. Raises TypeError, ValueError or KeyError if `plain` is not one."""
    return typing.cast(T, _from_plain(hint, plain))


def _from_plain(hint: Any, plain: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return hint(**{name: _from_plain(each, plain[name]) for name, each in _hints(hint).items() if name in plain})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(plain)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if plain is None else _from_plain(next(each for each in arguments if each is not type(None)), plain)
    if origin is tuple:
        if arguments[1:] == (...,):
            return tuple(_from_plain(arguments[0], each) for each in plain)
        return tuple(_from_plain(each, item) for each, item in zip(arguments, plain, strict=True))
    if hint is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, hint):
        raise TypeError(f"{plain!r} is not a {hint.__name__}")
    return plain


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
