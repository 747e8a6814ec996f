"""Whether an object is as the schema of its definition wants it, in Kubernetes' words.

The rules themselves are JSON Schema's, and a library carries them out (jsonschema-rs: it is compiled, and a large
object must not hold up the one writer). A structural schema differs from what that library knows in a few points, so it
is translated first:

    nullable: true                  null passes, whatever else is asked; an enum is asked of null, too
    exclusiveMaximum: true          draft 4's boolean becomes a number
    x-kubernetes-int-or-string      a whole number or a string
    pattern                         RE2 looks for it: its language is the one that Kubernetes' patterns are written in,
                                    and it takes linear time, whatever the pattern and the text
    format                          those that Kubernetes knows; others ask for nothing
    x-kubernetes-list-type          looked at here: no two items of a set are equal, none of a map have the same keys
    x-kubernetes-embedded-resource  looked at here: it says what it is, and its metadata is some

Both libraries are imported when a schema is compiled, so that a master without definitions does not pay for them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from cluster.api.errors import FieldError
from cluster.api.formats import NUMBERS, TEXTS
from cluster.api.json_parse import MAX_PROBLEMS, parser
from cluster.api.patterns import check_length, compile_pattern
from cluster.api.ratchet import Ratchet
from cluster.api.raw_json import pack
from cluster.api.structural import EMBEDDED, INT_OR_STRING, LIST_MAP_KEYS, LIST_TYPE, Json, Schema, subschemas
from cluster.pb.v1 import core_pb2 as core

FEW_BYTES = 64 * 1024
"""Of a larger object, only the first problem is told, whether it is new or not: to find all of a million would take a
while."""
MAX_INSTRUCTIONS = 200_000
"""Of RE2, in all patterns of a schema together: a definition must not hold up the one writer, and to compile a pattern
takes a third of a microsecond for each. A usual one has fifty."""
MAX_STEPS = 50_000_000
"""Of all patterns on all texts of an object: instructions times bytes. Where RE2 cannot remember its states, it runs
each instruction for each byte, at 20 to 30 ns; usually a byte takes 1 to 200 ns in all, whatever the pattern."""
_REFUSED_INSTRUCTIONS = 1_000
"""What a pattern counts for that is none."""
_SAME = (
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf", "enum",
    "required", "uniqueItems",
)  # fmt: skip
_NULL = {"type": "null"}
_TOO_DEAR = (
    f"Invalid value: the patterns of the schema may take more than {MAX_STEPS} steps on texts of this length: "
    "give the patterns fewer instructions, or the texts a maxLength"
)

Matcher = Callable[[str], bool]


class Rules:
    """A schema that is compiled."""

    def __init__(self, schema: Schema, patterns: Patterns | None = None) -> None:
        """`patterns`: of the schema that this one is a part of, if it is. Raises ValueError if the schema makes no
        sense to the libraries (a pattern that does not parse)."""
        import jsonschema_rs

        translation = _Translation(patterns or Patterns())
        translated = translation.translate(schema)
        self._schema = schema
        self._asks_more = any(
            part.get(EMBEDDED) or part.get(LIST_TYPE) in ("set", "map") for _, part in subschemas(schema)
        )
        self._patterns, self._texts = translation.compiled, translation.patterns
        self._validator = jsonschema_rs.Draft7Validator(
            translated, formats={**translation.texts, **translation.matchers}, validate_formats=True
        )

    def problems(self, value: Json, old: Json = None) -> list[FieldError]:
        """What is wrong with a value; at most MAX_PROBLEMS. `old`: what it replaces, of which what stays as it is may
        be wrong; None: nothing."""
        found: list[FieldError] = []
        self._patterns.begin()
        if not self._validator.is_valid(value):
            is_small = len(pack(value)) <= FEW_BYTES
            errors = self._validator.iter_errors(value) if is_small else iter([_first(self._validator, value)])
            ratchet = Ratchet(value, old, self._schema) if is_small and old is not None else None
            for error in errors:
                if ratchet is not None and ratchet.is_as_before(error.instance_path):
                    continue
                found.append(self._told(error))
                if len(found) == MAX_PROBLEMS:
                    break
            if self._patterns.exhausted:  # some texts count as wrong that nobody has looked at
                return [FieldError("", _TOO_DEAR)]
            if len(found) == MAX_PROBLEMS:
                return found
        if self._asks_more:
            known = frozenset(_more_problems(old, self._schema, "")) if old is not None else frozenset()
            for problem in _more_problems(value, self._schema, ""):
                if problem in known:
                    continue
                found.append(problem)
                if len(found) == MAX_PROBLEMS:
                    break
        return found

    def _told(self, error: Any) -> FieldError:
        where = _join("", error.instance_path)
        shown, kind = where or "<nil>", error.kind
        name, limits = kind.name, kind.as_dict()
        limit = limits.get("limit")
        value = error.instance
        if name == "required":
            return FieldError(_join(where, [limits["property"]]), "Required value", "FieldValueRequired")
        if name == "enum":
            options = ", ".join(_show(option) for option in limits["options"])
            message = f"Unsupported value: {_show(value)}: supported values: {options}"
            return FieldError(where, message, "FieldValueNotSupported")
        if name == "type":
            wanted = ",".join(one for one in limits["types"] if one != "null")
            found = _type_of(value)
            message = f'Invalid value: "{found}": {shown} in body must be of type {wanted}: "{found}"'
            return FieldError(where, message, "FieldValueTypeInvalid")
        if name == "maxLength":
            return FieldError(where, f"Too long: may not be more than {limit} bytes", "FieldValueTooLong")
        if name in ("maxItems", "maxProperties"):
            message = f"Too many: {len(value)}: must have at most {limit} items"
            return FieldError(where, message, "FieldValueTooMany")
        if name == "format":
            number = limits["format"]
            if number in self._texts:
                why = f"should match '{self._texts[number]}'"
            else:
                why = f"must be of type {number}: {_show(value)}"
        else:
            why = _WHY.get(name, "is not as the schema wants it").format(limit=limit, factor=limits.get("multiple_of"))
        if name in _OF_ALTERNATIVES:
            return FieldError(where, f'Invalid value: "{_type_of(value)}": "{shown}" {why}', "FieldValueInvalid")
        return FieldError(where, f"Invalid value: {_show(value)}: {shown} in body {why}", "FieldValueInvalid")


_WHY = {
    "maximum": "should be less than or equal to {limit}",
    "minimum": "should be greater than or equal to {limit}",
    "exclusiveMaximum": "should be less than {limit}",
    "exclusiveMinimum": "should be greater than {limit}",
    "multipleOf": "should be a multiple of {factor}",
    "minLength": "should be at least {limit} chars long",
    "minItems": "should have at least {limit} items",
    "minProperties": "should have at least {limit} properties",
    "uniqueItems": "shouldn't contain duplicates",
    "not": "must not validate the schema (not)",
    "anyOf": "must validate at least one schema (anyOf)",
    "oneOf": "must validate one and only one schema (oneOf)",
    "allOf": "must validate all the schemas (allOf)",
    "falseSchema": "is a forbidden property",
}
_OF_ALTERNATIVES = ("not", "anyOf", "oneOf", "allOf")


class Patterns:
    """The patterns of one schema, each compiled once; all together not larger than MAX_INSTRUCTIONS, and on one object
    no more work than MAX_STEPS."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._known: dict[str, Matcher | str] = {}
        """What came of each, or why it was refused."""
        self._left = MAX_INSTRUCTIONS

    def begin(self) -> None:
        """The next texts are another object's."""
        self._steps = MAX_STEPS

    @property
    def exhausted(self) -> bool:
        """A text of the object was not looked at, because that might have taken too long."""
        return self._steps < 0

    def compile(self, text: str) -> Matcher:
        """What a pattern asks of a text. Raises ValueError if it is none, or costs too much."""
        found = self._known.get(text)
        if found is None:
            try:
                found = self._compile(text)
            except ValueError as error:
                found = str(error)
            self._known[text] = found
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _compile(self, text: str) -> Matcher:
        check_length(text)
        if self._left < 0:
            raise ValueError(f"the patterns of the schema have more than {MAX_INSTRUCTIONS} instructions once compiled")
        try:
            compiled = compile_pattern(text)
        except ValueError:
            self._left -= _REFUSED_INSTRUCTIONS
            raise
        self._left -= compiled.programsize
        return partial(self._search, compiled)

    def _search(self, compiled: Any, value: str) -> bool:
        encoded = value.encode(errors="surrogatepass")
        self._steps -= compiled.programsize * len(encoded)
        return self._steps >= 0 and compiled.search(encoded) is not None


