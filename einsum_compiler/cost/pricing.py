"""The time predicted for plans of one kernel in a setting: sizes, types and a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from einsum_compiler.cost.boxed import boxed_extents, boxed_filter
from einsum_compiler.cost.cpu import vector_bytes
from einsum_compiler.cost.cpu_model import predict_cpu
from einsum_compiler.cost.device import Device
from einsum_compiler.cost.gpu_model import predict_gpu
from einsum_compiler.cost.prediction import Prediction
from einsum_compiler.cost.rounding import growth
from einsum_compiler.cost.shape import Operand, Shape, Visited
from einsum_compiler.cost.skeletons import skeleton_of
from einsum_compiler.cost.steps import Skeleton
from einsum_compiler.cost.visits import Filter, filter_of, trimmed, visited
from einsum_compiler.derivation import KernelDerivation, derive_kernel
from einsum_compiler.ir.build import extents_of, ranks_of
from einsum_compiler.ir.plan import KernelPlan
from einsum_compiler.ir.tile import Loop
from einsum_compiler.ir.types import bytes_of
from einsum_compiler.passes.kernel_cascade import KernelCascade
from einsum_compiler.passes.partition import Reuse, reuse


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

    def seen_by(self, part: KernelCascade) -> object:
        """What the time of a kernel depends on, besides its part of the cascade: equal for parts of different programs, and without what only their other kernels name.
        Values of ``tensors`` are not in it."""
        tensors = (*part.cascade.inputs, *part.cascade.outputs)
        ranks = {r for t in tensors for r in t.ranks} | {r for e in part.cascade.equations for r in e.carried}
        roots = [root for e in part.cascade.equations for root in (e.value, e.where) if root is not None]
        roots += [p.default for p in part.cascade.parameters if p.default is not None]
        ranks |= {*ranks_of(*roots), *extents_of(*roots), *(p.name.lower() for p in part.cascade.parameters)}
        return (
            frozenset((r, n) for r, n in self.extents.items() if r in ranks or r.lower() in ranks),
            frozenset((t.name, self.dtypes[t.name]) for t in tensors),
            frozenset(self.dtypes.values()),
            frozenset(self.scalars.items()),
            frozenset((n, type(v), v) for n, v in self.numbers.items()),
            self.device.backend,
            self.device.digest,
        )


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
        from einsum_compiler.constants import constants_of
        from einsum_compiler.passes.lowering.lower import LoweringContext, skeleton

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
