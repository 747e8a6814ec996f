"""HTTP over TLS: takes requests, finds out who asks, answers.

    async with: await server.start(); await server.run(); await server.stop()

Limits: a body of 3 MiB, and room for so many of them (`room.py`); MAX_CALLS requests at a time and MAX_WATCHES watches;
beyond them the answer is 429, and try again. A reader of a watch or of a list that takes nothing for a while is cut off
(`outgoing.py`). Whatever goes wrong is answered as a Status, never with a traceback; what should not is logged.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Internal, Overloaded, Unavailable
from cluster.client.agent_client import NodeAgentClient
from cluster.client.interface import ClusterClient
from cluster.kubernetes import derived, pod_streams, port_forwarding, proxied, proxying, query, reviews, routing
from cluster.kubernetes.authentication import Accounts, Authentication, refuse_impersonation
from cluster.kubernetes.call import TIMEOUT_S, Call, encoded_in_turns
from cluster.kubernetes.callers import Callers
from cluster.kubernetes.catalog import OWN, Catalog
from cluster.kubernetes.discovery import Other
from cluster.kubernetes.encoding import Encoder
from cluster.kubernetes.incoming import Limit, check_http, parameters_of, read, size_of
from cluster.kubernetes.keeper import Keeper
from cluster.kubernetes.listener import listener
from cluster.kubernetes.negotiation import JSON, PLAIN, PROTOBUF, Accepted, Form, negotiate
from cluster.kubernetes.outgoing import Patience, document, headers_of, refusal
from cluster.kubernetes.paths import NoSuchPath, Target, parts_of, refuse_not_served, target_of
from cluster.kubernetes.readiness import Readiness
from cluster.kubernetes.resources import BY_KIND
from cluster.kubernetes.room import Room
from cluster.kubernetes.sharing import Hub
from cluster.kubernetes.statuses import Refused
from cluster.kubernetes.tables import Tables
from cluster.kubernetes.turns import Turns
from cluster.kubernetes.watching import Watching
from cluster.rpc.account_tokens import Account
from cluster.rpc.identity import Identity

_log = logging.getLogger("podium.kubernetes")
_http_log = logging.getLogger("podium.kubernetes.http")
"""For aiohttp; what somebody sends that is no HTTP is answered with 400, and is nobody's news here."""
_NO_NEWS = HttpProcessingError | RequestPayloadError | ConnectionError
_http_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], _NO_NEWS)))

MAX_CALLS = 600
"""At the same time, watches apart."""
MAX_WATCHES = 5_000
MAX_STREAMS = 500
"""Logs that are followed and commands that run."""
KEEPALIVE_S = 75.0
"""How long a connection may be idle, the head of a request half sent included."""
FIRST_CATALOG_S = 5.0
"""How long a request waits, in the beginning, for what users have defined."""
_STOP_S = 2.0
Connect = Callable[[Identity], ClusterClient]
"""Makes a client that calls with the rights of an identity."""
Reach = Callable[[Identity, str], NodeAgentClient]
"""Makes one of the node agent at an address, with such rights."""
WRITES = ("POST", "PUT", "PATCH", "DELETE")
"""Methods whose bodies are read."""
NOT_JSON = ("log", "exec", "attach", "portforward")
"""Subresources whose answers are not: the header Accept does not matter."""


