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
from cluster.api.cel.sizes import ITEMS, KEYS, LETTER_WEIGHT, NODE_WEIGHT, VALUES, Path, Sizes
from cluster.pb.cel import checked_pb2 as pb

MAX_TURNS = 10_000
"""Of all loops of a rule together: the library's limit."""
_CHARS, _REGEX = 0.1, 0.25
_ACCUMULATOR = "@result"
"""What the compiler calls the variable in which a map() or filter() gathers its items."""
_SCALARS = frozenset((1, 2, 3, 4))
"""bool, int, uint, double: as the checked expression has them."""
_TIMES = (2, 3)
"""Timestamps and durations."""


_AS_LONG = frozenset(
    ("lowerAscii", "upperAscii", "substring", "trim", "reverse", "quantity", "semver", "ip", "cidr", "url")
)
"""Functions whose answer is as long as what they are given, at most."""
_READ_ONCE = frozenset(
    (
        *("url", "isURL", "lowerAscii", "upperAscii", "substring", "trim", "quantity", "isQuantity", "isSemver"),
        *("isIP", "isCIDR", "cidr", "ip", "semver", "validate", "bytes", "strings.quote", "format"),
    )
)
"""Functions that go through a text once."""


def times(a: float, b: float) -> float:
    """The product; nothing of what is without end is nothing."""
    return 0 if not a or not b else a * b


