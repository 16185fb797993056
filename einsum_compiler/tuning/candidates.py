"""Plans to try: the chosen one first, then those of the cost model by predicted time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite

from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ordering import in_orders, orders_to_try
from einsum_compiler.planning import as_plan
from einsum_compiler.specialise import plan_of, request
from einsum_compiler.tuning.task import steering_inputs

LAUNCHED = 4  # of the best plans, tried with other launches on a GPU too


@dataclass(frozen=True)
class Candidate:
    """A plan, and the seconds of a call that the cost model predicts, by the values of the inputs that filters read; None for one that is outside its grid."""

    plan: Plan
    predicted: float | None = None


def candidates(derivation: Derivation, binding: Binding, backend: str, exhaustive: bool = False) -> list[Candidate]:
    """Plans for the sizes of a call; the first is the one that is chosen without timing."""
    from einsum_compiler.cost.candidates import ScoredPlan, candidate_plans
    from einsum_compiler.cost.device import device_for, is_present

    wanted = request(derivation, binding, backend)
    kept = steering_inputs(derivation.stages[0][1])
    steering = {n: t for n, t in binding.tensors.items() if n in kept and not t.is_meta}
    scored: list[ScoredPlan] = []
    for orders in orders_to_try(derivation, wanted.extents, wanted.numbers):
        form = in_orders(derivation, orders, wanted.dtypes)
        types = {**wanted.dtypes, **form.dtypes}
        device = device_for(backend)
        scored += candidate_plans(
            form.derivation, wanted.extents, backend, types, device, binding.scalars, exhaustive, steering
        )
    scored.sort(key=lambda s: s.prediction.seconds)
    predicted = {s.plan: s.prediction.seconds for s in scored if isfinite(s.prediction.seconds)}
    default = as_plan(derivation, plan_of(derivation, wanted, None))
    plans = dict.fromkeys((default, *(s.plan for s in scored)))
    if is_present(device_for(backend)):
        plans |= dict.fromkeys(launched for plan in [*plans][:LAUNCHED] for launched in _launches(plan))
    return [Candidate(p, predicted.get(p)) for p in plans]


def _launches(plan: Plan) -> Iterator[Plan]:
    """The plan with other launches: as many programs as processors hold, each doing the work of several; boxes copied by descriptors; both."""
    for options in (
        {"persistent": 1},
        {"persistent": 2},
        {"descriptors": True},
        {"descriptors": True, "persistent": 1},
    ):
        yield replace(plan, kernels=tuple(replace(k, launch=replace(k.launch, **options)) for k in plan.kernels))
