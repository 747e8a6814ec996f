"""GET: one object, or the objects of a collection.

What resourceVersion means: absent, the newest; 0, whatever is at hand; N, not older than N; of a list, with
resourceVersionMatch=Exact, as of N. What has not happened yet is waited for, for FUTURE_S: as in Kubernetes, whoever
names it may have heard of it from somebody who knows more. A continue token is the master's, and goes on with the
snapshot of the first page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from cluster.actor.tasks import Tasks
from cluster.api.errors import BadRequest, DeadlineExceeded, Expired, FieldError, NotFound, StoreRewound
from cluster.api.kinds import AnyObject
from cluster.api.meta import revision_of
from cluster.client.interface import ListResult
from cluster.kubernetes import protobuf, query, yaml_writer
from cluster.kubernetes.call import Answer, Call, in_turns
from cluster.kubernetes.encoding import TAIL, list_head
from cluster.kubernetes.negotiation import Form

T = TypeVar("T")

_PAGE = 500
"""Objects that are asked for at a time."""
_ENCODE_AT_ONCE = 100
"""Objects, between looks at what else there is to do."""
FUTURE_S = 3.0
"""How long a read waits for a revision that has not happened yet."""
_ASK_AGAIN_S = 0.05
"""After which the store is asked again for the first time; then after twice as long, and so on."""


async def get(call: Call) -> Answer:
    """One object, as it is now, and not older than the version that the caller names. Raises DeadlineExceeded if that
    does not come about."""
    wanted = query.number(call.query, "resourceVersion")
    try:
        obj = await call.current(stale=wanted == 0)
    except NotFound:
        if not wanted:
            raise
    else:
        if not wanted or revision_of(obj) >= wanted:
            return Answer(call.one(obj))
    await reached(call, wanted, lambda: _as_of(call, wanted), int)
    return Answer(call.one(await call.current()))


async def _as_of(call: Call, revision: int) -> int:
    """That revision, if it has happened, whatever there was then; else the one that there is. To ask for the object
    rather than for a list needs no other right than the request itself."""
    row = call.target.resource
    key = row.key(call.namespace, call.target.name)
    try:
        await call.client.get(row.kind.message, key.name, key.namespace, revision=revision, timeout_s=call.timeout_s)
    except StoreRewound as ahead:
        return ahead.revision
    except (NotFound, Expired):
        pass
    return revision


async def reached(call: Call, wanted: int, ask: Callable[[], Awaitable[T]], how_far: Callable[[T], int]) -> T:
    """The answer to a question, which is asked until the store has come to a revision; `how_far` it is, an answer says.
    Raises DeadlineExceeded, in Kubernetes' words, if it is not there after FUTURE_S, or the time of the call."""
    clock = call.clock
    ends_at_s = clock.monotonic() + min(FUTURE_S, call.timeout_s)
    delay_s = _ASK_AGAIN_S
    while True:
        found = await ask()
        revision = how_far(found)
        if revision >= wanted:
            return found
        left_s = ends_at_s - clock.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(
                f"Timeout: Too large resource version: {wanted}, current: {revision}",
                retry_after_s=1,
                causes=(FieldError("", "Too large resource version", "ResourceVersionTooLarge"),),
            )
        await clock.sleep(min(delay_s, left_s))
        delay_s *= 2


async def list_objects(call: Call) -> Answer:
    """The objects of a collection. Of a long one, a page at a time is in memory as messages: memory that is touched for
    the first time costs as much as what is done in it."""
    async with aclosing(_pages(call)) as pages:
        return await _answer(call, pages)


async def found_already(call: Call, found: ListResult[AnyObject]) -> Answer:
    """A list of what `find` has found, in the form that the caller wants."""

    async def pages() -> AsyncGenerator[ListResult[AnyObject], None]:
        yield found

    async with aclosing(pages()) as only:
        return await _answer(call, only)


