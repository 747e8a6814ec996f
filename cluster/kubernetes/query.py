"""What the query of a request says: `?limit=500&watch=1&dryRun=All`.

Parameters that this server does not know are passed over, as Kubernetes does; values that make no sense are refused.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cluster.api.errors import BadRequest, Invalid
from cluster.api.managers import check_name
from cluster.api.problems import Report

TRUE, _FALSE = ("", "true", "1", "t", "T", "TRUE", "True"), ("false", "0", "f", "F", "FALSE", "False")
"""What a parameter that is true or false may say."""
EXACT, NOT_OLDER = "Exact", "NotOlderThan"
"""Of resourceVersionMatch."""
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+|0")
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def flag(query: Mapping[str, str], name: str) -> bool:
    """A parameter that is true or false; false if it is absent, and true if it is there without a value, as in
    Kubernetes: `?watch`. Raises BadRequest."""
    value = query.get(name, "false")
    if value in TRUE:
        return True
    if value in _FALSE:
        return False
    raise BadRequest(f'{name}="{value[:40]}" must be true or false')


def number(query: Mapping[str, str], name: str, *, signed: bool = False) -> int | None:
    """A whole number, which may be negative if it is `signed`; None if it is absent. Raises BadRequest."""
    value = query.get(name, "")
    if not value:
        return None
    digits = value.removeprefix("-") if signed else value
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise BadRequest(f'{name}="{value[:40]}" must be a whole number')
    return int(value)


def duration_s(query: Mapping[str, str], name: str) -> float | None:
    """A duration as Go writes it, 30s or 1m30s, in seconds; None if it is absent. Raises BadRequest."""
    value = query.get(name, "")
    if not value:
        return None
    if len(value) > 40 or not _DURATION.fullmatch(value):
        raise BadRequest(f'{name}="{value[:40]}" must be a duration, such as 30s')
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(value))


def dry_run(query: Mapping[str, str]) -> bool:
    """Whether nothing is to be written. Raises Invalid for another value than All."""
    value = query.get("dryRun", "")
    if value not in ("", "All"):
        raise Invalid(f'dryRun: Unsupported value: "{value[:40]}": supported values: "All"')
    return value == "All"


def field_validation(query: Mapping[str, str]) -> str:
    """Strict, Warn or Ignore; Warn if nothing is said. Raises Invalid."""
    value = query.get("fieldValidation", "") or "Warn"
    if value not in ("Strict", "Warn", "Ignore"):
        raise Invalid(
            f'fieldValidation: Unsupported value: "{value[:40]}": supported values: "Ignore", "Warn", "Strict"'
        )
    return value


def check_manager(query: Mapping[str, str], method: str, *, applies: bool) -> None:
    """Whether fieldManager and force make sense for a write. Raises Invalid, in Kubernetes' words."""
    report = Report()
    name = query.get("fieldManager", "")
    if applies and not name:
        report.required("fieldManager", "is required for apply patch")
    if method == "PATCH" and not applies and query.get("force"):
        report.forbidden("force", "may not be specified for non-apply patch")
    check_name(report, "fieldManager", name)
    _refuse({"POST": "CreateOptions", "PUT": "UpdateOptions"}.get(method, "PatchOptions"), report)


def check_list(query: Mapping[str, str], *, watch: bool) -> None:
    """Whether resourceVersionMatch and sendInitialEvents make sense for a list or a watch. Raises Invalid, in
    Kubernetes' words."""
    report = Report()
    where, match = "resourceVersionMatch", query.get("resourceVersionMatch", "")
    if watch and "sendInitialEvents" in query:
        if match != NOT_OLDER:
            report.forbidden(where, f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER}")
    elif "sendInitialEvents" in query:
        report.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
    elif watch and match:
        report.forbidden(where, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
    if match:
        if not watch and not query.get("resourceVersion"):
            report.forbidden(where, "resourceVersionMatch is forbidden unless resourceVersion is provided")
        if query.get("continue"):
            report.forbidden(where, "resourceVersionMatch is forbidden when continue is provided")
        report.one_of(where, match, (NOT_OLDER,) if watch else (EXACT, NOT_OLDER))
        if not watch and match == EXACT and query.get("resourceVersion") == "0":
            report.forbidden(where, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    _refuse("ListOptions", report)


def _refuse(options: str, report: Report) -> None:
    """Raises Invalid if there is something to tell."""
    if report.errors:
        text = "; ".join(map(str, report.errors))
        raise Invalid(f'{options}.meta.k8s.io "" is invalid: {text}', causes=report.errors)


def port(text: str) -> int | None:
    """The port that a text names by its number; None: it names none."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0
    return number if 0 < number < 65536 else None