class _Walk:
    """Walks a checked rule; remembers where values come from and how large they are."""

    def __init__(self, checked: pb.CheckedExpr, sizes: Sizes, slow: frozenset[int] = frozenset()) -> None:
        """`slow`: comparisons that are functions of ours, by the ids of the expressions."""
        self._slow = slow
        self._checked = checked
        self._sizes = sizes
        self._paths: dict[int, Path | None] = {}
        self._known: dict[int, float] = {}
        """Sizes that were worked out, by the id of the expression."""
        self._entries: dict[int, float] = {}
        """How large the entries of a list or a map are, as far as that was worked out."""
        self._locals: dict[str, list[tuple[Path | None, float | None]]] = {}
        self._turns = 1.0
        """How often what is looked at happens, at most, for the loops around it."""

    def cost(self, expr: pb.Expr) -> float:
        kind = expr.WhichOneof("expr_kind")
        if kind == "ident_expr":
            name = expr.ident_expr.name
            scope = self._locals.get(name)
            if scope:
                self._paths[expr.id], size = scope[-1]
                if size is not None:
                    self._known[expr.id] = size
            else:
                self._paths[expr.id] = (name,)
            return self.node(expr)
        if kind == "select_expr":
            return self._select(expr)
        if kind == "call_expr":
            return self._call(expr)
        if kind == "list_expr":
            elements = expr.list_expr.elements
            cost = sum(self.cost(one) for one in elements)
            self._known[expr.id] = len(elements)
            self._entries[expr.id] = max((self.size(one) for one in elements), default=0)
            return cost + self.made(10)
        if kind == "struct_expr":
            entries = expr.struct_expr.entries
            cost = sum(self.cost(one.map_key) + self.cost(one.value) for one in entries)
            self._known[expr.id] = len(entries)
            self._entries[expr.id] = max((self.size(one.value) for one in entries), default=0)
            return cost + self.made(30)
        if kind == "comprehension_expr":
            return self._comprehension(expr)
        return self.constant()

    def _select(self, expr: pb.Expr) -> float:
        select = expr.select_expr
        cost = self.cost(select.operand)
        if select.test_only:
            return cost + self.tested()
        path = self.path(select.operand)
        self._paths[expr.id] = (*path, self.step(select)) if path is not None else None
        return cost + self.node(expr)

    def _call(self, expr: pb.Expr) -> float:
        call = expr.call_expr
        argument_costs = [self.cost(one) for one in call.args]
        target = call.target if call.HasField("target") else None
        cost = self.cost(target) if target is not None else 0.0
        name, args = call.function, list(call.args)
        if name in ("_[_]", "_?._", "_[?_]"):
            path = self.path(args[0])
            if path is not None:
                self._paths[expr.id] = (*path, self._index(args[0], args[1]))
            elif args[0].id in self._entries:
                self._known[expr.id] = self._entries[args[0].id]
        elif name == "dyn" or name.startswith("optional."):
            for one in args:
                self._paths[expr.id] = self.path(one)
                self._known[expr.id] = self.size(one)
        if name == "_?_:_":
            self._known[expr.id] = max(self.size(args[1]), self.size(args[2]))
            return cost + argument_costs[0] + max(argument_costs[1:])
        own, size = self.called(name, expr, target, args)
        if size is not None:
            self._known[expr.id] = size
        return cost + sum(argument_costs) + own

    def _index(self, where: pb.Expr, index: pb.Expr) -> str:
        if index.const_expr.WhichOneof("constant_kind") == "string_value" and self._kind(where) != "map_type":
            return index.const_expr.string_value
        return VALUES if self._kind(where) == "map_type" else ITEMS

    def _comprehension(self, expr: pb.Expr) -> float:
        loop = expr.comprehension_expr
        cost = self.cost(loop.iter_range) + self.cost(loop.accu_init)
        path, entry = self.path(loop.iter_range), self._entries.get(loop.iter_range.id)
        is_map = self._kind(loop.iter_range) == "map_type"
        names = [(loop.iter_var, KEYS if is_map else ITEMS)]
        if loop.iter_var2:
            names = [(loop.iter_var, KEYS if is_map else ""), (loop.iter_var2, VALUES if is_map else ITEMS)]
        is_bind = loop.iter_range.WhichOneof("expr_kind") == "list_expr" and not loop.iter_range.list_expr.elements
        count = self.size(loop.iter_range)
        turns = self.turns(count)
        for name, step in names:
            where = (*path, step) if path is not None and step else None
            self._locals.setdefault(name, []).append((where, entry if step else 1.0))
        before, self._turns = self._turns, self._turns * max(turns, 1.0)
        held = self.size(loop.accu_init) if is_bind else count
        self._locals.setdefault(loop.accu_var, []).append((self.path(loop.accu_init), held))
        each = self.cost(loop.loop_condition) + self.cost(loop.loop_step)
        self._turns = before
        for name, _ in names:
            self._locals[name].pop()
        cost += self.cost(loop.result)
        self._locals[loop.accu_var].pop()
        made = loop.accu_init.WhichOneof("expr_kind")
        if is_bind:
            self._known[expr.id] = self.size(loop.result)
        elif made in ("list_expr", "struct_expr"):
            self._known[expr.id] = count
            self._entries[expr.id] = self._largest_added(loop.loop_step)
            cost += self.gathered(turns, made)
        return cost + times(turns, each)

    def _largest_added(self, step: pb.Expr) -> float:
        """How large what a map() or filter() adds to its list is: [x] stands last in `@result + [x]`."""
        call = step.call_expr
        if call.function == "_?_:_":
            return self._largest_added(call.args[1])
        return self._entries.get(call.args[-1].id, inf) if call.args else inf

    # --- what is asked of an expression that was walked

    def path(self, expr: pb.Expr) -> Path | None:
        """Where its value comes from."""
        return self._paths.get(expr.id)

    def size(self, expr: pb.Expr) -> float:
        """How large its value can be."""
        known = self._known.get(expr.id)
        if known is not None:
            return known
        constant = expr.const_expr.WhichOneof("constant_kind")
        if constant is not None:
            if constant in ("string_value", "bytes_value"):
                return len(getattr(expr.const_expr, constant))
            return 1
        kind = self._checked.type_map.get(expr.id) if expr.id in self._checked.type_map else None
        path = self.path(expr)
        is_scalar = kind is not None and (kind.primitive in _SCALARS or kind.well_known in _TIMES)
        if is_scalar and self._sizes.is_unknown(path):
            return 1
        return self._sizes.size(path)

    def _kind(self, expr: pb.Expr) -> str | None:
        """Which sort of type it has, as the checked expression calls it."""
        known = self._checked.type_map
        return known[expr.id].WhichOneof("type_kind") if expr.id in known else None

    def is_text(self, expr: pb.Expr) -> bool:
        """It may be a text, or bytes."""
        known = self._checked.type_map
        return expr.id not in known or known[expr.id].primitive in (5, 6) or self._kind(expr) is None

    def item_size(self, expr: pb.Expr) -> float:
        """How large the items of a list can be."""
        path = self.path(expr)
        if path is not None:
            return self._sizes.size((*path, ITEMS))
        return self._entries.get(expr.id, self._sizes.size(None))

    # --- what differs

    def step(self, select: pb.Expr.Select) -> str:
        """Where a field leads: Kubernetes' estimate knows nothing of the entries of a map that are said as fields."""
        return select.field

    def node(self, expr: pb.Expr) -> float:
        return 1

    def constant(self) -> float:
        return 0

    def tested(self) -> float:
        return 0

    def made(self, base: float) -> float:
        return base

    def turns(self, count: float) -> float:
        return count

    def gathered(self, turns: float, made: str) -> float:
        return 0

    def called(
        self, name: str, expr: pb.Expr, target: pb.Expr | None, args: list[pb.Expr]
    ) -> tuple[float, float | None]:
        """What a call itself costs, and how large its answer can be, if that is known."""
        raise NotImplementedError

    def answered(self, name: str, target: pb.Expr | None, args: list[pb.Expr]) -> float | None:
        """How large the answer of a call can be; None: it is not known, or no matter."""
        first = target if target is not None else (args[0] if args else None)
        size = self.size(first) if first is not None else 0.0
        if name in _AS_LONG:
            return size
        if name in ("split", "findAll", "find", "getEscapedPath", "getHost", "getHostname"):
            return size * 3 + 1 if name == "getEscapedPath" else size
        if name == "charAt":
            return 1
        if name == "replace":
            longer, what = self.size(args[1]), self.size(args[0])
            constant = args[0].const_expr.WhichOneof("constant_kind") is not None
            if not constant or not what:
                return times(size + 1, longer) + size
            return size if longer <= what else times(ceil(size / what) if size < inf else inf, longer)
        if name == "join" and first is not None:
            separator = self.size(args[0]) if args else 0.0
            return times(size, self.item_size(first)) + times(separator, max(size - 1, 0))
        if name == "format":
            return size + times(self.size(args[0]), max(1_000, self.item_size(args[0])))
        if name == "_+_":
            return self.size(args[0]) + self.size(args[1])
        if name in ("string", "bytes", "strings.quote"):
            return times(size, 4) + 32
        if name in ("orValue", "or"):
            return max(size, self.size(args[0]))
        return size if name in ("value", "optional.of", "optional.ofNonZeroValue") else None


