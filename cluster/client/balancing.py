"""Balancing on the client's side: a live set of a service's endpoints, one of which serves the next call.

    async with ServiceEndpoints(client, "shop", port="http") as shop:
        await shop.wait_ready(timeout_s=10)
        with shop.use() as endpoint:                       # counts as a call under way; a broken connection is noted
            reader, writer = await asyncio.open_connection(endpoint.address, endpoint.ports["http"])

    async with balanced_channel(client, "greeter", port="grpc") as channel:
        greeter = GreeterStub(channel)                     # each call goes to the endpoint whose turn it is

What a proxy cannot do: it sees connections, not calls. A gRPC client keeps one connection for ever, so behind a proxy
all its calls reach one pod; and only the caller knows which shard a call is about.

The set is kept current by `watch_service`. While the master is away the last one stands: who was there probably is, and
an endpoint that cannot be reached is avoided for a while. No call is ever repeated here: whether it has happened, only
its caller can judge.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock, SystemClock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, BadRequest, DeadlineExceeded, Forbidden, Invalid, Unavailable
from cluster.client.choosing import Choice, RoundRobin, identity_of
from cluster.client.interface import ClusterClient
from cluster.client.resolved import Endpoint, ServiceView

if TYPE_CHECKING:
    from cluster.rpc.balanced import BalancedChannel

_log = logging.getLogger("podium.client")

AVOID_S = 1.0
"""How long an endpoint that could not be reached is passed over, as long as there are others."""
_RETRY_MIN_S, _RETRY_MAX_S = 0.05, 2.0


class ServiceEndpoints:
    """See the head of this file. Use from one event loop; an asynchronous context, entered once."""

    def __init__(
        self,
        client: ClusterClient,
        name: str,
        namespace: str = "default",
        *,
        port: str = "",
        choice: Choice | None = None,
        avoid_s: float = AVOID_S,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`port`: only endpoints that serve the service's port of that name. `choice`: who is next; by default in turn.
        The client stays the caller's, to be closed later than this."""
        self._client, self._name, self._namespace, self._port = client, name, namespace, port
        self._choice: Choice = choice or RoundRobin()
        self._avoid_s = avoid_s
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._tasks = Tasks(f"endpoints of {namespace}/{name}")
        self._view: ServiceView | None = None
        self._failure: ApiError | None = None
        self._changed = asyncio.Event()
        self._under_way: dict[Endpoint, int] = {}
        self._avoided: dict[str, float] = {}
        """Until when, by what they are known by; of those in the view."""
        self.on_change: Callable[[ServiceView], None] | None = None
        """Called with each new view; must not wait."""

    async def __aenter__(self) -> ServiceEndpoints:
        self._tasks.spawn(self._follow(), name="watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.cancel_all()

    @property
    def view(self) -> ServiceView | None:
        """The newest that is known; None before the first."""
        return self._view

    async def wait_ready(self, timeout_s: float) -> ServiceView:
        """Returns when there is an endpoint to choose. Raises DeadlineExceeded, and Forbidden if it is hopeless."""
        deadline = self._clock.monotonic() + timeout_s
        while True:
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            if self._view is not None and self._candidates(""):
                return self._view
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                raise DeadlineExceeded(f"{self._why_none('')}, for {timeout_s:g} s")
            waiting = self._tasks.spawn(self._changed.wait(), name="news")
            sleeping = self._tasks.spawn(self._clock.sleep(left_s), name="deadline")
            try:
                await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                sleeping.cancel()

    def pick(self, key: str = "", shard: str = "") -> Endpoint:
        """Who serves the next call; of that shard, if one is named. Raises Unavailable if there is nobody."""
        if self._failure is not None:
            raise self._failure
        candidates = self._candidates(shard)
        if not candidates:
            raise Unavailable(self._why_none(shard))
        return self._choice.choose(candidates, self.load, key)

    @contextmanager
    def use(self, key: str = "", shard: str = "") -> Iterator[Endpoint]:
        """As `pick`, for as long as a call lasts: it counts as a load. OSError and Unavailable say that the endpoint
        could not be reached; they are noted, and go on."""
        endpoint = self.pick(key, shard)
        self.begin(endpoint)
        failed = False
        try:
            yield endpoint
        except (OSError, Unavailable):
            failed = True
            raise
        finally:
            self.end(endpoint, failed=failed)

    def begin(self, endpoint: Endpoint) -> None:
        """A call to it begins; for callers that cannot use `use`."""
        self._under_way[endpoint] = self._under_way.get(endpoint, 0) + 1

    def end(self, endpoint: Endpoint, *, failed: bool = False) -> None:
        """The call is over. `failed`: the endpoint could not be reached, and is avoided for a while."""
        left = self._under_way.get(endpoint, 0) - 1
        if left > 0:
            self._under_way[endpoint] = left
        else:
            self._under_way.pop(endpoint, None)
        if failed:
            self._avoided[identity_of(endpoint)] = self._clock.monotonic() + self._avoid_s
        else:
            self._avoided.pop(identity_of(endpoint), None)

    def load(self, endpoint: Endpoint) -> int:
        """Calls under way at an endpoint, of this client."""
        return self._under_way.get(endpoint, 0)

    def _candidates(self, shard: str) -> list[Endpoint]:
        if self._view is None:
            return []
        serving = [each for each in self._view.usable if self._serves(each, shard)]
        if not self._avoided:
            return serving
        now = self._clock.monotonic()
        good = [each for each in serving if self._avoided.get(identity_of(each), now) <= now]
        return good or serving

    def _serves(self, endpoint: Endpoint, shard: str) -> bool:
        return (not shard or endpoint.shard == shard) and (not self._port or self._port in endpoint.ports)

    def _why_none(self, shard: str) -> str:
        name = f"service {self._namespace}/{self._name}"
        if self._view is None:
            return f"{name}: the master has not answered yet"
        if not self._view.exists:
            return f"{name}: there is none of that name"
        of = f" of shard {shard}" if shard else ""
        serves = f" that serves port {self._port}" if self._port else ""
        return f"{name}: no endpoint{of}{serves} is ready, of {len(self._view.endpoints)} in all"

    def _take(self, view: ServiceView) -> None:
        self._view = view
        there = {identity_of(each) for each in view.endpoints}
        self._avoided = {name: until for name, until in self._avoided.items() if name in there}
        self._changed.set()
        if self.on_change is not None:
            self.on_change(view)

    async def _follow(self) -> None:
        backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S, jitter=0.5, rng=self._rng)
        while True:
            try:
                async with self._client.watch_service(self._name, self._namespace) as views:
                    async for view in views:
                        backoff.reset()
                        self._take(view)
            except (Forbidden, BadRequest, Invalid) as error:  # trying again would not help
                self._failure = error
                self._changed.set()
                return
            except ApiError as error:
                _log.info("who is behind %s/%s is not heard for now: %s", self._namespace, self._name, error)
            await self._clock.sleep(backoff.next())


