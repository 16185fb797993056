"""Kernels that are ready to run: buffers, tile lists and launches of one plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from einsum_compiler.ir.build import parameters_of
from einsum_compiler.ir.scalar import evaluate_scalar
from einsum_compiler.ir.tile import TileKernel
from einsum_compiler.ir.torch_types import torch_dtype
from einsum_compiler.size_classes import size_class

if TYPE_CHECKING:
    from einsum_compiler.tile_lists import Kept

Number = int | float | bool
Buffer = tuple[str, list[int], Any, bool]  # name, shape, torch.dtype, whether programs add to it
TileOperands = tuple[Any, ...]  # the offsets and the tiles of a list

MOST_LISTS = 16


class CompiledKernel(Protocol):
    """A kernel that writes its outputs in place."""

    def __call__(
        self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> None: ...


@dataclass(frozen=True)
class Executable:
    """The kernels of a plan in the order they run, and the names of the program's outputs.

    Of each ``TileKernel`` only what stands around the body is used. ``introduced``: for each kernel the extents of ranks that the plan made, such as
    chunks; empty if it made none. ``fixed``: the integer parameters that the kernels hold constant; calls of the same types and sizes that agree in
    them share an executable. ``compared``: those that filters compare with; the plan was chosen for their class of sizes.
    """

    kernels: tuple[tuple[TileKernel, CompiledKernel], ...]
    outputs: tuple[str, ...]
    introduced: tuple[Mapping[str, int], ...] = ()
    fixed: frozenset[str] = frozenset()
    compared: frozenset[str] = frozenset()
    _last: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)
    # Of every schedule its parameters: a filter has hundreds of nodes, and every call asks.
    _parameters: dict[tuple[str, str], tuple[str, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _kept: dict[object, Kept] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lists: dict[object, TileOperands] = field(default_factory=dict, init=False, repr=False, compare=False)

    def key(self, scalars: Mapping[str, Number]) -> tuple[Number, ...]:
        """What two calls of the same types and sizes agree in if they share an executable."""
        return (*(scalars[n] for n in self.fixed), *(size_class(int(scalars[n])) for n in self.compared))

    def run(
        self, tensors: Mapping[str, Any], scalars: Mapping[str, Number], extents: Mapping[str, int]
    ) -> dict[str, Any]:
        """The outputs, newly allocated on the inputs' device."""
        import torch

        device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        held = dict(tensors)
        for (kernel, compiled), (sizes, outputs) in zip(self.kernels, self._sizes(scalars, extents), strict=True):
            work = False
            for name, shape, dtype, added in outputs:
                held[name] = (torch.zeros if added else torch.empty)(shape, dtype=dtype, device=device)
                work = work or 0 not in shape
            if not work or device.type == "meta":
                continue
            if kernel.schedules:
                compiled(self._with_tile_lists(kernel, held, scalars, sizes, device), scalars, sizes)
            else:
                compiled(held, scalars, sizes)
        return {name: held[name] for name in self.outputs}

    def _sizes(
        self, scalars: Mapping[str, Number], given: Mapping[str, int]
    ) -> list[tuple[Mapping[str, int], list[Buffer]]]:
        """For each kernel all extents, and what it writes. Those of the last call are kept: they come again."""
        # By identity: a prepared call passes the same extents every time.
        if self._last and self._last[0] is given:
            return self._last[1]  # type: ignore[no-any-return]
        found: list[tuple[Mapping[str, int], list[Buffer]]] = []
        for (kernel, _), made in zip(self.kernels, self.introduced or [{}] * len(self.kernels), strict=True):
            extents = {**given, **made}
            names = {**scalars, **{rank.upper(): extent for rank, extent in extents.items()}}
            added = {a.tensor for a in kernel.accumulated}
            outputs = [
                (o.name, [int(evaluate_scalar(e, names)) for e in o.extents], torch_dtype(o.dtype), o.name in added)
                for o in kernel.outputs
            ]
            found.append((extents, outputs))
        self._last[:] = given, found
        return found

    def _with_tile_lists(
        self,
        kernel: TileKernel,
        held: Mapping[str, Any],
        scalars: Mapping[str, Number],
        extents: Mapping[str, int],
        device: Any,
    ) -> dict[str, Any]:
        """The operands of a kernel together with the tiles that its schedules list. What no tensor decides is kept for the next call."""
        from einsum_compiler.tile_lists import build_tile_list, kept_between_calls

        operands = dict(held)
        for schedule in kernel.schedules:
            name = kernel.name, schedule.name
            if name not in self._parameters:
                self._parameters[name] = parameters_of(schedule.predicate)
            used = tuple((n, scalars[n]) for n in self._parameters[name] if n in scalars)
            key = *name, used, tuple(extents.items()), device
            found = self._lists.get(key)
            if found is None:
                if len(self._kept) >= MOST_LISTS:
                    self._kept.clear()
                    self._lists.clear()
                if key not in self._kept:
                    self._kept[key] = kept_between_calls(schedule, scalars, extents)
                kept = self._kept[key]
                found = tuple(t.to(device) for t in build_tile_list(schedule, held, scalars, extents, kept))
                if not kept.reads:
                    self._lists[key] = found
            operands[f"{schedule.name}.offsets"], operands[f"{schedule.name}.tiles"] = found
        return operands