def _units(characters: float) -> float:
    return inf if characters == inf else ceil(characters * _CHARS)


class DeclaredCost(_Walk):
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
            return (1 if self._kind(args[1]) == "map_type" else sizes[1]), answer
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
        known = self._checked.type_map
        return expr.id in known and known[expr.id].primitive in (5, 6)

    def _holds_text(self, expr: pb.Expr) -> bool:
        known = self._checked.type_map
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


class Work(_Walk):
    """In tenths of a microsecond."""

    def step(self, select: pb.Expr.Select) -> str:
        return VALUES if self._kind(select.operand) == "map_type" else select.field

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
        return min(count, max(MAX_TURNS / self._turns, 1.0))

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
            work += _PYTHON + 4 * sum(through) if expr.id in self._slow else min(through)
        elif name == "_+_" and not self.is_text(expr) and given[0].ident_expr.name != _ACCUMULATOR:
            work += (_PYTHON + 10 * (answer or 0)) if expr.id in self._slow else 3 * (answer or 0)
        elif name == "@in" and self._kind(given[1]) != "map_type":
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
            return self._sizes.weight(path)
        size, kind = self.size(expr), self._kind(expr)
        if kind in ("list_type", "map_type", None):
            return times(size, self._entry_weight(expr))
        return size * LETTER_WEIGHT

    def _compared(self, items: pb.Expr) -> float:
        """What it takes to compare something with one item of a list."""
        return max(self._entry_weight(items) - NODE_WEIGHT, 0) + 1

    def _entry_weight(self, expr: pb.Expr) -> float:
        path = self.path(expr)
        if path is not None:
            return self._sizes.weight((*path, ITEMS if self._kind(expr) != "map_type" else VALUES))
        known = self._checked.type_map
        if expr.id in known and known[expr.id].list_type.elem_type.primitive in _SCALARS:
            return NODE_WEIGHT
        return self._sizes.weight(None)

    def _passed(self, expr: pb.Expr, size: float) -> float:
        if self._kind(expr) in ("list_type", "map_type"):
            return times(size, _PER_ITEM + self._entry_weight(expr))
        return size * _PER_CHARACTER
