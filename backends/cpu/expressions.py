"""Expressions as C++: vectors along one rank, with everything that does not change along it computed outside of the lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from einsum_compiler.backends.cpu.affine import Known, depends, links
from einsum_compiler.backends.cpu.arithmetic import binary, call, cast
from einsum_compiler.backends.cpu.columns import Columns, is_column
from einsum_compiler.backends.cpu.conditions import all_of, compared, intervals, logical
from einsum_compiler.backends.cpu.coordinates import Coordinates, extent_bound
from einsum_compiler.backends.cpu.values import (
    FIXED,
    LANE,
    REGISTER,
    ROW,
    Value,
    common,
    largest,
    literal,
    operand,
    scalar_type,
    to_type,
)
from einsum_compiler.backends.cpu.view import View
from einsum_compiler.ir.build import conjunction, conjuncts
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Parameter,
    Rank,
    Read,
    Unary,
    walk,
)

STORED = {"f64": "f64", "f32": "f32", "f16": "f32", "bf16": "f32", "i64": "i64", "bool": "i32"}


@dataclass(frozen=True)
class Names:
    """What stands for names: scalars and extents and indices of program and loops (C++ by name), and tiles."""

    scalars: Mapping[str, tuple[str, str]]
    extents: Mapping[str, str]
    indices: Mapping[str, str]
    tiles: Mapping[str, View]
    known: Known
    coordinates: Coordinates
    fresh: Callable[[str], str]


@dataclass
class Expressions:
    """Prints the expressions of one sweep.

    ``positions`` gives the C++ variable of every axis; ``lane`` is the rank that lanes run along, with ``j`` the
    position of a vector, or None for scalar code. Lines for the places outside of the lanes gather in ``fixed`` and
    ``row``, those of a vector in ``lanes``; equal code is computed once.
    """

    names: Names
    positions: Mapping[str, str]
    lane: str | None
    real: str
    columns: Columns | None = None
    locals: dict[str, Value] = field(default_factory=dict)
    lines: tuple[list[str], list[str], list[str]] = field(default_factory=lambda: ([], [], []))
    _bound: dict[str, str] = field(default_factory=dict)
    _seen: dict[Expression, Value] = field(default_factory=dict)

    # -- binding ------------------------------------------------------------------------------------------------------------

    def bind(self, value: Value, stem: str = "t") -> Value:
        """The value as a variable at its level, unless it is one already."""
        if value.constant is not None or (value.simple and value.code.replace("_", "").isalnum()):
            return value
        if value.code not in self._bound:
            name = self.names.fresh(stem)
            kind = "auto" if value.level == LANE else scalar_type(value.dtype)
            self.lines[value.level].append(f"const {kind} {name} = {value.code};")
            self._bound[value.code] = name
        return replace(value, code=self._bound[value.code], simple=True)

    def combine(self, *values: Value) -> tuple[int, tuple[Value, ...]]:
        """The level of an operation, its operands of lower levels computed there."""
        level = max(v.level for v in values)
        return level, tuple(self.bind(self._beside(v, level)) if v.level < level else v for v in values)

    def _beside(self, value: Value, level: int) -> Value:
        """A scalar as an operand at a level: what lanes of coordinates may cut is no coordinate there."""
        if level < LANE or value.dtype != "coord" or self.names.coordinates.fit(value.bound):
            return value
        return replace(value, dtype="i64")

    # -- expressions --------------------------------------------------------------------------------------------------------

    def value(self, node: Expression) -> Value:
        if node not in self._seen:
            column = self._column(node)
            self._seen[node] = self._visit(node) if column is None else column
        return self._seen[node]

    def is_column(self, node: Expression) -> bool:
        return self.lane is not None and is_column(node, self.lane, self.names.known, self.locals)

    def _column(self, node: Expression) -> Value | None:
        """A value that all rows share, from a buffer filled before them."""
        if self.columns is None or not self.positions or self.lane is None or not self.is_column(node):
            return None
        if any(isinstance(n, Rank) and n.name in self.positions and n.name != self.lane for n in walk(node)):
            return None
        return self.filled(node)

    def filled(self, node: Expression) -> Value | None:
        """A value in such a buffer; None if it is the same for all lanes."""
        assert self.columns is not None
        inner = Expressions(self.names, {}, self.lane, self.real)
        value = inner.value(node)
        if value.level < LANE:
            return None
        kind = REGISTER[value.dtype]
        name, declaration = self.columns.allocate(kind)
        filled = self.columns.loop([*inner.lines[LANE], f"tile::store<{kind}>({name}, j, {value.code});"])
        self.lines[FIXED].extend([declaration, *inner.lines[FIXED], *inner.lines[ROW], *filled])
        return self.bind(replace(value, code=f"tile::load({name}, j)", simple=True), "shared")

    def integer(self, node: Expression) -> str:
        """A scalar integer: an index or a bound."""
        value = self.value(node)
        if value.is_float:
            raise BackendError(f"an index or a bound must be an integer, not {node}")
        return to_type(value, "i64").code

    def condition(self, node: Expression) -> Value:
        return to_type(self.value(node), "bool")

    def _visit(self, node: Expression) -> Value:
        match node:
            case Constant(value=number):
                return literal(number, self.real)
            case Parameter(name=name):
                code, dtype = self.names.scalars[name]
                if dtype == "f64":
                    return self.bind(to_type(Value(code, "f64"), self.real), name)
                return Value(code, dtype)
            case Extent(rank=rank):
                return Value(self.names.extents[rank], "coord", nonnegative=True, bound=extent_bound(rank))
            case Rank(name=name):
                return self._coordinate(name)
            case Read(tensor=name, indices=()):
                return self._tile(name)
            case Unary(operator="not", operand=inner):
                value = self.condition(inner)
                return replace(
                    value, code=f"{'~' if value.level == LANE else '!'}{value.atom}", simple=False, constant=None
                )
            case Unary(operand=inner):
                value = self.number(inner)
                return replace(value, code=f"-{value.atom}", simple=False, nonnegative=False, constant=None)
            case Binary(operator="and") if (joined := intervals(self, node)) is not None:
                return joined
            case Binary(operator="and"):
                return all_of(self, conjuncts(node))
            case Binary(operator="or", left=left, right=right):
                return logical(self, "|", self.condition(left), self.condition(right))
            case Binary(operator=operator, left=left, right=right):
                return binary(self, operator, left, right)
            case Comparison():
                found = [compared(self, pair) for pair in links(node) or ()]
                result = found[0]
                for link in found[1:]:
                    result = logical(self, "&", result, link)
                return result
            case Conditional() if (branched := self._branch(node)) is not None:
                return branched
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return self.select(self.condition(condition), self.value(then), self.value(otherwise))
            case Cast(operand=inner, dtype=dtype):
                return cast(self.value(inner), dtype, self.real)
            case Call(function="exp.nonpositive", arguments=(Binary(operator="-", left=left, right=right),)) if (
                self.real == "f32" and self.lane is not None and self.value(right).level < LANE
            ):
                return self.value(Call("exp.difference", (Binary("-", left, right),)))
            case Call(function=function, arguments=arguments):
                return call(self, function, [self.number(a) for a in arguments])
        raise BackendError(f"the CPU backend has no code for {type(node).__name__} in a tile program: {node}")

    def _coordinate(self, name: str) -> Value:
        bound = self.names.coordinates.of(name)
        if name == self.lane:
            return Value("tile::columns(j)", "coord", LANE, nonnegative=True, bound=bound)
        if name in self.positions:
            return Value(self.positions[name], "coord", ROW, nonnegative=True, bound=bound)
        if name in self.names.indices:
            return Value(self.names.indices[name], "coord", nonnegative=True, bound=bound)
        raise BackendError(f"rank {name} is neither an axis here nor an index of the program or a loop around")

    def _tile(self, name: str) -> Value:
        if name in self.locals:
            return self._computed(self.locals[name], self.locals[name].dtype)
        view = self.names.tiles[name]
        kind = STORED.get(view.dtype, "i32")
        address = view.address({r: p for r, p in self.positions.items() if r != self.lane})
        if self.lane is not None and view.has(self.lane):
            stride = view.stride(self.lane)
            pointer = self.bind_pointer(address, view, name)
            if stride == "1":
                code = f"tile::load({pointer}, j)"
            else:
                # Columns run into the padding of rows; along another axis there is none, and what lies beyond is not the tile's.
                size = next(a.size for a in view.axes if a.rank == self.lane)
                code = f"tile::load_apart({pointer}, {stride}, {size}, j)"
            value = self.bind(Value(code, kind, LANE), name)
        else:
            level = ROW if view.axes else FIXED
            value = self.bind(Value(f"tile::widen(*({address}))", kind, level, simple=True), name)
        return self._computed(value, view.dtype)

    def bind_pointer(self, address: str, view: View, name: str) -> str:
        """The address of a row as a variable of the row."""
        if address == view.pointer:
            return address
        if address not in self._bound:
            self._bound[address] = self.names.fresh(f"{name}_row")
            self.lines[ROW].append(f"const {view.ctype}* const {self._bound[address]} = {address};")
        return self._bound[address]

    def _computed(self, value: Value, dtype: str) -> Value:
        """A tile's element as a value of the statement."""
        if dtype == "bool":
            return value if value.dtype == "bool" else to_type(value, "bool")
        return to_type(value, self.real) if value.is_float and value.dtype != self.real else value

    def number(self, node: Expression) -> Value:
        """The value as a number: a boolean counts as 0 or 1."""
        value = self.value(node)
        return to_type(value, "i32" if value.level == LANE else "i64") if value.dtype == "bool" else value

    def _branch(self, node: Conditional) -> Value | None:
        """``if(u and v, a, b)`` where u is the same for the whole tile: what a costs is paid only where u holds.

        For values that call functions; others cost less than a branch in every vector.
        """
        if self.lane is None or not any(isinstance(n, Call) for n in walk(node.then)):
            return None
        axes = {*self.positions, self.lane}
        parts = conjuncts(node.condition)
        varying = [
            p
            for p in parts
            if depends(p, axes, self.names.known)
            or any(isinstance(n, Read) and n.tensor in self.locals for n in walk(p))
        ]
        uniform = [self.bind(self.condition(p)) for p in parts if p not in varying]
        if not uniform or any(u.level > FIXED for u in uniform):
            return None
        otherwise = self._seen[node.otherwise] = self.bind(self.value(node.otherwise))
        inner = replace(
            self, lines=(self.lines[FIXED], self.lines[ROW], []), _bound=dict(self._bound), _seen=dict(self._seen)
        )
        then = inner.value(node.then)
        if (rest := conjunction(varying)) is not None:
            then = inner.select(inner.condition(rest), then, otherwise)
        dtype = common(then.dtype, otherwise.dtype, self.real)
        if dtype not in ("f32", "f64"):
            return None
        start, taken = (
            v.code if v.level == LANE else f"tile::splat<{REGISTER[dtype]}>({v.code})"
            for v in (to_type(otherwise, dtype), to_type(then, dtype))
        )
        name = self.names.fresh("chosen")
        test = " && ".join(u.atom for u in uniform)
        body = [f"    {line}" for line in [*inner.lines[LANE], f"{name} = {taken};"]]
        self.lines[LANE].extend([f"auto {name} = {start};", f"if ({test}) {{", *body, "}"])
        return Value(name, dtype, LANE)

    def select(self, condition: Value, then: Value, otherwise: Value) -> Value:
        if isinstance(condition.constant, bool):
            return then if condition.constant else otherwise
        level, (condition, then, otherwise) = self.combine(condition, then, otherwise)
        if then.dtype == otherwise.dtype == "bool":
            dtype = "bool"
        else:
            dtype = common(then.dtype, otherwise.dtype, self.real)
        positive = then.nonnegative and otherwise.nonnegative
        if level < LANE:
            code = f"{condition.atom} ? {to_type(then, dtype).atom} : {to_type(otherwise, dtype).atom}"
            return Value(code, dtype, level, simple=False, nonnegative=positive, bound=largest(then, otherwise))
        code = f"tile::select({condition.code}, {operand(then, dtype)}, {operand(otherwise, dtype)})"
        return Value(code, dtype, LANE, nonnegative=positive, bound=largest(then, otherwise))
