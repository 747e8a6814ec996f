"""A checked rule, made ready to be evaluated on plain values: objects are maps there, and only kinds of values are
known.

    s.find("a")                        k8s.find(s, "a"): our own functions have names of their own (`functions.py`)
    s.matches("a")                     k8s.matches(s, "a"): with a pattern that is compiled once
    format.named("x")                  optional.ofNonZeroValue(k8s.format.named("x")): our functions know no optionals
    a == b, where sets are within      k8s.equal(a, b, SHAPE): Kubernetes compares those without their order
    a + b, of sets or of maps          k8s.joined(a, b, SHAPE)
    oldSelf, with optionalOldSelf      hasOldSelf ? optional.of(oldSelf) : optional.none()

On the way it is noted which variables a rule uses, which fields of them (nobody needs the rest of an object), which
patterns it has, and what it must not have: objects of types that are only there for the compiler. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cluster.api.cel.functions import FOUND, NAMES, OPTIONAL, OURS, own_name
from cluster.api.cel.sizes import Declared, Path
from cluster.api.cel.values import shape
from cluster.api.structural import LIST_TYPE, Schema
from cluster.pb.cel import checked_pb2 as pb

SELF, OLD_SELF, HAS_OLD_SELF = "self", "oldSelf", "hasOldSelf"
EQUAL, JOINED = f"{OURS}equal", f"{OURS}joined"


@dataclass(slots=True)
class Facts:
    """What is known of a rule."""

    used: set[Path] = field(default_factory=set)
    """From a variable to the field that is looked at: ("self", "spec", "size"); all that is below is needed, too."""
    patterns: list[str] = field(default_factory=list)
    """Patterns that are said in the rule itself."""
    literals: list[tuple[str, str]] = field(default_factory=list)
    """Durations and timestamps that are: ("duration", "1h")."""
    slow: set[int] = field(default_factory=set)
    """Comparisons and sums that are functions of ours now, by the ids of the expressions."""
    problems: list[str] = field(default_factory=list)
    """Why it cannot be taken."""


def rewrite(
    checked: pb.CheckedExpr, paths: Callable[[pb.Expr], Path | None], declared: Declared, optional: bool
) -> Facts:
    """Rewrites a rule, in place. `paths`: where the value of an expression comes from. `optional`: oldSelf is an
    optional value."""
    rewriting = _Rewriting(checked, paths, declared, optional)
    rewriting.walk(checked.expr)
    return rewriting.facts


def _ordered_otherwise(schema: Schema | None) -> bool:
    """There is a list in it, or it is one, that is a set or a map."""
    if not isinstance(schema, dict):
        return False
    if schema.get(LIST_TYPE) in ("set", "map"):
        return True
    inner = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(_ordered_otherwise(one) for one in inner)


class _Rewriting:
    def __init__(
        self,
        checked: pb.CheckedExpr,
        paths: Callable[[pb.Expr], Path | None],
        declared: Declared,
        optional: bool,
    ) -> None:
        self._checked = checked
        self._paths = paths
        self._declared = declared
        self._optional = optional
        self._ids = max([0, *checked.type_map, *checked.reference_map])
        self._bound: list[str] = []
        """Variables of loops around what is looked at: one of them may be called self."""
        self.facts = Facts()

    def walk(self, expr: pb.Expr) -> None:
        kind = expr.WhichOneof("expr_kind")
        if kind == "ident_expr":
            self._ident(expr, ())
        elif kind == "select_expr":
            self._select(expr)
        elif kind == "call_expr":
            self._call(expr)
        elif kind == "list_expr":
            for one in expr.list_expr.elements:
                self.walk(one)
        elif kind == "struct_expr":
            if expr.struct_expr.message_name:
                self.facts.problems.append(f"undeclared reference to '{expr.struct_expr.message_name}'")
            for entry in expr.struct_expr.entries:
                self.walk(entry.map_key)
                self.walk(entry.value)
        elif kind == "comprehension_expr":
            loop = expr.comprehension_expr
            self.walk(loop.iter_range)
            self.walk(loop.accu_init)
            names = [name for name in (loop.iter_var, loop.iter_var2, loop.accu_var) if name]
            self._bound += names
            for inner in (loop.loop_condition, loop.loop_step, loop.result):
                self.walk(inner)
            del self._bound[len(self._bound) - len(names) :]

    def _ident(self, expr: pb.Expr, fields: Path) -> None:
        name = expr.ident_expr.name
        if name in (SELF, OLD_SELF) and name not in self._bound:
            self.facts.used.add((name, *fields))
            if name == OLD_SELF and self._optional:
                self._may_be_absent(expr)

    def _select(self, expr: pb.Expr) -> None:
        fields: list[str] = []
        inner = expr
        while inner.WhichOneof("expr_kind") == "select_expr":
            fields.append(inner.select_expr.field)
            inner = inner.select_expr.operand
        if inner.WhichOneof("expr_kind") == "ident_expr":
            self._ident(inner, tuple(reversed(fields)))
        else:
            self.walk(inner)

    def _may_be_absent(self, expr: pb.Expr) -> None:
        self._checked.reference_map.pop(expr.id, None)
        expr.Clear()
        there = pb.Expr(id=self._id(), ident_expr=pb.Expr.Ident(name=HAS_OLD_SELF))
        old = pb.Expr(id=self._id(), ident_expr=pb.Expr.Ident(name=OLD_SELF))
        expr.CopyFrom(self._made("_?_:_", there, self._made("optional.of", old), self._made("optional.none")))

    def _call(self, expr: pb.Expr) -> None:
        call = expr.call_expr
        given = [*([call.target] if call.HasField("target") else []), *call.args]
        self._comparison(expr)
        if call.function == "matches" and len(given) == 2:
            self._rename(expr, f"{OURS}matches{self._pattern(given[1])}")
        elif call.function in ("duration", "timestamp") and _is_text(given[0]):
            self.facts.literals.append((call.function, given[0].const_expr.string_value))
        elif call.function == "cel.@mapInsert" and len(given) == 3:
            self._rename(expr, f"{OURS}mapInsert")
        if call.function in NAMES:
            self._own(expr)
        else:
            for one in _given(call):
                self.walk(one)

    def _own(self, expr: pb.Expr) -> None:
        call = expr.call_expr
        name = own_name(call.function, call.HasField("target"))
        overloads = list(self._checked.reference_map[expr.id].overload_id)
        if name in ("find", "findAll"):
            name += self._pattern(call.args[0])
        if name == "sum" and all("double" in one for one in overloads):
            name = "sumDouble"
        for one in _given(call):
            self.walk(one)
        self._rename(expr, f"{OURS}{name}")
        if name in OPTIONAL:
            inner = pb.Expr()
            inner.CopyFrom(expr)
            inner.id = self._id()
            expr.call_expr.CopyFrom(self._made("optional.ofNonZeroValue", inner).call_expr)

    def _rename(self, expr: pb.Expr, name: str) -> None:
        """Makes a call one of a function, without a target."""
        call = expr.call_expr
        given = []
        for one in _given(call):
            copy = pb.Expr()
            copy.CopyFrom(one)
            given.append(copy)
        self._checked.reference_map.pop(expr.id, None)
        call.ClearField("target")
        del call.args[:]
        call.function = name
        call.args.extend(given)

    def _comparison(self, expr: pb.Expr) -> None:
        call = expr.call_expr
        if call.function not in ("_==_", "_!=_", "_+_") or len(call.args) != 2:
            return
        for one in call.args:
            path = self._paths(one)
            schema = self._declared.at(path) if path is not None else None
            if path is None or not _ordered_otherwise(schema):
                continue
            assert schema is not None
            place = pb.Expr(id=self._id(), const_expr=pb.Constant(string_value=shape(schema)))
            if call.function == "_+_":
                if schema.get(LIST_TYPE) in ("set", "map"):
                    self.facts.slow.add(expr.id)
                    call.args.append(place)
                    self._rename(expr, JOINED)
                return
            self.facts.slow.add(expr.id)
            differs = call.function == "_!=_"
            call.args.append(place)
            self._rename(expr, EQUAL)
            if differs:
                inner = pb.Expr()
                inner.CopyFrom(expr)
                inner.id = self._id()
                expr.call_expr.CopyFrom(self._made("!_", inner).call_expr)
            return

    def _pattern(self, expr: pb.Expr) -> str:
        """Notes a pattern; what the name of its function ends in."""
        if not _is_text(expr):
            return FOUND
        self.facts.patterns.append(expr.const_expr.string_value)
        return ""

    def _made(self, function: str, *args: pb.Expr) -> pb.Expr:
        return pb.Expr(id=self._id(), call_expr=pb.Expr.Call(function=function, args=args))

    def _id(self) -> int:
        self._ids += 1
        return self._ids


def _is_text(expr: pb.Expr) -> bool:
    return bool(expr.const_expr.WhichOneof("constant_kind") == "string_value")


def _given(call: pb.Expr.Call) -> Iterator[pb.Expr]:
    if call.HasField("target"):
        yield call.target
    yield from call.args
