"""What a request brings, as HTTP has it: its parameters and its body, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from cluster.api.errors import BadRequest, Overloaded
from cluster.kubernetes.bodies import MAX_BYTES
from cluster.kubernetes.statuses import Refused

BODY_S = 60.0
"""For a body to arrive."""


class Limit:
    """Counts what goes on at a time: what would be too much is refused, so that what was begun is done in time."""

    def __init__(self) -> None:
        self._count = 0

    @contextmanager
    def one(self, most: int, what: str) -> Iterator[None]:
        """One more of `what`, for as long as the context lasts. Raises Overloaded if there are so many."""
        if self._count >= most:
            raise Overloaded(f"too many {what} at the same time, please try again later")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


def check_http(request: web.BaseRequest) -> None:
    """What the parser lets through, and this server does not understand. Raises Refused."""
    if request.version not in (HttpVersion10, HttpVersion11):
        raise Refused(505, "BadRequest", "HTTP/1.1 is spoken here")
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise Refused(501, "BadRequest", "of transfer encodings, only chunked is understood")


async def let_go_on(request: web.BaseRequest) -> None:
    """Tells a caller that waits for it that its body is wanted."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def size_of(request: web.BaseRequest) -> int:
    """How many bytes the rest of its body may have, as its head says. Raises Refused for too many (413)."""
    length = request.content_length
    if length is not None and length > MAX_BYTES:
        raise _too_large()
    if request.content.is_eof():
        return 0
    return MAX_BYTES if length is None else length


async def read(request: web.BaseRequest) -> bytes:
    """The body, whose size_of is not too large. Raises Refused for one that turns out to be (413), is packed (415) or
    too slow (408), and BadRequest for one that breaks off."""
    if (packed := request.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise Refused(415, "UnsupportedMediaType", f'the body is packed ("{packed[:40]}"); send it as it is')
    content = request.content
    if content.is_eof() and content.exception() is None:  # it came with its head, as those of most objects do
        whole = content.read_nowait()
        if len(whole) > MAX_BYTES:
            raise _too_large()
        return whole
    await let_go_on(request)
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in content.iter_any():
                size += len(part)
                if size > MAX_BYTES:
                    raise _too_large()
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "Timeout", f"the body did not arrive within {BODY_S:.0f} s") from None
    except (HttpProcessingError, RequestPayloadError) as error:
        raise BadRequest(f"the body cannot be read: {str(error)[:200]}") from error
    return b"".join(parts)


def _too_large() -> Refused:
    return Refused(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BYTES}")


def parameters_of(request: web.BaseRequest) -> Mapping[str, str]:
    """The parameters; selectors that are given several times must all hold. Raises BadRequest."""
    found: dict[str, str] = {}
    parameters: Any = request.rel_url.query
    for key, value in parameters.items():
        if "\0" in value:
            raise BadRequest("a parameter holds a zero byte")
        found[key] = f"{found[key]},{value}" if key in found and key.endswith("Selector") and value else value
    return found
