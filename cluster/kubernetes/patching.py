"""Patches: what an object is after a patch of one of Kubernetes' kinds. All work on JSON's values.

    application/merge-patch+json             RFC 7386: keys are merged, null removes
    application/json-patch+json              RFC 6902: a list of operations
    application/strategic-merge-patch+json   a merge that knows which lists are maps in disguise

The third is Kubernetes' own. Lists whose items have a key (containers: name, ports: containerPort) are merged item by
item, and its directives are obeyed:

    $patch: delete | replace | merge      in an item, or in an object
    $setElementOrder/containers           the order that the merged list shall have
    $deleteFromPrimitiveList/finalizers   values to take out of a list of values
    $retainKeys                           keys to keep, of all that there are

Which lists these are is in `cluster.api.list_keys`, by message and field. Pure.
"""

from __future__ import annotations

import re
from typing import Any

import jsonpatch
import jsonpointer
from google.protobuf.descriptor import Descriptor

from cluster.api.errors import BadRequest, Invalid
from cluster.api.json import merge_patch
from cluster.api.json_parse import describe
from cluster.api.list_keys import Found, field_named, merge_key, merges_values, message_of
from cluster.kubernetes.statuses import Refused

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_TYPE = re.compile(r" \(<class '\w+'>\)")
"""What the library adds to values."""
MAX_OPERATIONS = 10_000
"""Of a JSON patch, as in Kubernetes."""


def patch_kinds(strategic: bool) -> tuple[str, ...]:
    """The types of content that are patches."""
    return (JSON_PATCH, MERGE, STRATEGIC) if strategic else (JSON_PATCH, MERGE)


def apply_patch(media: str, target: dict[str, Any], patch: Any, descriptor: Descriptor | None) -> dict[str, Any]:
    """The object after the patch; neither is changed. `descriptor`: of the object's message; None: it
    has no lists.

    Raises BadRequest and Invalid for patches that make no sense or do not fit, Refused (415) for other kinds of them.
    """
    if media == MERGE:
        if not isinstance(patch, dict):
            raise BadRequest(f"a merge patch is an object, not {describe(patch)}")
        merged: dict[str, Any] = merge_patch(target, patch)
        return merged
    if media == JSON_PATCH:
        return _json_patch(target, patch)
    if media == STRATEGIC:
        if not isinstance(patch, dict):
            raise BadRequest(f"a strategic merge patch is an object, not {describe(patch)}")
        return _merge_object(target, patch, descriptor, "")
    raise Refused(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(patch_kinds(strategic=True)),
    )


def _json_patch(target: dict[str, Any], patch: Any) -> dict[str, Any]:
    if not isinstance(patch, list):
        raise BadRequest(f"a JSON patch is a list of operations, not {describe(patch)}")
    if len(patch) > MAX_OPERATIONS:
        raise Invalid(f"the patch has {len(patch)} operations; at most {MAX_OPERATIONS}")
    try:
        patched = jsonpatch.apply_patch(target, patch)
    except jsonpatch.JsonPatchTestFailed as failed:
        said = _TYPE.sub("", str(failed))
        raise Invalid(f"the patch does not apply: a test failed: {said}"[:500]) from failed
    except jsonpatch.InvalidJsonPatch as error:
        raise BadRequest(f"this is not a JSON patch: {error}"[:500]) from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise Invalid(f"the patch does not apply: {error}"[:500]) from error
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise BadRequest("this is not a JSON patch") from error
    if not isinstance(patched, dict):
        raise Invalid("the patch makes something else of the object than an object")
    return patched


# --- strategic merge


def _merge_object(target: Any, patch: dict[str, Any], descriptor: Descriptor | None, path: str) -> dict[str, Any]:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"{path or 'the patch'}: $patch is one of delete, merge and replace")
    merged = dict(target) if isinstance(target, dict) else {}
    retained = patch.get("$retainKeys")
    if retained is not None:
        keys = _values(retained, f"{path}.$retainKeys")
        merged = {key: value for key, value in merged.items() if key in keys}
    orders = {key.partition("/")[2]: value for key, value in patch.items() if key.startswith("$setElementOrder/")}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            gone = _values(value, f"{path}.{key}")
            if isinstance(merged.get(name), list):
                merged[name] = [each for each in merged[name] if each not in gone]
            continue
        if key.startswith("$"):
            raise BadRequest(f"{path}.{key}: such a directive is not known")
        where = f"{path}.{key}" if path else key
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge_object(merged.get(key), value, message_of(field_named(descriptor, key)), where)
        elif isinstance(value, list):
            merged[key] = _merge_list(merged.get(key), value, field_named(descriptor, key), where)
        else:
            merged[key] = value
    for name, order in orders.items():
        if isinstance(merged.get(name), list):
            merged[name] = _ordered(merged[name], order, field_named(descriptor, name), f"{path}.{name}")
    return merged


def _merge_list(target: Any, patch: list[Any], found: Found, path: str) -> list[Any]:
    where = (found[0], found[1].name) if found is not None else ("", "")
    items = list(target) if isinstance(target, list) else []
    if merges_values(*where):
        return items + [value for value in patch if value not in items]
    key = merge_key(*where)
    if key is None:
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    for item in patch:
        if not isinstance(item, dict):
            raise BadRequest(f"{path}: its items are objects, not {describe(item)}")
        if key not in item:
            raise BadRequest(f"{path}: an item without its key {key} cannot be merged")
        place = next(
            (index for index, each in enumerate(items) if isinstance(each, dict) and each.get(key) == item[key]), None
        )
        if item.get("$patch") == "delete":
            items = [each for each in items if not (isinstance(each, dict) and each.get(key) == item[key])]
        elif place is None:
            items.append(_merge_object({}, item, message_of(found), path))
        else:
            items[place] = _merge_object(items[place], item, message_of(found), f"{path}[{key}={item[key]}]")
    return items


def _ordered(items: list[Any], order: Any, found: Found, path: str) -> list[Any]:
    """The items as `$setElementOrder` says; those that it does not name stay behind the one that they followed."""
    key = merge_key(found[0], found[1].name) if found is not None else None
    wanted = _values(order, path)
    names = [each.get(key) if isinstance(each, dict) and key else each for each in wanted]

    def name_of(item: Any) -> Any:
        return item.get(key) if isinstance(item, dict) and key else item

    named = {index: name_of(item) for index, item in enumerate(items)}
    chosen = [item for name in names for item in items if name_of(item) == name]
    result: list[Any] = list(chosen)
    for index, item in enumerate(items):
        if named[index] in names:
            continue
        before = next((each for each in reversed(items[:index]) if each in result), None)
        result.insert(result.index(before) + 1 if before is not None else 0, item)
    return result


def _values(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{path}: must be a list, not {describe(value)}")
    return value
