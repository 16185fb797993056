"""Expressions as C++: vectors along one rank, with everything that does not change along it computed outside of the lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from einsum_compiler.backends.cpu.affine import (
    FLIPPED,
    Known,
    depends,
    integral,
    links,
    negated,
    position_bound,
    undivided,
)
from einsum_compiler.backends.cpu.columns import Columns, columns_of, is_column
from einsum_compiler.backends.cpu.functions import FUNCTIONS
from einsum_compiler.backends.cpu.values import (
    FIXED,
    LANE,
    REGISTER,
    ROW,
    Value,
    common,
    literal,
    operand,
    scalar_type,
    to_type,
)
from einsum_compiler.backends.cpu.view import C_TYPES, View, c_type
from einsum_compiler.ir.build import add, conjunction, conjuncts
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
from einsum_compiler.ir.types import is_float

COMPARED = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "==": "equal", "!=": "unequal"}
STORED = {"f64": "f64", "f32": "f32", "f16": "f32", "bf16": "f32", "i64": "i64", "bool": "i32"}


@dataclass(frozen=True)
class Names:
    """What stands for names: scalars and extents and indices of program and loops (C++ by name), and tiles."""

    scalars: Mapping[str, tuple[str, str]]
    extents: Mapping[str, str]
    indices: Mapping[str, str]
    tiles: Mapping[str, View]
    known: Known
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

    def _combine(self, *values: Value) -> tuple[int, tuple[Value, ...]]:
        """The level of an operation, its operands of lower levels computed there."""
        level = max(v.level for v in values)
        return level, tuple(self.bind(v) if v.level < level else v for v in values)

    # -- expressions --------------------------------------------------------------------------------------------------------

    def value(self, node: Expression) -> Value:
        if node not in self._seen:
            column = self._column(node)
            self._seen[node] = self._visit(node) if column is None else column
        return self._seen[node]

    def _is_column(self, node: Expression) -> bool:
        return self.lane is not None and is_column(node, self.lane, self.names.known, self.locals)

    def _column(self, node: Expression) -> Value | None:
        """A value that all rows share, from a buffer filled before them."""
        if self.columns is None or not self.positions or self.lane is None or not self._is_column(node):
            return None
        if any(isinstance(n, Rank) and n.name in self.positions and n.name != self.lane for n in walk(node)):
            return None
        return self._filled(node)

    def _filled(self, node: Expression) -> Value | None:
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
                return Value(self.names.extents[rank], "coord", nonnegative=True)
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
            case Binary(operator="and") if (joined := self._intervals(node)) is not None:
                return joined
            case Binary(operator="and"):
                return self._all(conjuncts(node))
            case Binary(operator="or", left=left, right=right):
                return self._logical("|", self.condition(left), self.condition(right))
            case Binary(operator=operator, left=left, right=right):
                return self._binary(operator, left, right)
            case Comparison():
                found = [self._link(pair) for pair in links(node) or ()]
                result = found[0]
                for link in found[1:]:
                    result = self._logical("&", result, link)
                return result
            case Conditional() if (branched := self._branch(node)) is not None:
                return branched
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                return self.select(self.condition(condition), self.value(then), self.value(otherwise))
            case Cast(operand=inner, dtype=dtype):
                return self.cast(self.value(inner), dtype)
            case Call(function="exp.nonpositive", arguments=(Binary(operator="-", left=left, right=right),)) if (
                self.real == "f32" and self.lane is not None and self.value(right).level < LANE
            ):
                return self.value(Call("exp.difference", (Binary("-", left, right),)))
            case Call(function=function, arguments=arguments):
                return self._call(function, [self.number(a) for a in arguments])
        raise BackendError(f"the CPU backend has no code for {type(node).__name__} in a tile program: {node}")

    def _coordinate(self, name: str) -> Value:
        if name == self.lane:
            return Value("tile::columns(j)", "coord", LANE, nonnegative=True)
        if name in self.positions:
            return Value(self.positions[name], "coord", ROW, nonnegative=True)
        if name in self.names.indices:
            return Value(self.names.indices[name], "coord", nonnegative=True)
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
                code = f"tile::load(tile::strided<const {view.ctype}>{{{pointer}, 0, {stride}}}, 0, j)"
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

    # -- operators ----------------------------------------------------------------------------------------------------------

    def _logical(self, operator: str, left: Value, right: Value) -> Value:
        for a, b in ((left, right), (right, left)):
            if isinstance(a.constant, bool):
                return b if a.constant == (operator == "&") else a
        level, (left, right) = self._combine(left, right)
        if level == LANE:
            return Value(f"{operand(left, 'bool')} {operator} {operand(right, 'bool')}", "bool", LANE, simple=False)
        return Value(f"{left.atom} {operator * 2} {right.atom}", "bool", level, simple=False)

    def _undivided(self, node: Comparison) -> tuple[Comparison, ...] | None:
        """A comparison of a quotient over lanes as bounds, so that no lane divides.

        Not where a shift of 32 bits does it: for a power of two and a sum of coordinates.
        """
        lanes, known = {self.lane or ""}, self.names.known
        if not integral(node, known):
            return None
        for operands, operator in (
            (node.operands, node.operators[0]),
            (node.operands[::-1], FLIPPED[node.operators[0]]),
        ):
            quotient, k = operands
            if depends(k, lanes, known) or not depends(quotient, lanes, known) or not isinstance(quotient, Binary):
                continue
            c = quotient.right.value if isinstance(quotient.right, Constant) else 0
            short = not any(isinstance(n, Parameter | Read) for n in walk(quotient.left))
            if isinstance(c, int) and c > 1 and not (short and c & (c - 1) == 0):
                return undivided(Comparison((operator,), operands))
        return None

    def _apart(self, node: Comparison) -> Comparison | None:
        """A comparison of integers with all that changes along lanes on the left, where that is a column."""
        if self.columns is None or self.lane is None or not integral(node, self.names.known):
            return None
        difference = Binary("-", node.operands[0], node.operands[1])
        parts = columns_of(difference, {self.lane}, set(self.positions) - {self.lane}, self.names.known)
        if parts is None or not self._is_column(parts[0]):
            return None
        column, rest = parts
        if isinstance(column, Unary):
            return Comparison((FLIPPED[node.operators[0]],), (column.operand, rest))
        return Comparison(node.operators, (column, negated(rest)))

    def _intervals(self, node: Expression) -> Value | None:
        """A conjunction where several bounds on one column are one: ``c < a and c < b`` is ``c < min(a, b)``."""
        if self.columns is None:
            return None
        limits: dict[tuple[Expression, bool], list[Expression]] = {}
        others: list[Expression] = []
        parts: list[Expression] = []
        for whole in conjuncts(node):
            for link in links(whole) or (whole,):
                parts.extend((isinstance(link, Comparison) and self._undivided(link)) or (link,))
        for part in parts:
            moved = self._apart(part) if isinstance(part, Comparison) else None
            if moved is None or moved.operators[0] in ("==", "!="):
                others.append(part)
                continue
            operator, (column, bound) = moved.operators[0], moved.operands
            above = operator in (">", ">=")
            limits.setdefault((column, above), []).append(add(bound, Constant(int(operator in (">", "<=")))))
        if all(len(found) == 1 for found in limits.values()):
            return None
        for (column, above), found in limits.items():
            bound = found[0] if len(found) == 1 else Call("max" if above else "min", tuple(found))
            others.append(Comparison((">=" if above else "<",), (column, bound)))
        return self._all(others)

    def _all(self, parts: Sequence[Expression]) -> Value:
        """A conjunction: what a row decides together, and what the lanes alone decide in one column."""
        by_row: list[Value] = []
        shared: list[Expression] = []
        others: list[Expression] = []
        for part in parts:
            made_here = any(isinstance(n, Read) and n.tensor in self.locals for n in walk(part))
            if self.columns is None or self.lane is None or not self.positions or made_here:
                others.append(part)
            elif not depends(part, {self.lane}, self.names.known):
                by_row.append(self.condition(part))
            elif depends(part, set(self.positions) - {self.lane}, self.names.known):
                others.append(part)
            else:
                shared.append(part)
        column = None
        if len(shared) > 1:
            node = conjunction(shared)
            assert node is not None
            column = self._filled(node)
        values = [*by_row, *([column] if column else [self.condition(p) for p in shared])]
        return reduce(lambda a, b: self._logical("&", a, b), [*values, *(self.condition(p) for p in others)])

    def _link(self, node: Comparison) -> Value:
        if self.lane is not None and (bounds := self._undivided(node)) is not None:
            found_bounds = [self._link(b) for b in bounds]
            return self._logical("&", *found_bounds) if len(bounds) == 2 else found_bounds[0]
        moved = self._apart(node)
        if moved is not None:
            node = moved
        elif self.lane is not None:
            found = position_bound(node, self.lane, self.names.known)
            if found is not None:
                bound = self.bind(self.value(found[1]), "bound")
                if bound.level < LANE:
                    near = self.bind(Value(f"tile::near({bound.code})", "i32", bound.level), "bound")
                    return Value(f"tile::columns(j) {found[0]} int32_t({near.code})", "bool", LANE, simple=False)
        level, (left, right) = self._combine(self.value(node.operands[0]), self.value(node.operands[1]))
        operator = node.operators[0]
        if left.dtype == right.dtype == "bool":
            left, right = (to_type(v, "i32" if v.level == LANE else "i64") for v in (left, right))
        dtype = common(left.dtype, right.dtype, self.real)
        if {left.dtype, right.dtype} == {"i32", "coord"}:
            dtype = "i32"
        if level < LANE:
            return Value(
                f"{to_type(left, dtype).atom} {operator} {to_type(right, dtype).atom}", "bool", level, simple=False
            )
        if left.level < LANE:  # a vector stands on the left of an operator
            left, right, operator = right, left, FLIPPED[operator]
        if left.dtype == "coord" and right.level < LANE and right.dtype == "i64":
            # A coordinate lies strictly within 32 bits, so a bound beyond them may be cut to them.
            right, dtype = self.bind(Value(f"tile::saturated({right.code})", "coord", right.level), "bound"), "coord"
        if dtype in ("f64", "i64"):  # Note [Wide vectors] in vector.hpp
            code = f"tile::compared(tile::{COMPARED[operator]}(), {operand(left, dtype)}, {operand(right, dtype)})"
            return Value(f"tile::as_mask({code})", "bool", LANE)
        return Value(f"{operand(left, dtype)} {operator} {operand(right, dtype)}", "bool", LANE, simple=False)

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
        level, (condition, then, otherwise) = self._combine(condition, then, otherwise)
        if then.dtype == otherwise.dtype == "bool":
            dtype = "bool"
        else:
            dtype = common(then.dtype, otherwise.dtype, self.real)
        positive = then.nonnegative and otherwise.nonnegative
        if level < LANE:
            code = f"{condition.atom} ? {to_type(then, dtype).atom} : {to_type(otherwise, dtype).atom}"
            return Value(code, dtype, level, simple=False, nonnegative=positive)
        code = f"tile::select({condition.code}, {operand(then, dtype)}, {operand(otherwise, dtype)})"
        return Value(code, dtype, LANE, nonnegative=positive)

    def _binary(self, operator: str, left_node: Expression, right_node: Expression) -> Value:
        left, right = self.number(left_node), self.number(right_node)
        if operator in ("&", "|", "^") and self.value(left_node).dtype == self.value(right_node).dtype == "bool":
            a, b = self.condition(left_node), self.condition(right_node)
            if operator != "^":
                return self._logical(operator, a, b)
            level, (a, b) = self._combine(a, b)
            code = f"{operand(a, 'bool')} ^ {operand(b, 'bool')}" if level == LANE else f"{a.atom} != {b.atom}"
            return Value(code, "bool", level, simple=False)
        level, (left, right) = self._combine(left, right)
        dtype = self.real if operator == "/" else common(left.dtype, right.dtype, self.real)
        if dtype == "i32" or (
            dtype == "coord" and operator == "*" and left.constant is None and right.constant is None
        ):
            dtype = "i64"  # 32 bits hold what was loaded and positions, not what is computed from them
        positive = left.nonnegative and right.nonnegative and operator != "-"
        if operator in ("//", "%") and dtype not in ("f32", "f64"):
            return self._integer_division(operator, left, right, dtype, level)
        if operator == "**":
            return self._power(left, right, dtype, level)
        if level < LANE:
            a, b = to_type(left, dtype), to_type(right, dtype)
            if operator in ("//", "%"):
                name = "floor_divide" if operator == "//" else "modulo"
                return Value(f"tile::{name}({a.code}, {b.code})", dtype, level)
            return Value(f"{a.atom} {operator} {b.atom}", dtype, level, simple=False, nonnegative=positive)
        a_code, b_code = operand(left, dtype), operand(right, dtype)
        if operator in ("//", "%"):
            name = "floor_divide" if operator == "//" else "modulo"
            return Value(f"tile::{name}({a_code}, {b_code})", dtype, LANE)
        return Value(f"{a_code} {operator} {b_code}", dtype, LANE, simple=False, nonnegative=positive)

    def _integer_division(self, operator: str, left: Value, right: Value, dtype: str, level: int) -> Value:
        divisor = right.constant
        if divisor == 1 and operator == "//":
            return left
        positive = left.nonnegative and isinstance(divisor, int) and divisor > 0
        if isinstance(divisor, int) and divisor > 0 and divisor & (divisor - 1) == 0:
            # An arithmetic shift floors, and the low bits are the remainder, for negative numbers too.
            shift, mask = divisor.bit_length() - 1, divisor - 1
            code = f"{to_type(left, dtype).atom} {'>> ' + str(shift) if operator == '//' else '& ' + str(mask)}"
            return Value(code, dtype, level, simple=False, nonnegative=positive or operator == "%")
        if level < LANE and positive:
            plain = "/" if operator == "//" else "%"
            return Value(f"{left.atom} {plain} {right.atom}", dtype, level, simple=False, nonnegative=True)
        name = "floor_divide" if operator == "//" else "modulo"
        if level < LANE:
            code = f"tile::{name}<int64_t>({left.code}, {right.code})"
        else:
            code = f"tile::{name}({operand(left, dtype)}, {operand(right, dtype)})"
        return Value(code, dtype, level, nonnegative=positive)

    def _power(self, base: Value, exponent: Value, dtype: str, level: int) -> Value:
        number = exponent.constant
        if isinstance(number, float) and number == int(number):
            number = int(number)
        if isinstance(number, int) and (abs(number) <= 16 if base.is_float else 0 <= number <= 16):
            kind = self.real if base.is_float else "i64"
            code = operand(base, kind) if level == LANE else to_type(base, kind).code
            return Value(f"tile::power<{number}>({code})", kind, level)
        if dtype not in ("f32", "f64"):
            raise BackendError("the CPU backend raises integers to constant powers from 0 to 16 only")
        if level < LANE:
            return Value(f"tile::pow({to_type(base, dtype).code}, {to_type(exponent, dtype).code})", dtype, level)
        return Value(f"tile::pow({operand(base, dtype)}, {operand(exponent, dtype)})", dtype, LANE)

    def cast(self, value: Value, dtype: str) -> Value:
        """The value rounded to an element type, in the type the statement computes with."""
        if dtype == "bool":
            return to_type(value, "bool")
        if is_float(dtype):
            wide = to_type(value, self.real)
            return (
                replace(
                    wide, code=f"tile::round_to<{c_type(dtype, 'a cast')}>({wide.code})", simple=True, constant=None
                )
                if dtype != self.real
                else wide
            )
        if value.dtype == "bool":
            return to_type(value, "i32" if value.level == LANE else "i64")
        if dtype == "i64":
            return to_type(value, "i64")
        wide = to_type(value, "i64")
        code = (
            f"tile::round_to<{C_TYPES[dtype]}>({wide.code})"
            if wide.level == LANE
            else f"int64_t({C_TYPES[dtype]}({wide.code}))"
        )
        return replace(wide, code=code, dtype="i64", simple=True, constant=None, nonnegative=False)

    # -- functions ----------------------------------------------------------------------------------------------------------

    def _call(self, function: str, values: list[Value]) -> Value:
        if function == "uniform":
            return self._uniform(values)
        if self.real == "f64":
            function = function.removesuffix(".nonpositive")  # the C library's functions have one form
        if function not in FUNCTIONS:
            raise BackendError(f"the CPU backend has no code for the function {function} in a tile program")
        template, kind = FUNCTIONS[function]
        level, found = self._combine(*values)
        if kind == "real":
            dtype = self.real
        else:
            dtype = found[0].dtype
            for v in found[1:]:
                dtype = common(dtype, v.dtype, self.real)
            dtype = "i64" if dtype == "i32" else dtype
            if dtype not in ("f32", "f64") and function in ("floor", "ceil", "round"):
                return found[0]
        if level == LANE and template.count("{0}") > 1:
            found = tuple(self.bind(to_type(v, dtype)) if v.level == LANE else v for v in found)
        codes = [
            operand(v, dtype)
            if level == LANE
            else f"{scalar_type(dtype)}({v.code})"
            if v.constant is not None and not v.is_float
            else to_type(v, dtype).code
            for v in found
        ]
        if template == "fold":
            code = codes[0]
            for other in codes[1:]:
                code = f"tile::{function}({code}, {other})"
            positive = (any if function == "max" else all)(v.nonnegative for v in found)
            return Value(code, dtype, level, nonnegative=positive and dtype not in ("f32", "f64"))
        kind_name = REGISTER[dtype] if level == LANE else scalar_type(dtype)
        code = template.format(*codes, T=kind_name)
        return Value(code, dtype, level, simple=code.startswith("tile::"), nonnegative=function == "abs")

    def _uniform(self, values: list[Value]) -> Value:
        level, found = self._combine(*values)
        codes = ", ".join(v.code for v in found)
        kind = "float" if self.real == "f32" else "double"
        if level == LANE:
            return Value(f"tile::uniform_lanes<{kind}>({codes})", self.real, LANE)
        return Value(f"{kind}(tile::uniform({codes}))", self.real, level)
