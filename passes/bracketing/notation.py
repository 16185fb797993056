"""Bracketings as text, ``O = Q[m,e] * (K[n,e] * V[n,f])``: what certificates print and plans take."""

from __future__ import annotations

from einsum_compiler.ir.expression import Read
from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.bracketing.trees import Tree
from einsum_compiler.passes.networks import Network


def printed(network: Network, tree: Tree) -> str:
    return f"{network.root.target.tensor} = {_brackets(network, tree)}"


def _brackets(network: Network, tree: Tree) -> str:
    if isinstance(tree, int):
        leaf = network.leaves[tree]
        return print_expression(leaf) if isinstance(leaf, Read) else f"({print_expression(leaf)})"
    return " * ".join(f"({_brackets(network, t)})" if not isinstance(t, int) else _brackets(network, t) for t in tree)


def parsed(network: Network, order: str) -> Tree | None:
    """The bracketing that ``printed`` gives; None if it is none of this network."""
    left = list(range(len(network.leaves)))

    def side_of(text: str) -> Tree | None:
        for leaf in left:
            if _brackets(network, leaf) == text:
                left.remove(leaf)
                return leaf
        depth = 0
        for i, letter in enumerate(text):
            depth += (letter in "([") - (letter in ")]")
            if depth == 0 and text[i:].startswith(" * "):
                sides = [_inside(side) for side in (text[:i], text[i + 3 :])]
                first = side_of(sides[0])
                second = None if first is None else side_of(sides[1])
                return None if first is None or second is None else (first, second)
        return None

    def _inside(side: str) -> str:
        whole = any(_brackets(network, leaf) == side for leaf in left)
        return side if whole or not (side.startswith("(") and side.endswith(")")) else side[1:-1]

    name, _, value = order.partition(" = ")
    tree = side_of(value) if name == network.root.target.tensor else None
    return tree if tree is not None and not left and not isinstance(tree, int) else None
