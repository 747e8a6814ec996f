"""Lists that are maps in disguise: which lists of Kubernetes' objects have items with a key, or are sets of values.

Strategic merge patches, server-side apply and OpenAPI go by the same table, which is Kubernetes'. Which message stands
where in an object, the descriptors say: `field_named` goes down from one to the next, by the names that JSON has. Pure.
"""

from __future__ import annotations

from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from cluster.api.json_print import is_inline, map_entry

Found: TypeAlias = tuple[str, FieldDescriptor] | None
"""The message that a field is of, and the field; None: it is of none that is known."""

_KEYS: dict[tuple[str, str], str] = {
    ("PodSpec", "containers"): "name",
    ("PodSpec", "initContainers"): "name",
    ("PodSpec", "ephemeralContainers"): "name",
    ("PodSpec", "volumes"): "name",
    ("PodSpec", "imagePullSecrets"): "name",
    ("PodSpec", "hostAliases"): "ip",
    ("PodSpec", "topologySpreadConstraints"): "topologyKey",
    ("PodSpec", "schedulingGates"): "name",
    ("Container", "ports"): "containerPort",
    ("Container", "env"): "name",
    ("Container", "volumeMounts"): "mountPath",
    ("Container", "volumeDevices"): "devicePath",
    ("ServiceSpec", "ports"): "port",
    ("ServiceAccount", "secrets"): "name",
    ("ServiceAccount", "imagePullSecrets"): "name",
    ("ObjectMeta", "ownerReferences"): "uid",
    ("PodStatus", "conditions"): "type",
    ("PodStatus", "podIPs"): "ip",
    ("NodeStatus", "conditions"): "type",
    ("NodeStatus", "addresses"): "type",
    ("ReplicationControllerStatus", "conditions"): "type",
    ("PodDisruptionBudgetStatus", "conditions"): "type",
    ("NamespaceStatus", "conditions"): "type",
    ("ServiceStatus", "conditions"): "type",
}
"""(message, field of a list) -> the key of its items. Other lists are replaced as a whole."""
_MERGED_VALUES = frozenset({("ObjectMeta", "finalizers"), ("NodeSpec", "podCIDRs")})
"""Lists of values that are merged as sets."""


def merge_key(message: str, field: str) -> str | None:
    """The key of the items of a list that a strategic merge merges; None: it replaces that list."""
    return _KEYS.get((message, field))


def merges_values(message: str, field: str) -> bool:
    """Whether a list of values is merged as a set."""
    return (message, field) in _MERGED_VALUES


def field_named(descriptor: Descriptor | None, name: str) -> Found:
    """A field by its name in JSON, and the message it is of; those of inline messages are found as well."""
    if descriptor is None:
        return None
    field = descriptor.fields_by_name.get(name)
    if field is not None and not is_inline(field):
        return descriptor.name, field
    for inline in descriptor.fields:
        if is_inline(inline) and (found := field_named(inline.message_type, name)) is not None:
            return found
    return None


def message_of(found: Found) -> Descriptor | None:
    """The message that a field, or each item of it, is; None for maps and for what has no fields."""
    return None if found is None or map_entry(found[1]) is not None else found[1].message_type
