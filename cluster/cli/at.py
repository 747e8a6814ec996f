"""Moments of the past, as users name them: a revision, a time, or how long ago.

    --at 1432                       as of revision 1432
    --at 2026-11-23T10:00:00Z       as of that time; without a zone, in that of this machine
    --at "2026-11-23 10:00"
    --at 10:00                      today; yesterday, if that has not come yet
    --at 5m, --at "1h30m ago"       so long before now
A time is looked up in the log by the master: it means the newest revision that was made at or before it, by its clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cluster.api.kinds import AnyObject
    from cluster.client.interface import ClusterClient, ListResult

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound="AnyObject")

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
_AGO = re.compile(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+(?:\.[0-9]+)?)s)?(?: *ago)?")
_EXAMPLES = 'a revision, or a time such as 2026-11-23T10:00:00Z, 10:00 or "5m ago"'


@dataclass(frozen=True, slots=True)
class Moment:
    """A revision or a time (seconds since 1970); neither: now."""

    revision: int | None = None
    time_s: float | None = None

    @property
    def is_now(self) -> bool:
        return self.revision is None and self.time_s is None


NOW = Moment()


def parse_moment(text: str, now_s: float, zone: tzinfo | None = None) -> Moment:
    """What a user means by a moment; `zone` is where times without one are. Raises click.UsageError with a sentence."""
    text = text.strip()
    if text == "now":
        return NOW
    if text.isascii() and text.isdigit():
        return Moment(revision=int(text))
    if _AGO.fullmatch(text) and text[:1].isdigit():
        days, hours, minutes, seconds = (float(part or 0) for part in _AGO.fullmatch(text).groups())  # type: ignore[union-attr]
        return Moment(
            time_s=now_s - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        )
    here = datetime.fromtimestamp(now_s, zone).astimezone(zone)
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        hour, minute, second = (int(part or 0) for part in clock.groups())
        meant = here.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if meant > here:
            meant -= timedelta(days=1)
        return Moment(time_s=meant.timestamp())
    try:
        meant = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f'"{text}" is no moment: give {_EXAMPLES}') from None
    if meant.tzinfo is None:
        meant = meant.replace(tzinfo=here.tzinfo)
    if meant.timestamp() > now_s + 1:
        raise click.UsageError(f"{text} has not come yet")
    return Moment(time_s=meant.timestamp())


def moment_option(name: str, parameter: str, help: str) -> Callable[[F], F]:
    """An option that takes a moment; absent, the parameter is None."""
    return click.option(name, parameter, metavar="REVISION|TIME", callback=_parse, help=help)


def _parse(ctx: click.Context, param: click.Parameter, value: str | None) -> Moment | None:
    if value is None:
        return None
    from cluster.actor.clock import SystemClock

    return parse_moment(value, SystemClock().wall())


class AsOf:
    """The reading half of a client, at one moment: what a command shows is one consistent past."""

    def __init__(self, client: ClusterClient, moment: Moment) -> None:
        self._client = client
        self._moment = moment
        self._revision = moment.revision

    async def get(self, kind: type[T], name: str, namespace: str = "") -> T:
        """Raises NotFound if it did not exist then, Expired, StoreRewound."""
        return await self._client.get(kind, name, namespace, revision=self._revision, time_s=self._time_s)

    async def list(
        self, kind: type[T], namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> ListResult[T]:
        """Raises Expired, StoreRewound. The first list of a time decides for all that come which revision is meant."""
        found = await self._client.list(
            kind,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            revision=self._revision,
            time_s=self._time_s,
        )
        if not self._moment.is_now:
            self._revision = found.revision
        return found

    @property
    def _time_s(self) -> float | None:
        return self._moment.time_s if self._revision is None else None
