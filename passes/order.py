"""Order and liveness: a cascade's equations sorted so that a person can read them, and nothing computed for nobody."""

from __future__ import annotations

from dataclasses import replace

from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.passes.scope import reads_in


def live(cascade: Cascade) -> Cascade:
    """The cascade without equations that no output depends on."""
    wanted = {t.name for t in cascade.outputs}
    work = list(wanted)
    producers: dict[str, list[Equation]] = {}
    for equation in cascade.equations:
        for target in equation.targets:
            producers.setdefault(target.tensor, []).append(equation)
    while work:
        for equation in producers.get(work.pop(), ()):
            for read in reads_in(equation):
                if read.tensor not in wanted:
                    wanted.add(read.tensor)
                    work.append(read.tensor)
    kept = tuple(e for e in cascade.equations if any(t.tensor in wanted for t in e.targets))
    return replace(cascade, equations=kept)


def in_order(cascade: Cascade) -> Cascade:
    """The cascade with producers before their readers, otherwise in the order given.

    Equations of one recurrence depend on each other in a circle and keep their order; other cases of one tensor stay where their reads allow.
    """
    equations = cascade.equations
    producers: dict[str, list[int]] = {}
    for i, equation in enumerate(equations):
        for target in equation.targets:
            producers.setdefault(target.tensor, []).append(i)
    needs = [
        sorted({p for read in reads_in(e) for p in producers.get(read.tensor, ())} - {i})
        for i, e in enumerate(equations)
    ]
    ordered: list[Equation] = []
    state = [0] * len(equations)  # 1 while its producers are visited, 2 when placed

    def place(i: int) -> None:
        if state[i]:
            return
        state[i] = 1
        for producer in needs[i]:
            place(producer)
        state[i] = 2
        ordered.append(equations[i])

    for i in range(len(equations)):
        place(i)
    return replace(cascade, equations=tuple(ordered))
