"""Objects as Kubernetes' JSON: the one converter behind manifests, `-o json`, merge patches and annotations.

The messages know neither apiVersion nor kind; in JSON they come first. How each field is printed and read is in
`cluster.api.json_print` and `json_parse`. Reading is strict and reports every problem with its path: unknown fields
(with the name that was probably meant), fields of Kubernetes that Podium does not carry out, wrong types, bad
quantities and times.

    object_from_json({"apiVersion": "v1", "kind": "Pod", "metadata": {"nam": "web"}})
    -> Invalid, causes[0] = metadata.nam: unknown field; did you mean "name"?
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from cluster.api.custom_json import custom_arguments, custom_to_json
from cluster.api.errors import BadRequest, FieldError, Invalid
from cluster.api.json_parse import MAX_PROBLEMS, Lenient, Problems, describe, parser
from cluster.api.json_print import printer
from cluster.api.kinds import BY_NAME, AnyObject, kind_hint, kind_named, kind_of, kind_of_type
from cluster.api.raw_json import MAX_DEPTH
from cluster.pb.v1 import core_pb2 as core

M = TypeVar("M", bound=Message)
T = TypeVar("T", bound=AnyObject)

_CUSTOM = kind_of_type(core.CustomObject).name
"""Only how such objects are kept: what they are called is said by their definition."""


def to_json(msg: Message, *, exact: bool = False) -> Any:
    """A message as JSON's values: fields that are set, in the order of their numbers, keys of maps sorted.

    Times have whole seconds, as in Kubernetes; with `exact`, all their digits, so that nothing is lost on the way back.
    """
    return printer(msg.DESCRIPTOR, exact)(msg)


def object_to_json(obj: AnyObject, *, exact: bool = False) -> dict[str, Any]:
    """An object as a manifest: apiVersion and kind, and then its fields."""
    if isinstance(obj, core.CustomObject):
        return custom_to_json(obj, exact)
    kind = kind_of(obj)
    return {"apiVersion": kind.api_version, "kind": kind.name, **printer(obj.DESCRIPTOR, exact)(obj)}


def message_from_json(cls: type[M], data: Any, path: str = "", *, lenient: bool = False) -> M:
    """Reads a message; if `lenient`, without the fields that it does not have. Raises Invalid with a FieldError per
    problem; `path` is put in front of their paths."""
    problems: Problems = Lenient() if lenient else []
    arguments = parser(cls.DESCRIPTOR)(data, None, problems)
    message = None if problems else _construct(cls, arguments, data, problems)
    if message is None:
        raise _invalid(problems, path)
    return message


@dataclass(frozen=True, slots=True)
class Reading:
    """An object, and what was said about it in fields that its message does not have."""

    object: AnyObject
    unknown: list[FieldError]
    """Fields that nobody knows; at most MAX_PROBLEMS of them."""
    not_carried_out: list[tuple[str, Any]]
    """Fields of Kubernetes that Podium does not carry out: paths and values."""


def object_from_json(data: Any) -> AnyObject:
    """Reads an object of any kind, as `apiVersion` and `kind` say. Raises Invalid with a FieldError per problem."""
    return _read_object(data, [])


def read_object(data: Any) -> Reading:
    """The same for a caller who decides what becomes of fields that the message does not have: they are no problem
    here, and nothing of them is lost but what stands in fields that nobody knows."""
    problems = Lenient()
    obj = _read_object(data, problems)
    return Reading(obj, problems.unknown, problems.not_carried_out)


def custom_from_json(data: Any, resource: str) -> core.CustomObject:
    """Reads an object of a kind that a user defined; `resource` is its definition's name, PLURAL.GROUP.

    Whether it is as the definition wants it is not looked at. Raises Invalid with a FieldError per problem.
    """
    return _read_custom(data, resource, [])


def read_custom(data: Any, resource: str) -> Reading:
    """The same, as `read_object`: only metadata can have fields that nobody knows."""
    problems = Lenient()
    obj = _read_custom(data, resource, problems)
    return Reading(obj, problems.unknown, problems.not_carried_out)


def _read_custom(data: Any, resource: str, problems: Problems) -> core.CustomObject:
    if not isinstance(data, dict):
        raise Invalid(f"an object is expected, not {describe(data)}")
    arguments = custom_arguments(data, resource, problems)
    obj = None if problems else _construct(core.CustomObject, arguments, data, problems)
    if obj is None:
        raise _invalid(problems)
    return obj


def _read_object(data: Any, problems: Problems) -> AnyObject:
    if not isinstance(data, dict):
        raise Invalid(f"an object is expected, not {describe(data)}")
    name = data.get("kind")
    if not isinstance(name, str) or not name:
        raise _invalid([FieldError("kind", "is required, such as Pod", "FieldValueRequired")])
    if name not in BY_NAME or name == _CUSTOM:
        known = [each for each in BY_NAME if each != _CUSTOM]
        short = name[:80]
        message = f'kind "{short}" is not known{kind_hint(short, known)}; known are {", ".join(known)}'
        raise _invalid([FieldError("kind", message, "FieldValueNotSupported")])
    kind = kind_named(name)
    if data.get("apiVersion") != kind.api_version:
        found = describe(data["apiVersion"]) if data.get("apiVersion") else "nothing"
        reason = "FieldValueNotSupported" if "apiVersion" in data else "FieldValueRequired"
        problems.append(FieldError("apiVersion", f"must be {kind.api_version} for a {name}, not {found}", reason))
    content = {key: value for key, value in data.items() if key not in ("apiVersion", "kind")}
    arguments = parser(kind.message.DESCRIPTOR)(content, None, problems)
    obj = None if problems else _construct(kind.message, arguments, content, problems)
    if obj is None:
        raise _invalid(problems)
    return obj


def patched(obj: T, patch: dict[str, Any]) -> T:
    """The object after a merge patch (RFC 7386), as a new object; nothing that the patch leaves alone changes.

    Raises Invalid if the outcome is no object of that kind.
    """
    data = merge_patch(object_to_json(obj, exact=True), patch)
    result = custom_from_json(data, obj.resource) if isinstance(obj, core.CustomObject) else object_from_json(data)
    if type(result) is not type(obj):
        raise Invalid("a patch cannot change the kind of an object")
    return result


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged key by key, null removes a key, anything else replaces. Neither side is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def read_json(text: str | bytes, doubled: list[str] | None = None) -> Any:
    """Strict JSON: a duplicate key, NaN, Infinity or more than 64 levels of nesting raise BadRequest.

    `doubled`: where duplicate keys are noted, by their paths (spec.containers[0].name), no more than MAX_PROBLEMS of
    them; the last one counts then.
    """
    duplicates: list[tuple[dict[str, Any], str]] = []  # which objects, and which of their keys

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            times = Counter(key for key, _ in pairs)
            more = [(built, key) for key in built if times[key] > 1]
            duplicates.extend(more[: MAX_PROBLEMS - len(duplicates)])
        return built

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        data = json.loads(text, object_pairs_hook=build, parse_constant=refuse)
    except RecursionError:
        raise BadRequest(f"the JSON is nested more than {MAX_DEPTH} levels deep") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BadRequest(f"this is not JSON: {error}") from error
    if duplicates and doubled is None:
        raise BadRequest(f'the JSON has two values for "{duplicates[0][1][:80]}" in the same object')
    if _brackets(text) > MAX_DEPTH and _depth_exceeds(data, MAX_DEPTH):
        raise BadRequest(f"the JSON is nested more than {MAX_DEPTH} levels deep")
    if duplicates and doubled is not None:
        keys: dict[int, list[str]] = {}
        for holder, key in duplicates:
            keys.setdefault(id(holder), []).append(key)
        doubled += _paths_of(keys, data, "")
    return data


def _paths_of(keys: dict[int, list[str]], value: Any, path: str) -> Iterator[str]:
    """The paths of keys of objects in a value, by the identity of each object: what was in one that did not count is
    nowhere now."""
    if isinstance(value, dict):
        yield from (_below(path, key) for key in keys.get(id(value), ()))
        for key, part in value.items():
            if isinstance(part, dict | list):
                yield from _paths_of(keys, part, _below(path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            if isinstance(part, dict | list):
                yield from _paths_of(keys, part, f"{path}[{index}]")


def _below(path: str, key: str) -> str:
    return f"{path}.{key[:80]}" if path else key[:80]


def _brackets(text: str | bytes) -> int:
    """How many open: no text is nested deeper."""
    if isinstance(text, str):
        return text.count("{") + text.count("[")
    return text.count(b"{") + text.count(b"[")


def _depth_exceeds(data: Any, limit: int) -> bool:
    """Level by level, so that the depth of the data is not the depth of the stack."""
    level = [data]
    for _ in range(limit):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return False
        level = below
    return any(isinstance(value, dict | list) for value in level)


def _construct(cls: type[M], arguments: dict[str, Any], data: Any, problems: Problems) -> M | None:
    """The message; or None with the problem noted, if a text is no Unicode (half of a surrogate pair)."""
    try:
        return cls(**arguments)
    except (UnicodeError, ValueError) as error:
        path = _broken_text(data, "")
        problems.append(FieldError(path or "", "holds half of a surrogate pair" if path else str(error)))
        return None


def _broken_text(data: Any, path: str) -> str | None:
    """The path of the first string, or the object with the first key, that UTF-8 cannot hold."""
    if isinstance(data, str):
        try:
            data.encode()
        except UnicodeEncodeError:
            return path
        return None
    if isinstance(data, dict):
        for key, value in data.items():
            found = _broken_text(key, path) or _broken_text(value, f"{path}.{key}" if path else str(key))
            if found is not None:
                return found
    elif isinstance(data, list):
        for index, value in enumerate(data):
            found = _broken_text(value, f"{path}[{index}]")
            if found is not None:
                return found
    return None


def _invalid(problems: Problems, prefix: str = "") -> Invalid:
    if prefix:
        problems = [
            FieldError(f"{prefix}.{problem.path}" if problem.path else prefix, problem.message, problem.reason)
            for problem in problems
        ]
    shown = "; ".join(map(str, problems[:5]))
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return Invalid(shown + more, causes=problems)
