"""The rules of how a pod is contained: its security profile, and the security contexts.

What nobody carries out is refused: a context that asks for privileges can never have them, so the pod would be another
one than its author thinks. What is the case anyway may be said.
"""

from __future__ import annotations

from cluster.api.pods import SECURITY_PROFILES, TRUSTED
from cluster.api.problems import Report
from cluster.pb.v1 import core_pb2 as core

MAX_ID = (1 << 31) - 1
"""Kubernetes' largest user and group."""


def validate_security(report: Report, spec: core.PodSpec, path: str) -> None:
    """securityProfile, and the contexts of the pod and of its containers."""
    if spec.HasField("securityProfile"):
        report.one_of(f"{path}.securityProfile", spec.securityProfile, SECURITY_PROFILES)
    if spec.HasField("securityContext"):
        _validate_ids(report, spec.securityContext, f"{path}.securityContext")
    for field, containers in (("initContainers", spec.initContainers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            if container.HasField("securityContext"):
                where = f"{path}.{field}[{index}].securityContext"
                _validate_context(report, container.securityContext, where, spec.securityProfile)


def _validate_context(report: Report, context: core.SecurityContext, where: str, profile: str) -> None:
    _validate_ids(report, context, where)
    why = "processes of pods never have privileges; securityProfile: trusted has those of the node agent"
    for name in ("privileged", "allowPrivilegeEscalation"):
        if getattr(context, name):
            report.forbidden(f"{where}.{name}", why)
    if profile == TRUSTED:
        for name in ("readOnlyRootFilesystem", "capabilities"):
            if context.HasField(name) and getattr(context, name):
                report.forbidden(f"{where}.{name}", "nothing is taken from the processes of a trusted pod")


def _validate_ids(report: Report, context: core.SecurityContext | core.PodSecurityContext, where: str) -> None:
    for name in ("runAsUser", "runAsGroup"):
        if context.HasField(name):
            value: int = getattr(context, name)
            if not 0 <= value <= MAX_ID:
                report.invalid(f"{where}.{name}", value, f"must be between 0 and {MAX_ID}, inclusive")
            if name == "runAsUser" and value == 0 and context.runAsNonRoot:
                report.invalid(f"{where}.runAsUser", 0, "must not be 0 together with runAsNonRoot")
