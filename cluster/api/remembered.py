"""Working a thing out once: for functions that depend on nothing but the bytes of a message.

A thousand replicas have one specification. Whether it is valid, and what it looks like with its defaults, follows from
its encoding alone, so the answer for the first is the answer for all; to encode a specification and look it up costs a
twentieth of checking it. What is kept is bounded, in number and in size: large messages are worked out each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")

ENTRIES = 512
"""Answers kept by each function."""
LARGE_BYTES = 4096
"""Nothing is kept for encodings beyond this size."""


def remembered(function: Callable[Concatenate[bytes, P], T]) -> Callable[Concatenate[bytes, P], T]:
    """The same function, which remembers. It must be pure, its other arguments hashable and few, and what it returns
    must not be changed by anybody."""
    known = cast(Callable[Concatenate[bytes, P], T], lru_cache(ENTRIES)(function))

    def look(data: bytes, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(data, *args, **kwargs) if len(data) > LARGE_BYTES else known(data, *args, **kwargs)

    return cast(Callable[Concatenate[bytes, P], T], wraps(function)(look))