@asynccontextmanager
async def balanced_channel(
    client: ClusterClient,
    name: str,
    namespace: str = "default",
    *,
    port: str = "",
    choice: Choice | None = None,
    avoid_s: float = AVOID_S,
    credentials: Any = None,
    options: Any = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[BalancedChannel]:
    """A grpc.aio.Channel for stubs, which sends each call to an endpoint of its own choice; see `cluster.rpc.balanced`.

    `port`: the service's port that speaks gRPC; may be left out if it has one only. `credentials`: what
    grpc.aio.secure_channel takes; None: no TLS. `options`: of each connection. The key and the shard of a call are said
    in its metadata: podium-key, podium-shard.
    """
    from cluster.rpc.balanced import BalancedChannel

    endpoints = ServiceEndpoints(
        client, name, namespace, port=port, choice=choice, avoid_s=avoid_s, clock=clock, rng=rng
    )
    async with AsyncExitStack() as stack:
        channel = BalancedChannel(lambda key, shard: _Turn(endpoints, port, key, shard), credentials, options)
        endpoints.on_change = lambda view: channel.keep(
            {each.target(port) for each in view.endpoints if _has(each, port)}
        )
        stack.push_async_callback(channel.close)
        await stack.enter_async_context(endpoints)
        yield channel


class _Turn:
    """One call; see `cluster.rpc.balanced.Turn`."""

    def __init__(self, endpoints: ServiceEndpoints, port: str, key: str, shard: str) -> None:
        self._endpoints = endpoints
        self._endpoint = endpoints.pick(key, shard)
        try:
            self.target = self._endpoint.target(port)
        except KeyError as error:
            raise Unavailable(str(error.args[0])) from error
        endpoints.begin(self._endpoint)

    def end(self, *, failed: bool) -> None:
        self._endpoints.end(self._endpoint, failed=failed)


def _has(endpoint: Endpoint, port: str) -> bool:
    return port in endpoint.ports if port else len(endpoint.ports) == 1
