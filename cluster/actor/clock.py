"""Time and ids, handed in: the only file that asks the operating system what time it is.

Whoever needs time takes a `Clock`; whoever needs dice takes a `random.Random`; ids come from `new_uid`. Tests hand in
`tests.kit`'s virtual clock, and an hour passes in no time.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """What time it is, and a way to wait."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; never goes back. For durations and deadlines."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 (UTC). For people and for timestamps; may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds of this clock."""
        ...


class SystemClock:
    """The real one."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_VERSION_4 = 0x40008000000000000000
"""Version and variant of RFC 4122, and the bits that are left to chance."""
_RANDOM_BITS = (1 << 128) - 1 & ~(0xF000C000000000000000)


def new_uid(rng: random.Random | None = None) -> str:
    """A fresh object uid (RFC 4122, version 4); from the given dice, or from the operating system's."""
    if rng is None:
        return str(uuid.uuid4())
    # What uuid.UUID(int=..., version=4) would print, at a fifth of the cost.
    digits = f"{rng.getrandbits(128) & _RANDOM_BITS | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
