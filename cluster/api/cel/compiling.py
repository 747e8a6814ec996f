"""The rules of one place in a schema, compiled.

A rule is checked in an environment in which `self` has the type that the schema says, and evaluated in one that knows
plain values: what comes of the first is rewritten for the second (`rewriting.py`). What is wrong with a rule is kept
with it, in Kubernetes' words: a definition is refused for it; and should a rule that was stored once not compile any
more, it fails every object. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from google.protobuf.any_pb2 import Any as Packed

from cluster.api.cel.cost import DeclaredCost, Work
from cluster.api.cel.functions import declared, implemented
from cluster.api.cel.library import pattern
from cluster.api.cel.rewriting import HAS_OLD_SELF, OLD_SELF, SELF, rewrite
from cluster.api.cel.sizes import MAX_REQUEST_BYTES, Capped, Declared, Found, Path, smallest
from cluster.api.cel.types import Types, seen
from cluster.api.cel.values import Fields, fields_of
from cluster.api.structural import Schema
from cluster.pb.cel import checked_pb2 as pb

_LIBRARIES = "\n- name: ".join(("name: podium\nextensions:", "optional", "sets", "two-var-comprehensions"))
_word = re.compile(r"\w+")
_noise = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_depth = re.compile(r"(?:max recursion depth|recursion limit)\D*(\d+)")


class Refused(ValueError):
    """A rule is none; says why."""


@dataclass(slots=True)
class Expression:
    """An expression of CEL, ready to be evaluated."""

    program: Any
    checked: pb.CheckedExpr
    """As it was before it was rewritten."""
    sizes: Declared
    used: frozenset[Path]
    slow: frozenset[int]
    declared_cost: float
    """At most, for one evaluation, in Kubernetes' units."""
    _work: dict[int, float] = field(default_factory=dict)

    @property
    def uses_old_self(self) -> bool:
        """It looks at what was there before."""
        return any(path[0] == OLD_SELF for path in self.used)

    def work(self, size_bytes: int) -> float:
        """Tenths of a microsecond that it takes at most, with values of that size as JSON."""
        doubled = max(size_bytes, 1).bit_length()
        found = self._work.get(doubled)
        if found is None:
            sizes = Capped(self.sizes, 1 << doubled)
            found = self._work[doubled] = Work(self.checked, sizes, self.slow).cost(self.checked.expr)
        return found

    def work_found(self, sizes: Found) -> float:
        """The same with values that are there."""
        return Work(self.checked, sizes, self.slow).cost(self.checked.expr)


@dataclass(slots=True)
class Rule:
    """One of x-kubernetes-validations."""

    text: str
    message: str
    reason: str
    field_path: str
    optional: bool
    """oldSelf is an optional value, and the rule runs when there is none."""
    expression: Expression | None = None
    message_expression: Expression | None = None
    problem: str = ""
    """Why the rule is none."""
    message_problem: str = ""

    @property
    def shown(self) -> str:
        """What is told of a rule that could not be evaluated."""
        return self.message.strip() or self.text.strip()


class Place:
    """A place in a schema that has rules."""

    def __init__(self, schema: Schema, rules: list[Rule]) -> None:
        """`schema`: as rules see it."""
        self.schema = schema
        self.rules = rules
        expressions = [one for rule in rules for one in (rule.expression, rule.message_expression) if one is not None]
        used = {path for one in expressions for path in one.used}
        self.needed: dict[str, Fields] = {
            name: fields_of(path[1:] for path in used if path[0] == name) for name in (SELF, OLD_SELF)
        }
        """Which fields of the variables the rules look at."""

    @property
    def most_often(self) -> int:
        """How many such values an object can have, whatever the schema says of how many: Kubernetes' estimate."""
        return MAX_REQUEST_BYTES // (smallest(self.schema) + 1)


def compiled(rules: Sequence[dict[str, Any]], schema: Schema, *, is_object: bool) -> Place:
    """The rules of a place. `schema`: of the value there; `is_object`: it is that of a whole object."""
    known = seen(schema, is_object)
    types = Types()
    name = types.name(known, is_object=False)
    texts = [each.get(word) or "" for each in rules for word in ("rule", "messageExpression")]
    compiler = _Compiler(known, types, name, texts) if name is not None else None
    return Place(known, [_rule(each, compiler) for each in rules])


