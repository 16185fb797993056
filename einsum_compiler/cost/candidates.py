"""Plans that are worth comparing, with the time predicted for each: sorted, the first is the one to take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from einsum_compiler.cost.device import Device
from einsum_compiler.cost.grids import EXHAUSTIVE, GRIDS, Grid
from einsum_compiler.cost.options import Option, options_of, unsplit
from einsum_compiler.cost.prediction import Prediction, together
from einsum_compiler.cost.pricing import Pricing, Setting
from einsum_compiler.cost.rounding import MOST_GROWTH, limit
from einsum_compiler.cost.structures import ranked, structures
from einsum_compiler.derivation import Derivation, kernel_cascades
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import Plan
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.kernel_cascade import KernelCascade

FAR = 8.0  # times its rough estimate that a plan takes, from where on the estimate said little
MOST_FAR, ROUNDS = 6, 3  # other structures that are looked at then, and how often those next to the best one


@dataclass(frozen=True)
class ScoredPlan:
    """A plan and the time predicted for it."""

    plan: Plan
    prediction: Prediction


def candidate_plans(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    device: Device,
    scalars: Mapping[str, float],
    exhaustive: bool = False,
    tensors: Mapping[str, Any] | None = None,
) -> tuple[ScoredPlan, ...]:
    """Plans of a program, the one with the least predicted time first.

    ``extents`` by rank; ``dtypes`` of inputs and of every tensor that a kernel stores (``derivation.output_dtypes``); ``scalars``: values of the parameters.
    Kernels run one after the other, so each is varied while the others keep their best plan. ``exhaustive``: a wide grid of sizes, for tuning. ``tensors``: inputs
    whose values filters are judged by; without them by sizes alone.
    """
    return search(derivation, extents, backend, dtypes, device, scalars, exhaustive, tensors).plans


@dataclass(frozen=True)
class Search:
    """What was compared: plans by predicted time; and for the kernels of some outputs why their stream was not split.

    ``options``: the ways to run every part of the best plan, best first.
    """

    plans: tuple[ScoredPlan, ...]
    refusals: Mapping[tuple[str, ...], tuple[Certificate, ...]]
    options: tuple[tuple[Option, ...], ...] = ()


def search(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    device: Device,
    scalars: Mapping[str, float],
    exhaustive: bool = False,
    tensors: Mapping[str, Any] | None = None,
) -> Search:
    """As ``candidate_plans``, with what was refused."""
    from einsum_compiler.planning import scalar_types

    extents = all_extents(derivation.normalized, extents)
    setting = Setting(extents, dtypes, scalar_types(derivation, scalars), scalars, device, tensors or {})
    grid = (EXHAUSTIVE if exhaustive else GRIDS)[backend]
    refusals: dict[tuple[str, ...], tuple[Certificate, ...]] = {}
    cuts = ranked(derivation, extents, dtypes, device)
    plans, ways = _plans(derivation, cuts.within(1.5 if exhaustive else 1.0), setting, grid, exhaustive, refusals)

    def look(closer: list[tuple[KernelCascade, ...]]) -> None:
        more, ways_of_more = _plans(derivation, closer, setting, grid, exhaustive, refusals)
        plans.update(more)
        ways.update(ways_of_more)

    if min(p.growth for p in plans.values()) > MOST_GROWTH:
        # Sums that end inside of a kernel cannot be split, those of a kernel of their own can.
        look(cuts.within(inf))
    for _ in range(ROUNDS):
        best = min(plans, key=lambda p: plans[p].seconds)
        seconds = plans[best].seconds
        if seconds <= FAR * cuts.seconds:
            break
        # The rough estimate said little of these kernels, so it rules out none that it finds better than what they take.
        look(cuts.within(seconds / cuts.seconds, MOST_FAR))
        better = min(plans, key=lambda p: plans[p].seconds)
        if better == best or better.splits:
            break
        accumulated = [a for k in better.kernels for a in k.accumulated]
        start = kernel_cascades(derivation, extents, [k.outputs for k in better.kernels], accumulated)
        cuts = ranked(derivation, extents, dtypes, device, start=start)
    most = limit(p.growth for p in plans.values())
    exact = (ScoredPlan(p, t) for p, t in plans.items() if t.growth <= most)
    scored = sorted(exact, key=lambda s: s.prediction.seconds)
    return Search(tuple(scored), refusals, next((ways[s.plan] for s in scored if s.plan in ways), ()))


def by_structure(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    device: Device,
    scalars: Mapping[str, float],
) -> tuple[ScoredPlan, ...]:
    """The best plan without splits of every way to cut a program into kernels, those too that a rough estimate rules out; arguments as of ``candidate_plans``."""
    from einsum_compiler.planning import scalar_types, sum_dtypes

    extents = all_extents(derivation.normalized, extents)
    setting = Setting(extents, dtypes, scalar_types(derivation, scalars), scalars, device)
    cuts = structures(derivation, extents, dtypes, device, inf, larger=True)
    found = []
    for parts in cuts:
        typed = replace(setting, dtypes={**dtypes, **sum_dtypes(parts, dtypes)})
        with suppress(PlanError):
            best = [min(unsplit(Pricing(p, typed), GRIDS[backend]), key=lambda o: o.prediction.seconds) for p in parts]
            found.append(ScoredPlan(plan_of_options(derivation, best), together(o.prediction for o in best)))
    return tuple(found)


def _plans(
    derivation: Derivation,
    cuts: Iterable[tuple[KernelCascade, ...]],
    setting: Setting,
    grid: Grid,
    exhaustive: bool,
    refusals: dict[tuple[str, ...], tuple[Certificate, ...]],
) -> tuple[dict[Plan, Prediction], dict[Plan, tuple[tuple[Option, ...], ...]]]:
    """Plans for every way to cut a program into kernels; and by the best of each the options of its parts."""
    from einsum_compiler.planning import sum_dtypes

    plans: dict[Plan, Prediction] = {}
    ways: dict[Plan, tuple[tuple[Option, ...], ...]] = {}  # by the best plan of a structure
    known: dict[KernelCascade, list[Option]] = {}  # structures share most of their kernels
    refused: PlanError | None = None
    for parts in cuts:
        typed = replace(setting, dtypes={**setting.dtypes, **sum_dtypes(parts, setting.dtypes)})
        try:
            for part in parts:
                if part not in known:
                    known[part] = options_of(derivation, part, typed, grid, exhaustive, refusals)
        except PlanError as error:  # a way to cut the program that its kernels do not allow
            refused = refused or error
            continue
        options = [known[part] for part in parts]
        best = [found[0] for found in options]
        plans.setdefault(plan_of_options(derivation, best), together(o.prediction for o in best))
        ways.setdefault(plan_of_options(derivation, best), tuple(map(tuple, options)))
        for i, found in enumerate(options):
            for option in found[1:]:
                chosen = [*best[:i], option, *best[i + 1 :]]
                plans.setdefault(plan_of_options(derivation, chosen), together(o.prediction for o in chosen))
    if not plans and refused is not None:
        raise refused
    return plans, ways


def plan_of_options(derivation: Derivation, options: Iterable[Option]) -> Plan:
    """The plan of a program from one option for each of its parts."""
    options = tuple(options)
    kernels = tuple(k for o in options for k in o.plans)
    splits = tuple(s for o in options for s in o.splits)
    return Plan(derivation.declared.name, kernels, splits, derivation.orders)
