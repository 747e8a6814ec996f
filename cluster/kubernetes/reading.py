"""GET: one object, or the objects of a collection.

What resourceVersion means: of a list, absent, the newest; 0, whatever is at hand; N, not older than N, or with
resourceVersionMatch=Exact, as of N. A continue token is the master's, and goes on with the snapshot of the first page.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.api.errors import BadRequest, DeadlineExceeded
from cluster.api.kinds import AnyObject
from cluster.client.interface import ListResult
from cluster.kubernetes import query
from cluster.kubernetes.call import Answer, Call
from cluster.kubernetes.encoding import list_of
from cluster.kubernetes.negotiation import Form

_ENCODE_AT_ONCE = 500
"""Objects, between looks at what else there is to do."""


async def get(call: Call) -> Answer:
    """One object."""
    return Answer(call.one(await call.current(stale=call.query.get("resourceVersion") == "0")))


async def list_objects(call: Call) -> Answer:
    """The objects of a collection."""
    result = await find(call)
    row = call.target.resource
    metadata: dict[str, Any] = {"resourceVersion": str(result.revision)}
    if result.continue_token:
        metadata["continue"] = result.continue_token
        if result.remaining:
            metadata["remainingItemCount"] = result.remaining
    items = result.items
    plain = call.accepted.form is Form.PLAIN
    encoded = []
    for start in range(0, len(items), _ENCODE_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = items[start : start + _ENCODE_AT_ONCE]
        encoded += [call.encoder.json(obj, row) if plain else call.encoder.metadata(obj) for obj in some]
    if call.accepted.form is Form.TABLE:
        return Answer(call.table(items, metadata))
    if call.accepted.form is Form.METADATA:
        return Answer(list_of("PartialObjectMetadataList", "meta.k8s.io/v1", metadata, encoded))
    return Answer(list_of(row.list_kind, row.kind.api_version, metadata, encoded))


async def find(call: Call) -> ListResult[AnyObject]:
    """What a list, or a delete of a collection, is about."""
    words = call.query
    kind = call.target.resource.kind
    token = words.get("continue", "")
    version, match = words.get("resourceVersion", ""), words.get("resourceVersionMatch", "")
    wanted = query.number(words, "resourceVersion")
    if match not in ("", "Exact", "NotOlderThan"):
        raise BadRequest(f'resourceVersionMatch="{match[:40]}" must be Exact or NotOlderThan')
    if match and not version:
        raise BadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if token and version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    exact = match == "Exact"
    if exact and not wanted:
        raise BadRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"')
    result: ListResult[AnyObject] = await call.client.list(
        kind.message,
        call.namespace,
        label_selector=words.get("labelSelector", ""),
        field_selector=call.selector(words.get("fieldSelector", "")),
        limit=query.number(words, "limit") or 0,
        continue_token=token,
        revision=wanted if exact else None,
        allow_stale=version == "0" and not token,
        timeout_s=call.timeout_s,
    )
    if wanted and not exact and result.revision < wanted:
        raise DeadlineExceeded(f"Too large resource version: {wanted}, current: {result.revision}", retry_after_s=1)
    return result
