"""Passes, kernels and buffers of every operator of levels 2 to 4, against what operators.md says of each (9.3).

Whether a tensor is stored between kernels is a matter of price. Where one pass allows one kernel, the plan with everything in one is legal and agrees,
and ``explain`` says what it would take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import ModuleType

import pytest

from einsum_compiler.compilation import compilation
from einsum_compiler.cost.considered import compared
from einsum_compiler.cost.fusion import fusion
from einsum_compiler.derivation import kernel_cascades
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.extents import all_extents
from einsum_compiler.ir.plan import Plan
from einsum_compiler.ir.tile import Loop
from einsum_compiler.kernel import Kernel
from einsum_compiler.passes.partition import Partition, partition
from einsum_compiler.specialise import request
from tests.zoo import programs3, programs4, structured
from tests.zoo.cases import Case, Operator
from tests.zoo.checking import AnyOperator, check_call, compiled
from tests.zoo.inputs34 import LEVEL3, LEVEL4
from tests.zoo.structured_inputs import OPERATORS, Sizes

LONG, LENGTH = Case("long", 3000, 3000, B=1), 3000
LONG_SIZES = Sizes("long", M=LENGTH, N=LENGTH, grid=(48, 64), volume=(8, 16, 24), B=1)
SMALL, SMALL_SIZES = Case("small", 37, 41, B=1), Sizes("small", M=37, N=41, grid=(9, 11), volume=(3, 5, 6), B=1)


@dataclass(frozen=True)
class Figures:
    """``passes`` over each rank of keys that the mathematics forces; ``kernels`` of the default plan at ``LONG``; ``apart``: those that no plan makes one,
    since a pass ends before the next one starts over other programs."""

    passes: Mapping[str, int] = field(default_factory=lambda: {"n": 1})
    kernels: int = 1
    apart: int = 1


GRID, KEPT = {"y2_x2": 1}, {"n": 2}
FIGURES = {
    **dict.fromkeys(
        ("strided_head", "block_strided", "strided_columns", "pow2", "block_list", "shared_block_list", "radial", "disc", "tree"), Figures()
    ),
    "natten_1d": Figures({"x2": 1}),
    **dict.fromkeys(("natten", "swin", "disc_grid"), Figures(GRID)),
    "natten_3d": Figures({"z2_y2_x2": 1}),
    "halo": Figures(GRID, kernels=3),  # products of queries and vectors of offsets
    "axial": Figures({"x2": 1}),
    "axial_columns": Figures({"y2": 1}),
    "temporal": Figures({"t2": 1}),
    "pooled_kv": Figures({"c": 1}, kernels=3),  # pooled keys and values
    "pooled_grid": Figures({"cy_cx": 1}, kernels=2),
    "cosine": Figures(kernels=2),  # normalised keys
    "clipped": Figures(KEPT),  # the log-sum-exp first; values are read in the second loop only
    "transnext": Figures({"o": 1, "c": 1}, kernels=2),  # normalised keys
    "talking_heads": Figures(KEPT),
    "map_out": Figures(KEPT),
    "rev_attn": Figures({"n": 1, "m": 1}, kernels=2, apart=2),
    "col_sum": Figures({"n": 1, "m": 1}, kernels=2, apart=2),  # row statistics, then columns
    "agent": Figures({"n": 1, "a": 1}, kernels=2, apart=2),
    **dict.fromkeys(("union", "gated_sum"), Figures({"i": 1, "j": 1})),
    "landmark": Figures({"c": 1}),
    "combiner": Figures({"n": 2, "c": 1}, kernels=2, apart=2),  # summaries; then the own block and the summaries
    **dict.fromkeys(("channel", "xca"), Figures(KEPT)),  # the reduction over tokens, then the application
    "tensor3": Figures({"j_k": 1}),
    "slot": Figures(kernels=2),  # chunks of tokens, and their merge
    "slot_dispatch": Figures({"c": 1}),
    **dict.fromkeys(
        ("music_rel", "sigmoid_attention", "relu_n", "urpe", "row_stats", "block_max", "region_mass", "diff", "diff_norm", "multi_value"), Figures()
    ),
}  # fmt: skip
PROGRAMS: tuple[tuple[ModuleType, AnyOperator], ...] = (
    *((structured, o) for o in OPERATORS),
    *((programs3, o) for o in LEVEL3),
    *((programs4, o) for o in LEVEL4),
)
ALL = pytest.mark.parametrize("operator", [o for _, o in PROGRAMS], ids=str)
STORED_MAP = {"map_out"}  # an output of queries by keys
SHORT = Case("short", 3000, 77, B=1)
ONE_TILE = ("clipped", "map_out", "talking_heads")  # two passes over keys that do not fit a tile
ALWAYS = {"cosine", "pooled_kv"}  # of what is compiled or priced again
BY_CHOICE = [
    pytest.param(p, o, id=str(o), marks=[] if o.program in ALWAYS else pytest.mark.slow)
    for p, o in PROGRAMS
    if FIGURES[o.program].kernels > FIGURES[o.program].apart
]


def kernel_of(operator: AnyOperator) -> Kernel:
    kernel = compiled(operator.file, operator.name, "cpu")
    assert isinstance(kernel, Kernel)
    return kernel


def bound(operator: AnyOperator, long: bool) -> tuple[Kernel, Binding]:
    """The kernel and what a call binds."""
    if isinstance(operator, Operator):
        tensors = operator.inputs(LONG if long else SMALL)
    else:
        tensors = operator.inputs(LONG_SIZES if long else SMALL_SIZES)
    kernel = kernel_of(operator)
    return kernel, kernel.binding(**tensors, **operator.scalars)


def fused(kernel: Kernel, binding: Binding, powers_of_two: bool = False) -> Plan:
    """The plan that stores nothing but outputs, with small tiles."""
    derivation = kernel.derivation
    extents = all_extents(derivation.normalized, binding.extents)
    outputs = tuple(t.name for t in derivation.normalized.outputs)
    options = Partition(rows=16, columns=16, stream=16, vector=32, powers_of_two=powers_of_two)
    parts = kernel_cascades(derivation, extents, [outputs])
    return Plan(derivation.declared.name, tuple(partition(part, extents, options) for part in parts))


def test_every_operator_has_figures() -> None:
    assert [o.program for _, o in PROGRAMS if o.program not in FIGURES] == []


@ALL
def test_passes_kernels_and_buffers(operator: AnyOperator) -> None:
    figures = FIGURES[operator.program]
    kernel, binding = bound(operator, long=True)
    found = compilation(kernel.derivation, binding, "cpu", None)
    passes = {p.rank: p.compiled for p in found.passes if p.rank in figures.passes}
    assert passes == figures.passes
    assert len(found.parts) == figures.kernels, [p.planned.plan for p in found.parts]
    loops = Counter(s.rank.split(".")[0] for p in found.parts for s in p.tile.body if isinstance(s, Loop))
    assert all(loops[rank] <= number for rank, number in figures.passes.items()), loops
    extents = all_extents(kernel.derivation.normalized, binding.extents)
    # Beside the keys only what is as short as a head is streamed.
    assert all(extents.get(rank, LENGTH) < 100 for rank in loops if rank not in figures.passes), loops
    caller_holds = sum(t.numel() for t in binding.tensors.values())
    results = {t.name for t in kernel.cascade.outputs}
    for part in found.parts:
        sizes = {**extents, **part.planned.extents}
        for tensor in part.derived.part.cascade.outputs:
            if operator.program not in STORED_MAP:
                assert sum(sizes[r] >= LENGTH // 2 for r in tensor.ranks) <= 1, str(tensor)
            assert tensor.name in results or prod(sizes[r] for r in tensor.ranks) <= caller_holds, str(tensor)


@pytest.mark.parametrize(
    "operator", [o for _, o in PROGRAMS if o.program in ONE_TILE and isinstance(o, Operator)], ids=str
)
def test_keys_that_fit_a_tile_are_read_once(operator: Operator) -> None:
    kernel = kernel_of(operator)
    binding = kernel.binding(**operator.inputs(SHORT), **operator.scalars)
    found = compilation(kernel.derivation, binding, "cpu", None)
    (part,) = found.parts
    assert {p.rank: p.compiled for p in found.passes}["n"] == 1
    assert [s.rank for s in part.tile.body if isinstance(s, Loop)] == ["n.1"]


@ALL
def test_one_kernel_is_legal_where_one_pass_allows_it(operator: AnyOperator) -> None:
    kernel, binding = bound(operator, long=True)
    figures = FIGURES[operator.program]
    if figures.apart == 1:
        (one,) = fused(kernel, binding).kernels
        assert set(one.outputs) == {t.name for t in kernel.cascade.outputs}


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize(("programs", "operator"), BY_CHOICE)
def test_the_plan_with_one_kernel_agrees(programs: ModuleType, operator: AnyOperator, backend: str) -> None:
    kernel, binding = bound(operator, long=False)
    text = str(fused(kernel, binding, backend == "triton"))
    check_call(programs, operator, binding.tensors, operator.scalars, backend, text)


@pytest.mark.parametrize(("programs", "operator"), BY_CHOICE)
def test_explain_says_what_one_kernel_would_take(programs: ModuleType, operator: AnyOperator) -> None:
    kernel, binding = bound(operator, long=True)
    wanted = request(kernel.derivation, binding, "cpu")
    choice = compared(kernel.derivation, wanted)
    lines = fusion(kernel.derivation, wanted, choice)
    stored = [line for line in lines if line.startswith("not fused") and "computing it where it is read" in line]
    assert stored or choice.plan.splits, lines
