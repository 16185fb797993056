"""The plan of a call: the best candidate for its class of sizes, chosen once and kept in this process and on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from einsum_compiler import store
from einsum_compiler.cost.candidates import ScoredPlan, search
from einsum_compiler.cost.device import Device
from einsum_compiler.cost.prediction import Prediction
from einsum_compiler.derivation import Derivation, kernel_cascades
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import KernelPlan, Plan
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.size_classes import size_class

SHOWN = 5  # candidates that are kept to be shown, besides the best of every other set of kernels


@dataclass(frozen=True)
class Choice:
    """The plan for a class of sizes. ``extents``: those it was chosen at; ``considered``: the best candidates, the chosen one first; ``refusals``: of splits,
    by the outputs of the kernel. ``passed_over``: plans of kernels with less predicted time, and why they were not taken (``fitting``).
    """

    plan: Plan
    extents: Mapping[str, int]
    considered: tuple[tuple[Plan, Prediction], ...]
    refusals: Mapping[tuple[str, ...], tuple[Certificate, ...]]
    passed_over: tuple[tuple[KernelPlan, str], ...] = ()


_KNOWN: dict[str, Choice] = {}
REMEMBERED = 4096


def choose(
    derivation: Derivation,
    extents: Mapping[str, int],
    backend: str,
    dtypes: Mapping[str, str],
    numbers: Mapping[str, float],
    device: Device,
    compiled: bool = False,
) -> Choice:
    """The plan with the least predicted time; arguments as of ``candidates.candidate_plans``.

    ``compiled``: of those whose kernels, compiled for the device, keep their tiles in registers and shared memory (``fitting``).
    """
    sizes = class_of(derivation, extents)
    filters = {n: size_class(v) if type(v) is int else v for n, v in numbers.items()}
    key = store.key_of(
        "plan", derivation.text, derivation.declared.name, derivation.orders, sorted(sizes.items()), sorted(dtypes.items()), sorted(filters.items()), backend, device.digest, compiled
    )  # fmt: skip
    found = _KNOWN.get(key) or store.load("plans", key, Choice)
    if found is None:
        compared = search(derivation, sizes, backend, dtypes, device, filters)
        best = tuple((s.plan, s.prediction) for s in _shown(compared.plans))
        found = Choice(best[0][0], sizes, best, compared.refusals)
        if compiled:
            from einsum_compiler.fitting import Sizes, fitted

            fit = fitted(derivation, compared.options, Sizes(sizes, dtypes, filters), device)
            others = (b for b in best if b[0] != fit.plan)
            found = replace(
                found, plan=fit.plan, considered=((fit.plan, fit.prediction), *others), passed_over=fit.passed_over
            )
        store.save("plans", key, found)
    if len(_KNOWN) >= REMEMBERED:
        _KNOWN.clear()
    _KNOWN[key] = found
    return found


def _shown(plans: Sequence[ScoredPlan]) -> list[ScoredPlan]:
    """The best plans, and the best with other kernels than those."""
    kinds: dict[object, ScoredPlan] = {}
    for s in plans:
        kinds.setdefault((tuple((k.outputs, k.contexts) for k in s.plan.kernels), bool(s.plan.splits)), s)
    first = list(plans[:SHOWN])
    return [*first, *(s for s in kinds.values() if s not in first)]


def class_of(derivation: Derivation, extents: Mapping[str, int]) -> dict[str, int]:
    """The extents with those that no kernel holds constant rounded to their class. Those of ranks that kernels read as one are not asked for."""
    from einsum_compiler.constants import constants_of
    from einsum_compiler.passes.partition import partition

    constant: set[str] = set()
    free: set[str] = set()
    every = all_extents(derivation.normalized, extents)
    for part in kernel_cascades(derivation, every):
        constant |= constants_of(part.cascade, partition(part, every), {}).extents
        free |= {*part.program, *([part.stream] if part.stream else [])}
    return {r: size_class(n) if r in free - constant else n for r, n in extents.items()}
