"""The rules of configuration and volumes in a pod: where variables and files come from. Kubernetes' rules.

Two differences. A volume may be a data directory, which has a name of its own on the node and outlives the pod. And a
hostPath of a device or a socket to be made is refused: nothing here would make one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from cluster.api.labels import label_key_problems
from cluster.api.names import dns1123_label_problems, dns1123_subdomain_problems
from cluster.api.problems import Report
from cluster.api.quantities import parse_quantity
from cluster.api.validation_config import config_key_problems
from cluster.pb.v1 import core_pb2 as core

FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "status.podIP",
    "status.hostIP",
)
"""What a variable may take from the pod, besides metadata.labels['KEY'] and metadata.annotations['KEY']."""
FILE_FIELD_PATHS = (*FIELD_PATHS[:3], "metadata.labels", "metadata.annotations")
RESOURCES = tuple(f"{which}.{name}" for which in ("limits", "requests") for name in ("cpu", "memory"))
HOST_PATH_TYPES = ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket")
SOURCES = ("hostPath", "emptyDir", "secret", "configMap", "downwardAPI", "dataDirectory")
ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")

_subscript = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")


def parse_field_path(path: str) -> tuple[str, str] | None:
    """A supported path of fieldRef as (path, key): ("metadata.labels", "app") or ("metadata.name", ""); else None."""
    if path in FIELD_PATHS:
        return path, ""
    match = _subscript.fullmatch(path)
    return (f"metadata.{match.group(1)}", match.group(2)) if match else None


def validate_source(report: Report, source: core.EnvVarSource, path: str) -> None:
    """Where the value of a variable comes from."""
    given = [name for name in ENV_SOURCES if source.HasField(name)]
    if not given:
        report.required(path, "must specify one of: " + ", ".join(f"`{name}`" for name in ENV_SOURCES))
    for name in given[1:]:
        report.forbidden(f"{path}.{name}", "may not have more than one field specified at a time")
    if source.HasField("fieldRef"):
        _validate_field_ref(report, source.fieldRef, f"{path}.fieldRef", FIELD_PATHS)
    if source.HasField("resourceFieldRef"):
        _validate_resource_ref(report, source.resourceFieldRef, f"{path}.resourceFieldRef")
    for name in ("configMapKeyRef", "secretKeyRef"):
        if source.HasField(name):
            reference: core.ConfigMapKeySelector | core.SecretKeySelector = getattr(source, name)
            _validate_name(report, f"{path}.{name}.name", reference.localObjectReference.name)
            if not reference.key:
                report.required(f"{path}.{name}.key")
            else:
                report.check(f"{path}.{name}.key", reference.key, config_key_problems(reference.key))


def validate_env_from(report: Report, container: core.Container, where: str) -> None:
    """Whole objects as variables."""
    for index, source in enumerate(container.envFrom):
        path = f"{where}.envFrom[{index}]"
        if source.HasField("configMapRef") == source.HasField("secretRef"):
            report.required(path, "must specify exactly one of: `configMapRef`, `secretRef`")
        if source.HasField("configMapRef"):
            _validate_name(report, f"{path}.configMapRef.name", source.configMapRef.localObjectReference.name)
        if source.HasField("secretRef"):
            _validate_name(report, f"{path}.secretRef.name", source.secretRef.localObjectReference.name)
        if "=" in source.prefix or "\0" in source.prefix:
            report.invalid(f"{path}.prefix", source.prefix, "must not contain '=' or NUL")


def validate_volumes(report: Report, spec: core.PodSpec, path: str) -> None:
    """What volumes are made of, and where containers want them."""
    names: set[str] = set()
    for index, volume in enumerate(spec.volumes):
        where = f"{path}.volumes[{index}]"
        if volume.name in names:
            report.duplicate(f"{where}.name", volume.name)
        report.check(f"{where}.name", volume.name, dns1123_label_problems(volume.name))
        names.add(volume.name)
        _validate_volume(report, volume.volumeSource, where)
    for field, containers in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for number, container in enumerate(containers):
            _validate_mounts(report, container, names, f"{path}.{field}[{number}]")


def _validate_mounts(report: Report, container: core.Container, volumes: set[str], where: str) -> None:
    taken: set[str] = set()
    for index, mount in enumerate(container.volumeMounts):
        path = f"{where}.volumeMounts[{index}]"
        if mount.name not in volumes:
            report.invalid(f"{path}.name", mount.name, "not found: the pod has no volume of that name")
        target = mount.mountPath.rstrip("/") or mount.mountPath
        if not mount.mountPath:
            report.required(f"{path}.mountPath")
        elif not mount.mountPath.startswith("/") or target in ("/", "/proc", "/dev", "/sys"):
            report.invalid(
                f"{path}.mountPath", mount.mountPath, "must be an absolute path, below / and no system's own"
            )
        elif ".." in mount.mountPath.split("/") or ":" in mount.mountPath or "\0" in mount.mountPath:
            report.invalid(f"{path}.mountPath", mount.mountPath, "must not contain '..', ':' or NUL")
        elif target in taken:
            report.invalid(f"{path}.mountPath", mount.mountPath, "must be unique")
        taken.add(target)
        _validate_relative(report, f"{path}.subPath", mount.subPath, required=False)


def _validate_volume(report: Report, source: core.VolumeSource, path: str) -> None:
    given = [name for name in SOURCES if source.HasField(name)]
    if not given:
        report.required(path, "must specify a volume type: one of " + ", ".join(SOURCES))
    for name in given[1:]:
        report.forbidden(f"{path}.{name}", "may not specify more than 1 volume type")
    if source.HasField("hostPath"):
        host = source.hostPath
        if not host.path.startswith("/") or ".." in host.path.split("/") or "\0" in host.path:
            report.invalid(f"{path}.hostPath.path", host.path, "must be an absolute path without '..'")
        report.one_of(f"{path}.hostPath.type", host.type, HOST_PATH_TYPES)
    if source.HasField("emptyDir"):
        report.one_of(f"{path}.emptyDir.medium", source.emptyDir.medium, ("", "Memory"))
        if source.emptyDir.HasField("sizeLimit"):
            try:
                if parse_quantity(source.emptyDir.sizeLimit.string) < 0:
                    raise ValueError("must be greater than or equal to 0")
            except ValueError as error:
                report.invalid(f"{path}.emptyDir.sizeLimit", source.emptyDir.sizeLimit.string, str(error))
    if source.HasField("secret"):
        _validate_name(report, f"{path}.secret.secretName", source.secret.secretName)
        _validate_items(report, source.secret, f"{path}.secret")
    if source.HasField("configMap"):
        _validate_name(report, f"{path}.configMap.name", source.configMap.localObjectReference.name)
        _validate_items(report, source.configMap, f"{path}.configMap")
    if source.HasField("downwardAPI"):
        _validate_downward(report, source.downwardAPI, f"{path}.downwardAPI")
    if source.HasField("dataDirectory"):
        name = source.dataDirectory.name
        report.check(f"{path}.dataDirectory.name", name, dns1123_label_problems(name))


def _validate_items(report: Report, source: core.SecretVolumeSource | core.ConfigMapVolumeSource, path: str) -> None:
    _validate_mode(report, f"{path}.defaultMode", source)
    _validate_apart(report, path, [item.path for item in source.items])
    for index, item in enumerate(source.items):
        where = f"{path}.items[{index}]"
        report.check(f"{where}.key", item.key, config_key_problems(item.key))
        _validate_relative(report, f"{where}.path", item.path)
        _validate_mode(report, f"{where}.mode", item)


def _validate_apart(report: Report, path: str, paths: Sequence[str]) -> None:
    """Each item is a file of its own, and none is the directory of another."""
    files: set[PurePosixPath] = set()
    directories: set[PurePosixPath] = set()
    for index, each in enumerate(paths):
        where, file = f"{path}.items[{index}].path", PurePosixPath(each)
        above = set(file.parents[:-1])
        if file in files:
            report.duplicate(where, each)
        elif file in directories or above & files:
            report.invalid(where, each, "must not be a file and a directory at once: another item says otherwise")
        files.add(file)
        directories |= above


def _validate_downward(report: Report, source: core.DownwardAPIVolumeSource, path: str) -> None:
    _validate_mode(report, f"{path}.defaultMode", source)
    _validate_apart(report, path, [item.path for item in source.items])
    for index, item in enumerate(source.items):
        where = f"{path}.items[{index}]"
        _validate_relative(report, f"{where}.path", item.path)
        _validate_mode(report, f"{where}.mode", item)
        if item.HasField("fieldRef") == item.HasField("resourceFieldRef"):
            report.required(where, "must specify exactly one of: `fieldRef`, `resourceFieldRef`")
        if item.HasField("fieldRef"):
            _validate_field_ref(report, item.fieldRef, f"{where}.fieldRef", FILE_FIELD_PATHS)
        if item.HasField("resourceFieldRef"):
            if not item.resourceFieldRef.containerName:
                report.required(f"{where}.resourceFieldRef.containerName")
            _validate_resource_ref(report, item.resourceFieldRef, f"{where}.resourceFieldRef")


def _validate_mode(
    report: Report,
    path: str,
    item: core.SecretVolumeSource
    | core.ConfigMapVolumeSource
    | core.DownwardAPIVolumeSource
    | core.KeyToPath
    | core.DownwardAPIVolumeFile,
) -> None:
    named = isinstance(item, core.KeyToPath | core.DownwardAPIVolumeFile)
    mode = item.mode if named else item.defaultMode  # type: ignore[union-attr]
    if not 0 <= mode <= 0o777:
        report.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")


def _validate_relative(report: Report, path: str, text: str, *, required: bool = True) -> None:
    if not text:
        if required:
            report.required(path)
    elif text.startswith(("/", "..")) or ".." in text.split("/") or "\0" in text:
        report.invalid(path, text, "must be a relative path, and must not contain '..'")


def _validate_name(report: Report, path: str, name: str) -> None:
    if not name:
        report.required(path)
    else:
        report.check(path, name, dns1123_subdomain_problems(name))


def _validate_resource_ref(report: Report, reference: core.ResourceFieldSelector, path: str) -> None:
    report.one_of(f"{path}.resource", reference.resource, RESOURCES)
    if reference.HasField("divisor"):
        try:
            if parse_quantity(reference.divisor.string) < 0:
                raise ValueError("must be greater than or equal to 0")
        except ValueError as error:
            report.invalid(f"{path}.divisor", reference.divisor.string, str(error))


def _validate_field_ref(report: Report, reference: core.ObjectFieldSelector, path: str, paths: tuple[str, ...]) -> None:
    report.one_of(f"{path}.apiVersion", reference.apiVersion, ("v1",))
    if not reference.fieldPath:
        report.required(f"{path}.fieldPath")
        return
    parsed = (reference.fieldPath, "") if reference.fieldPath in paths else parse_field_path(reference.fieldPath)
    if parsed is None or (parsed[0] not in paths and not parsed[1]):
        supported = (*paths, "metadata.labels['KEY']", "metadata.annotations['KEY']")
        report.not_supported(f"{path}.fieldPath", reference.fieldPath, supported)
    elif parsed[1]:
        report.check(f"{path}.fieldPath", reference.fieldPath, label_key_problems(parsed[1]))
