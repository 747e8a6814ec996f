"""A walk over a checked rule, for those who work out what it costs: where values come from, and how large they can be.

    self.ports.all(p, p.name.contains("x"))
    self.ports    at ("self", "ports"), as large as the sizes say      p.name    at ("self", "ports", "@items", "name")

What functions make of values is followed: a text that is joined is as long as its parts together. What it costs is for
others to say (`cost.py`). Pure.
"""

from __future__ import annotations

from math import ceil, inf

from cluster.api.cel.sizes import ITEMS, KEYS, VALUES, Path, Sizes
from cluster.pb.cel import checked_pb2 as pb

SCALARS = frozenset((1, 2, 3, 4))
"""bool, int, uint, double: as the checked expression has them."""
_TIMES = (2, 3)
"""Timestamps and durations."""
_AS_LONG = frozenset(
    ("lowerAscii", "upperAscii", "substring", "trim", "reverse", "quantity", "semver", "ip", "cidr", "url")
)
"""Functions whose answer is as long as what they are given, at most."""


def times(a: float, b: float) -> float:
    """The product; nothing of what is without end is nothing."""
    return 0 if not a or not b else a * b


class Walk:
    """Walks a checked rule; remembers where values come from and how large they are."""

    def __init__(self, checked: pb.CheckedExpr, sizes: Sizes, slow: frozenset[int] = frozenset()) -> None:
        """`slow`: comparisons that are functions of ours, by the ids of the expressions."""
        self.slow = slow
        self.checked = checked
        self.sizes = sizes
        self._paths: dict[int, Path | None] = {}
        self._known: dict[int, float] = {}
        """Sizes that were worked out, by the id of the expression."""
        self.entries: dict[int, float] = {}
        """How large the entries of a list or a map are, as far as that was worked out."""
        self._locals: dict[str, list[tuple[Path | None, float | None]]] = {}
        self.passes = 1.0
        """How often what is looked at happens, at most, for the loops around it."""

    def cost(self, expr: pb.Expr) -> float:
        """What it costs to evaluate an expression, with all that is in it. From the outside in, once for each."""
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
            self.entries[expr.id] = max((self.size(one) for one in elements), default=0)
            return cost + self.made(10)
        if kind == "struct_expr":
            entries = expr.struct_expr.entries
            cost = sum(self.cost(one.map_key) + self.cost(one.value) for one in entries)
            self._known[expr.id] = len(entries)
            self.entries[expr.id] = max((self.size(one.value) for one in entries), default=0)
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
            elif args[0].id in self.entries:
                self._known[expr.id] = self.entries[args[0].id]
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
        if index.const_expr.WhichOneof("constant_kind") == "string_value" and self.kind(where) != "map_type":
            return index.const_expr.string_value
        return VALUES if self.kind(where) == "map_type" else ITEMS

    def _comprehension(self, expr: pb.Expr) -> float:
        loop = expr.comprehension_expr
        cost = self.cost(loop.iter_range) + self.cost(loop.accu_init)
        path, entry = self.path(loop.iter_range), self.entries.get(loop.iter_range.id)
        is_map = self.kind(loop.iter_range) == "map_type"
        names = [(loop.iter_var, KEYS if is_map else ITEMS)]
        if loop.iter_var2:
            names = [(loop.iter_var, KEYS if is_map else ""), (loop.iter_var2, VALUES if is_map else ITEMS)]
        is_bind = loop.iter_range.WhichOneof("expr_kind") == "list_expr" and not loop.iter_range.list_expr.elements
        count = self.size(loop.iter_range)
        turns = self.turns(count)
        for name, step in names:
            where = (*path, step) if path is not None and step else None
            self._locals.setdefault(name, []).append((where, entry if step else 1.0))
        before, self.passes = self.passes, self.passes * max(turns, 1.0)
        held = self.size(loop.accu_init) if is_bind else count
        self._locals.setdefault(loop.accu_var, []).append((self.path(loop.accu_init), held))
        each = self.cost(loop.loop_condition) + self.cost(loop.loop_step)
        self.passes = before
        for name, _ in names:
            self._locals[name].pop()
        cost += self.cost(loop.result)
        self._locals[loop.accu_var].pop()
        made = loop.accu_init.WhichOneof("expr_kind")
        if is_bind:
            self._known[expr.id] = self.size(loop.result)
        elif made in ("list_expr", "struct_expr"):
            self._known[expr.id] = count
            self.entries[expr.id] = self._largest_added(loop.loop_step)
            cost += self.gathered(turns, made)
        return cost + times(turns, each)

    def _largest_added(self, step: pb.Expr) -> float:
        """How large what a map() or filter() adds to its list is: [x] stands last in `@result + [x]`."""
        call = step.call_expr
        if call.function == "_?_:_":
            return self._largest_added(call.args[1])
        return self.entries.get(call.args[-1].id, inf) if call.args else inf

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
        kind = self.checked.type_map.get(expr.id) if expr.id in self.checked.type_map else None
        path = self.path(expr)
        is_scalar = kind is not None and (kind.primitive in SCALARS or kind.well_known in _TIMES)
        if is_scalar and self.sizes.is_unknown(path):
            return 1
        return self.sizes.size(path)

    def kind(self, expr: pb.Expr) -> str | None:
        """Which sort of type it has, as the checked expression calls it; None: that is not known yet."""
        known = self.checked.type_map
        kind = known[expr.id].WhichOneof("type_kind") if expr.id in known else None
        return None if kind == "dyn" else kind

    def is_text(self, expr: pb.Expr) -> bool:
        """It may be a text, or bytes."""
        known = self.checked.type_map
        return expr.id not in known or known[expr.id].primitive in (5, 6) or self.kind(expr) is None

    def item_size(self, expr: pb.Expr) -> float:
        """How large the items of a list can be."""
        path = self.path(expr)
        if path is not None:
            return self.sizes.size((*path, ITEMS))
        return self.entries.get(expr.id, self.sizes.size(None))

    # --- what differs

    def step(self, select: pb.Expr.Select) -> str:
        """Where a field leads: Kubernetes' estimate knows nothing of the entries of a map that are said as fields."""
        return select.field

    def node(self, expr: pb.Expr) -> float:
        """What a variable or a field costs."""
        return 1

    def constant(self) -> float:
        """What a constant costs."""
        return 0

    def tested(self) -> float:
        """What has() costs."""
        return 0

    def made(self, base: float) -> float:
        """What it costs to make a list or a map; `base`: in Kubernetes' units."""
        return base

    def turns(self, count: float) -> float:
        """How often a loop over so many happens."""
        return count

    def gathered(self, turns: float, made: str) -> float:
        """What it costs to gather what the turns of a loop make, beside the turns."""
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
