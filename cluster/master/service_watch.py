"""The server's end of WatchService: tells who is behind a service, and again whenever that may be another.

Two watches, of the service and of its Endpoints, in one bundle, only say that there is something new; what is told is
read from the state at that moment. So an update is never older than the change that made it, changes that come while
the reader is busy make one update, and nothing is kept for anybody:

    change of endpoints e1   ->  update of the state with e1
    e2, e3 while it is sent  ->  one update of the state with e2 and e3
    bookmark, or a change that makes no difference  ->  an update without content: a sign of life, and its revision

A reader that takes nothing is closed as any watcher is (`store/watchers.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from cluster.api.meta import Key
from cluster.api.resolved import resolved
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.store.bundle import Bundle
from cluster.store.version import Version

WATCHED = ("Service", "Endpoints")


def look(get: Callable[[Key], Version | None], namespace: str, name: str) -> wire.ResolvedService | None:
    """Who is behind a service, in the state that `get` reads; None if there is no such service. Pure."""
    service, endpoints = (get(Key(kind, namespace, name)) for kind in WATCHED)
    if service is None:
        return None
    found, behind = service.parse(), None if endpoints is None else endpoints.parse()
    assert isinstance(found, core.Service)
    assert behind is None or isinstance(behind, core.Endpoints)
    return resolved(found, behind)


async def serve(
    bundle: Bundle, look: Callable[[], wire.ResolvedService | None], where: Callable[[], tuple[str, int]]
) -> AsyncGenerator[wire.ServiceUpdate, None]:
    """Updates for as long as they are read. The bundle has the two watches, under the numbers 0 and 1; `where` says
    which store this is, and its revision. Raises what ends one of the watches."""
    begun: set[int] = set()
    told: wire.ServiceUpdate | None = None
    try:
        while said := await bundle.next():
            for each in said:
                if each.error is not None:
                    raise each.error
                begun.add(each.number)
            if len(begun) == len(WATCHED):  # from now on no change can be missed
                service = look()
                now = wire.ServiceUpdate(absent=True) if service is None else wire.ServiceUpdate(service=service)
                update = wire.ServiceUpdate()
                if now != told:
                    update.CopyFrom(now)
                    told = now
                update.store_id, update.revision = where()
                yield update
            bundle.taken()
    finally:
        await bundle.close()
