"""How much may wait for somebody who is slow, and who is read meanwhile. Pure.

While a client has more than 256 KiB to take, no backend is read, and while a backend has, the client is not; so a slow
reader slows down its writer, through the policy, and nobody's memory grows. A policy that goes on producing all the
same is at fault at 4 MiB. A mirror slows nobody down: it is dropped at 1 MiB.
"""

from __future__ import annotations

from typing import Final

from proxy.ambassadors.channel import Channel
from proxy.ambassadors.guard import Fault

HIGH_BYTES: Final = 1 << 18
"""With so much to send, nothing more is read from the other side."""
FAULT_BYTES: Final = 1 << 22
"""A policy that has so much waiting to be sent does not heed who is slow."""
MIRROR_BYTES: Final = 1 << 20


def takes_more(channel: Channel) -> bool:
    """Whoever writes to it may go on."""
    return channel.mirror or channel.out_bytes <= HIGH_BYTES


def is_left_behind(mirror: Channel) -> bool:
    """It is too slow for the others, or takes nothing at all."""
    return mirror.out_bytes > MIRROR_BYTES or mirror.broken


def check_waiting(channel: Channel) -> None:
    """Raises Fault if more waits to be sent than a policy that heeds its bounds could have produced."""
    if channel.out_bytes > FAULT_BYTES:
        raise Fault(f"{channel.out_bytes} bytes wait to be sent: a session is to send on no more than it was told")
