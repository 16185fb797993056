"""The identity behind a running form in the words of the cascade: what its body becomes when a context ``d`` moves to ``d'``.

exp(S[m,n] - MX'[m]) == exp(S[m,n] - MX[m]) * exp(MX[m] - MX'[m])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from einsum_compiler.ir.expression import Expression, Read
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.algebra.bridge import Bridge

Symbolic = Any


def moved(read: Read) -> Read:
    """The read of a context's next value, as identities write it."""
    return replace(read, tensor=f"{read.tensor}'")


def identity(
    basis: tuple[Symbolic, ...],
    operator: str,
    matrix: tuple[tuple[Symbolic, ...], ...],
    new: Mapping[Symbolic, Symbolic],
    bridge: Bridge,
) -> str:
    """One line per function of the basis that moves: its moved form is the sum of the functions, each combined with its entry of the matrix by ``operator``."""
    next_values: dict[Symbolic, Expression] = {new[s]: moved(read) for read, s in bridge.contexts.items()}

    def shown(value: Symbolic) -> str:
        return print_expression(bridge.out(value, next_values))

    def wrapped(text: str, value: Symbolic) -> str:
        return f"({text})" if value.is_Add else text

    functions = [wrapped(shown(f), f) for f in basis]
    lines = []
    for f, row in zip(basis, matrix, strict=True):
        left, right = shown(f.subs(dict(new), simultaneous=True)), []
        for function, entry in zip(functions, row, strict=True):
            if operator == "*" and entry == 0:
                continue
            if entry == (1 if operator == "*" else 0):
                right.append(function)
            elif operator == "*" and function == "1":
                right.append(shown(entry))
            else:
                right.append(f"{function} {operator} {wrapped(shown(entry), entry)}")
        if [left] != right:
            lines.append(f"{left} == {' + '.join(right)}")
    return "\n".join(lines)
