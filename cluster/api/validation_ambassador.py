"""The rules of a service's ambassador: a known name or one of the user's, its options, and nothing beside it that would
have no effect. Pure.
"""

from __future__ import annotations

from cluster.api.ambassadors import option_problems, policy_problems
from cluster.api.problems import Report
from cluster.pb.v1 import core_pb2 as core


def validate_ambassador(report: Report, spec: core.ServiceSpec) -> None:
    """Of a service that names one."""
    path, named = "spec.ambassador", spec.ambassador
    if not named.policy:
        report.required(f"{path}.policy")
        return
    report.check(f"{path}.policy", named.policy, policy_problems(named.policy))
    for name, problem in option_problems(named.policy, named.options):
        report.invalid(f"{path}.options[{name}]" if name else f"{path}.options", named.options.get(name, ""), problem)
    if spec.clusterIP == "None" or spec.type == "ExternalName":
        report.forbidden(path, "connections to this service do not pass the proxy")
    if spec.sessionAffinity == "ClientIP":
        report.forbidden("spec.sessionAffinity", "the ambassador chooses the endpoints; must be None")
    for field in ("balancing", "outlierDetection", "healthCheck"):
        if spec.HasField(field):
            report.forbidden(f"spec.{field}", "the ambassador chooses the endpoints")
    if spec.trafficDistribution:
        report.forbidden("spec.trafficDistribution", "the ambassador chooses the endpoints")
    for index, port in enumerate(spec.ports):
        if port.protocol not in ("", "TCP"):
            report.forbidden(f"spec.ports[{index}].protocol", "a service with an ambassador has TCP ports only")
