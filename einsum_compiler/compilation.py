"""A program compiled for the sizes of a call, with everything there is to look at: what reports are made from."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.derivation import Derivation, KernelDerivation
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.expression import Reduction, walk
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ordering import in_orders
from einsum_compiler.passes.analysis.levels import PassLevels, pass_levels
from einsum_compiler.passes.flatten import merged_group
from einsum_compiler.planning import PlannedKernel, as_plan
from einsum_compiler.specialise import Request, derive_planned, lower_planned, plan_of, request
from einsum_compiler.work import Work, work_of


@dataclass(frozen=True)
class CompiledPart:
    """One kernel: its plan, its cascade after each pass, its tile program, and what it does at these sizes."""

    planned: PlannedKernel
    derived: KernelDerivation
    tile: TileKernel
    work: Work


@dataclass(frozen=True)
class RankPasses:
    """The passes over one reduced rank: of the cascade as written, and how many the kernels make."""

    rank: str
    written: PassLevels
    compiled: int


@dataclass(frozen=True)
class Compilation:
    """A program at given sizes and types, for one backend."""

    derivation: Derivation
    binding: Binding
    request: Request
    parts: tuple[CompiledPart, ...]

    @property
    def plan(self) -> Plan:
        return as_plan(self.derivation, (p.planned for p in self.parts))

    @property
    def ordered(self) -> Derivation:
        """The derivation with its contractions in the order of the plan."""
        return in_orders(self.derivation, self.plan.orders, self.request.dtypes).derivation

    @property
    def signature(self) -> str:
        """``name(Q[m,e], K[n,e]) -> O[m]``."""
        c = self.derivation.declared
        inputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in c.inputs)
        outputs = ", ".join(f"{t.name}[{','.join(t.ranks)}]" for t in c.outputs)
        return f"{c.name}({inputs}) -> {outputs}"

    @property
    def passes(self) -> tuple[RankPasses, ...]:
        """The reduced ranks of the program, in order."""
        return tuple(RankPasses(r, self._passes_written(r), self._passes_compiled(r)) for r in self._reduced_ranks())

    def _passes_written(self, rank: str) -> PassLevels:
        """Of the cascade as written; of ranks that were flattened into one, of the cascade where they are one."""
        written = pass_levels(dict(self.derivation.stages)["inline"], rank)
        return written if written.passes else pass_levels(self.derivation.normalized, rank)

    def _reduced_ranks(self) -> list[str]:
        """The ranks that some equation of the normalized cascade reduces."""
        cascade = self.derivation.normalized
        found = (r for e in cascade.equations for n in walk(e.value) if isinstance(n, Reduction) for r in n.ranks)
        return list(dict.fromkeys(found))

    def _passes_compiled(self, rank: str) -> int:
        """Of the loops of every kernel that streams the rank, or of its cascade where it does not."""
        total = 0
        for derived in (p.derived for p in self.parts):
            # The rank itself, what is inside its chunks, or what it was merged into.
            streams = [s for s in derived.plan.streams if rank in _carried(derived, s.rank)]
            if streams:
                total += (
                    1 if derived.plan.whole else sum(pass_levels(derived.final, f"{s.rank}.1").passes for s in streams)
                )
            elif any(
                isinstance(n, Reduction) and rank in n.ranks for e in derived.final.equations for n in walk(e.value)
            ):
                total = max(total, 1)
        return total


def _carried(derived: KernelDerivation, stream: str) -> tuple[str, ...]:
    """The ranks that run with a streamed one: itself, without its chunks, and those that it was merged from."""
    rank = stream.split(".")[0]
    box = derived.plan.box if derived.plan.stream and derived.plan.stream.rank == stream else ()
    return rank, *merged_group(derived.part.cascade, rank), *(t.rank for t in box)


def compilation(derivation: Derivation, binding: Binding, backend: str, plan: Plan | None) -> Compilation:
    """Plan, derive and lower a program; nothing is built or run."""
    wanted = request(derivation, binding, backend)
    parts = []
    for planned in plan_of(derivation, wanted, plan):
        tile = lower_planned(planned, wanted)
        work = work_of(tile, binding.tensors, binding.scalars, {**binding.extents, **planned.extents})
        parts.append(CompiledPart(planned, derive_planned(planned, wanted), tile, work))
    return Compilation(derivation, binding, wanted, tuple(parts))
