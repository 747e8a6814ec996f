"""What it costs to evaluate a rule at most, seen how large values can be.

Nothing stops a rule that runs but its count of loops: so what it can cost is worked out from the rule itself, and what
is too dear does not run. Both estimates walk the checked rule in one way; what they count differs:

    Declared    Kubernetes' units and factors, at the sizes that the schema allows: whether a definition is accepted
                (10 million for a rule, 100 million for a schema), so that what Kubernetes takes is taken, and what is
                refused is refused with the same advice
    Work        tenths of a microsecond, as measured with the library, at the sizes of the object: whether a rule runs

    self.ports.all(p, p.name.matches("^[a-z]+$"))      ports: maxItems 10, name: maxLength 20 (80 bytes)
    Declared    2 + 10 * (step: 2 + 9 * 2; condition: 2)         = some 230

The library adds the items of a map() or filter() to a list that it copies each time: work grows with their square. It
stops a rule after 10,000 turns of all of its loops together. Pure.
"""

from __future__ import annotations

from math import ceil, inf

from cluster.api.cel.functions import NAMES
from cluster.api.cel.library import MAX_INSTRUCTIONS_FOUND, instructions_of
from cluster.api.cel.sizes import ITEMS, LETTER_WEIGHT, NODE_WEIGHT, VALUES
from cluster.api.cel.walk import SCALARS, Walk, times
from cluster.pb.cel import checked_pb2 as pb

MAX_TURNS = 10_000
"""Of all loops of a rule together: the library's limit."""
_CHARS, _REGEX = 0.1, 0.25
_ACCUMULATOR = "@result"
"""What the compiler calls the variable in which a map() or filter() gathers its items."""
_READ_ONCE = frozenset(
    (
        *("url", "isURL", "lowerAscii", "upperAscii", "substring", "trim", "quantity", "isQuantity", "isSemver"),
        *("isIP", "isCIDR", "cidr", "ip", "semver", "validate", "bytes", "strings.quote", "format"),
    )
)
"""Functions that go through a text once."""


def _units(characters: float) -> float:
    return inf if characters == inf else ceil(characters * _CHARS)


class DeclaredCost(Walk):
    """In Kubernetes' units."""

    def called(
        self, name: str, expr: pb.Expr, target: pb.Expr | None, args: list[pb.Expr]
    ) -> tuple[float, float | None]:
        answer = self.answered(name, target, args)
        sizes = [self.size(one) for one in args]
        size = self.size(target) if target is not None else (sizes[0] if sizes else 0.0)
        if name in ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf") and target is not None:
            if self.is_text(target):
                return _units(size), answer
            return times(size, 1 + (_units(self.item_size(target)) if self._holds_text(target) else 0)), answer
        if name in _READ_ONCE:
            return _units(sizes[0] if name == "validate" else size), answer
        if name in ("replace", "split", "ip.isCanonical"):
            return _units(size * 2), answer
        if name == "join":
            return _units(answer or 0), answer
        if name in ("find", "findAll", "matches"):
            return times(_units(size + 1), inf if sizes[0] == inf else ceil(sizes[0] * _REGEX)), answer
        if name == "contains":
            return times(_units(size), _units(sizes[0])), answer
        if name in ("startsWith", "endsWith"):
            return _units(sizes[0]), answer
        if name == "@in":
            return (1 if self.kind(args[1]) == "map_type" else sizes[1]), answer
        if name.startswith("sets."):
            return times(sizes[0], sizes[1]) + 1, answer
        if name in ("containsIP", "containsCIDR"):
            return 4 + (_units(sizes[0]) if name == "containsIP" else 7), answer
        if name == "_+_" and self._is_joined(expr):
            return _units(answer or 0), answer
        if name in ("_&&_", "_||_"):
            return 0, answer
        if name in ("_==_", "_!=_", "_<_", "_>_", "_<=_", "_>=_"):
            return _units(min(sizes)), answer
        return 1, answer

    def _is_joined(self, expr: pb.Expr) -> bool:
        known = self.checked.type_map
        return expr.id in known and known[expr.id].primitive in (5, 6)

    def _holds_text(self, expr: pb.Expr) -> bool:
        known = self.checked.type_map
        return expr.id in known and known[expr.id].list_type.elem_type.primitive in (5, 6)


