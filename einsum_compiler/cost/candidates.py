"""Plans that are worth comparing, with the time predicted for each: sorted, the first is the one to take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil, inf, prod, sqrt
from typing import Any

from einsum_compiler.cost.boxed import boxed_extents, boxed_filter
from einsum_compiler.cost.cpu import vector_bytes
from einsum_compiler.cost.cpu_model import predict_cpu
from einsum_compiler.cost.device import Device
from einsum_compiler.cost.gpu_model import WARPS, DoesNotFit, TooLarge, predict_gpu
from einsum_compiler.cost.prediction import Prediction, together
from einsum_compiler.cost.rounding import MOST_GROWTH, growth, limit
from einsum_compiler.cost.shape import Operand, Shape, Visited
from einsum_compiler.cost.skeletons import skeleton_of
from einsum_compiler.cost.steps import Skeleton
from einsum_compiler.cost.structures import structures
from einsum_compiler.cost.visits import Filter, filter_of, trimmed, visited
from einsum_compiler.derivation import Derivation, KernelDerivation, derive_kernel
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import KernelPlan, Plan, RankSplit, RankTile
from einsum_compiler.ir.tile import Loop
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.chunks import ChunkedRank
from einsum_compiler.passes.kernel_cascade import KernelCascade, held_sums
from einsum_compiler.passes.kernel_shape import SHORT
from einsum_compiler.passes.partition import Partition, Reuse, partition, reuse
from einsum_compiler.reach import reach_of
from einsum_compiler.splitting import chunk_extents


@dataclass(frozen=True)
class Grid:
    """The tile sizes that are tried: of rows, columns, the streamed rank, and the contiguous rank where nothing is reused."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    stream: tuple[int, ...]
    vector: tuple[int, ...]
    powers_of_two: bool = False


GRIDS = {
    "cpu": Grid((24, 48, 64, 96, 128, 192), (64, 128, 256), (32, 64, 128, 256, 512), (64, 256)),
    "triton": Grid((16, 32, 64, 128), (32, 64, 128), (32, 64, 128), (256, 1024), True),
}
EXHAUSTIVE = {
    "cpu": Grid((12, 24, 48, 64, 96, 128, 192), (64, 128, 256), (16, 32, 64, 128, 256, 512), (64, 256)),
    "triton": Grid((16, 32, 64, 128, 256), (16, 32, 64, 128, 256), (16, 32, 64, 128, 256), (64, 256, 1024), True),
}  # fmt: skip


MOST_PRODUCTS = 0.5  # of the time of a kernel, beyond which contexts are not computed in sweeps of their own
ALSO_FINISHED = 4  # tilings
ALSO_WHOLE = 8  # tilings
CHUNKS = (16, 32, 64, 128)  # coordinates of a rank that is cut since a kernel would hold it whole


@dataclass(frozen=True)
class ScoredPlan:
    """A plan and the time predicted for it."""

    plan: Plan
    prediction: Prediction


@dataclass(frozen=True)
class Setting:
    """What plans are chosen for: extents by rank, element types by tensor, types and values of scalar parameters, and the device.

    ``tensors``: inputs whose values filters may be judged by, where they are at hand.
    """

    extents: Mapping[str, int]
    dtypes: Mapping[str, str]
    scalars: Mapping[str, str]
    numbers: Mapping[str, float]
    device: Device
    tensors: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, int]:
        """Whole numbers that a kernel may hold constant."""
        return {n: int(v) for n, v in self.numbers.items() if self.scalars.get(n) == "i64"}


