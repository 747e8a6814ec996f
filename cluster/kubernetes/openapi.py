"""OpenAPI documents, made from descriptors and from users' schemas: for those who check, explain and apply objects.

    /openapi/v3                 an index: a document for each group and version
    /openapi/v3/api/v1          schemas of its kinds, and which paths there are
    /openapi/v2                 all of it in one, in protobuf (kubectl reads nothing else), or as JSON

kubectl asks these before it sends anything: whether the server validates fields itself (a PATCH with the parameter
fieldValidation), which lists are maps in disguise, and what `explain` shows. Fields of Kubernetes that Podium does not
carry out are in the schemas, too: they are kept, with a warning. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from cluster.api.json_print import is_inline, map_entry
from cluster.api.json_special import Special, special
from cluster.api.list_keys import merge_key, merges_values
from cluster.api.raw_pb import delimited
from cluster.kubernetes import openapi_custom
from cluster.kubernetes.catalog import OWN, Catalog
from cluster.kubernetes.discovery import version as server_version
from cluster.kubernetes.gnostic import definitions, extension, text
from cluster.kubernetes.patching import APPLY, JSON_PATCH, MERGE, STRATEGIC
from cluster.kubernetes.paths import NoSuchPath
from cluster.kubernetes.resources import RESOURCES, Resource
from cluster.pb.v1 import core_pb2 as core

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_JSON = "application/json"
_NOT_CARRIED_OUT = "A field of Kubernetes that Podium does not carry out: it is kept with the object, and warned of."

_OF_EVERY_KIND = {
    "metadata": "What it is called, and what is known of every object.",
    "spec": "What is wanted.",
    "status": "How it is.",
}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "int64"},
    FieldDescriptor.CPPTYPE_INT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "integer", "format": "int64"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
}
_SPECIAL: dict[Special, dict[str, Any]] = {
    Special.TIME: {"type": "string", "format": "date-time"},
    Special.MICRO_TIME: {"type": "string", "format": "date-time"},
    Special.QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
    Special.FIELDS: {"type": "object"},
    Special.RAW: {"x-kubernetes-preserve-unknown-fields": True},
    Special.INT_OR_STRING: {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
_METADATA = cast(Descriptor, core.ObjectMeta.DESCRIPTOR)
_META = frozenset(
    ("ObjectMeta", "OwnerReference", "LabelSelector", "LabelSelectorRequirement", "Condition", "Time", "MicroTime")
)


def document(parts: list[str], accept: str, catalog: Catalog) -> tuple[bytes, str]:
    """The document at /openapi/PARTS, and its type. Raises NoSuchPath."""
    if parts == ["v2"]:
        if "proto-openapi" in accept:
            return catalog.kept("openapi v2, protobuf", lambda: _v2_protobuf(catalog)), V2_PROTOBUF
        return catalog.kept("openapi v2", lambda: _v2_json(catalog)), _JSON
    if parts[:1] == ["v3"]:
        if len(parts) == 1:
            return catalog.kept("openapi v3", lambda: _v3_index(catalog)), _JSON
        name = "/".join(parts[1:])
        if name in _names(catalog):
            return _v3(name, catalog), _JSON
    raise NoSuchPath


def digest_of(body: bytes) -> str:
    """By which a client knows whether a document is the one that it has."""
    return hashlib.sha256(body).hexdigest()[:32].upper()


def _names(catalog: Catalog) -> dict[str, tuple[str, str]]:
    """api/v1, apis/policy/v1 ... -> group and version."""
    return {
        f"apis/{group}/{version}" if group else f"api/{version}": (group, version)
        for group, version in catalog.group_versions
    }


def _v3_index(catalog: Catalog) -> bytes:
    paths = {}
    for name in _names(catalog):
        paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={_digest(name, catalog)}"}
    return orjson.dumps({"paths": paths})


def _digest(name: str, catalog: Catalog) -> str:
    """Another one for another document. Of kinds that users define, it is not necessary to make that for it."""
    rows = catalog.resources_of(*_names(catalog)[name])
    tags = [row.custom.tag for row in rows if row.custom is not None]
    own = digest_of(_v3(name, OWN)) if name in _names(OWN) else ""
    return digest_of("\n".join((own, server_version()["gitVersion"], *tags)).encode()) if tags else own


def _v3(name: str, catalog: Catalog) -> bytes:
    rows = catalog.resources_of(*_names(catalog)[name])
    if catalog is not OWN and all(row.custom is None for row in rows):
        return _v3(name, OWN)  # whatever users define, it stays the same
    return catalog.kept(f"openapi v3 {name}", lambda: _v3_document(rows))


def _v3_document(rows: list[Resource]) -> bytes:
    return orjson.dumps(
        {
            "openapi": "3.0.0",
            "info": _info(),
            "paths": dict(_paths(rows, 3)),
            "components": {"schemas": _schemas(rows, "#/components/schemas/", 3)},
        }
    )


def _v2_json(catalog: Catalog) -> bytes:
    return orjson.dumps(
        {
            "swagger": "2.0",
            "info": _info(),
            "paths": dict(_paths(catalog.rows, 2)),
            "definitions": _schemas(catalog.rows, "#/definitions/", 2),
        }
    )


def _info() -> dict[str, str]:
    return {"title": "Kubernetes", "version": server_version()["gitVersion"]}


# --- paths


def _collections(row: Resource) -> Iterator[tuple[str, bool]]:
    """Paths of the collection, and whether objects are created and found below it."""
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    if row.kind.namespaced:
        yield f"{root}/namespaces/{{namespace}}/{row.plural}", True
        yield f"{root}/{row.plural}", False
    else:
        yield f"{root}/{row.plural}", True


def _paths(rows: Iterable[Resource], form: int) -> Iterator[tuple[str, Any]]:
    """Paths with their operations, in version 2 or 3 of OpenAPI."""
    for row in rows:
        for path, is_home in _collections(row):
            collection = {"get": _operation(row, "list", path, form)}
            if is_home:
                collection["post"] = _operation(row, "post", path, form)
                collection["delete"] = _operation(row, "deletecollection", path, form)
            yield path, collection
            if is_home:
                item = f"{path}/{{name}}"
                yield (
                    item,
                    {word: _operation(row, word, item, form) for word in ("get", "put", "patch", "delete")},
                )


def _operation(row: Resource, action: str, path: str, form: int) -> dict[str, Any]:
    def parameter(name: str, place: str) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "in": place}
        if place == "path":
            found["required"] = True
        return found | ({"schema": {"type": "string"}} if form == 3 else {"type": "string"})

    names = [name for name in ("namespace", "name") if f"{{{name}}}" in path]
    parameters = [parameter(name, "path") for name in names]
    if action in ("post", "put", "patch"):
        parameters += [parameter(name, "query") for name in ("dryRun", "fieldManager", "fieldValidation")]
    scope = "Namespaced" if "namespace" in names else ""
    place = {"list": "", "post": "", "deletecollection": "Collection"}.get(action, "")
    verb = {"get": "read", "put": "replace", "post": "create", "deletecollection": "delete"}.get(action, action)
    group = (row.group.partition(".")[0] or "core").title() if row.custom is None else openapi_custom.title_of(row)
    everywhere = "ForAllNamespaces" if row.kind.namespaced and not scope else ""
    schema = {"$ref": ("#/components/schemas/" if form == 3 else "#/definitions/") + _name_of(row)}
    answer: dict[str, Any] = {"description": "OK"}
    if action not in ("list", "deletecollection"):
        answer |= {"content": {_JSON: {"schema": schema}}} if form == 3 else {"schema": schema}
    found: dict[str, Any] = {
        "operationId": f"{verb}{group}{row.version.title()}{place}{scope}{row.kind.name}{everywhere}",
        "parameters": parameters,
        "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(row),
    }
    if action == "patch":
        medias = _patches(row)
        if form == 3:
            found["requestBody"] = {"content": {media: {"schema": {"type": "object"}} for media in medias}}
        else:
            found["consumes"] = medias
    elif action in ("post", "put"):
        if form == 3:
            found["requestBody"] = {"content": {_JSON: {"schema": schema}}, "required": True}
        else:
            parameters.append({"name": "body", "in": "body", "required": True, "schema": schema})
    return found


def _gvk(row: Resource) -> dict[str, str]:
    return {"group": row.group, "version": row.version, "kind": row.kind.name}


def _patches(row: Resource) -> list[str]:
    """The kinds of patches that are taken."""
    return [JSON_PATCH, MERGE, STRATEGIC, APPLY] if row.custom is None else [JSON_PATCH, MERGE, APPLY]


# --- schemas


def _name_of(row: Resource) -> str:
    return _schema_name(row.descriptor) if row.custom is None else openapi_custom.name_of(row)


def _schema_name(descriptor: Descriptor) -> str:
    name = descriptor.name
    if name in _META:
        return f"io.k8s.apimachinery.pkg.apis.meta.v1.{name}"
    owner = next((each for each in RESOURCES if name.startswith(each.descriptor.name) and each.group), None)
    group = (owner.group.partition(".")[0] if owner is not None else "") or "core"
    return f"io.k8s.api.{group}.v1.{name}"


def _schemas(rows: Sequence[Resource], prefix: str, form: int) -> dict[str, Any]:
    """The schemas of these kinds and of all that they are made of."""
    found: dict[str, Any] = {}
    waiting: list[Descriptor] = []
    top: dict[str, Resource] = {}
    for row in rows:
        if row.custom is None:
            waiting.append(row.descriptor)
            top[row.descriptor.full_name] = row
        else:
            waiting.append(_METADATA)
            found[_name_of(row)] = openapi_custom.schema_of(row, prefix + _schema_name(_METADATA), form)
    while waiting:
        descriptor = waiting.pop()
        name = _schema_name(descriptor)
        if name in found:
            continue
        schema, inner = _schema(descriptor, prefix)
        served = top.get(descriptor.full_name)
        if served is not None:
            schema["x-kubernetes-group-version-kind"] = [_gvk(served)]
            schema["properties"] = {
                "apiVersion": {"description": "The group and version of the kind.", "type": "string"},
                "kind": {"description": "What kind of object it is.", "type": "string"},
                **schema["properties"],
            }
        found[name] = schema
        waiting += inner
    return dict(sorted(found.items()))


def _schema(descriptor: Descriptor, prefix: str) -> tuple[dict[str, Any], list[Descriptor]]:
    properties: dict[str, Any] = {}
    inner: list[Descriptor] = []
    _add_properties(descriptor, prefix, properties, inner)
    schema: dict[str, Any] = {"type": "object", "properties": dict(sorted(properties.items()))}
    if text := _descriptions().get(descriptor.name):
        schema["description"] = text
    return schema, inner


def _add_properties(descriptor: Descriptor, prefix: str, properties: dict[str, Any], inner: list[Descriptor]) -> None:
    for field in descriptor.fields:
        if is_inline(field):
            assert field.message_type is not None
            _add_properties(field.message_type, prefix, properties, inner)
        else:
            properties[field.name] = _told(_property(descriptor, field, prefix, inner), descriptor, field)
    proto = DescriptorProto()
    descriptor.CopyToProto(proto)
    for name in proto.reserved_name:
        properties.setdefault(name, {"description": _NOT_CARRIED_OUT, "x-kubernetes-preserve-unknown-fields": True})


@cache
def _descriptions() -> Mapping[str, str]:
    """What the comments in protos/ say. Nothing but these documents needs them."""
    from cluster.pb.v1.descriptions import DESCRIPTIONS

    return DESCRIPTIONS


def _told(found: dict[str, Any], descriptor: Descriptor, field: FieldDescriptor) -> dict[str, Any]:
    """A property with what is said of it; of its type, the type says it. Nothing may stand beside a $ref."""
    text = _descriptions().get(f"{descriptor.name}.{field.name}") or _OF_EVERY_KIND.get(field.name)
    if text is None:
        return found
    return {"description": text, **({"allOf": [found]} if "$ref" in found else found)}


def _property(descriptor: Descriptor, field: FieldDescriptor, prefix: str, inner: list[Descriptor]) -> dict[str, Any]:
    entry = map_entry(field)
    if entry is not None:
        return {"type": "object", "additionalProperties": _value(entry.fields_by_name["value"], prefix, inner)}
    value = _value(field, prefix, inner)
    if not field.is_repeated:
        return value
    found: dict[str, Any] = {"type": "array", "items": value}
    key = merge_key(descriptor.name, field.name)
    if key is not None:
        found |= {
            "x-kubernetes-list-map-keys": [key],
            "x-kubernetes-list-type": "map",
            "x-kubernetes-patch-merge-key": key,
            "x-kubernetes-patch-strategy": "merge",
        }
    elif merges_values(descriptor.name, field.name):
        found |= {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    else:
        found["x-kubernetes-list-type"] = "atomic"
    return found


def _value(field: FieldDescriptor, prefix: str, inner: list[Descriptor]) -> dict[str, Any]:
    message = field.message_type
    if message is not None:
        found = special(message)
        if found is not None:
            return dict(_SPECIAL[found])
        inner.append(message)
        return {"$ref": prefix + _schema_name(message)}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "format": "byte"}
    return dict(_SCALARS.get(field.cpp_type, {"type": "string"}))


# --- version 2 in protobuf (gnostic's openapi.v2.Document): just enough of it


def _query_parameter(name: str) -> bytes:
    """ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema."""
    return delimited(8, delimited(1, delimited(2, delimited(3, text(2, "query") + text(4, name) + text(6, "string")))))


def _v2_protobuf(catalog: Catalog) -> bytes:
    paths = b""
    for row in catalog.rows:
        gvk = "".join(f"{key}: {value or chr(34) * 2}\n" for key, value in _gvk(row).items())
        for path, is_home in _collections(row):
            if not is_home:
                continue
            operation = b"".join(text(7, media) for media in _patches(row))
            operation += b"".join(_query_parameter(name) for name in ("dryRun", "fieldManager", "fieldValidation"))
            operation += extension(13, "x-kubernetes-action", "patch\n")
            operation += extension(13, "x-kubernetes-group-version-kind", gvk)
            paths += delimited(2, text(1, f"{path}/{{name}}") + delimited(2, delimited(8, operation)))
    info = _info()
    head = text(1, "2.0") + delimited(2, text(1, info["title"]) + text(2, info["version"]))
    return head + delimited(8, paths) + delimited(9, definitions(_schemas(catalog.rows, "#/definitions/", 2)))
