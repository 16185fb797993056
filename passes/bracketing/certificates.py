"""What was proved of an order of contractions, and why a network has no better one."""

from __future__ import annotations

from einsum_compiler.ir.printer import print_expression
from einsum_compiler.passes.bracketing.notation import printed
from einsum_compiler.passes.bracketing.trees import Tree
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.networks import Network
from einsum_compiler.passes.scope import free_ranks


def reordered(network: Network, tree: Tree) -> Certificate:
    through = f"through {', '.join(network.opened)}: " if network.opened else ""
    conditions = [f"{through}products and sums only, so distributivity holds"]
    for condition in network.conditions:
        conditions.append(f"{print_expression(condition)} acts before one of its ranks is summed")
    conditions.append("finite values")
    return Certificate(
        "reassociate",
        network.root.target.tensor,
        tuple(sorted(network.summed)),
        "reordered",
        printed(network, tree),
        tuple(conditions),
    )


def refusal(network: Network, kept: int | None) -> Certificate | None:
    """Why a network has no better order, where a filter or what a leaf is stands in the way."""
    reasons = []
    for condition in network.conditions:
        ranks = free_ranks(condition)
        apart = [r for r in ranks if r in network.summed]
        if len(ranks) > 1 and apart and len(network.leaves) > 2:
            reasons.append(
                f"{print_expression(condition)} ties {' and '.join(ranks)} together: neither is summed before it has acted"
            )
    if kept is not None:
        leaf = print_expression(network.leaves[kept])
        reasons.append(
            f"{leaf} may be infinite where a sum that it would leave is empty ('defer' has a guard for that)"
        )
    reasons += [barred(network)] if network.barriers else []
    return refused(network, "; ".join(reasons)) if reasons else None


def barred(network: Network) -> str:
    return "; ".join(f"{name} is a factor of its own: {reason}" for name, reason in network.barriers.items())


def refused(network: Network, reason: str) -> Certificate:
    return Certificate(
        "reassociate", network.root.target.tensor, tuple(sorted(network.summed)), "refused", reason=reason
    )