def _rule(given: dict[str, Any], compiler: _Compiler | None) -> Rule:
    rule = Rule(
        text=given.get("rule") or "",
        message=given.get("message") or "",
        reason=given.get("reason") or "",
        field_path=given.get("fieldPath") or "",
        optional=bool(given.get("optionalOldSelf")),
    )
    if compiler is None:
        rule.problem = "rules are not supported where the schema does not say what is there"
        return rule
    try:
        rule.expression = compiler.compile(rule.text, "bool", optional=rule.optional)
    except Refused as error:
        rule.problem = str(error)
    if wanted := given.get("messageExpression"):
        try:
            rule.message_expression = compiler.compile(wanted, "string", optional=rule.optional)
        except Refused as error:
            rule.message_problem = str(error)
    return rule


class _Compiler:
    """Compiles what stands at one place."""

    def __init__(self, schema: Schema, types: Types, name: str, texts: Sequence[str]) -> None:
        """`texts`: all that will be compiled."""
        self._sizes = Declared(schema)
        self._name = name
        self._pool = types.pool()
        self._words = frozenset(word for text in texts for word in _word.findall(text))
        self._environments: dict[bool, Any] = {}

    def compile(self, text: str, wanted: str, *, optional: bool) -> Expression:
        """An expression of a type. Raises Refused."""
        if not text.strip():
            raise Refused("rule is not specified")
        try:
            found = self._environment(optional).compile(text)
        except RuntimeError as error:
            raise Refused(f"compilation failed: {_told(str(error))}") from error
        if found.return_type().name().lower() not in (wanted, "dyn"):
            raise Refused(f"cel expression must evaluate to a {wanted}")
        checked = pb.CheckedExpr.FromString(Packed.FromString(found.serialize()).value)
        cost = DeclaredCost(checked, self._sizes)
        most = cost.cost(checked.expr)
        original = pb.CheckedExpr()
        original.CopyFrom(checked)
        facts = rewrite(checked, cost.path, self._sizes, optional)
        for one in facts.patterns:
            try:
                pattern(one)
            except ValueError as error:
                facts.problems.append(str(error))
        facts.problems += [_literal_problem(*one) for one in facts.literals if _literal_problem(*one)]
        if facts.problems:
            raise Refused(f"compilation failed: {facts.problems[0]}")
        data = Packed(type_url=_TYPE, value=checked.SerializeToString()).SerializeToString()
        try:
            program = evaluating().deserialize(data)
        except RuntimeError as error:
            raise Refused(f"program instantiation failed: {_told(str(error))}") from error
        return Expression(program, original, self._sizes, frozenset(facts.used), frozenset(facts.slow), most)

    def _environment(self, optional: bool) -> Any:
        """Where texts are checked: with the functions whose names are in them, for each function takes its time."""
        from cel_expr_python import cel

        if optional not in self._environments:
            kind = cel.Type(self._name)
            self._environments[optional] = cel.NewEnv(
                self._pool,
                config=cel.NewEnvConfigFromYaml(_LIBRARIES),
                variables={SELF: kind, OLD_SELF: cel.Type.DYN if optional else kind},
                functions=declared(self._words),
            )
        return self._environments[optional]


_TYPE = "type.googleapis.com/cel.expr.CheckedExpr"


@lru_cache(1)
def evaluating() -> Any:
    """The environment in which all rules are evaluated."""
    from cel_expr_python import cel

    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(f"{_LIBRARIES}\n- name: strings"),
        variables={SELF: cel.Type.DYN, OLD_SELF: cel.Type.DYN, HAS_OLD_SELF: cel.Type.DYN},
        functions=implemented(),
    )


@lru_cache(256)
def _literal_problem(function: str, text: str) -> str:
    """Why a text is no duration or timestamp; "": it is one."""
    from cel_expr_python import cel

    found = evaluating().compile(f"{function}(string(self))").eval(data={SELF: text})
    return f"invalid {function} literal {text!r}" if found.type() == cel.Type.ERROR else ""


def _told(text: str) -> str:
    """What the compiler says, without what only its authors need; of many mistakes the first few."""
    if depth := _depth.search(text):
        return f"expression recursion limit exceeded: {depth[1]}"
    text = _noise.sub("", text).replace("\r", "").replace(" (in container '')", "")
    return text if len(text) <= 1000 else f"{text[:1000]}..."
