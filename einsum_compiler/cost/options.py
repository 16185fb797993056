"""Ways to run one part of a program, with the time predicted for each: tilings, sweeps or one tile for the stream, ranks in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil, inf, prod, sqrt
from typing import Any, TypeVar

from einsum_compiler.cost.boxed import boxed_extents
from einsum_compiler.cost.cpu import vector_bytes
from einsum_compiler.cost.gpu_model import WARPS, DoesNotFit, TooLarge
from einsum_compiler.cost.grids import Grid, tilings
from einsum_compiler.cost.prediction import Prediction, together
from einsum_compiler.cost.pricing import Pricing, Setting
from einsum_compiler.cost.rounding import MOST_GROWTH, limit
from einsum_compiler.derivation import Derivation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.plan import KernelPlan, RankSplit, RankTile
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.chunks import ChunkedRank
from einsum_compiler.passes.kernel_cascade import KernelCascade, held_sums
from einsum_compiler.passes.kernel_shape import SHORT
from einsum_compiler.reach import reach_of
from einsum_compiler.splitting import chunk_extents

T = TypeVar("T")

MOST_PRODUCTS = 0.5  # of the time of a kernel, beyond which contexts are not computed in sweeps of their own
ALSO_FINISHED = 4  # tilings
ALSO_WHOLE = 8  # tilings
CHUNKS = (16, 32, 64, 128)  # coordinates of a rank that is cut since a kernel would hold it whole


@dataclass(frozen=True)
class Option:
    """One way to run one part of a program: its kernels, and the splits that made them of one."""

    plans: tuple[KernelPlan, ...]
    splits: tuple[RankSplit, ...]
    prediction: Prediction


def options_of(
    derivation: Derivation,
    part: KernelCascade,
    setting: Setting,
    grid: Grid,
    exhaustive: bool,
    refusals: dict[tuple[str, ...], tuple[Certificate, ...]],
) -> list[Option]:
    """Ways to run one part, best first."""
    found: list[Option] = []
    # Rows, streamed coordinates and those of the result are all axes of one tile, which a program of a GPU has few registers for.
    least = replace(grid, stream=(CHUNKS[0], *grid.stream)) if grid.powers_of_two else grid
    for choices in _cuts(part, setting.extents):
        with suppress(PlanError):  # other lengths may be possible
            cut = _split(derivation, part, setting, least, choices)
            if not isinstance(cut, Option):
                refusals[part.outputs] = cut
                break
            found.append(cut)
    found = found or list(_known(part, setting, grid, _unsplit))
    for splits, base in _worth_splitting(part, setting, found, exhaustive):
        option = _split(derivation, part, setting, replace(grid, stream=(base.size,)), splits)
        if not isinstance(option, Option):
            refusals[part.outputs] = option
            break
        found.append(option)
    most = limit(o.prediction.growth for o in found)
    exact = (o for o in found if o.prediction.growth <= most)
    return sorted(exact, key=lambda o: o.prediction.seconds)


def _cuts(part: KernelCascade, extents: Mapping[str, int]) -> Iterator[tuple[RankSplit, ...]]:
    """Ways to cut the ranks that a kernel sums together with its stream, if it would hold more coordinates of them than a short rank has.

    Law: a sum over several ranks is a sum of sums over tiles of them. One rank is the loop; of the longest other one a program holds some coordinates, and
    of any further one a single coordinate.
    """
    held = sorted(held_sums(part), key=lambda r: extents[r])
    own = {r for t in part.cascade.outputs for r in t.ranks}
    if prod(extents[r] for r in held) <= SHORT or own & set(held) or part.later or part.accumulated:
        return
    *single, longest = held
    first = tuple(RankSplit(part.outputs, RankTile(r)) for r in single if extents[r] > 1)
    for size in CHUNKS:
        yield (*first, RankSplit(part.outputs, RankTile(longest, size)))
        if size >= extents[longest]:
            break


_KNOWN: dict[object, tuple[Any, ...]] = {}
REMEMBERED = 1024


def _known(
    part: KernelCascade, setting: Setting, grid: Grid, found: Callable[[Pricing, Grid], tuple[T, ...]]
) -> tuple[T, ...]:
    """What is found for a part, once: the forms of a program, its cuts into kernels and the choices of what a forward pass saves share most of their parts."""
    if setting.tensors:
        return found(Pricing(part, setting), grid)
    key = found, part, grid, setting.seen_by(part)
    if key not in _KNOWN:
        made = found(Pricing(part, setting), grid)
        if len(_KNOWN) >= REMEMBERED:
            _KNOWN.clear()
        _KNOWN[key] = made
    return _KNOWN[key]


def _unsplit(pricing: Pricing, grid: Grid) -> tuple[Option, ...]:
    return tuple(unsplit(pricing, grid))


def _best_tiled(pricing: Pricing, grid: Grid) -> tuple[tuple[Prediction, KernelPlan], ...]:
    return tuple(_tiled(pricing, grid)[:1])


def unsplit(pricing: Pricing, grid: Grid) -> list[Option]:
    """One kernel in every tiling, those that hold their stream in one tile, and the best tilings without corrections."""
    found = [Option((plan,), (), prediction) for prediction, plan in _tiled(pricing, grid)]
    return [*found, *_with_whole_stream(pricing, found), *_with_finished_contexts(pricing, found)]


def _with_whole_stream(pricing: Pricing, found: list[Option]) -> Iterator[Option]:
    """The best tilings whose one tile holds the stream, in one sweep where there are several."""
    plans = (o.plans[0] for o in found)
    covering = [p for p in plans if len(p.streams) == 1 and _holds_stream(p, pricing.setting.extents)]
    if not covering or pricing.sweeps(covering[0]) < 2:
        return
    for plan in covering[:ALSO_WHOLE]:
        plan = replace(plan, contexts="whole")
        with suppress(DoesNotFit, PlanError):  # what cannot be lowered that way takes its sweeps
            yield Option((plan,), (), pricing.predict(plan))


def _holds_stream(plan: KernelPlan, extents: Mapping[str, int]) -> bool:
    """Whether one tile of the stream reaches to its end."""
    (stream,) = plan.streams
    return boxed_extents(plan, extents)[stream.rank] <= stream.size


def _with_finished_contexts(pricing: Pricing, found: list[Option]) -> Iterator[Option]:
    """The best tilings without corrections, in one more sweep for each context, or in the one trip of a tile that holds the stream.

    A sweep more computes the products that contexts need again, so where products take most of the time there is nothing to win.
    """
    best = found[0]
    products = best.prediction.resources.get("matrix", 0.0)
    if products > MOST_PRODUCTS * best.prediction.seconds or not pricing.corrects(best.plans[0]):
        return
    for option in found[:ALSO_FINISHED]:
        plan = option.plans[0]
        held = len(plan.streams) == 1 and _holds_stream(plan, pricing.setting.extents)
        plan = replace(plan, contexts="whole" if held else "finished")
        with suppress(DoesNotFit, PlanError):  # what cannot be lowered that way stays in running form
            yield Option((plan,), (), pricing.predict(plan))


def _tiled(pricing: Pricing, grid: Grid) -> list[tuple[Prediction, KernelPlan]]:
    """Every tiling of a kernel by its predicted time."""
    part, setting = pricing.part, pricing.setting
    # Products of f32 and f64 have no matrix instruction at full precision: operands live in registers, so all warps share them.
    wide = any(setting.dtypes[t.name] in ("f32", "f64") for t in part.cascade.inputs if len(t.ranks) > 1)
    warps = max(WARPS) if wide and setting.device.backend == "triton" else 0
    reach = reach_of(part, setting.extents, setting.numbers)
    cpu = setting.device.backend == "cpu"
    lanes = vector_bytes(setting.device.target) // 4 if cpu else 0
    plans = tilings(pricing.reuse, setting.extents, grid, warps, reach, cpu, lanes)
    found: list[tuple[Prediction, KernelPlan]] = []
    unfit: list[KernelPlan] = []
    refusal: PlanError | None = None
    for plan in plans:
        try:
            found.append((pricing.predict(plan), plan))
        except TooLarge as reason:
            refusal = PlanError(f"no tiles of {', '.join(part.outputs)} can be compiled for a GPU: {reason}")
        except DoesNotFit:
            unfit.append(plan)
        except PlanError as error:  # other tiles may be possible
            refusal = error
    if not found and not unfit and refusal is not None:
        raise refusal
    if not found:  # the estimate of registers says that all spill: the least tiles spill least, or not at all
        unfit.sort(key=lambda plan: prod(t.size for t in (*plan.program, *plan.streams)))
        found = [(Prediction(inf, {}), plan) for plan in unfit]
    return sorted(found, key=lambda scored: scored[0].seconds)


def _worth_splitting(
    part: KernelCascade, setting: Setting, found: list[Option], exhaustive: bool
) -> Iterator[tuple[tuple[RankSplit, ...], RankTile]]:
    """The streamed rank in chunks for the best tilings that leave processors idle, or where no tiling sums in chains that are short enough; and its tile.

    An output that carries the streamed rank is computed from finished values, in one more pass: there a split has nothing to win.
    """
    if (
        part.stream is None
        or part.later
        or part.accumulated
        or any(part.stream in t.ranks for t in part.cascade.outputs)
    ):
        return
    processors = setting.device.processors
    tried: set[tuple[int, int]] = set()
    inexact = min(o.prediction.growth for o in found) > MOST_GROWTH
    for option in found[: 8 if exhaustive else 2]:
        plan = option.plans[0]
        if plan.stream is None or plan.stream.rank != part.stream:
            continue
        extents = {**setting.extents, **chunk_extents(option.splits, setting.extents)}
        programs = prod(ceil((extents[t.rank] - t.start) / t.size) for t in plan.program)
        tiles = setting.extents[part.stream] // plan.stream.size
        chunks = 2
        wanted = processors * (4 if exhaustive else 1)
        # A chain of a chunk is one of many, so its share of the squared error falls with the square of their number.
        exact = MOST_GROWTH**2 / 2
        while (
            programs
            and chunks <= tiles
            and (
                programs * (chunks // 2) < wanted
                or (inexact and option.prediction.growth**2 / (chunks // 2) ** 2 > exact)
            )
        ):
            if (chunks, plan.stream.size) not in tried:
                tried.add((chunks, plan.stream.size))
                yield (*option.splits, RankSplit(part.outputs, plan.stream, chunks)), plan.stream
            chunks *= 2


def _split(
    derivation: Derivation, part: KernelCascade, setting: Setting, grid: Grid, choices: tuple[RankSplit, ...]
) -> Option | tuple[Certificate, ...]:
    """The part with its ranks in chunks; where that is refused, why. ``grid``: of the kernels that stream."""
    from einsum_compiler.splitting import split_kernels

    made = split_kernels(derivation, part, choices, setting.extents, setting.dtypes)
    if not made.parts:
        return made.certificates
    inner = replace(setting, extents={**setting.extents, **made.extents}, dtypes={**setting.dtypes, **made.dtypes})
    best = [_known(p, inner, grid, _best_tiled)[0] for p in made.parts]
    total = together(p for p, _ in best)
    *chunked, merged = (p.growth for p, _ in best)
    chunks = prod(made.extents[ChunkedRank(c.rank.rank).outer] for c in choices)
    whole = sqrt(merged**2 + max(chunked, default=0.0) ** 2 / chunks)
    return Option(tuple(plan for _, plan in best), choices, replace(total, growth=whole))
