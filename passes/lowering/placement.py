"""Where equations stand: in the loop of a sweep, outside of the loops, or inside of the update of a state."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from einsum_compiler.ir.build import reads_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.expression import Expression, Read, Reduction, walk
from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.passes.lowering.sweeps import Sweeps, finished_read, loop_of


class Placement:
    """The places of the equations of one kernel."""

    def __init__(self, cascade: Cascade, plan: KernelPlan, loops: tuple[str, ...], sweeps: Sweeps) -> None:
        self._cascade, self._plan, self._loops, self._sweeps = cascade, plan, loops, sweeps

    def outside(self, stage: int) -> list[Equation]:
        """The equations outside of the loops of a stage: the prologue, then what follows each sweep."""
        level = self._sweeps.level
        return [
            e
            for e in self._cascade.equations
            if e.target.tensor not in level and e.target.tensor not in self._sweeps.states
            and e.target.tensor not in self.streamed_outputs
            and self._sweeps.stage.get(e.target.tensor) == stage
        ]  # fmt: skip

    def inside(self, sweep: int, loop: str) -> list[Equation]:
        """The equations a sweep over one rank needs, those of earlier sweeps that it computes again included; none if nothing is left to do."""
        between = self.outside(sweep) if self._plan.whole else []
        steps = [e for e in self._cascade.equations if loop_of(e, self._loops) == loop or e in between]
        wanted = {
            e.target.tensor
            for e in steps
            if self._sweeps.level.get(e.target.tensor) == sweep
            and (e.target.tensor in self._sweeps.states or self.streamed_output(e))
        }
        inside = {*self._sweeps.level, *(e.target.tensor for e in between)}
        for equation in reversed(steps):
            if equation.target.tensor not in wanted:
                continue
            for node in reads_of(equation.value, equation.where):
                if node.tensor in inside and not finished_read(node, self._loops):
                    if node.tensor in self._sweeps.states and self._sweeps.level[node.tensor] < sweep:
                        continue
                    wanted.add(node.tensor)
        return [e for e in steps if e.target.tensor in wanted]

    def streamed_output(self, equation: Equation) -> str | None:
        """The output whose tiles an equation computes (see ``tile_outputs``)."""
        name = equation.target.tensor.removesuffix(".tile")
        return name if name != equation.target.tensor and name in self.streamed_outputs else None

    @cached_property
    def streamed_outputs(self) -> frozenset[str]:
        """Outputs that carry the streamed rank: they are stored inside the loop."""
        streams = {s.rank for s in self._plan.streams}
        return frozenset(t.name for t in self._cascade.outputs if streams & set(t.ranks))

    def absorbed(self, accumulation: Callable[[Expression, str, str], Expression | None]) -> dict[str, Equation]:
        """Reductions inside a tile that only the update of one state reads: they accumulate into it directly."""
        if not self._loops:
            return {}
        readers: dict[str, list[Equation]] = {}
        for equation in self._cascade.equations:
            for node in walk(equation.value):
                if isinstance(node, Read):
                    readers.setdefault(node.tensor, []).append(equation)
        found = {}
        for equation in self._cascade.equations:
            name = equation.target.tensor
            if isinstance(equation.value, Reduction) and len(readers.get(name, [])) == 1 and equation.where is None:
                (reader,) = readers[name]
                if reader.target.tensor in self._sweeps.states and accumulation(
                    reader.value, equation.value.operator, name
                ):
                    found[name] = equation
        return found