async def _answer(call: Call, pages: AsyncGenerator[ListResult[AnyObject], None]) -> Answer:
    row, form = call.target.resource, call.accepted.form
    metadata: dict[str, Any] = {}
    parts: list[bytes] = []
    async for page in pages:
        metadata = _metadata_of(page)
        for start in range(0, len(page.items), _ENCODE_AT_ONCE):
            encoded = _encode(call, page.items[start : start + _ENCODE_AT_ONCE])
            if call.accepted.is_protobuf:
                parts.append(protobuf.items(encoded))
            elif call.accepted.is_yaml:
                parts.append(await in_turns(yaml_writer.items(encoded)))
            else:
                parts.append(b",".join(encoded if not parts else (b"", *encoded)))
            await asyncio.sleep(0)
    if form is Form.TABLE:
        head = call.tables.head(row, metadata, version=call.accepted.version)
        return _listed(call, head, parts, "rows")
    name, version = row.list_kind, row.api_version
    if form is Form.METADATA:
        name, version = f"{protobuf.METADATA}List", protobuf.METADATA_VERSION
    if call.accepted.is_protobuf:
        return Answer((protobuf.list_head(name, version, metadata, sum(map(len, parts))), *parts))
    return _listed(call, list_head(name, version, metadata), parts, "items")


def _listed(call: Call, head: bytes, parts: list[bytes], key: str) -> Answer:
    """A list in JSON or YAML, from the beginning that it has in JSON and what stands at a key."""
    if not call.accepted.is_yaml:
        return Answer((head, *parts, TAIL))
    before, after = yaml_writer.around(head + TAIL, key, is_empty=not parts)
    return Answer((before, *parts, after))


def _encode(call: Call, objects: list[AnyObject]) -> list[bytes]:
    """As items of a list, or rows of a table."""
    if call.accepted.form is Form.TABLE:
        return call.rows(objects)
    return [call.item(obj) for obj in objects]


def _metadata_of(page: ListResult[AnyObject]) -> dict[str, Any]:
    """Of a list that ends with this page."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
    if page.continue_token:
        metadata["continue"] = page.continue_token
        if page.remaining:
            metadata["remainingItemCount"] = page.remaining
    return metadata


async def _pages(call: Call) -> AsyncGenerator[ListResult[AnyObject], None]:
    """The page that the caller wants, or else all of them, of one snapshot. The next one is on its way while the
    receiver is at work on one. Raises DeadlineExceeded when all together take longer than the call may."""
    ends_at_s = asyncio.get_running_loop().time() + call.timeout_s
    page = await find(call, _PAGE)
    if query.number(call.query, "limit"):
        yield page
        return
    tasks = Tasks("list", on_crash=lambda task, error: None)  # whoever awaits the page hears of it
    try:
        while page.continue_token:
            following = tasks.spawn(_following(call, page.continue_token), name="next page")
            yield page
            async with asyncio.timeout_at(ends_at_s):
                page = await following
        yield page
    except TimeoutError:
        plural = call.target.resource.plural
        raise DeadlineExceeded(f"listing {plural} took longer than {call.timeout_s:g} s") from None
    finally:
        await tasks.cancel_all()


async def _following(call: Call, token: str) -> ListResult[AnyObject]:
    """The page that a token stands for."""
    result: ListResult[AnyObject] = await call.client.list(
        call.target.resource.kind.message,
        call.namespace,
        label_selector=call.query.get("labelSelector", ""),
        field_selector=call.selector(call.query.get("fieldSelector", "")),
        limit=_PAGE,
        continue_token=token,
        timeout_s=call.timeout_s,
    )
    return result


async def find(call: Call, page: int = 0) -> ListResult[AnyObject]:
    """What a list, or a delete of a collection, is about: as many objects as the caller wants, or else `page` of them,
    0 for all."""
    words = call.query
    kind = call.target.resource.kind
    token = words.get("continue", "")
    version, match = words.get("resourceVersion", ""), words.get("resourceVersionMatch", "")
    wanted = query.number(words, "resourceVersion")
    query.check_list(words, watch=False)
    if token and version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    exact = match == query.EXACT

    async def ask() -> ListResult[AnyObject]:
        found: ListResult[AnyObject] = await call.client.list(
            kind.message,
            call.namespace,
            label_selector=words.get("labelSelector", ""),
            field_selector=call.selector(words.get("fieldSelector", "")),
            limit=query.number(words, "limit") or page,
            continue_token=token,
            revision=wanted if exact else None,
            allow_stale=version == "0" and not token,
            timeout_s=call.timeout_s,
        )
        return found

    return await reached(call, 0 if exact else wanted or 0, ask, lambda found: found.revision)
