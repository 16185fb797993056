"""Element types of computed tensors.

A value has the type it is computed in: sums and arithmetic on narrow floats are f32, and nothing is rounded that the text does
not pin (``O: bf16[b,m] = ...``, ``cast``). What only picks or moves values (reads, ``max``, ``if``, ``abs``) keeps its type.
Numbers that are no tensors (parameters, ranks, literals) never widen a tensor type of their kind, as in PyTorch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from einsum_compiler.ir.cascade import Cascade, Module
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
    Unary,
)
from einsum_compiler.ir.operators import FUNCTIONS
from einsum_compiler.ir.types import accumulator, is_float, promote

# Types of numbers that are no tensors. They stand between "bool" and the tensor types of their kind.
WEAK_INTEGER, WEAK_FLOAT = "int", "float"
UNKNOWN = "?"  # of an input whose type a text does not declare; only ``ir.check_types`` has it
STRONG = {WEAK_INTEGER: "i64", WEAK_FLOAT: "f32"}
_PARAMETERS = {"int": "i64", "float": "f64", "bool": "bool", None: "f64"}

Lookup = Callable[[str], str]


_INFINITIES = (Constant(math.inf), Constant(-math.inf))


def infer_types(cascade: Cascade, dtypes: Mapping[str, str], module: Module | None = None) -> dict[str, str]:
    """The element type of every tensor and parameter, from those of the inputs (and of parameters, where given).

    A parameter that is not in ``dtypes`` has its declared type, else that of its default, else f64. ``module`` holds
    the cascades that the text calls, besides those of the library.
    """
    types = {t.name: t.dtype or dtypes[t.name] for t in cascade.inputs}
    for scalar in cascade.parameters:
        if scalar.name in dtypes:
            types[scalar.name] = dtypes[scalar.name]
        elif scalar.dtype is not None:
            types[scalar.name] = _PARAMETERS.get(scalar.dtype, scalar.dtype)
        elif scalar.default is not None:
            weak = _kind(scalar.default, lambda name: types.get(name, "f64"), module)
            types[scalar.name] = {WEAK_INTEGER: "i64", WEAK_FLOAT: "f64"}.get(weak, weak)
        else:
            types[scalar.name] = "f64"
    pinned = {t.name: t.dtype for t in cascade.outputs if t.dtype is not None}
    pinned |= {t.tensor: t.dtype for e in cascade.equations for t in e.targets if t.dtype is not None}
    found: dict[str, str] = {}
    known: dict[str, str] = {**pinned, **types}
    starts = {t for t, n in Counter(e.target.tensor for e in cascade.equations).items() if n > 1}

    def lookup(name: str) -> str:
        return known.get(name, "bool")  # a tensor that depends on itself starts at the narrowest type

    while True:  # ends: types only widen, and there are few
        before = dict(found)
        for equation in cascade.equations:
            if equation.target.tensor in starts and equation.value in _INFINITIES:
                continue  # where a running extremum starts; integers have a smallest and a largest one
            kinds = _results(equation.value, lookup, module, len(equation.targets))
            for target, kind in zip(equation.targets, kinds, strict=True):
                found[target.tensor] = kind if target.tensor not in found else _promote(found[target.tensor], kind)
                known[target.tensor] = pinned.get(target.tensor, found[target.tensor])
        if found == before:
            return {**{name: STRONG.get(kind, kind) for name, kind in found.items()}, **pinned, **types}


def expression_dtype(expression: Expression, lookup: Lookup, module: Module | None = None) -> str:
    """The type an expression is computed in; ``lookup`` gives the type of a tensor or parameter by name."""
    kind = _kind(expression, lookup, module)
    return STRONG.get(kind, kind)


def _results(value: Expression, lookup: Lookup, module: Module | None, count: int) -> tuple[str, ...]:
    if isinstance(value, CascadeCall):
        found = _call(value, lookup, module)
        return (found * count)[:count] if len(found) != count else found
    return (_kind(value, lookup, module),) * count


def _call(call: CascadeCall, lookup: Lookup, module: Module | None) -> tuple[str, ...]:
    """The types of the results of a called cascade, from those of its arguments."""
    callee = callee_of(call, module)
    types = infer_types(callee, argument_types(call, callee, lookup, module), module)
    return tuple(types[t.name] for t in callee.outputs)


def callee_of(call: CascadeCall, module: Module | None) -> Cascade:
    """The called cascade, of the module or of the library. Raises ``KeyError`` if there is none."""
    from einsum_compiler.ir.library import library

    cascades = (*(module.cascades if module else ()), *library().cascades)
    callee = next((c for c in cascades if c.name == call.cascade), None)
    if callee is None:
        raise KeyError(call.cascade)
    return callee


def argument_types(call: CascadeCall, callee: Cascade, lookup: Lookup, module: Module | None) -> dict[str, str]:
    """The types of the inputs and parameters that a call gives, by the names of the callee."""
    names = [*(t.name for t in callee.inputs), *(s.name for s in callee.parameters)]
    return {n: expression_dtype(a, lookup, module) for n, a in zip(names, call.arguments, strict=False)}


def _kind(node: Expression, lookup: Lookup, module: Module | None) -> str:
    """As ``expression_dtype``, with weak types kept apart."""

    def kind(child: Expression) -> str:
        return _kind(child, lookup, module)

    def joined(*nodes: Expression) -> str:
        found = kind(nodes[0])
        for other in nodes[1:]:
            found = _promote(found, kind(other))
        return found

    match node:
        case Constant(value):
            return "bool" if isinstance(value, bool) else WEAK_INTEGER if isinstance(value, int) else WEAK_FLOAT
        case Rank() | Extent():
            return WEAK_INTEGER
        case Parameter(name):
            found = lookup(name)
            return found if found in ("bool", UNKNOWN) else WEAK_FLOAT if is_float(found) else WEAK_INTEGER
        case Read(tensor):
            return lookup(tensor)
        case Comparison() | Membership() | Unary("not") | Binary("and" | "or"):
            return "bool"
        case Unary("-", operand):
            return _number(kind(operand))
        case Binary("/", left, right):
            return _real(joined(left, right))
        case Binary("+" | "-" | "*" | "**" | "//" | "%", left, right):
            return _computed(_number(joined(left, right)))
        case Binary(_, left, right):
            return joined(left, right)
        case Conditional(_, then, otherwise):
            return joined(then, otherwise)
        case Cast(_, dtype):
            return dtype
        case Call("uniform"):
            return "f32"
        case Call(function, arguments):
            same = function in FUNCTIONS and FUNCTIONS[function].kind == "same"
            found = joined(*arguments) if arguments else WEAK_FLOAT
            return found if same else _real(found)
        case Reduction("sum" | "prod", _, body):
            of_body = STRONG.get(kind(body), kind(body))
            return UNKNOWN if of_body == UNKNOWN else accumulator(of_body)
        case Reduction("max" | "min", _, body):
            return kind(body)
        case Reduction("mean", _, body):
            return _real(kind(body))
        case Reduction("any" | "all"):
            return "bool"
        case Reduction() | Selection():
            return "i64"  # coordinates
        case CascadeCall():
            return _call(node, lookup, module)[0]
    raise TypeError(f"no value: {node!r}")


def _promote(left: str, right: str) -> str:
    if left == right:
        return left
    for one, other in ((left, right), (right, left)):
        if one == UNKNOWN:
            return other if is_float(other) or other == WEAK_FLOAT else UNKNOWN
        if one == "bool":
            return other
        if one == WEAK_INTEGER:
            return other
        if one == WEAK_FLOAT:
            return other if is_float(other) else WEAK_FLOAT if other == WEAK_INTEGER else "f32"
    return promote(left, right)


def _number(kind: str) -> str:
    """Arithmetic on booleans counts."""
    return "i64" if kind == "bool" else kind


def _computed(kind: str) -> str:
    return accumulator(kind) if is_float(kind) else kind


def _real(kind: str) -> str:
    """A real function: f64 of f64, f32 of every other tensor; a number stays a number."""
    if kind in (WEAK_INTEGER, WEAK_FLOAT):
        return WEAK_FLOAT
    return accumulator(kind) if is_float(kind) else "f32"
