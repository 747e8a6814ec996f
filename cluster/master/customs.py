"""What the master does with objects of kinds that users define: as their definition says.

    apiVersion      must be one that is served; the object is kept as the version that is stored
    namespace       as the definition's scope says
    content         of fields that the schema does not know nothing stays; defaults come in; then it must be valid
    status          written apart, if the version has a status subresource, and else a part of the object

The schema is that of the version in which the object was written. What is compiled of a definition is remembered for
the very version of it that was looked at, as `known.py` does: it changes hardly ever. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api.custom_json import custom_status, custom_to_json, set_content, set_status
from cluster.api.defaults import DEFAULT_NAMESPACE
from cluster.api.definitions import (
    has_status,
    is_established,
    is_namespaced,
    schema_of,
    selectable_paths,
    storage_version,
    version_named,
)
from cluster.api.errors import BadRequest, FieldError, Forbidden, Invalid, NotFound
from cluster.api.json_parse import MAX_PROBLEMS
from cluster.api.meta import Key, custom_key, is_terminating
from cluster.api.raw_json import misfit
from cluster.api.schema_rules import Rules
from cluster.api.shapes import OfCustom, Shape
from cluster.api.structural import default, has_rules, prune
from cluster.master.known import Reader
from cluster.pb.v1 import core_pb2 as core
from cluster.store.version import Version


class Checks:
    """What is asked of the objects of a version: its schema and the rules in it, compiled."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = Rules(schema)
        self._rules: Any = None
        """The rules in CEL; None: there are none."""
        if has_rules(schema):
            from cluster.api.cel.objects import compile_rules  # only who has rules pays for it

            self._rules = compile_rules(schema)

    def problems(self, data: dict[str, Any], before: Callable[[], dict[str, Any] | None]) -> list[FieldError]:
        """What is wrong with an object; `before` makes what it replaces, if that is asked for. Of one that is not what
        its schema says, rules are not asked: they could not make anything of it."""
        found = self._schema.problems(data)
        if not found and self._rules is None:
            return found
        old = before()
        if found and old is not None:
            found = self._schema.problems(data, old)
        if self._rules is None:
            return found
        if found:
            return [*found, _UNCHECKED] if len(found) < MAX_PROBLEMS else found
        from cluster.api.cel.objects import broken

        return broken(self._rules, data, old)


_UNCHECKED = FieldError(
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation",
)


class Definition:
    """One version of a definition, ready to be carried out."""

    def __init__(self, version: Version) -> None:
        message = version.parse_own()
        assert isinstance(message, core.CustomResourceDefinition)
        self.version = version
        self.message = message
        self.namespaced = is_namespaced(message)
        self.selectable = selectable_paths(message)
        storage = storage_version(message)
        assert storage is not None, "a definition without a version to store was stored"
        self.storage = storage
        self._schemas: dict[str, tuple[dict[str, Any], Checks]] = {}

    def carry_out(self, version: core.CustomResourceDefinitionVersion, data: dict[str, Any]) -> Checks:
        """Takes out of an object, as JSON, what the schema of that version does not know, and puts in its defaults, in
        place; returns the schema compiled, to ask what is wrong."""
        schema, checks = self.schema(version)
        data["apiVersion"], data["kind"] = self.api_version(version), self.message.spec.names.kind
        prune(data, schema)
        default(data, schema)
        return checks

    def schema(self, version: core.CustomResourceDefinitionVersion) -> tuple[dict[str, Any], Checks]:
        """The schema of one of its versions, and the same compiled."""
        found = self._schemas.get(version.name)
        if found is None:
            schema = schema_of(version)
            found = self._schemas[version.name] = (schema, Checks(schema))
        return found

    def api_version(self, version: core.CustomResourceDefinitionVersion) -> str:
        """GROUP/VERSION."""
        return f"{self.message.spec.group}/{version.name}"

    def written_as(self, obj: core.CustomObject) -> core.CustomResourceDefinitionVersion:
        """The version in which an object is written; an object that says none means the one that is stored. Raises
        BadRequest, NotFound."""
        spec = self.message.spec
        if not obj.apiVersion:
            return self.storage
        group, slash, name = obj.apiVersion.rpartition("/")
        if not slash or group != spec.group:
            raise BadRequest(
                f'the API version "{obj.apiVersion:.200}" is not one of {self.message.metadata.name}, which are stored '
                f"as {self.api_version(self.storage)}"
            )
        found = version_named(self.message, name)
        if found is None or not (found.served or found.storage):
            served = ", ".join(version.name for version in spec.versions if version.served)
            raise NotFound(
                f"the server could not find the requested resource: {self.message.metadata.name} is served as "
                f'{served}, not as "{name:.80}"'
            )
        return found


