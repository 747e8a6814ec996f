"""What can be done with a part of an object: pods/binding, pods/eviction, and scale, of whatever has one."""

from __future__ import annotations

from cluster.api import aside
from cluster.api.errors import Conflict, Invalid
from cluster.api.meta import Key
from cluster.client import operations
from cluster.kubernetes import applying, patching, scales
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
    read_patch,
    write,
)
from cluster.kubernetes.statuses import Refused, success
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
        if method == "PUT":
            wanted = read_dict(call.content_type, call.body, "Scale")
        else:
            media = media_type(call.content_type)
            if media == patching.APPLY:
                raise Refused(415, "UnsupportedMediaType", "server-side apply is not served")
            wanted = patching.apply_patch(media, shown, read_patch(call, media), None)
        given = message_of(wanted, bodies.Scale, "Scale")
        check_name(call, given.metadata)
        if not given.spec.HasField("replicas") and method == "PUT":
            given.spec.replicas = 0  # an int32 without a pointer in Go: left out, it is 0
        if given.spec.replicas < 0:
            raise Invalid("spec.replicas: must be greater than or equal to 0")
        before = plain(current, row, exact=True)
        after = scales.with_replicas(before, row, given.spec.replicas)
        if current.metadata.managedFields:
            after = applying.noted(before, after, row.shape, call.manager, now=call.time)
        changed = given_object(call, after, aside.kept(current)).object
        if method == "PUT":
            changed.metadata.resourceVersion = given.metadata.resourceVersion
        try:
            written = await write(call, operations.update(changed))
        except Conflict:
            if attempt == TRIES or method == "PUT":
                raise
            continue
        return call.answer(scales.scale_of(written, row))
    raise AssertionError("the last attempt returns or raises")
