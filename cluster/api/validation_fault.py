"""The rules of faults: what may go wrong with what, and that it ends. Pure.

A fault says what it is about, for how long, and at least one thing that goes wrong. It is what it was made as: to
change it, delete it and make another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cluster.api.names import dns1035_label_problems, dns1123_subdomain_problems
from cluster.api.problems import Report
from cluster.pb.v1 import core_pb2 as core

MAX_DURATION_S: Final = 3600
MAX_DELAY_MS: Final = 60_000
MIN_BANDWIDTH: Final = 100
MAX_BANDWIDTH: Final = 10**12

OF_SERVICES: Final = (
    "delayMilliseconds", "jitterMilliseconds", "bandwidthBytesPerSecond", "lossPercent", "halfOpen", "refuse", "reset",
)  # fmt: skip
OF_NODES: Final = ("partition", "pause")
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "delayMilliseconds": (1, MAX_DELAY_MS),
    "jitterMilliseconds": (1, MAX_DELAY_MS),
    "bandwidthBytesPerSecond": (MIN_BANDWIDTH, MAX_BANDWIDTH),
    "lossPercent": (1, 100),
}


def validate_fault(report: Report, fault: core.Fault) -> None:
    """One target, an end, and something that goes wrong and can be carried out there."""
    spec, target = fault.spec, fault.spec.target
    if bool(target.service) == bool(target.node):
        report.required("spec.target", "exactly one of `service` and `node`")
    if target.service:
        report.check("spec.target.service", target.service, dns1035_label_problems(target.service))
    if target.pod:
        report.check("spec.target.pod", target.pod, dns1123_subdomain_problems(target.pod))
        if not target.service:
            report.forbidden("spec.target.pod", "goes with `service`: the link from that service to this pod")
    if target.node:
        report.check("spec.target.node", target.node, dns1123_subdomain_problems(target.node))
    if not spec.HasField("durationSeconds"):
        report.required("spec.durationSeconds", "a fault has an end")
    elif not 1 <= spec.durationSeconds <= MAX_DURATION_S:
        report.invalid("spec.durationSeconds", spec.durationSeconds, f"must be from 1 to {MAX_DURATION_S}")
    for name, (low, high) in _RANGES.items():
        if spec.HasField(name) and not low <= getattr(spec, name) <= high:
            report.invalid(f"spec.{name}", getattr(spec, name), f"must be from {low} to {high}")
    given = [name for name in (*OF_SERVICES, *OF_NODES) if getattr(spec, name)]
    if not given:
        report.required("spec", f"at least one of {', '.join(OF_SERVICES if target.service else OF_NODES)}")
    misplaced, what = (OF_NODES, "node") if target.service else (OF_SERVICES, "service")
    for name in given:
        if name in misplaced:
            report.forbidden(f"spec.{name}", f"goes with the target `{what}`")
    ends = [name for name in ("refuse", "reset", "halfOpen") if getattr(spec, name)]
    for name in ends[1:]:
        report.forbidden(f"spec.{name}", f"cannot be together with `{ends[0]}`: what comes first would hide it")
    if fault.metadata.ownerReferences:
        report.forbidden("metadata.ownerReferences", "a fault goes at its end, and with nobody else")


def validate_fault_update(report: Report, new: core.Fault, old: core.Fault) -> None:
    """It is under way already."""
    if new.spec != old.spec:
        report.forbidden("spec", "may not be changed: delete the fault, and make another")
