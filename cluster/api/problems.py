"""Collecting what is wrong with an object, in Kubernetes' words.

One method per reason, each with Kubernetes' wording of it ("Invalid value: ...", "Required value: ..."), and the checks
that many fields share. Validation never stops at the first problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.api.errors import FieldError
from cluster.api.json_parse import MAX_PROBLEMS
from cluster.api.labels import label_key_problems, label_value_problems
from cluster.api.quantities import parse_quantity
from cluster.pb.v1 import core_pb2 as core

MAX_PORT = 65535
WHOLE_ONLY_EXCEPT = ("cpu", "memory", "ephemeral-storage")
"""Every other resource is counted in pieces."""


class Report:
    """A list of FieldErrors to add to; at most 100 are kept."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def add(self, path: str, message: str, reason: str = "FieldValueInvalid") -> None:
        """A problem in words of its own."""
        if len(self.errors) < MAX_PROBLEMS:
            self.errors.append(FieldError(path, message, reason))

    def required(self, path: str, message: str = "") -> None:
        """Something must be there and is not."""
        self.add(path, f"Required value: {message}" if message else "Required value", "FieldValueRequired")

    def invalid(self, path: str, value: Any, message: str) -> None:
        """What is there breaks a rule."""
        self.add(path, f"Invalid value: {_show(value)}: {message}", "FieldValueInvalid")

    def duplicate(self, path: str, value: Any) -> None:
        """It is there already, and there may be only one."""
        self.add(path, f"Duplicate value: {_show(value)}", "FieldValueDuplicate")

    def forbidden(self, path: str, message: str) -> None:
        """It may not be there, or may not change."""
        self.add(path, f"Forbidden: {message}", "FieldValueForbidden")

    def not_supported(self, path: str, value: Any, supported: Iterable[str], why: str = "") -> None:
        """It is none of the values that there are."""
        known = ", ".join(f'"{one}"' for one in supported)
        message = f"Unsupported value: {_show(value)}: supported values: {known}" + (f"; {why}" if why else "")
        self.add(path, message, "FieldValueNotSupported")

    def too_long(self, path: str, limit: int) -> None:
        """It has more bytes than it may."""
        self.add(path, f"Too long: must have at most {limit} bytes", "FieldValueTooLong")

    # --- Checks that many fields share

    def check(self, path: str, value: Any, problems: Sequence[str]) -> None:
        """Each sentence becomes an error of that value."""
        for problem in problems:
            self.invalid(path, value, problem)

    def one_of(self, path: str, value: str, supported: Sequence[str], why: str = "") -> None:
        """The value must be one of these."""
        if value not in supported:
            self.not_supported(path, value, supported, why)

    def at_least(self, path: str, value: int, minimum: int) -> None:
        """The number must not be smaller."""
        if value < minimum:
            limit = "0" if minimum == 0 else str(minimum)
            self.invalid(path, value, f"must be greater than or equal to {limit}")

    def port(self, path: str, number: int) -> None:
        """The number must be one of a port."""
        if not 1 <= number <= MAX_PORT:
            self.invalid(path, number, f"must be between 1 and {MAX_PORT}, inclusive")

    def labels(self, path: str, labels: Mapping[str, str]) -> None:
        """Keys and values must be those of labels."""
        for key in sorted(labels):
            self.check(path, key, label_key_problems(key))
            self.check(path, labels[key], label_value_problems(labels[key]))

    def no_nul(self, path: str, text: str) -> None:
        """The operating system ends a text at a NUL, so there may be none."""
        if "\0" in text:
            self.invalid(path, text, "must not contain a NUL character")

    def amounts(self, path: str, amounts: Mapping[str, core.Quantity]) -> dict[str, Any]:
        """Names and amounts of resources; returns the amounts that are fine, exactly."""
        values = {}
        for name in sorted(amounts):
            where = f"{path}[{name}]"
            self.check(where, name, label_key_problems(name))
            try:
                value = parse_quantity(amounts[name].string)
            except ValueError as error:
                self.invalid(where, amounts[name].string, str(error))
                continue
            values[name] = value
            if value < 0:
                self.invalid(where, amounts[name].string, "must be greater than or equal to 0")
            elif name not in WHOLE_ONLY_EXCEPT and value != value.to_integral_value():
                self.invalid(where, amounts[name].string, "must be an integer")
        return values


def _show(value: Any) -> str:
    if isinstance(value, str):
        return '"' + (value if len(value) <= 120 else value[:117] + "...") + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)
