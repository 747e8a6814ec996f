"""What can be done with a part of an object: pods/binding, pods/eviction, serviceaccounts/token, and scale, of whatever
has one."""

from __future__ import annotations

from typing import Any

from cluster.api import aside
from cluster.api.errors import Conflict, FieldError, Invalid
from cluster.api.meta import Key
from cluster.api.times import format_time
from cluster.client import operations
from cluster.kubernetes import applying, derived, patching, query, scales, views
from cluster.kubernetes.bodies import media_type, read_dict
from cluster.kubernetes.call import Answer, Call
from cluster.kubernetes.negotiation import Form
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
from cluster.pb.v1 import core_pb2 as core
from cluster.pb.v1 import kubernetes_pb2 as bodies
from cluster.rpc.tokens import AUDIENCE


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
    if options.propagationPolicy not in ("", "Background") or options.orphanDependents:
        raise Invalid("deleteOptions.propagationPolicy: an eviction is a deletion in the background")
    call = dry(call, options)
    operation = operations.evict(
        Key("Pod", call.namespace, call.target.name),
        uid=options.preconditions.uid,
        version=options.preconditions.resourceVersion,
        grace_period_s=options.gracePeriodSeconds if options.HasField("gracePeriodSeconds") else None,
    )
    await write(call, operation)
    return call.answer(success(code=201), 201)


TOKEN_LIFETIME_S = 3600
"""If the request names none."""
TOKEN_MIN_S, TOKEN_MAX_S = 600, 1 << 32
"""Of what a request may name, as in Kubernetes."""
TOKEN_LONGEST_S = 365 * 86400
"""What is longer is shortened, with a warning."""


async def token(call: Call) -> Answer:
    """POST serviceaccounts/NAME/token: a token of the account (TokenRequest)."""
    wanted = body_of(call, bodies.TokenRequest, "TokenRequest")
    check_name(call, wanted.metadata)
    spec = wanted.spec
    lifetime_s = spec.expirationSeconds if spec.HasField("expirationSeconds") else TOKEN_LIFETIME_S
    causes = []
    if lifetime_s < TOKEN_MIN_S:
        text = f"Invalid value: {lifetime_s}: may not specify a duration less than 10 minutes"
        causes.append(FieldError("spec.expirationSeconds", text))
    elif lifetime_s > TOKEN_MAX_S:
        text = f"Invalid value: {lifetime_s}: may not specify a duration larger than 2^32 seconds"
        causes.append(FieldError("spec.expirationSeconds", text))
    for index, audience in enumerate(spec.audiences):
        if audience != AUDIENCE:
            text = f'Unsupported value: "{audience[:200]}": supported values: "{AUDIENCE}"'
            causes.append(FieldError(f"spec.audiences[{index}]", text, "FieldValueNotSupported"))
    if spec.HasField("boundObjectRef"):
        text = "Forbidden: a token is bound to its service account, and to no other object"
        causes.append(FieldError("spec.boundObjectRef", text, "FieldValueForbidden"))
    if causes:
        text = str(causes[0]) if len(causes) == 1 else f"[{', '.join(map(str, causes))}]"
        raise Invalid(f'TokenRequest "{call.target.name}" is invalid: {text}', causes=causes)
    warnings = []
    if lifetime_s > TOKEN_LONGEST_S:
        warnings.append(f"requested expiration of {lifetime_s} seconds shortened to {TOKEN_LONGEST_S} seconds")
        lifetime_s = TOKEN_LONGEST_S
    account = await call.client.get(core.ServiceAccount, call.target.name, call.namespace, timeout_s=call.timeout_s)
    made, expires_s = call.mint(account, lifetime_s)
    meta = {"name": call.target.name, "namespace": call.namespace, "creationTimestamp": call.time}
    document = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": meta,
        "spec": {"audiences": [AUDIENCE], "expirationSeconds": lifetime_s, "boundObjectRef": None},
        "status": {"token": made, "expirationTimestamp": format_time(expires_s)},
    }
    return Answer(call.answer(document).body, 201, warnings)


POSTED = {"binding": bind, "eviction": evict, "token": token}
"""Those that are posted, and by whom they are answered."""


async def scale(call: Call, method: str) -> Answer:
    """GET, PUT and PATCH of replicationcontrollers/NAME/scale, and of objects whose definition says where they have
    their numbers."""
    row = call.target.resource
    for attempt in range(1, TRIES + 1):
        current = await call.current()
        shown = scales.scale_of(current, row)
        if method == "GET":
            return _shown(call, shown)
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
        before = views.plain(current, row, exact=True)
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
        return _shown(call, scales.scale_of(written, row))
    raise AssertionError("the last attempt returns or raises")


def _shown(call: Call, scale: dict[str, Any]) -> Answer:
    """A Scale as the caller wants it."""
    if call.accepted.form is Form.TABLE:
        include = call.query.get("includeObject", "")
        return call.answer(derived.scale_table(scale, call.accepted, include, call.now_s))
    return call.answer(scale)


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