class Pricing:
    """Predicts the time of plans of one kernel. Skeletons are made once for each set of tiled ranks."""

    def __init__(self, part: KernelCascade, setting: Setting) -> None:
        self.part, self.setting = part, setting
        self.reuse: Reuse = reuse(part, setting.extents)
        self._skeletons: dict[object, tuple[Skeleton, tuple[tuple[str, Filter], ...]]] = {}
        self._derived: dict[object, KernelDerivation] = {}
        self._visited: dict[object, tuple[Visited, ...]] = {}
        self._corrected: dict[object, bool] = {}
        tensors = (*part.cascade.inputs, *part.cascade.outputs)
        self._tensors = {t.name: Operand(t.ranks, bytes_of(setting.dtypes[t.name])) for t in tensors}

    def predict(self, plan: KernelPlan) -> Prediction:
        """Seconds of one call of the kernel with a plan."""
        skeleton, filters = self._skeleton(plan)
        extents = boxed_extents(plan, self.setting.extents)
        key = plan.program, plan.streams, plan.contexts, plan.box
        if key not in self._visited:
            numbers = self.setting.numbers
            boxed = [(rank, boxed_filter(f, plan, self.setting.extents)) for rank, f in filters]
            found = tuple(visited(f, plan, rank, extents, numbers, self.setting.tensors) for rank, f in boxed)
            if self.setting.device.backend == "cpu":
                found = tuple(
                    trimmed(f, plan, rank, extents, numbers, v) for (rank, f), v in zip(boxed, found, strict=True)
                )
            self._visited[key] = found
        shape = Shape(skeleton, plan, extents, self._tensors, self._visited[key])
        device = self.setting.device
        if not shape.programs:
            return Prediction(device.launch, {"launch": device.launch})
        cpu = device.backend == "cpu"
        predicted = predict_cpu(shape, device) if cpu else predict_gpu(shape, device)
        lanes = vector_bytes(device.target) // 4 if cpu else 0
        return replace(predicted, growth=growth(shape, self.setting.dtypes, lanes))

    def corrects(self, plan: KernelPlan) -> bool:
        """Whether some reduction of the kernel is corrected as its context moves."""
        self._skeleton(plan)
        return self._corrected[self._tiled_ranks(plan)]

    def sweeps(self, plan: KernelPlan) -> int:
        """How many loops a kernel has."""
        return len(self._skeleton(plan)[0].loops)

    def _derivation(self, plan: KernelPlan) -> KernelDerivation:
        """The kernel's cascade with the states of a plan's streams; their equations are the same for tiles of any size."""
        key = tuple(t.rank for t in plan.streams), plan.contexts, plan.accumulated
        if key not in self._derived:
            self._derived[key] = derive_kernel(self.part, plan, self.setting.dtypes, verified=False)
        return self._derived[key]

    def _tiled_ranks(self, plan: KernelPlan) -> object:
        """What the statements of a plan depend on."""
        return frozenset(t.rank for t in plan.program if t.size > 1), plan.contexts, plan.rows

    def _skeleton(self, plan: KernelPlan) -> tuple[Skeleton, tuple[tuple[str, Filter], ...]]:
        from einsum_compiler.passes.lowering.lower import LoweringContext, skeleton
        from einsum_compiler.planning import constants_of

        key = self._tiled_ranks(plan)
        if key not in self._skeletons:
            s = self.setting
            constants = constants_of(self.part.cascade, plan, s.scalars)
            extents = {r: s.extents[r] for r in sorted(constants.extents) if r in s.extents}
            whole = s.parameters
            parameters = {n: whole[n] for n in sorted(constants.parameters) if n in whole}
            derived = self._derivation(plan)
            context = LoweringContext(s.dtypes, s.scalars, extents, parameters)
            kernel, predicates = skeleton(derived.final, replace(plan, box=()), context)
            ranks = [s.rank.removesuffix(".1") for s in kernel.body if isinstance(s, Loop)]
            filters = tuple((r, filter_of(r, p, s.numbers, s.tensors)) for r, p in zip(ranks, predicates, strict=True))
            self._corrected[key] = any(c.form in ("running", "finite rank") for c in derived.certificates)
            self._skeletons[key] = skeleton_of(kernel, predicates), filters
        return self._skeletons[key]


@dataclass(frozen=True)
class Option:
    """One way to run one part of a program: its kernels, and the splits that made them of one."""

    plans: tuple[KernelPlan, ...]
    splits: tuple[RankSplit, ...]
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
    margin = 1.5 if exhaustive else 1.0
    usual = structures(derivation, extents, dtypes, device, margin)
    plans, ways = _plans(derivation, usual, setting, grid, exhaustive, refusals)
    if min(p.growth for p in plans.values()) > MOST_GROWTH:
        # Sums that end inside of a kernel cannot be split, those of a kernel of their own can.
        every = structures(derivation, extents, dtypes, device, inf)
        more, ways_of_more = _plans(derivation, every, setting, grid, exhaustive, refusals)
        plans, ways = {**plans, **more}, {**ways, **ways_of_more}
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
            best = [min(_unsplit(Pricing(p, typed), GRIDS[backend]), key=lambda o: o.prediction.seconds) for p in parts]
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
                    known[part] = _options(derivation, part, typed, grid, exhaustive, refusals)
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


def _options(
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
    found = found or _unsplit(Pricing(part, setting), grid)
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


def _unsplit(pricing: Pricing, grid: Grid) -> list[Option]:
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


def tilings(
    found: Reuse,
    extents: Mapping[str, int],
    grid: Grid,
    warps: int = 0,
    reach: Mapping[str, int] | None = None,
    batches: bool = True,
    lanes: int = 0,
) -> Iterator[KernelPlan]:
    """Every plan of a kernel whose tiles have the sizes of a grid, each once. ``reach``, ``lanes``: see ``passes.boxes``; ``batches``: see ``Partition``.

    With ``lanes`` boxes for filters that cut tiles come first, so that they are taken where the price, which does not know of cuts, is the same.
    """
    seen: set[KernelPlan] = set()
    streams = grid.stream if found.kernel.stream else grid.stream[:1]
    # A matrix unit does the products of a batch one by one, and rows of several ranks are a batch of what has only one of them.
    for shared_rows in (True,) if batches else (True, False):
        for rows, columns, stream, vector in product(grid.rows, grid.columns, streams, grid.vector):
            sizes = Partition(rows, columns, stream, vector, grid.powers_of_two, warps)
            for cut in dict.fromkeys((lanes, 0)):
                options = replace(sizes, batches=batches, shared_rows=shared_rows, lanes=cut)
                plan = partition(found, extents, options, reach)
                if plan not in seen:
                    seen.add(plan)
                    yield plan
                if not plan.box:
                    break


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
        programs = prod(ceil(extents[t.rank] / t.size) for t in plan.program)
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
    best = [_tiled(Pricing(p, inner), grid)[0] for p in made.parts]
    total = together(p for p, _ in best)
    *chunked, merged = (p.growth for p, _ in best)
    chunks = prod(made.extents[ChunkedRank(c.rank.rank).outer] for c in choices)
    whole = sqrt(merged**2 + max(chunked, default=0.0) ** 2 / chunks)
    return Option(tuple(plan for _, plan in best), choices, replace(total, growth=whole))