class Customs:
    """Carries definitions out; remembers what it compiled of each that there is, or was when it last took one in."""

    def __init__(self) -> None:
        self._known: dict[str, Definition] = {}

    def definition(self, reader: Reader, resource: str) -> Definition:
        """The definition of that name. Raises NotFound."""
        version = reader.get(_key_of(resource))
        if version is None:
            self._known.pop(resource, None)
            raise NotFound(
                "the server could not find the requested resource: there is no customresourcedefinition "
                f'"{resource:.200}"'
            )
        known = self._known.get(resource)
        if known is None or known.version.revision != version.revision or known.version.data != version.data:
            known = self._known[resource] = Definition(version)
            for gone in [name for name in self._known if reader.get(_key_of(name)) is None]:
                del self._known[gone]
        return known

    def key(self, reader: Reader, namespace: str, name: str) -> Key:
        """The key of the object that a request means by RESOURCE/NAME. Raises BadRequest, Invalid, NotFound."""
        resource, slash, plain = name.partition("/")
        if not slash or not resource:
            raise BadRequest("a CustomObject is named PLURAL.GROUP/NAME, such as widgets.example.com/blue")
        if not plain:
            raise Invalid("metadata.name: is required")
        return custom_key(resource, self._namespace(self.definition(reader, resource), namespace), plain)

    @staticmethod
    def _namespace(definition: Definition, namespace: str) -> str:
        if definition.namespaced:
            return namespace or DEFAULT_NAMESPACE
        if namespace:
            raise Invalid(f"metadata.namespace: {definition.message.metadata.name} have no namespace")
        return ""

    def place(self, reader: Reader, obj: core.CustomObject) -> None:
        """Whether an object of that kind can be made now, and in which namespace, which is set. Raises NotFound,
        Forbidden, Invalid."""
        definition = self.definition(reader, obj.resource)
        if not is_established(definition.message):
            raise NotFound(
                f"the server could not find the requested resource: customresourcedefinition "
                f'"{obj.resource}" is not established'
            )
        if is_terminating(definition.message):
            raise Forbidden(
                f'{obj.resource} "{obj.metadata.name}" is forbidden: create not allowed while custom resource '
                "definition is terminating"
            )
        namespace = self._namespace(definition, obj.metadata.namespace)
        if namespace:
            obj.metadata.namespace = namespace

    def complete(self, reader: Reader, new: core.CustomObject, old: core.CustomObject | None) -> list[FieldError]:
        """Prunes and defaults what somebody wrote, in place, and returns what is wrong with it. `old`: what it
        replaces, whose status stays if that is written apart. Raises BadRequest, NotFound."""
        definition = self.definition(reader, new.resource)
        version = definition.written_as(new)
        self._kind(definition, new)
        data, problems = _read(new)
        if problems:
            return problems
        if has_status(version):
            data.pop("status", None)
            if old is not None and old.HasField("status"):
                data["status"] = custom_status(old)
        checks = definition.carry_out(version, data)
        set_content(new, data)
        new.apiVersion = definition.api_version(definition.storage)
        # What is there already may stay, whatever the definition says by now: finalizers must be able to go.
        unchanged = old is not None and (new.content, new.status) == (old.content, old.status)
        return [] if unchanged else checks.problems(data, lambda: _before(definition, version, old))

    def complete_status(self, reader: Reader, new: core.CustomObject, given: core.CustomObject) -> list[FieldError]:
        """The status as in `given`, all else of `new` as it is. Raises BadRequest, NotFound."""
        definition = self.definition(reader, new.resource)
        version = definition.written_as(given)
        if not has_status(version):
            raise NotFound(
                f"the server could not find the requested resource: {new.resource} have no status subresource"
            )
        data, problems = _read(new)
        wanted, found = _read(given)
        if problems or found:
            return problems or found
        data.pop("status", None)
        if "status" in wanted:
            data["status"] = wanted["status"]
        wrong = definition.carry_out(version, data).problems(data, lambda: _before(definition, version, new))
        set_status(new, data.get("status"))
        return wrong

    def shape(self, reader: Reader, obj: core.CustomObject) -> Shape:
        """What is known of its fields, by the version that is stored. Raises NotFound."""
        definition = self.definition(reader, obj.resource)
        version = definition.written_as(obj)
        return OfCustom(definition.schema(version)[0], status_apart=has_status(version))

    @staticmethod
    def _kind(definition: Definition, obj: core.CustomObject) -> None:
        kind = definition.message.spec.names.kind
        if obj.kind and obj.kind != kind:
            raise BadRequest(f'the kind "{obj.kind:.80}" is not that of {obj.resource}: {kind}')
        obj.kind = kind


def _key_of(resource: str) -> Key:
    return Key("CustomResourceDefinition", "", resource)


def _before(
    definition: Definition,
    version: core.CustomResourceDefinitionVersion,
    obj: core.CustomObject | None,
) -> dict[str, Any] | None:
    """What was there before a write, as that version sees it; None: nothing."""
    if obj is None:
        return None
    data, problems = _read(obj)
    if problems:
        return None
    definition.carry_out(version, data)
    return data


def _read(obj: core.CustomObject) -> tuple[dict[str, Any], list[FieldError]]:
    """The object as JSON, and what keeps it from being that."""
    try:
        data = custom_to_json(obj)
    except (ValueError, RecursionError) as error:
        return {}, [FieldError("content", f"is no JSON object: {error}"[:200])]
    if found := misfit(data):
        return {}, [FieldError(".".join(map(str, found[0])), found[1])]
    return data, []