class _Translation:
    """One schema on its way to the library; remembers the patterns and formats that it met."""

    def __init__(self, compiled: Patterns) -> None:
        self.compiled = compiled
        self.patterns: dict[str, str] = {}
        """By the format that stands in their place."""
        self.matchers: dict[str, Matcher] = {}
        self.texts: dict[str, Matcher] = {}
        self._seen: dict[str, str] = {}

    def translate(self, schema: Schema) -> dict[str, Any]:
        nullable = bool(schema.get("nullable"))
        out = {key: schema[key] for key in _SAME if schema.get(key) is not None}
        if schema.get(INT_OR_STRING):
            out["type"] = ["integer", "string"]
        elif schema.get("type"):
            out["type"] = schema["type"]
        _bounds(schema, out)
        also: list[dict[str, Any]] = []
        if schema.get("pattern"):
            also.append({"format": self._pattern(schema["pattern"])})
        form, kind = schema.get("format"), schema.get("type")
        if form in TEXTS and kind in ("string", None):
            matcher = TEXTS[form]
            if matcher is not None:
                self.texts[form] = matcher
            out["format"] = "date-time" if form == "datetime" else form
        elif form in NUMBERS and kind == "integer":
            low, high = NUMBERS[form]
            also.append({"minimum": low, "maximum": high})
        for key in ("allOf", "anyOf", "oneOf"):
            if schema.get(key):
                out[key] = [self.translate(inner) for inner in schema[key]]
        if also:
            out["allOf"] = [*out.get("allOf", []), *also]
        if schema.get("not") is not None:
            out["not"] = self.translate(schema["not"])
        if schema.get("properties"):
            out["properties"] = {name: self.translate(inner) for name, inner in schema["properties"].items()}
        if isinstance(schema.get("items"), dict):
            out["items"] = self.translate(schema["items"])
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            out["additionalProperties"] = self.translate(others)
        elif others is False:
            out["additionalProperties"] = False
        if not nullable:
            return out
        return {"if": _NULL, "then": {"enum": schema["enum"]} if schema.get("enum") is not None else True, "else": out}

    def _pattern(self, text: str) -> str:
        name = self._seen.get(text)
        if name is None:
            name = self._seen[text] = f"pattern {len(self._seen)}"
            self.patterns[name], self.matchers[name] = text, self.compiled.compile(text)
        return name


