"""What can be done with a part of an object: pods/binding, pods/eviction, and scale, of whatever has one."""

from __future__ import annotations

from typing import Any

from cluster.api import aside
from cluster.api.errors import Conflict, Invalid
from cluster.api.meta import Key
from cluster.client import operations
from cluster.kubernetes import applying, patching, query, scales
from cluster.kubernetes.bodies import media_type, read_dict
from cluster.kubernetes.call import Answer, Call
from cluster.kubernetes.encoding import plain
from cluster.kubernetes.requested import (
    TRIES,
    body_of,
    check_name,
    dry,
    given_object,
    message_of,
    read_applied,
    read_patch,
    write,
)
from cluster.kubernetes.statuses import success
from cluster.pb.v1 import kubernetes_pb2 as bodies


async def bind(call: Call) -> Answer:
    """POST pods/NAME/binding."""
    binding = body_of(call, bodies.Binding, "Binding")
    if binding.target.kind not in ("", "Node") or not binding.target.name:
        raise Invalid("target.name: must name a Node")
    check_name(call, binding.metadata)
    key = Key("Pod", call.namespace, call.target.name)
    await write(call, operations.bind(key, binding.target.name, uid=binding.metadata.uid))
    return call.answer(success(code=201), 201)


async def evict(call: Call) -> Answer:
    """POST pods/NAME/eviction."""
    eviction = body_of(call, bodies.Eviction, "Eviction")
    check_name(call, eviction.metadata)
    options = eviction.deleteOptions
    call = dry(call, options)
    operation = operations.evict(
        Key("Pod", call.namespace, call.target.name),
        uid=options.preconditions.uid,
        version=options.preconditions.resourceVersion,
        grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
    )
    await write(call, operation)
    return call.answer(success(code=201), 201)


async def scale(call: Call, method: str) -> Answer:
    """GET, PUT and PATCH of replicationcontrollers/NAME/scale, and of objects whose definition says where they have
    their numbers."""
    row = call.target.resource
    for attempt in range(1, TRIES + 1):
        current = await call.current()
        shown = scales.scale_of(current, row)
        if method == "GET":
            return call.answer(shown)
        applies = method == "PATCH" and media_type(call.content_type) == patching.APPLY
        if applies:
            wanted = read_applied(call, "Scale")
        elif method == "PUT":
            wanted = read_dict(call.content_type, call.body, "Scale")
        else:
            media = media_type(call.content_type)
            wanted = patching.apply_patch(media, shown, read_patch(call, media), None)
        given = message_of(wanted, bodies.Scale, "Scale")
        check_name(call, given.metadata)
        if not given.spec.HasField("replicas") and method == "PUT":
            given.spec.replicas = 0  # an int32 without a pointer in Go: left out, it is 0
        if given.spec.replicas < 0:
            raise Invalid("spec.replicas: must be greater than or equal to 0")
        before = plain(current, row, exact=True)
        after = _applied(call, before, given) if applies else scales.with_replicas(before, row, given.spec.replicas)
        changed = given_object(call, after, aside.kept(current)).object
        is_named = method == "PUT" or (applies and bool(given.metadata.resourceVersion))
        if is_named:
            changed.metadata.resourceVersion = given.metadata.resourceVersion
        try:
            written = await write(call, operations.update(changed), applied=applies)
        except Conflict:
            if attempt == TRIES or is_named:
                raise
            continue
        return call.answer(scales.scale_of(written, row))
    raise AssertionError("the last attempt returns or raises")


def _applied(call: Call, live: dict[str, Any], given: bodies.Scale) -> dict[str, Any]:
    """The object with the replicas that the call's manager applies; with none, if it applied some before and says
    nothing of them now. Raises Conflict if others answer for them."""
    row = call.target.resource
    says = given.spec.HasField("replicas")
    merged = applying.apply(
        live,
        scales.with_replicas({}, row, given.spec.replicas) if says else {},
        row.shape,
        call.manager,
        force=query.flag(call.query, "force"),
        now=call.time,
        subresource="scale",
    )
    return merged if scales.has_replicas(merged, row) else scales.with_replicas(merged, row, 0)
