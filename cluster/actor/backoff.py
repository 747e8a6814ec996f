"""How long to wait before the next try: initial, doubled each time, up to a limit, with jitter."""

from __future__ import annotations

import random


class Backoff:
    """A row of growing delays in seconds.

    With `jitter` j, each delay is stretched by a random factor between 1 and 1+j (drawn from `rng`), so that many
    clients that failed together do not come back together.
    """

    def __init__(
        self,
        initial_s: float,
        max_s: float,
        factor: float = 2.0,
        jitter: float = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        if initial_s < 0 or max_s < initial_s or factor < 1.0:
            raise ValueError(f"back-off from {initial_s} to {max_s} by {factor} makes no sense")
        if jitter and rng is None:
            raise ValueError("jitter needs dice")
        self._initial_s, self._max_s, self._factor = initial_s, max_s, factor
        self._jitter, self._rng = jitter, rng
        self._next_s = initial_s

    def next(self) -> float:
        """Seconds to wait now; the next answer is longer."""
        delay_s = self._next_s
        self._next_s = min(self._next_s * self._factor, self._max_s)
        if self._rng is not None and self._jitter:
            delay_s *= 1.0 + self._jitter * self._rng.random()
        return delay_s

    def reset(self) -> None:
        """It worked: begin with the initial delay again."""
        self._next_s = self._initial_s
