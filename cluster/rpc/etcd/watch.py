"""A watch of a range of keys that mends itself: the stream may break, the watch goes on.

One task reads the stream and fills a bounded queue. When the queue is full, because the consumer is slow, it stops
reading; the window of HTTP/2 fills up behind it, and etcd keeps what is not sent (it reads it again from its disk): no
memory grows, here or there, and nothing is lost, unless etcd is compacted beyond it.

When the stream ends, or is found to be dead, the watch is made again at the next endpoint, from the revision after the
last complete one. A second task finds out what a connection does not tell: it asks the same member, if nothing was
heard for a while, for a linearizable read, which a member that was suspended or is cut off from its cluster cannot
answer. etcd's own progress notifications are neither asked for nor believed; they have been wrong.

What a watch cannot see is an event that etcd itself loses (some versions do). Who needs to be sure has a number in the
data that shows the gap, reads what is missing, and calls `restart`.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cluster.actor.tasks import Tasks
from cluster.pb.etcd import etcd_pb2 as pb
from cluster.rpc.etcd import codec
from cluster.rpc.etcd.errors import ClusterChanged, Compacted, EtcdError, PermissionDenied, Unreachable
from cluster.rpc.etcd.joining import Disorder, Joiner
from cluster.rpc.etcd.model import Get, WatchBatch

if TYPE_CHECKING:
    from cluster.rpc.etcd.client import EtcdClient
    from cluster.rpc.etcd.endpoint import WatchStream

QUEUE_LIMIT = 8
"""Batches that wait for the consumer; then reading stops. etcd's fragments have at most 2 MiB each."""

_log = logging.getLogger("podium.etcd")