_WORK_PER_NODE = 3.0
_PATTERN, _PER_INSTRUCTION = 200.0, 0.25
"""A call of RE2, and for each instruction of a pattern what each character takes, where states cannot be remembered."""
_LINEAR: dict[str, float] = {
    **dict.fromkeys(("size", "charAt", "substring", "lowerAscii", "upperAscii", "trim", "startsWith", "endsWith"), 0.3),
    **dict.fromkeys(("split", "replace", "join", "format", "reverse", "findAll"), 6.0),
    **dict.fromkeys(("_+_", "string", "bytes", "strings.quote"), 0.3),
    "getQuery": 10.0,
}
"""Per character of what is gone through."""
_PYTHON, _PER_CHARACTER, _PER_ITEM = 30.0, 0.2, 3.0
"""A call of a function of ours, and what it takes for each character or item that it is given."""


class Work(Walk):
    """In tenths of a microsecond."""

    def step(self, select: pb.Expr.Select) -> str:
        return VALUES if self.kind(select.operand) == "map_type" else select.field

    def node(self, expr: pb.Expr) -> float:
        return _WORK_PER_NODE

    def constant(self) -> float:
        return 1

    def tested(self) -> float:
        return _WORK_PER_NODE

    def made(self, base: float) -> float:
        return 6

    def turns(self, count: float) -> float:
        """Loops in loops share the turns."""
        return min(count, max(MAX_TURNS / self.passes, 1.0))

    def gathered(self, turns: float, made: str) -> float:
        return turns * turns * (1.5 if made == "list_expr" else 15)

    def called(
        self, name: str, expr: pb.Expr, target: pb.Expr | None, args: list[pb.Expr]
    ) -> tuple[float, float | None]:
        answer = self.answered(name, target, args)
        given = ([target] if target is not None else []) + args
        sizes = [self.size(one) for one in given]
        work = _WORK_PER_NODE
        if name in ("matches", "find", "findAll"):
            work += self._pattern(given[1], sizes)
        elif name in ("_==_", "_!=_"):
            through = [self._through(one) for one in given]
            work += _PYTHON + 4 * sum(through) if expr.id in self.slow else min(through)
        elif name == "_+_" and not self.is_text(expr) and given[0].ident_expr.name != _ACCUMULATOR:
            work += (_PYTHON + 10 * (answer or 0)) if expr.id in self.slow else 3 * (answer or 0)
        elif name == "@in" and self.kind(given[1]) != "map_type":
            work += times(sizes[1], self._compared(given[1]))
        elif name.startswith("sets."):
            work += 2 * times(times(sizes[0], sizes[1]), self._compared(given[1]))
        elif name == "contains":
            work += sizes[0] * (0.1 + 0.001 * sizes[1])
        elif name in NAMES:
            work += _PYTHON + sum(self._passed(one, size) for one, size in zip(given, sizes, strict=True))
        if name in _LINEAR:
            work += _LINEAR[name] * (sizes[0] + (answer or 0 if name not in ("size", "split") else 0))
        return work, answer

    def _pattern(self, pattern: pb.Expr, sizes: list[float]) -> float:
        if pattern.const_expr.WhichOneof("constant_kind") == "string_value":
            compiling, instructions = 0.0, instructions_of(pattern.const_expr.string_value)
        else:
            # It may be another one each time.
            compiling, instructions = 50_000.0, MAX_INSTRUCTIONS_FOUND
        return _PATTERN + compiling + times(sizes[0], 0.5 + _PER_INSTRUCTION * instructions)

    def _through(self, expr: pb.Expr) -> float:
        """What it takes to compare a value."""
        if expr.const_expr.WhichOneof("constant_kind") is not None:
            return LETTER_WEIGHT * self.size(expr)
        path = self.path(expr)
        if path is not None:
            return self.sizes.weight(path)
        size, kind = self.size(expr), self.kind(expr)
        if kind in ("list_type", "map_type", None):
            return times(size, self._entry_weight(expr))
        return size * LETTER_WEIGHT

    def _compared(self, items: pb.Expr) -> float:
        """What it takes to compare something with one item of a list."""
        return max(self._entry_weight(items) - NODE_WEIGHT, 0) + 1

    def _entry_weight(self, expr: pb.Expr) -> float:
        path = self.path(expr)
        if path is not None:
            return self.sizes.weight((*path, ITEMS if self.kind(expr) != "map_type" else VALUES))
        known = self.checked.type_map
        if expr.id in known and known[expr.id].list_type.elem_type.primitive in SCALARS:
            return NODE_WEIGHT
        return self.sizes.weight(None)

    def _passed(self, expr: pb.Expr, size: float) -> float:
        if self.kind(expr) in ("list_type", "map_type"):
            return times(size, _PER_ITEM + self._entry_weight(expr))
        return size * _PER_CHARACTER
