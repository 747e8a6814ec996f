"""When an event happened, and how often: there are two ways to say it.

The older one has firstTimestamp, lastTimestamp and count; who reports through events.k8s.io says eventTime, and
a series when it happens again. Times are seconds since 1970. Pure.
"""

from __future__ import annotations

from cluster.api.meta import from_time
from cluster.pb.v1 import core_pb2 as core


def last_seen(event: core.Event) -> float:
    """When it last happened; its creation if it does not say."""
    return _first_of(
        event.series.lastObservedTime,
        event.lastTimestamp,
        event.firstTimestamp,
        event.eventTime,
        event.metadata.creationTimestamp,
    )


def first_seen(event: core.Event) -> float:
    """When it happened first; 0 if it does not say."""
    return _first_of(event.firstTimestamp, event.eventTime)


def times(event: core.Event) -> int:
    """How often it happened; 0 if it does not say."""
    return event.series.count if event.HasField("series") else event.count


def _first_of(*moments: core.Time | core.MicroTime) -> float:
    return next((from_time(moment) for moment in moments if moment.seconds), 0.0)
