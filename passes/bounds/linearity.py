"""Whether a value is linear in some tensors: where no function stands between a contraction and its use, another order of contraction is possible."""

from __future__ import annotations

from einsum_compiler.ir.expression import Binary, Cast, Conditional, Expression, Read, Reduction, Unary, walk


def linear(value: Expression, tensors: set[str]) -> bool:
    """Whether the value is linear in the tensors: only sums of products that contain one of them at most once."""
    if isinstance(value, Reduction):
        return value.operator == "sum" and linear(value.body, tensors)
    if not any(isinstance(n, Read) and n.tensor in tensors for n in walk(value)):
        return True
    match value:
        case Read():
            return True
        case Unary(operator="-", operand=operand) | Cast(operand=operand):
            return linear(operand, tensors)
        case Binary(operator="+" | "-", left=left, right=right):
            return linear(left, tensors) and linear(right, tensors)
        case Binary(operator="*", left=left, right=right):
            inside = [any(isinstance(n, Read) and n.tensor in tensors for n in walk(x)) for x in (left, right)]
            return not all(inside) and linear(left if inside[0] else right, tensors)
        case Binary(operator="/", left=left, right=right):
            return not any(isinstance(n, Read) and n.tensor in tensors for n in walk(right)) and linear(left, tensors)
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            free = not any(isinstance(n, Read) and n.tensor in tensors for n in walk(condition))
            return free and linear(then, tensors) and linear(otherwise, tensors)
    return False
