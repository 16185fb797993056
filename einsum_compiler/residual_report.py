"""What a forward pass saves for the backward pass, and what other choices would take, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from einsum_compiler import tables
from einsum_compiler.gradients import residuals_of
from einsum_compiler.ir.plan import saves_text
from einsum_compiler.quantities import ratio
from einsum_compiler.residuals import WORTH, Considered, compared_residuals

if TYPE_CHECKING:
    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.kernel import Kernel


def residual_report(kernel: Kernel, binding: Binding) -> str:
    """The choice for a call whose tensors require gradients, with the predicted times of those near it.

    Every one of them is planned for this, so it takes as long as as many first calls without their compilations. Raises ``PlanError`` where there is no gradient.
    """
    made, taken = residuals_of(kernel, binding)
    if not made.exists:
        return "saved for the backward pass: nothing, for no output has a gradient along what requires one"
    backend = kernel.compiling_backend(binding.tensors)
    found = compared_residuals(kernel, made, binding, backend, taken)
    chosen, *others = found
    table = tables.table(
        "saved for the backward pass, by predicted milliseconds",
        "plan",
        ">forward",
        ">backward",
        ">together",
        ">times",
    )
    for choice in (chosen, *sorted(others, key=lambda c: c.seconds)):
        table.add_row(*_row(choice, chosen))
    return tables.text_of(f"{saves_text(chosen.saved)} ({_why(kernel, chosen, others)})", "", table)


def _row(choice: Considered, chosen: Considered) -> list[RenderableType]:
    times = (choice.forward, choice.backward, choice.seconds)
    return [saves_text(choice.saved), *(f"{t * 1e3:.3f}" for t in times), ratio(choice.seconds / chosen.seconds)]


def _why(kernel: Kernel, chosen: Considered, others: list[Considered]) -> str:
    if kernel.saves is not None:
        return "as the plan says"
    if not others:
        return "nothing else may be saved or left out"
    best = min(o.seconds for o in others)
    if all(WORTH < o.seconds / chosen.seconds < 1 / WORTH for o in others):
        return "it makes no difference: all choices take the same time within 2 %"
    if best < chosen.seconds:
        return (
            "the estimate passed over a choice that is predicted to be faster here"
            if best < WORTH * chosen.seconds
            else "the usual choice, which others hardly beat"
        )
    return "the least predicted time"
