"""Folding of constants, and bounds of integer expressions whose ranks have known extents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    Unary,
    transform,
)

Number = int | float

_ARITHMETIC: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
_INTEGER: dict[str, Callable[[int, int], int]] = {
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}
_COMPARE: dict[str, Callable[[Number, Number], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def fold(node: Expression) -> Expression:
    """The expression with constant integer arithmetic, comparisons and connectives evaluated.

    Real arithmetic is left alone but for neutral elements: its rounding belongs to the program.
    """
    return transform(node, _fold_node)


def substitute(node: Expression, extents: Mapping[str, int], parameters: Mapping[str, int | bool]) -> Expression:
    """The expression with known extents and parameters as constants, folded."""

    def change(n: Expression) -> Expression:
        if isinstance(n, Extent) and n.rank in extents:
            return Constant(extents[n.rank])
        if isinstance(n, Parameter) and n.name in parameters:
            return Constant(parameters[n.name])
        return _fold_node(n)

    return transform(node, change)


def divide_tile(node: Expression, sizes: Mapping[str, int]) -> Expression:
    """``(t*x + y) // c`` as ``x // (c/t)`` where ``y`` is an axis of at most t coordinates and t divides c; likewise ``%``.

    So the tile of a rank that is read as ``h // c`` reads one coordinate there: grouped heads become rows of one tile.
    """

    def change(n: Expression) -> Expression:
        if not (isinstance(n, Binary) and n.operator in ("//", "%") and isinstance(n.right, Constant)):
            return n
        parts = _tile_parts(n.left, sizes)
        divisor = n.right.value
        if parts is None or not isinstance(divisor, int) or divisor <= 0 or divisor % parts[0]:
            return n
        tile, outer, inner = parts
        quotient = Constant(divisor // tile)
        if n.operator == "//":
            return _fold_node(Binary("//", outer, quotient))
        rest = _fold_node(Binary("%", outer, quotient))
        return inner if rest == Constant(0) else Binary("+", _fold_node(Binary("*", Constant(tile), rest)), inner)

    return transform(node, change)


def _tile_parts(node: Expression, sizes: Mapping[str, int]) -> tuple[int, Expression, Expression] | None:
    """t, x and y of ``t*x + y``."""
    match node:
        case Binary(
            operator="+",
            left=Binary(operator="*", left=Constant(value=int() as tile), right=outer),
            right=Rank(name=name) as inner,
        ):
            return (tile, outer, inner) if sizes.get(name, tile + 1) <= tile else None
    return None


def _is_integer(node: Expression) -> bool:
    return isinstance(node, Constant) and type(node.value) is int


def _fold_node(n: Expression) -> Expression:
    if isinstance(n, Binary):
        return _fold_binary(n)
    if isinstance(n, Comparison) and len(n.operators) == 1 and all(map(_is_integer, n.operands)):
        a, b = (o.value for o in n.operands if isinstance(o, Constant))
        return Constant(_COMPARE[n.operators[0]](a, b))
    if isinstance(n, Unary) and n.operator == "not" and isinstance(n.operand, Constant):
        return Constant(not n.operand.value)
    if isinstance(n, Unary) and n.operator == "-" and isinstance(n.operand, Constant):
        return Constant(-n.operand.value)
    if isinstance(n, Conditional) and isinstance(n.condition, Constant):
        return n.then if n.condition.value else n.otherwise
    if isinstance(n, Call) and n.function in ("min", "max") and all(map(_is_integer, n.arguments)):
        values = [a.value for a in n.arguments if isinstance(a, Constant)]
        return Constant(min(values) if n.function == "min" else max(values))
    if isinstance(n, Call) and n.function == "ceil" and _is_integer(n.arguments[0]):
        return n.arguments[0]
    return n


def _fold_binary(n: Binary) -> Expression:
    left, right, op = n.left, n.right, n.operator
    if isinstance(left, Constant) and isinstance(right, Constant) and _is_integer(left) and _is_integer(right):
        a, b = int(left.value), int(right.value)
        if op in _ARITHMETIC:
            return Constant(_ARITHMETIC[op](a, b))
        if op == "**" and b >= 0 and (abs(a) < 2 or b < 63) and abs(a**b) < 2**63:
            return Constant(a**b)
        if op in _INTEGER and b:
            return Constant(_INTEGER[op](a, b))
    zero, one, true, false = Constant(0), Constant(1), Constant(True), Constant(False)
    if op == "+" and left == zero:
        return right
    if op in ("+", "-") and right == zero:
        return left
    if op == "*" and left == one:
        return right
    if op in ("*", "//") and right == one:
        return left
    if op == "%" and right == one:
        return zero
    if op in _INTEGER and right == zero:
        return zero  # a call that divides by zero is refused (``divisors``): no point that counts comes here
    if op == "and":
        if false in (left, right):
            return false
        return right if left == true else left if right == true else n
    if op == "or":
        if true in (left, right):
            return true
        return right if left == false else left if right == false else n
    return n


def bounds(node: Expression, ranks: Mapping[str, int]) -> tuple[int, int] | None:
    """The least and greatest value of an integer expression; ``ranks`` gives known extents. None if unknown."""
    if isinstance(node, Constant):
        return (node.value, node.value) if type(node.value) is int else None
    if isinstance(node, Rank):
        return (0, ranks[node.name] - 1) if node.name in ranks else None
    if isinstance(node, Cast):
        return bounds(node.operand, ranks)
    if isinstance(node, Binary):
        left, right = bounds(node.left, ranks), bounds(node.right, ranks)
        if node.operator == "%" and right and right[0] == right[1] and right[0] > 0:
            divisor = right[0]
            if left and left[0] // divisor == left[1] // divisor:
                return left[0] % divisor, left[1] % divisor
            return 0, divisor - 1
        if left is None or right is None:
            return None
        if node.operator in ("+", "-", "*"):
            corners = [_ARITHMETIC[node.operator](a, b) for a in left for b in right]
            return int(min(corners)), int(max(corners))
        if node.operator == "//" and right[0] == right[1] and right[0] > 0:
            return left[0] // right[0], left[1] // right[0]
        return None
    if isinstance(node, Call) and node.function in ("clamp", "min", "max"):
        parts = [bounds(a, ranks) for a in node.arguments]
        if node.function == "clamp" and parts[1] and parts[2]:
            return parts[1][0], parts[2][1]
        if any(p is None for p in parts):
            return None
        pick = min if node.function == "min" else max
        return pick(p[0] for p in parts if p), pick(p[1] for p in parts if p)
    return None


def is_nonnegative(node: Expression) -> bool:
    """Whether an integer expression is certainly at least 0 because coordinates and extents are, whatever their values."""
    match node:
        case Constant(value=value):
            return value >= 0
        case Rank() | Extent():
            return True
        case Binary(operator="+" | "*" | "//", left=left, right=right):
            return is_nonnegative(left) and is_nonnegative(right)
        case Binary(operator="%", right=right):
            return is_nonnegative(right)
        case Call(function="min", arguments=arguments):
            return all(map(is_nonnegative, arguments))
        case Call(function="max", arguments=arguments):
            return any(map(is_nonnegative, arguments))
        case _:
            return False
