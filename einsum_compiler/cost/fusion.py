"""Why tensors are stored between kernels or not: what other ways to cut a program into kernels would take."""

from __future__ import annotations

from einsum_compiler.cost.candidates import by_structure
from einsum_compiler.cost.choice import Choice
from einsum_compiler.cost.device import device_for
from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ordering import in_orders
from einsum_compiler.quantities import ratio
from einsum_compiler.specialise import Request


def fusion(derivation: Derivation, wanted: Request, choice: Choice) -> list[str]:
    """A line for every tensor that the chosen plan stores and need not, or could store and does not: the predicted time with and without.

    The best plan of every way is priced for this, so it takes as long as choosing a plan does.
    """
    backend = "cpu" if wanted.backend == "meta" else wanted.backend
    form = in_orders(derivation, choice.plan.orders, wanted.dtypes)
    dtypes = {**wanted.dtypes, **form.dtypes}
    found = by_structure(form.derivation, choice.extents, backend, dtypes, device_for(backend), wanted.numbers)
    chosen, usual = stored(form.derivation, choice.plan), choice.considered[0][1].seconds
    lines = []
    for other in found:
        here = stored(form.derivation, other.plan)
        times, more, less = other.prediction.seconds / usual, sorted(here - chosen), sorted(chosen - here)
        if not (more or less):
            continue
        took = f"{ratio(times)} times as long ({other.prediction.seconds * 1e3:.3f} ms, limited by {other.prediction.limiting})"
        if less and not more:
            lines.append(
                f"not fused: {_names(less)} stored between kernels; computing it where it is read would take {took}"
            )
        elif more and not less:
            lines.append(f"fused: {_names(more)} never stored; storing it between kernels would take {took}")
        else:
            lines.append(f"{_names(less)} stored between kernels; {', '.join(more)} in place of it would take {took}")
    return lines


def stored(derivation: Derivation, plan: Plan) -> frozenset[str]:
    """The tensors of a program that a plan stores and that are no outputs of it."""
    outputs = {t.name for t in derivation.normalized.outputs}
    computed = {e.target.tensor for e in derivation.normalized.equations}
    return frozenset(name for k in plan.kernels for name in k.outputs if name in computed - outputs)


def _names(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
