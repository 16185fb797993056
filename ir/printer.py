"""Cascades and expressions as text that parses back to the same nodes: ``parse(print(x)) == x``."""

from __future__ import annotations

import math

from einsum_compiler.ir.cascade import Cascade, Definition, Equation, Module, Scalar, Target, Tensor
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Extent,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    Unary,
)

# How tightly each operator binds; those of the grammar, loosest first.
LEVELS = {
    name: level
    for level, names in enumerate(
        (
            ("or",), ("and",), ("not",), ("comparison",), ("|",), ("^",), ("&",), ("<<", ">>"),
            ("+", "-"), ("*", "/", "//", "%"), ("negative",), ("**",), ("atom",),
        )
    )
    for name in names
}  # fmt: skip


def print_module(module: Module) -> str:
    """Definitions, then cascades, with empty lines between."""
    parts = [print_definition(d) for d in module.definitions]
    return "\n\n".join((["\n".join(parts)] if parts else []) + [print_cascade(c) for c in module.cascades]) + "\n"


def print_definition(definition: Definition) -> str:
    """``def f(x, c) = ...`` on one line."""
    return f"def {definition.name}({', '.join(definition.parameters)}) = {print_expression(definition.body)}"


def print_cascade(cascade: Cascade) -> str:
    """A header, an equation a line, a closing brace."""
    ranks = f"[{','.join(cascade.ranks)}]" if cascade.ranks else ""
    inputs = ", ".join(map(print_tensor, cascade.inputs))
    scalars = "; " + ", ".join(map(_scalar, cascade.parameters)) if cascade.parameters else ""
    outputs = ", ".join(map(print_tensor, cascade.outputs))
    lines = [f"  {print_equation(e)}" for e in cascade.equations]
    return "\n".join([f"cascade {cascade.name}{ranks}({inputs}{scalars}) -> {outputs} {{", *lines, "}"])


def print_tensor(tensor: Tensor) -> str:
    """``Q[b,m,e]`` or ``SQ: i32[b,m]``."""
    return f"{tensor.name}{_typed(tensor.dtype)}[{','.join(tensor.ranks)}]"


def print_equation(equation: Equation) -> str:
    """``T[i,j] = value where predicate``."""
    text = f"{', '.join(map(_target, equation.targets))} = {print_expression(equation.value)}"
    if equation.otherwise:
        text += " else"
    if equation.where is not None:
        text += f" where {print_expression(equation.where)}"
    return text


def print_expression(node: Expression, tiles: bool = False) -> str:
    """An expression; with ``tiles``, a read without indices prints as a bare name, as tile programs write it."""
    return _Printer(tiles).show(node)


def _typed(dtype: str | None) -> str:
    return f": {dtype}" if dtype else ""


def _scalar(scalar: Scalar) -> str:
    default = f" = {print_expression(scalar.default)}" if scalar.default is not None else ""
    return f"{scalar.name}{_typed(scalar.dtype)}{default}"


def _target(target: Target) -> str:
    return f"{target.tensor}{_typed(target.dtype)}[{','.join(map(print_expression, target.indices))}]"


class _Printer:
    """Prints nodes, with parentheses where the grammar needs them."""

    def __init__(self, tiles: bool) -> None:
        self.tiles = tiles

    def show(self, node: Expression, level: int = 0) -> str:
        """The node where the grammar wants something that binds at least as tightly as ``level``."""
        text, own = self.form(node)
        return f"({text})" if own < level else text

    def form(self, node: Expression) -> tuple[str, int]:
        """The text of a node and how tightly it binds."""
        atom = LEVELS["atom"]
        match node:
            case Constant():
                return _constant(node)
            case Parameter(name) | Rank(name):
                return name, atom
            case Extent(rank):
                return rank.upper(), atom
            case Slice():
                return ":", atom
            case Read(tensor, indices):
                return (tensor if self.tiles and not indices else f"{tensor}[{self.several(indices, ',')}]"), atom
            case Unary("not", operand):
                return f"not {self.show(operand, LEVELS['not'])}", LEVELS["not"]
            case Unary("-", operand):
                if isinstance(operand, Constant) and not isinstance(operand.value, bool) and not _negative(operand):
                    return f"-({self.show(operand)})", LEVELS["negative"]  # without parentheses: one literal
                return f"-{self.show(operand, LEVELS['negative'])}", LEVELS["negative"]
            case Binary("**", left, right):
                return f"{self.show(left, atom)}**{self.show(right, LEVELS['negative'])}", LEVELS["**"]
            case Binary(operator, left, right):
                level = LEVELS[operator]
                return f"{self.show(left, level)} {operator} {self.show(right, level + 1)}", level
            case Comparison(operators, operands):
                shown = [self.show(o, LEVELS["|"]) for o in operands]
                tail = "".join(f" {o} {s}" for o, s in zip(operators, shown[1:], strict=True))
                return shown[0] + tail, LEVELS["comparison"]
            case Membership(item, collection, negated):
                word = "not in" if negated else "in"
                return f"{self.show(item, LEVELS['|'])} {word} {self.show(collection)}", LEVELS["comparison"]
            case Conditional(condition, then, otherwise):
                return f"if({self.several((condition, then, otherwise))})", atom
            case Call(function, arguments):
                return f"{function}({self.several(arguments)})", atom
            case Cast(operand, dtype):
                return f"cast({self.show(operand)}, {dtype})", atom
            case Reduction(operator, ranks, body, where):
                return f"{operator}[{','.join(ranks)}]({self.show(body)}{self.filter(where)})", atom
            case CascadeCall(cascade, ranks, arguments, where):
                # Empty brackets keep a call of a cascade apart from that of a function.
                return f"{cascade}[{','.join(ranks)}]({self.several(arguments)}{self.filter(where)})", atom
            case Selection(operator, ranks, body, where, count):
                tail = f", count = {self.show(count)}" if count is not None else ""
                return f"{operator}[{','.join(ranks)}]({self.show(body)}{self.filter(where)}{tail})", atom
        raise TypeError(f"no expression: {node!r}")

    def several(self, nodes: tuple[Expression, ...], separator: str = ", ") -> str:
        return separator.join(self.show(n) for n in nodes)

    def filter(self, predicate: Expression | None) -> str:
        return "" if predicate is None else f" where {self.show(predicate)}"


def _negative(node: Constant) -> bool:
    return node.value < 0 or math.copysign(1, node.value) < 0


def _constant(node: Constant) -> tuple[str, int]:
    value = node.value
    if isinstance(value, bool):
        return ("true" if value else "false"), LEVELS["atom"]
    if math.isnan(value):
        raise ValueError("NaN has no literal")
    size = abs(value)
    text = "inf" if size == math.inf else "pi" if size == math.pi else repr(size)
    return (f"-{text}", LEVELS["negative"]) if _negative(node) else (text, LEVELS["atom"])
