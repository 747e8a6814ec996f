"""The rules of selectors that stand in objects. Kubernetes' rules and words.

One thing is stricter: Kubernetes stores a Gt or Lt with something that is no number, and then never places the pod;
here it is refused.
"""

from __future__ import annotations

from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.names import dns1123_subdomain_problems
from cluster.api.problems import Report
from cluster.api.selectors import LABEL_OPERATORS, NODE_NAME_FIELD, NUMERIC_OPERATORS, whole_number
from cluster.pb.v1 import core_pb2 as core

_NO_OPERATOR = "not a valid selector operator"
_SET = ("In", "NotIn")


def validate_label_selector(report: Report, selector: core.LabelSelector, path: str) -> None:
    """Labels, operators, and how many values each takes."""
    report.labels(f"{path}.matchLabels", selector.matchLabels)
    for index, requirement in enumerate(selector.matchExpressions):
        _validate_requirement(report, requirement, f"{path}.matchExpressions[{index}]", numeric=False)


def validate_node_selector(report: Report, selector: core.NodeSelector, path: str) -> None:
    """At least one term."""
    where = f"{path}.nodeSelectorTerms"
    if not selector.nodeSelectorTerms:
        report.required(where, "must have at least one node selector term")
    for index, term in enumerate(selector.nodeSelectorTerms):
        validate_node_term(report, term, f"{where}[{index}]")


def validate_node_term(report: Report, term: core.NodeSelectorTerm, path: str) -> None:
    """Conditions on labels and on fields."""
    for index, requirement in enumerate(term.matchExpressions):
        _validate_requirement(report, requirement, f"{path}.matchExpressions[{index}]", numeric=True)
    for index, requirement in enumerate(term.matchFields):
        _validate_field(report, requirement, f"{path}.matchFields[{index}]")


def _validate_requirement(
    report: Report, requirement: core.LabelSelectorRequirement | core.NodeSelectorRequirement, path: str, numeric: bool
) -> None:
    operator, values = requirement.operator, requirement.values
    if operator in _SET:
        if not values:
            report.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        for index, value in enumerate(values):
            report.check(f"{path}.values[{index}]", value, label_value_problems(value))
    elif operator in LABEL_OPERATORS:
        if values:
            report.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif numeric and operator in NUMERIC_OPERATORS:
        if len(values) != 1:
            report.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
        elif whole_number(values[0]) is None:
            report.invalid(f"{path}.values[0]", values[0], "must be an integer when `operator` is 'Lt' or 'Gt'")
    else:
        report.invalid(f"{path}.operator", operator, _NO_OPERATOR)
    report.check(f"{path}.key", requirement.key, label_key_problems(requirement.key))


def _validate_field(report: Report, requirement: core.NodeSelectorRequirement, path: str) -> None:
    if requirement.operator not in _SET:
        report.invalid(f"{path}.operator", requirement.operator, _NO_OPERATOR)
    elif len(requirement.values) != 1:
        message = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        report.required(f"{path}.values", message)
    if requirement.key != NODE_NAME_FIELD:
        report.invalid(f"{path}.key", requirement.key, "not a valid field selector key")
    else:
        for index, value in enumerate(requirement.values):
            report.check(f"{path}.values[{index}]", value, dns1123_subdomain_problems(value))
