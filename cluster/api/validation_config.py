"""The rules of configuration: ConfigMaps and Secrets. Kubernetes' rules and limits."""

from __future__ import annotations

import json
import re

from cluster.api.problems import Report
from cluster.pb.v1 import core_pb2 as core

MAX_BYTES = 1 << 20
"""Of all values of one object together."""
MAX_KEY = 253
OPAQUE = "Opaque"
"""The type of a Secret that has none."""
_NEEDED = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
}
"""Type of a Secret -> the keys that it must have."""
_ACCOUNT = "kubernetes.io/service-account.name"

_key = re.compile(r"[-._a-zA-Z0-9]+")


def config_key_problems(key: str) -> list[str]:
    """What keeps a text from being a key of a ConfigMap or Secret: it becomes the name of a file."""
    if key in (".", "..") or key.startswith(".."):
        return ["must not be '.', and must not begin with '..'"]
    if len(key) > MAX_KEY:
        return [f"must be no more than {MAX_KEY} characters"]
    if not _key.fullmatch(key):
        return ["a valid config key must consist of alphanumeric characters, '-', '_' or '.'"]
    return []


def validate_config_map(report: Report, config: core.ConfigMap) -> None:
    """Keys, which are in one of the two maps, and the size of all of it."""
    size = 0
    for key in sorted({*config.data, *config.binaryData}):
        field = "data" if key in config.data else "binaryData"
        report.check(f"{field}[{key}]", key, config_key_problems(key))
        if key in config.data and key in config.binaryData:
            report.invalid(f"binaryData[{key}]", key, "duplicate of key present in data")
        size += len(config.data.get(key, "").encode()) + len(config.binaryData.get(key, b""))
    if size > MAX_BYTES:
        report.too_long("", MAX_BYTES)


def validate_secret(report: Report, secret: core.Secret) -> None:
    """The same, and what Kubernetes' own types of secrets must hold; what was given as stringData is in data by now."""
    for key in sorted(secret.data):
        report.check(f"data[{key}]", key, config_key_problems(key))
    if sum(map(len, secret.data.values())) > MAX_BYTES:
        report.too_long("data", MAX_BYTES)
    for key in _NEEDED.get(secret.type, ()):
        if key not in secret.data:
            report.required(f"data[{key}]")
    if secret.type == "kubernetes.io/basic-auth" and not {"username", "password"} & secret.data.keys():
        report.required("data[username]", "or a password")
    if secret.type == "kubernetes.io/service-account-token" and not secret.metadata.annotations.get(_ACCOUNT):
        report.required(f"metadata.annotations[{_ACCOUNT}]")
    for key in (".dockercfg", ".dockerconfigjson"):
        if key in _NEEDED.get(secret.type, ()) and key in secret.data and not _is_json_object(secret.data[key]):
            report.invalid(f"data[{key}]", "<secret contents redacted>", "must be an object in JSON")


def _is_json_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def validate_config_update(
    report: Report, new: core.ConfigMap | core.Secret, old: core.ConfigMap | core.Secret
) -> None:
    """One that is immutable stays as it is; and a Secret keeps its type."""
    if isinstance(new, core.Secret) and isinstance(old, core.Secret) and new.type != old.type:
        report.invalid("type", new.type, "field is immutable")
    if not old.immutable:
        return
    why = "field is immutable when `immutable` is set: delete the object and make it anew"
    if not new.immutable:
        report.forbidden("immutable", why)
    if new.data != old.data:
        report.forbidden("data", why)
    if isinstance(new, core.ConfigMap) and isinstance(old, core.ConfigMap) and new.binaryData != old.binaryData:
        report.forbidden("binaryData", why)
