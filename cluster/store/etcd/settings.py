"""Limits and times of a log in etcd."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.store import requests


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """All times are in seconds."""

    lease_ttl_s: int = 3
    """After the death of a leader, another leads once so much time has passed; etcd takes whole seconds, from 2 on."""
    call_timeout_s: float = 2.0
    """Of a single call: then the next member is asked."""
    read_timeout_s: float = 3.0
    """A read that has no answer by then raises Unreachable."""
    append_timeout_s: float = 5.0
    """An append whose fate is not known by then raises Undecided."""
    poll_s: float = 5.0
    """A follower that hears nothing, and a candidate that waits, look for themselves so often: no trust in watches."""
    request_age_s: float = requests.AGE_S
    """Requests are kept at least so long ..."""
    request_appends: int = requests.LIMIT
    """... but not more than those of so many appends."""
    compacts_etcd: bool = True
    """The leader lets etcd forget its own old revisions; or else somebody must (--auto-compaction-retention)."""
    etcd_age_s: float = 600.0
    """etcd's revisions are kept at least so long ..."""
    etcd_revisions: int = 10_000
    """... and at least so many."""
    cache_bytes: int = 16 * 1024 * 1024
    """Of chunks that were read for their old versions."""