class Watch:
    """Every change of a range from a revision on, in order, each once; see EtcdClient.watch. One consumer."""

    def __init__(self, client: EtcdClient, key: bytes, range_end: bytes, start_revision: int) -> None:
        """Raises ValueError for a revision below 1 (etcd would take 0 for "now", whenever that is)."""
        if start_revision < 1:
            raise ValueError(f"a watch starts at revision 1 or later, not at {start_revision}")
        self._client = client
        self._key, self._range_end = key, range_end
        self._next = start_revision
        self._newest = 0
        self._queue: asyncio.Queue[WatchBatch | EtcdError] = asyncio.Queue(QUEUE_LIMIT)
        self._end: EtcdError | None = None
        self._tasks = Tasks(f"etcd watch of {key!r}")
        self._stream: WatchStream | None = None
        self._fatal: EtcdError | None = None
        self._heard_s = 0.0
        self._created = False
        self._consumer_is_slow = False
        self.breaks = 0
        """How often the stream has ended so far."""
        self.repeated = 0
        """Events that were left out because they had been delivered before."""

    @property
    def next_revision(self) -> int:
        """Where it would go on if the stream broke now: everything before is delivered, or waits in the queue."""
        return self._next

    @property
    def is_connected(self) -> bool:
        """There is a stream, and etcd has confirmed the watch."""
        return self._created

    async def __aenter__(self) -> Watch:
        """Starts it, and does not wait for etcd. Raises Unreachable if the client is closed."""
        self._client.register(self)
        self._tasks.spawn(self._run(), name="reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> WatchBatch:
        """Waits for more for ever, also while etcd cannot be reached.

        Raises Compacted (read everything again), ClusterChanged, PermissionDenied, Refused; Unreachable if the watch
        or its client was closed. After that it raises the same again.
        """
        return self._take(await self._get())

    async def next(self, timeout_s: float) -> WatchBatch | None:
        """The next batch, or None if nothing came in time. Raises as `__anext__`."""
        try:
            async with asyncio.timeout(timeout_s):
                item = await self._get()
        except TimeoutError:
            return None
        return self._take(item)

    def restart(self, reason: str) -> None:
        """For a consumer who knows by other means that something is missing: makes the watch again, at the next
        endpoint, from `next_revision` on."""
        if self._stream is not None:
            self._stream.cancel(reason)

    async def close(self) -> None:
        """Ends it, also at etcd. Twice is fine."""
        self._client.unregister(self)
        await self._tasks.cancel_all()
        if self._end is None:
            self._end = Unreachable("the watch is closed")
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(self._end)  # a consumer may be waiting

    async def _get(self) -> WatchBatch | EtcdError:
        return self._end or await self._queue.get()

    def _take(self, item: WatchBatch | EtcdError) -> WatchBatch:
        if isinstance(item, EtcdError):
            self._end = item
            raise item
        return item

    # --- the stream, again and again ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = self._client.backoff()
        rotation = self._client.rotation
        tried: set[str] = set()
        while True:
            address = rotation.current
            self._created = False
            try:
                await self._follow(address)
            except (Unreachable, Disorder) as error:
                if (fatal := self._take_fatal()) is not None:
                    await self._queue.put(_bare(fatal))
                    return
                _log.debug("etcd watch of %r broke: %s: %s", self._key, address, error)
            except EtcdError as error:
                await self._queue.put(_bare(error))
                return
            except Exception as error:
                _log.exception("etcd watch of %r failed", self._key)
                await self._queue.put(EtcdError(f"the watch failed: {error!r}"))
                return
            self.breaks += 1
            if self._created:
                backoff.reset()
                tried.clear()
            rotation.failed(address)
            tried.add(address)
            self._created = False
            if rotation.current in tried:
                tried.clear()
                await self._client.clock.sleep(backoff.next())

    def _take_fatal(self) -> EtcdError | None:
        """What `_check` found, if it was not a mere break."""
        fatal, self._fatal = self._fatal, None
        return fatal

    async def _follow(self, address: str) -> None:
        """Reads one stream to its end, which is always an exception."""
        client = self._client
        client.hit("before", "watch")
        stream = self._stream = client.endpoint(address).open_watch()
        self._heard_s = client.clock.monotonic()
        checks = self._tasks.spawn(self._check(address, stream), name="checks")
        joiner = Joiner(self._next - 1)
        try:
            create = pb.WatchCreateRequest(
                key=self._key, range_end=self._range_end, start_revision=self._next, fragment=True
            )
            await stream.send(pb.WatchRequest(create_request=create))
            while True:
                message = await stream.read()
                client.hit("after", "watch")
                await self._hear(message, address, joiner)
        finally:
            self._stream = None
            self.repeated += joiner.repeated
            checks.cancel()
            stream.cancel("the watch is closed")

    async def _hear(self, message: Any, address: str, joiner: Joiner) -> None:
        self._heard_s = self._client.clock.monotonic()
        self._client.check_cluster(message.header.cluster_id, address)
        if message.canceled:
            raise _why(message, address)
        if message.created:
            self._created = True
            self._client.rotation.answered(address)
        batch = joiner.feed(codec.events(message.events), message.fragment)
        if batch is None:
            return
        self._consumer_is_slow = True
        await self._queue.put(batch)
        self._consumer_is_slow = False
        self._newest = batch.revision
        self._next = batch.revision + 1
        self._heard_s = self._client.clock.monotonic()

    async def _check(self, address: str, stream: WatchStream) -> None:
        """Ends a stream that is dead without saying so."""
        client, settings = self._client, self._client.settings
        while True:
            allowed_s = settings.quiet_s if self._created else settings.try_s
            silent_s = client.clock.monotonic() - self._heard_s
            if self._consumer_is_slow or silent_s < allowed_s:
                await client.clock.sleep(allowed_s if self._consumer_is_slow else allowed_s - silent_s)
                continue
            if not self._created:
                stream.cancel(f"it has not confirmed the watch within {settings.try_s:g} s")
                return
            newest = self._newest  # what is heard while the answer is on its way may be newer than the answer
            try:
                request = codec.range_request(Get(self._key, count_only=True))
                message = await client.endpoint(address).call("KV/Range", request, settings.try_s, changes=False)
                client.check_cluster(message.header.cluster_id, address)
                _check_revision(message.header.revision, newest, address)
            except ClusterChanged as error:
                self._fatal = error
                stream.cancel(str(error))
                return
            except EtcdError as error:
                stream.cancel(f"it was silent, and when asked: {error}")
                return
            self._heard_s = client.clock.monotonic()


def _check_revision(revision: int, newest: int, address: str) -> None:
    if revision < newest:
        raise ClusterChanged(
            f"{address} says that its newest revision is {revision}, but {newest} was heard of before: etcd has lost "
            "what it had confirmed, or was restored"
        )


def _bare(error: EtcdError) -> EtcdError:
    """Without its traceback, which would keep the stream and its connection for as long as someone keeps the error."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _why(message: Any, address: str) -> EtcdError:
    """What a response means that ends a watch."""
    reason = message.cancel_reason
    if message.compact_revision or "compacted" in reason:
        text = f"{address}: changes before revision {message.compact_revision} are no longer kept"
        return Compacted(text, message.compact_revision)
    if "permission" in reason or "auth" in reason:
        return PermissionDenied(f"{address}: {reason}")
    return Unreachable(f"{address}: it has cancelled the watch: {reason or 'without a reason'}")
