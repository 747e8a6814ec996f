"""The rules of the schema in a definition: it must be a structural one, Kubernetes' word for a schema that says of
every field, without looking at others, which type it has. Only then can be said what is unknown, and what its default
is.

    every field has a type                      but int-or-string, and what keeps unknown fields
    allOf, anyOf, oneOf, not                    only ask more of fields that stand outside of them
    $ref, definitions, patternProperties ...    are not there
    defaults                                    are valid, and hold no field that the schema does not know
    lists that are maps                         name their keys, and these are there
    metadata                                    only its name can be restricted

Pure; the wording is Kubernetes' (apiextensions' pkg/apis/apiextensions/validation and pkg/apiserver/schema).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from cluster.api.cel.definitions import drop_unknown, misshapen, validate_rules
from cluster.api.json_parse import describe
from cluster.api.problems import Report
from cluster.api.ratchet import MAP_TYPE
from cluster.api.schema_rules import Patterns, Rules
from cluster.api.structural import (
    EMBEDDED,
    INT_OR_STRING,
    LIST_MAP_KEYS,
    LIST_TYPE,
    PRESERVE,
    RULES,
    Schema,
    asked_of,
    prune,
)

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_SCALARS = ("boolean", "integer", "number", "string")
_TO_ROOT, _TO_FIELD, _TO_ITEM = "at the root", "for specified object fields", "for specified array items"


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _anything(value: Any) -> bool:
    return True


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("id", "$schema", "$ref", "description", "type", "format", "title", "pattern"), (_text, "a string")
    ),
    **dict.fromkeys((LIST_TYPE, MAP_TYPE), (_text, "a string")),
    **dict.fromkeys(("exclusiveMaximum", "exclusiveMinimum", "uniqueItems", "nullable"), (_flag, "true or false")),
    **dict.fromkeys((PRESERVE, EMBEDDED, INT_OR_STRING), (_flag, "true or false")),
    **dict.fromkeys(("maximum", "minimum", "multipleOf"), (_number, "a number")),
    **dict.fromkeys(
        ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"),
        (_count, "a whole number"),
    ),
    **dict.fromkeys(("required", LIST_MAP_KEYS), (_texts, "a list of strings")),
    **dict.fromkeys(("properties", "patternProperties", "definitions", "dependencies", "not"), (_object, "an object")),
    "externalDocs": (_object, "an object"),
    **dict.fromkeys(("enum", "allOf", "anyOf", "oneOf", RULES), (_list, "a list")),
    **dict.fromkeys(("default", "example", "items", "additionalProperties", "additionalItems"), (_anything, "")),
}
"""All that can stand in a schema, and of what kind it is."""

_NOT_SUPPORTED = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id", "$schema")
_ONLY_OUTSIDE: dict[str, str] = {
    "type": "must be empty to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "default": "must be undefined to be structural",
    "additionalProperties": "must be undefined to be structural",
    "nullable": "must be false to be structural",
    PRESERVE: "must be undefined to be structural",
    EMBEDDED: "must be false to be structural",
    INT_OR_STRING: "must be false to be structural",
    LIST_TYPE: "must be undefined to be structural",
    LIST_MAP_KEYS: "must be empty to be structural",
    MAP_TYPE: "must be undefined to be structural",
}
"""What only the structural part may say, and why it is wrong elsewhere."""
_EITHER = ("integer", "string")


def validate_schema(report: Report, path: str, schema: Any) -> None:
    """Checks the schema of one version of a definition; `path` leads to it."""
    before = len(report.errors)
    _shape(report, path, schema)
    if len(report.errors) > before:
        return  # what follows relies on it
    if schema.get("type") not in ("object", None):
        report.invalid(f"{path}.type", schema["type"], "must be object at the root")
    if schema.get("nullable"):
        report.forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    patterns = Patterns()
    _patterns(report, path, schema, patterns)
    _structural(report, path, schema, _TO_ROOT)
    _metadata(report, path, schema)
    if len(report.errors) == before:
        _defaults(report, path, schema, patterns, is_root=True)
    if len(report.errors) == before:
        try:
            Rules(schema, patterns)
        except ValueError as error:
            report.invalid(path, "schema", f"it cannot be compiled: {error}")
    if len(report.errors) == before:
        validate_rules(report, path, schema)


def unknown_keys(schema: Any, path: str = "") -> list[str]:
    """Takes out of a schema, in place, what no schema has, and returns the paths of that."""
    if not isinstance(schema, dict):
        return []
    found = []
    for key in [key for key in schema if key not in _KEYS]:
        del schema[key]
        found.append(f"{path}.{key}" if path else key)
    for index, rule in enumerate(schema[RULES] if isinstance(schema.get(RULES), list) else ()):
        found += [f"{path}{'.' if path else ''}{RULES}[{index}].{key}" for key in drop_unknown(rule)]
    for where, inner in _inside(schema, path):
        found += unknown_keys(inner, where)
    return found


def _inside(schema: Schema, path: str) -> list[tuple[str, Any]]:
    """The schemas that stand right in this one, whatever they are, and their paths."""
    dot = f"{path}." if path else ""
    found: list[tuple[str, Any]] = []
    properties = schema.get("properties")
    if isinstance(properties, dict):
        found += [(f"{dot}properties[{name}]", inner) for name, inner in properties.items()]
    for key in ("items", "additionalProperties", "not"):
        inner = schema.get(key)
        if inner is not None and not (key == "additionalProperties" and isinstance(inner, bool)):
            found.append((f"{dot}{key}", inner))
    for key in ("allOf", "anyOf", "oneOf"):
        inner = schema.get(key)
        if isinstance(inner, list):
            found += [(f"{dot}{key}[{index}]", one) for index, one in enumerate(inner)]
    return found


def _shape(report: Report, path: str, schema: Any) -> None:
    """It is a schema at all: each key is one of a schema, and what it says is of the right kind."""
    if not isinstance(schema, dict):
        if isinstance(schema, list) and path.endswith(".items"):
            report.forbidden(path, "items must be a schema object and not an array")
        else:
            report.invalid(path, describe(schema), "must be a schema object")
        return
    for key, value in schema.items():
        known = _KEYS.get(key)
        if known is None:
            report.add(f"{path}.{key}", "unknown field")
        elif value is not None and not known[0](value):
            report.invalid(f"{path}.{key}", describe(value), f"must be {known[1]}")
    for index, rule in enumerate(schema[RULES] if isinstance(schema.get(RULES), list) else ()):
        for key, problem in misshapen(rule):
            report.add(f"{path}.{RULES}[{index}]{key}", problem)
    for where, inner in _inside(schema, path):
        _shape(report, where, inner)


def _patterns(report: Report, path: str, schema: Schema, patterns: Patterns) -> None:
    """Each pattern is one, wherever it stands."""
    if schema.get("pattern"):
        try:
            patterns.compile(schema["pattern"])
        except ValueError as error:
            why = f"must be a valid regular expression, but isn't: {error}"
            report.invalid(f"{path}.pattern", schema["pattern"], why)
    for where, inner in _inside(schema, path):
        _patterns(report, where, inner, patterns)


def _structural(report: Report, path: str, schema: Schema, level: str) -> None:
    """The structural part: what says which fields there are."""
    kind = schema.get("type")
    if not kind and not schema.get(INT_OR_STRING) and not (schema.get(PRESERVE) and level is not _TO_ROOT):
        report.required(f"{path}.type", f"must not be empty {level}")
    elif kind and kind not in TYPES:
        report.not_supported(f"{path}.type", kind, TYPES)
    _keywords(report, path, schema)
    _extensions(report, path, schema)
    for key in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(schema.get(key) or []):
            types_allowed = bool(schema.get(INT_OR_STRING)) and _says_either(schema, key)
            _value_only(report, f"{path}.{key}[{index}]", inner, schema, types_allowed)
    if schema.get("not") is not None:
        _value_only(report, f"{path}.not", schema["not"], schema, False)
    for name, inner in (schema.get("properties") or {}).items():
        _structural(report, f"{path}.properties[{name}]", inner, _TO_FIELD)
    if isinstance(schema.get("items"), dict):
        _structural(report, f"{path}.items", schema["items"], _TO_ITEM)
    if isinstance(schema.get("additionalProperties"), dict):
        _structural(report, f"{path}.additionalProperties", schema["additionalProperties"], _TO_FIELD)


def _says_either(schema: Schema, key: str) -> bool:
    """anyOf: integer or string, right there or as the first of allOf: that is how int-or-string is mostly written."""
    alternatives = schema.get("anyOf") if key == "anyOf" else ((schema.get("allOf") or [{}])[0] or {}).get("anyOf")
    return isinstance(alternatives, list) and tuple(one.get("type") for one in alternatives[:2]) == _EITHER


def _value_only(report: Report, path: str, schema: Schema, around: Schema | None, types_allowed: bool) -> None:
    """A part that only asks more of fields which `around`, the structural part, describes."""
    for key, why in _ONLY_OUTSIDE.items():
        if schema.get(key) in (None, False, "", []) or (key == "type" and types_allowed):
            continue
        report.forbidden(f"{path}.{key}", why)
    _keywords(report, path, schema)
    for name, inner in (schema.get("properties") or {}).items():
        outside = ((around or {}).get("properties") or {}).get(name)
        if outside is None and not (around or {}).get(PRESERVE) and not (around or {}).get("additionalProperties"):
            report.required(f"{_outer(path)}.properties[{name}]", f"because it is defined in {path}.properties[{name}]")
        _value_only(report, f"{path}.properties[{name}]", inner, outside, False)
    if isinstance(schema.get("items"), dict):
        outside = (around or {}).get("items")
        if outside is None:
            report.required(f"{_outer(path)}.items", f"because it is defined in {path}.items")
        _value_only(report, f"{path}.items", schema["items"], outside, False)
    for key in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(schema.get(key) or []):
            _value_only(report, f"{path}.{key}[{index}]", inner, around, types_allowed)
    if schema.get("not") is not None:
        _value_only(report, f"{path}.not", schema["not"], around, False)


def _outer(path: str) -> str:
    """The structural part that an alternative belongs to."""
    cut = min((at for word in (".allOf[", ".anyOf[", ".oneOf[", ".not") if (at := path.find(word)) >= 0), default=-1)
    return path[:cut] if cut >= 0 else path


def _keywords(report: Report, path: str, schema: Schema) -> None:
    for key in _NOT_SUPPORTED:
        if schema.get(key):
            report.forbidden(f"{path}.{key}", f"{key} is not supported")
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        report.forbidden(f"{path}.uniqueItems", why)
    others = schema.get("additionalProperties")
    if others is False:
        report.forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
    elif others is not None and schema.get("properties"):
        report.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if schema.get("multipleOf") is not None and schema["multipleOf"] <= 0:
        report.invalid(f"{path}.multipleOf", schema["multipleOf"], "must be greater than 0")
    for key in ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"):
        if schema.get(key) is not None:
            report.at_least(f"{path}.{key}", schema[key], 0)
    if schema.get("enum") == []:
        report.invalid(f"{path}.enum", "[]", "must have at least one value")


def _extensions(report: Report, path: str, schema: Schema) -> None:
    kind = schema.get("type")
    if schema.get(PRESERVE) is False:
        report.invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    if schema.get(INT_OR_STRING) and kind:
        report.forbidden(f"{path}.type", f"must be empty if {INT_OR_STRING} is true")
    if schema.get(EMBEDDED):
        if kind != "object":
            report.invalid(f"{path}.type", kind or "", f"must be object if {EMBEDDED} is true")
        if not schema.get("properties") and not schema.get(PRESERVE):
            report.required(f"{path}.properties", f"must not be empty if {EMBEDDED} is true without {PRESERVE}")
    for word, wanted in (("properties", "object"), ("additionalProperties", "object"), ("items", "array")):
        if schema.get(word) and kind and kind != wanted:
            report.forbidden(f"{path}.{word}", f"must be undefined if type is {kind}")
    if kind == "array" and not isinstance(schema.get("items"), dict):
        report.required(f"{path}.items", "must be specified")
    map_type = schema.get(MAP_TYPE)
    if map_type is not None:
        report.one_of(f"{path}.{MAP_TYPE}", map_type, ("atomic", "granular"))
        if kind != "object":
            report.invalid(f"{path}.type", kind or "", f"must be object if {MAP_TYPE} is specified")
    _list_type(report, path, schema)


def _list_type(report: Report, path: str, schema: Schema) -> None:
    kind, keys = schema.get(LIST_TYPE), schema.get(LIST_MAP_KEYS) or []
    items = schema.get("items") if isinstance(schema.get("items"), dict) else None
    if kind is None:
        if keys:
            report.forbidden(f"{path}.{LIST_MAP_KEYS}", f"must be empty if {LIST_TYPE} is not map")
        return
    report.one_of(f"{path}.{LIST_TYPE}", kind, ("atomic", "map", "set"))
    if schema.get("type") != "array":
        report.invalid(f"{path}.type", schema.get("type") or "", f"must be array if {LIST_TYPE} is specified")
    if kind != "map":
        if keys:
            report.forbidden(f"{path}.{LIST_MAP_KEYS}", f"must be empty if {LIST_TYPE} is not map")
        if kind == "set" and items is not None and items.get("nullable"):
            report.forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is set")
        return
    if not keys:
        report.required(f"{path}.{LIST_MAP_KEYS}", f"must not be empty if {LIST_TYPE} is map")
    if items is None:
        return
    if items.get("type") != "object":
        report.invalid(
            f"{path}.items.type", items.get("type") or "", f"must be object if parent array's {LIST_TYPE} is map"
        )
    if len(set(keys)) < len(keys):
        report.invalid(f"{path}.{LIST_MAP_KEYS}", ",".join(keys), "must not contain duplicate entries")
    properties, required = items.get("properties") or {}, items.get("required") or []
    for key in keys:
        inner = properties.get(key)
        if inner is None:
            why = "entries must all be names of item properties"
            report.invalid(f"{path}.{LIST_MAP_KEYS}", key, why)
            continue
        where = f"{path}.items.properties[{key}]"
        if inner.get("type") not in _SCALARS:
            report.invalid(
                f"{where}.type",
                inner.get("type") or "",
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            )
        if key not in required and "default" not in inner:
            report.required(
                f"{where}.default",
                f"this property is in {LIST_MAP_KEYS}, so it must have a default or be a required property",
            )
        if inner.get("nullable"):
            report.forbidden(f"{where}.nullable", f"this property is in {LIST_MAP_KEYS}, so it cannot be nullable")


def _metadata(report: Report, path: str, schema: Schema) -> None:
    metadata = (schema.get("properties") or {}).get("metadata")
    if metadata is None:
        return
    where = f"{path}.properties[metadata]"
    if metadata.get("type") not in (None, "object"):
        report.invalid(f"{where}.type", metadata["type"], "must be object")
    if any(name not in ("name", "generateName") for name in metadata.get("properties") or {}):
        why = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        report.forbidden(where, why)
    if "default" in metadata:
        report.forbidden(f"{where}.default", "must not be set in top-level metadata")


def _defaults(report: Report, path: str, schema: Schema, patterns: Patterns, *, is_root: bool) -> None:
    """Each default is one that the schema would take."""
    if is_root and "default" in schema:
        report.forbidden(f"{path}.default", "must not be set at the root")
    elif "default" in schema:
        wanted = schema["default"]
        if unknown := prune(deepcopy(wanted), schema, is_object=bool(schema.get(EMBEDDED))):
            report.invalid(f"{path}.default", str(wanted), f"must not have unknown fields: {', '.join(unknown)}")
        elif wanted is None and not schema.get("nullable"):
            report.invalid(f"{path}.default", "null", "must not be null where null is not allowed")
        else:
            # Only what is asked of it: with a default at every level, all of the schema each time would be a lot.
            for problem in Rules(asked_of(schema, [wanted]), patterns).problems(wanted):
                report.add(
                    f"{path}.default{'.' if problem.path else ''}{problem.path}", problem.message, problem.reason
                )
    for where, inner in _inside(schema, path):
        if isinstance(inner, dict) and not where[len(path) :].startswith((".allOf", ".anyOf", ".oneOf", ".not")):
            _defaults(report, where, inner, patterns, is_root=False)
