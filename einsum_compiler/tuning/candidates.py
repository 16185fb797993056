"""Plans to try: the chosen one first, then those of the cost model by predicted time."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.planning import as_plan
from einsum_compiler.specialise import plan_of, request


@dataclass(frozen=True)
class Candidate:
    """A plan, and the seconds of a call that the cost model predicts; None for one that is outside its grid."""

    plan: Plan
    predicted: float | None = None


def candidates(derivation: Derivation, binding: Binding, backend: str, exhaustive: bool = False) -> list[Candidate]:
    """Plans for the sizes of a call; the first is the one that is chosen without timing."""
    from einsum_compiler.cost.candidates import candidate_plans
    from einsum_compiler.cost.device import device_for

    wanted = request(derivation, binding, backend)
    scored = candidate_plans(
        derivation, wanted.extents, backend, wanted.dtypes, device_for(backend), binding.scalars, exhaustive
    )
    predicted = {s.plan: s.prediction.seconds for s in scored if isfinite(s.prediction.seconds)}
    default = as_plan(derivation, plan_of(derivation, wanted, None))
    plans = dict.fromkeys((default, *(s.plan for s in scored)))
    return [Candidate(p, predicted.get(p)) for p in plans]