def _bounds(schema: Schema, out: dict[str, Any]) -> None:
    for word, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if schema.get(word) is not None:
            out[exclusive if schema.get(exclusive) else word] = schema[word]


def _first(validator: Any, value: Json) -> Any:
    import jsonschema_rs

    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        return error
    raise AssertionError("a value that is not valid is valid")


# --- what the library does not know


def _more_problems(value: Json, schema: Schema, path: str) -> Iterator[FieldError]:
    if isinstance(value, list):
        kind = schema.get(LIST_TYPE)
        if kind in ("set", "map"):
            yield from _duplicates(value, kind, schema, path)
        items = schema.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                if item.__class__ is dict or item.__class__ is list:
                    yield from _more_problems(item, items, f"{path}[{index}]")
    elif isinstance(value, dict):
        if schema.get(EMBEDDED):
            yield from _embedded_problems(value, path)
        properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, item in value.items():
            if item.__class__ is dict or item.__class__ is list:
                inner = properties.get(key, others)
                if isinstance(inner, dict):
                    yield from _more_problems(item, inner, _join(path, [key]))


def _embedded_problems(value: dict[str, Json], path: str) -> Iterator[FieldError]:
    """An object within an object says what it is."""
    for field in ("apiVersion", "kind"):
        if not value.get(field):
            yield FieldError(_join(path, [field]), "Required value: must not be empty", "FieldValueRequired")
        elif not isinstance(value[field], str):
            yield FieldError(_join(path, [field]), f"Invalid value: {_show(value[field])}: must be a string")
    found: list[FieldError] = []
    if value.get("metadata") is not None:
        parser(core.ObjectMeta.DESCRIPTOR)(value["metadata"], None, found)
    for problem in found:
        yield FieldError(_join(_join(path, ["metadata"]), [problem.path] if problem.path else []), problem.message)


def _duplicates(items: list[Json], kind: str, schema: Schema, path: str) -> Iterator[FieldError]:
    seen: set[bytes] = set()
    keys: Sequence[str] = schema.get(LIST_MAP_KEYS) or ()
    properties = (schema.get("items") or {}).get("properties") or {}
    for index, item in enumerate(items):
        mark = item
        if kind == "map":
            if not isinstance(item, dict):
                continue  # its type is wrong, which is said elsewhere
            mark = {key: item.get(key, (properties.get(key) or {}).get("default")) for key in keys}
        packed = pack(mark)
        if packed in seen:
            yield FieldError(f"{path}[{index}]", f"Duplicate value: {_show(mark)}", "FieldValueDuplicate")
        seen.add(packed)


# --- words


def _join(path: str, steps: Sequence[str | int]) -> str:
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path = f"{path}.{step}" if path else step
    return path


def _type_of(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _show(value: Json) -> str:
    text = pack(value).decode()
    return text if len(text) <= 120 else text[:117] + "..."
