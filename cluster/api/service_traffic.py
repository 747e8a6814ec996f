"""How a service's traffic is treated: defaults and rules of the fields that the proxy carries out.

The numbers of outlier detection are Envoy's, those of the health check are Kubernetes' for probes. A service that says
nothing gets round robin, Envoy's outlier detection, no health check of the proxy's own (readiness probes do that work)
and no time-outs: an established connection lives for as long as its two ends like.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.api.problems import Report
from cluster.pb.v1 import core_pb2 as core

WEIGHT_ANNOTATION = "podium.dev/weight"
"""Of a pod: how many connections it gets in proportion to others, where the policy is Weighted."""
DEFAULT_WEIGHT = 1
MAX_WEIGHT = 1000
POLICIES = ("RoundRobin", "LeastConnections", "PowerOfTwoChoices", "Weighted", "ConsistentHash")
CLIENT_IP = "ClientIP"
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
"""PreferClose is the older name of PreferSameZone."""
OUTLIER_DEFAULTS = {
    "consecutiveFailures": 5,
    "intervalSeconds": 10,
    "baseEjectionSeconds": 30,
    "maxEjectionSeconds": 300,
    "maxEjectionPercent": 10,
}
HEALTH_DEFAULTS = {"intervalSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1}
MAX_TIMEOUT_S = 7 * 86400
_TIMEOUTS = ("connectSeconds", "idleSeconds", "firstByteSeconds", "drainSeconds", "udpIdleSeconds")


def default_traffic(spec: core.ServiceSpec) -> None:
    """Fills what was begun; what is absent stays absent."""
    if spec.HasField("balancing"):
        if not spec.balancing.policy:
            spec.balancing.policy = "RoundRobin"
        if spec.balancing.policy == "ConsistentHash" and not spec.balancing.hashKey:
            spec.balancing.hashKey = CLIENT_IP
    if spec.HasField("outlierDetection"):
        _fill(spec.outlierDetection, OUTLIER_DEFAULTS)
    if spec.HasField("healthCheck"):
        _fill(spec.healthCheck, HEALTH_DEFAULTS)


def _fill(message: core.OutlierDetection | core.ServiceHealthCheck, defaults: Mapping[str, int]) -> None:
    for field, value in defaults.items():
        if not message.HasField(field):
            setattr(message, field, value)


def validate_traffic(report: Report, spec: core.ServiceSpec) -> None:
    """Policies that there are, numbers that make sense."""
    _validate_balancing(report, spec)
    if spec.trafficDistribution:
        report.one_of("spec.trafficDistribution", spec.trafficDistribution, DISTRIBUTIONS)
    if spec.HasField("outlierDetection"):
        _validate_outliers(report, spec.outlierDetection)
    if spec.HasField("healthCheck"):
        _validate_health(report, spec.healthCheck)
    for field in _TIMEOUTS:
        if spec.timeouts.HasField(field):
            _between(report, f"spec.timeouts.{field}", getattr(spec.timeouts, field), 1, MAX_TIMEOUT_S)


def _validate_balancing(report: Report, spec: core.ServiceSpec) -> None:
    if not spec.HasField("balancing"):
        return
    balancing = spec.balancing
    report.one_of("spec.balancing.policy", balancing.policy, POLICIES)
    if not balancing.hashKey:
        return
    if balancing.policy != "ConsistentHash":
        report.forbidden("spec.balancing.hashKey", "only the policy ConsistentHash goes by a key")
    elif balancing.hashKey != CLIENT_IP:
        report.not_supported("spec.balancing.hashKey", balancing.hashKey, (CLIENT_IP,))


def _validate_outliers(report: Report, outliers: core.OutlierDetection) -> None:
    path = "spec.outlierDetection"
    _between(report, f"{path}.consecutiveFailures", outliers.consecutiveFailures, 0, 1_000_000)
    _between(report, f"{path}.intervalSeconds", outliers.intervalSeconds, 1, MAX_TIMEOUT_S)
    _between(report, f"{path}.baseEjectionSeconds", outliers.baseEjectionSeconds, 1, MAX_TIMEOUT_S)
    _between(report, f"{path}.maxEjectionPercent", outliers.maxEjectionPercent, 0, 100)
    if outliers.maxEjectionSeconds < outliers.baseEjectionSeconds:
        message = "must be greater than or equal to `baseEjectionSeconds`"
        report.invalid(f"{path}.maxEjectionSeconds", outliers.maxEjectionSeconds, message)


def _validate_health(report: Report, check: core.ServiceHealthCheck) -> None:
    path = "spec.healthCheck"
    for field in HEALTH_DEFAULTS:
        _between(report, f"{path}.{field}", getattr(check, field), 1, MAX_TIMEOUT_S)
    if check.httpPath:
        if not check.httpPath.startswith("/"):
            report.invalid(f"{path}.httpPath", check.httpPath, "must begin with '/'")
        if not check.httpPath.isascii() or any(sign <= " " or sign == "\x7f" for sign in check.httpPath):
            message = "must not contain spaces, control characters or letters beyond ASCII: write them as %XX"
            report.invalid(f"{path}.httpPath", check.httpPath, message)


def _between(report: Report, path: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        report.invalid(path, value, f"must be between {least} and {most}, inclusive")


def weight_of(annotations: Mapping[str, str]) -> int:
    """The weight that the annotations of a pod give it; that of others if they say nothing that makes sense."""
    text = annotations.get(WEIGHT_ANNOTATION, "")
    return min(int(text), MAX_WEIGHT) if text.isascii() and text.isdigit() else DEFAULT_WEIGHT


def validate_weight(report: Report, annotations: Mapping[str, str], path: str) -> None:
    """A weight, if there is one, is a whole number."""
    text = annotations.get(WEIGHT_ANNOTATION)
    if text is not None and not (text.isascii() and text.isdigit() and int(text) <= MAX_WEIGHT):
        message = f"must be a whole number from 0 (no new connections, while there are others) to {MAX_WEIGHT}"
        report.invalid(f"{path}[{WEIGHT_ANNOTATION}]", text, message)
