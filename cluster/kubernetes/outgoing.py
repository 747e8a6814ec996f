"""Answers, as HTTP has them: documents, refusals, and the patience with readers who are slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from multidict import MultiDict

from cluster.actor import patience as actor
from cluster.api.errors import ApiError
from cluster.kubernetes import query
from cluster.kubernetes.call import encoded
from cluster.kubernetes.negotiation import media_of
from cluster.kubernetes.paths import Target
from cluster.kubernetes.resources import Resource
from cluster.kubernetes.statuses import code_of, failure, retry_after_s

WRITE_TIMEOUT_S = 30.0


class Patience(actor.Patience):
    """Cuts off a reader that takes nothing: what it has not taken is not to be kept for it."""

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__(WRITE_TIMEOUT_S, self._cut_off)
        self._request = request

    async def write(self, response: web.StreamResponse, piece: bytes) -> None:
        """Raises ConnectionError if the reader takes nothing, or has gone."""
        self.begin()
        await response.write(piece)
        self.over()

    async def finish(self, response: web.StreamResponse) -> None:
        """That was all. Raises the same."""
        self.begin()
        await response.write_eof()
        self.close()

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def headers_of(media: str, warnings: Iterable[str], row: Resource | None) -> MultiDict[str]:
    """Of an answer about objects of that kind: what is to be said of the answer, and of the kind."""
    headers: MultiDict[str] = MultiDict()
    headers["Content-Type"] = media
    headers["Vary"] = "Accept"
    always = [row.custom.warning] if row is not None and row.custom is not None and row.custom.warning else []
    for warning in (*always, *warnings):
        headers.add("Warning", f'299 - "{_quoted(warning)}"')
    return headers


def _quoted(text: str) -> str:
    """Text that may stand in quotes in a header."""
    clean = "".join(char if char.isprintable() and char.isascii() else "?" for char in text[:500])
    return clean.replace("\\", "\\\\").replace('"', '\\"')


def document(
    request: web.BaseRequest,
    data: dict[str, Any],
    status: int = 200,
    *,
    whole: bool = True,
    row: Resource | None = None,
) -> web.Response:
    """What is no object of the table, and has no form but the plain one. Not `whole`: an error."""
    media = media_of(request.headers.get("Accept", ""), whole=whole)
    return web.Response(body=encoded(data, media), status=status, headers=headers_of(media, [], row))


def refusal(error: ApiError, target: Target | None, request: web.BaseRequest) -> web.Response:
    """The answer to a request that is not carried out."""
    row = target.resource if target is not None else None
    response = document(request, failure(error, target, _verb(request, target)), code_of(error), whole=False, row=row)
    if seconds := retry_after_s(error):
        response.headers["Retry-After"] = str(seconds)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="podium"'
    return response


def _verb(request: web.BaseRequest, target: Target | None) -> str:
    """What Kubernetes calls it that is asked for."""
    is_one = target is None or bool(target.name)
    if request.method == "GET":
        watches = target is not None and not target.subresource and request.rel_url.query.get("watch") in query.TRUE
        return "watch" if watches else "get" if is_one else "list"
    if request.method == "DELETE":
        return "delete" if is_one else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(request.method, request.method.lower())