class KubernetesServer:
    """A service (see cluster.actor.supervisor) that answers at one address."""

    def __init__(
        self,
        address: str,
        tls: ssl.SSLContext,
        authentication: Authentication,
        connect: Connect,
        reach: Reach,
        own: ClusterClient,
        *,
        clock: Clock,
        rng: random.Random,
        on_bound: Callable[[str], None] = lambda address: None,
    ) -> None:
        """`address` is "host:port"; port 0 lets the system choose, and `on_bound` is told. `own`: a client with the
        rights of this process itself, which reads what users define; it is closed with the server."""
        self._address = address
        self._tls = tls
        self._authentication = authentication
        self._accounts = Accounts(clock)
        self._reach = reach
        self._clock = clock
        self._rng = rng
        self._on_bound = on_bound
        self._own = own
        self._keeper = Keeper(own, clock, rng)
        self._keeper.on_change.append(self._catalog_changed)
        self._encoder = Encoder()
        self._tables = Tables(self._encoder)
        self._calls = Limit()
        self._turns = Turns()
        self.room = Room()
        """What bodies take."""
        self._streams = Limit()
        self._watching: set[Watching] = set()
        self._hub = Hub(clock)
        self._tasks = Tasks("kubernetes")
        self._callers = Callers(connect, self._tasks)
        self._ready = Readiness(own, clock)
        self._stopping = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    @property
    def watches(self) -> int:
        """How many there are."""
        return len(self._watching)

    # --- life

    async def start(self) -> None:
        """Binds and serves. Raises OSError."""
        await self._keeper.start()
        host, _, port = self._address.rpartition(":")
        # A caller who goes away is noticed: nobody works on for it, and its watch ends.
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            logger=_http_log,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=16384,
            auto_decompress=False,  # bodies that are packed are refused: nobody sends any, but to fill the memory
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_STOP_S)
        await self._runner.setup()
        site = web.SockSite(self._runner, listener(host, int(port)), ssl_context=self._tls, backlog=512)
        await site.start()
        bound = self._runner.addresses[0]
        self._on_bound(f"{bound[0]}:{bound[1]}")

    async def run(self) -> None:
        """Nothing to wait for but the end."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Ends watches, lets calls finish for a moment, closes everything. Twice is fine."""
        self._stopping.set()
        for watching in self._watching:
            watching.close()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
        await self._tasks.cancel_all()
        await self._keeper.stop()
        await self._callers.close()
        await self._own.close()

    # --- a request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target: Target | None = None
        try:
            check_http(request)
            # What comes after /proxy is for a pod to read.
            wanted = proxied.wanted_of(request.rel_url.raw_path)
            parts = parts_of(wanted.prefix if wanted is not None else request.rel_url.raw_path)
            if parts and parts[0] in routing.HEALTH:
                return await self._health(parts, verbose="verbose" in request.rel_url.query)
            transport = request.transport
            certificate = transport.get_extra_info("peercert") if transport is not None else None
            who = self._authentication.who(certificate, request.headers.get("Authorization", ""))
            identity = who if isinstance(who, Identity) else who.identity
            refuse_impersonation(identity, request.headers)
            with self._callers.working(identity):
                if isinstance(who, Account):
                    await self._accounts.check(who, self._callers.client(identity))
                catalog = self._keeper.current
                if not self._keeper.is_synced:
                    catalog = await self._first_catalog(parts)
                if (about := self._about(request, parts, catalog)) is not None:
                    return about
                if (review := reviews.BY_PARTS.get(tuple(parts))) is not None:
                    return await self._review(request, review, identity, catalog)
                if (found := derived.derived_of(parts)) is not None:
                    return await self._derived(request, *found, identity)
                if wanted is not None:
                    return await self._proxy(request, wanted, identity)
                refuse_not_served(parts)
                target = target_of(parts, catalog)
                with self.room.held(identity, size_of(request) if request.method in WRITES else 0):
                    call = await self._call(request, target, identity)
                    if target.subresource in NOT_JSON:
                        return await self._stream(request, call)
                    if routing.is_watch(call, request.method):
                        return await self._watch(request, call)
                    return await self._answer(request, call)
        except NoSuchPath:
            return web.Response(text="404 page not found\n", status=404)
        except ApiError as error:
            return refusal(error, target, request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except web.HTTPException as error:
            return refusal(Refused(error.status, "BadRequest", error.reason), target, request)
        except Exception:
            _log.exception("%s %s failed", request.method, request.rel_url.raw_path[:200])
            return refusal(Internal("an internal error; the log of the process kubernetes tells more"), target, request)

    async def _first_catalog(self, parts: list[str]) -> Catalog:
        """The catalog, of which it is not yet known whether users have defined anything: what Podium has itself is
        served at once. Raises Unavailable if it is about something else, and that does not become known soon."""
        try:
            target_of(parts, OWN)
        except NoSuchPath:
            is_about_kinds = parts[:1] in (["api"], ["apis"], ["openapi"])
            if is_about_kinds and not await self._keeper.wait_synced(FIRST_CATALOG_S):
                raise Unavailable("the kinds that users have defined are not known yet", retry_after_s=1) from None
        return self._keeper.current

    def _catalog_changed(self, catalog: Catalog) -> None:
        """What is no longer served as it was is no longer watched: whoever asks again gets it as it is now."""
        for watching in self._watching:
            row = watching.row
            if row.custom is None:
                continue
            now = catalog.by_path.get((row.group, row.version, row.plural))
            if now is None or now.custom is None or now.custom.tag != row.custom.tag:
                watching.close_soon()

    async def _health(self, parts: list[str], *, verbose: bool) -> web.Response:
        """Whether it lives; asked for readyz, whether it can serve. Or one check alone: /readyz/master. Raises
        NoSuchPath for a check that there is not."""
        word, one = parts[0], parts[1:]
        checks = ("ping", "master") if word == "readyz" else ("ping",)
        if one and (len(one) > 1 or one[0] not in checks):
            raise NoSuchPath
        if word == "readyz" and one != ["ping"] and (problem := await self._ready.problem()):
            return web.Response(text=f"[-]master failed: {problem}\nreadyz check failed\n", status=500)
        if verbose and not one:
            return web.Response(text="".join(f"[+]{check} ok\n" for check in checks) + f"{word} check passed\n")
        return web.Response(text="ok")

    def _about(self, request: web.BaseRequest, parts: list[str], catalog: Catalog) -> web.Response | None:
        """Discovery and the like; None if the path is about objects."""
        accept = request.headers.get("Accept", "")
        if (found := routing.about_the_server(parts, accept, self._address, catalog)) is None:
            return None
        if request.method != "GET":
            raise routing.not_allowed(request.method)
        tag = f'"{found.digest}"'
        headers = {"Content-Type": found.media, "Vary": "Accept", "ETag": tag, "Cache-Control": "no-cache, private"}
        if tag in (each.strip() for each in request.headers.get("If-None-Match", "").split(",")):
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, headers=headers)

    async def _review(
        self, request: web.BaseRequest, review: reviews.Review, identity: Identity, catalog: Catalog
    ) -> web.Response:
        """What somebody asks about itself."""
        if request.method != "POST":
            raise routing.not_allowed(request.method)
        media = request.headers.get("Content-Type", "")
        with self.room.held(identity, size_of(request)):
            body = await read(request)
            answered = reviews.read(review, reviews.Who(identity.kind, str(identity)), catalog, media, body)
        return document(request, answered, 201)

    async def _derived(
        self, request: web.BaseRequest, row: Other, namespace: str, name: str, identity: Identity
    ) -> web.Response:
        """What is made of other things when it is asked for."""
        if request.method != "GET" or query.flag(parameters_of(request), "watch"):
            raise routing.not_allowed("watch" if request.method == "GET" else request.method)
        accepted = negotiate(request.headers.get("Accept", ""), protobuf=True)
        with self._calls.one(MAX_CALLS, "requests"):
            asked = derived.Asked(
                self._callers.client(identity),
                lambda address: self._reach(identity, address),
                self._clock.wall(),
                namespace,
                name,
            )
            words = parameters_of(request)
            found = await derived.read(row, asked, words)
            if accepted.form is Form.TABLE:
                found = derived.table(row, found, accepted, words.get("includeObject", ""), asked.now_s)
            elif accepted.form is Form.METADATA:
                found = derived.metadata_only(found)
        headers = headers_of(accepted.media, [], None)
        return web.Response(body=await encoded_in_turns(found, accepted.media), headers=headers)

    async def _call(self, request: web.BaseRequest, target: Target, identity: Identity) -> Call:
        words = parameters_of(request)
        headers = request.headers
        return Call(
            target,
            words,
            self._accepted(target, headers.get("Accept", "")),
            self._callers.client(identity),
            self._encoder,
            self._tables,
            self._clock.wall(),
            self._clock,
            content_type=headers.get("Content-Type", ""),
            user_agent=headers.get("User-Agent", ""),
            body=await read(request) if request.method in WRITES else b"",
            timeout_s=min(query.duration_s(words, "timeout") or TIMEOUT_S, 60.0),
            commands=tuple(request.rel_url.query.getall("command", ())),
            reach=lambda address: self._reach(identity, address),
            settled=lambda crd, deleted: self._keeper.settled(crd, deleted=deleted),
            mint=lambda account, lifetime_s: self._authentication.mint(identity, account, lifetime_s),
        )

    @staticmethod
    def _accepted(target: Target, accept: str) -> Accepted:
        if target.subresource in NOT_JSON:
            return PLAIN
        # A part of an object may be of another kind than it is, and is in protobuf even if the object is not.
        part = target.resource.subresource(target.subresource)
        in_protobuf = target.resource.in_protobuf or (part is not None and part.kind == "Scale")
        return negotiate(accept, protobuf=in_protobuf)

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        with self._calls.one(MAX_CALLS, "requests"):
            async with self._turns.of(call, request.method):
                answer = await routing.answer(call, request.method)
        headers = headers_of(call.accepted.media, answer.warnings, call.target.resource)
        if isinstance(answer.body, bytes):
            return web.Response(body=answer.body, status=answer.code, headers=headers)
        response = web.StreamResponse(status=answer.code, headers=headers)
        response.content_length = sum(map(len, answer.body))
        patience = Patience(request)
        try:
            await response.prepare(request)
            for part in answer.body:
                await patience.write(response, part)
            await patience.finish(response)
        finally:
            patience.close()
        return response

    async def _stream(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """What goes on for as long as a log is followed or a command runs."""
        if request.method != "GET" and (request.method != "POST" or call.target.subresource == "log"):
            raise routing.not_allowed(request.method)
        with self._streams.one(MAX_STREAMS, "logs and commands"):
            if call.target.subresource == "log":
                return await pod_streams.logs(call, request)
            if call.target.subresource == "portforward":
                return await port_forwarding.forward(call, request)
            return await pod_streams.converse(call, request)

    async def _proxy(self, request: web.BaseRequest, wanted: proxied.Wanted, identity: Identity) -> web.StreamResponse:
        """HTTP to a pod."""
        if request.method not in proxying.METHODS:
            raise routing.not_allowed(request.method)
        kind = BY_KIND["Pod" if wanted.kind == "pods" else "Service"]
        call = Call(
            Target(kind, wanted.namespace, wanted.name, "proxy"),
            {},
            PLAIN,
            self._callers.client(identity),
            self._encoder,
            self._tables,
            self._clock.wall(),
            self._clock,
            reach=lambda address: self._reach(identity, address),
        )
        try:
            with self._streams.one(MAX_STREAMS, "proxied requests"):
                return await proxying.proxy(call, wanted, request, self._rng)
        except ApiError as error:
            return refusal(error, call.target, request)

    async def _watch(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        if self._stopping.is_set():
            raise Unavailable("the server is stopping")
        if len(self._watching) >= MAX_WATCHES:
            raise Overloaded("too many watches at the same time, please try again later")
        watching = Watching(call, self._hub, self._clock, self._rng)
        self._watching.add(watching)
        lines = watching.lines()
        patience = Patience(request)
        try:
            await anext(lines)
            media = f"{PROTOBUF};stream=watch" if call.accepted.is_protobuf else JSON
            response = web.StreamResponse(headers=headers_of(media, [], call.target.resource))
            await response.prepare(request)
            async for text in lines:
                await patience.write(response, text)
            await patience.finish(response)
        except ConnectionError:
            pass  # the reader has gone
        finally:
            patience.close()
            self._watching.discard(watching)
            await lines.aclose()
        return response
