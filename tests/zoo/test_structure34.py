"""What the compiler makes of the operators of levels 3 and 4: kernels, loops, and nothing that grows with the product of both lengths."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from einsum_compiler.inspection import kernels_of, tile_kernels
from einsum_compiler.ir.tile import Loop, Reduce, Statement
from einsum_compiler.kernel import Kernel
from tests.zoo.cases import Case, Operator
from tests.zoo.checking import compiled
from tests.zoo.inputs34 import LEVEL3, LEVEL4

LONG = Case("long", 3000, 3000, B=1)
# Loops over a streamed rank, kernel by kernel (operators.md, 9.3): the passes over the keys.
LOOPS = {
    "music_rel": [1],
    "cosine": [2, 1],  # norms of the keys are stored, then one pass
    "sigmoid_attention": [1],
    "relu_n": [1],
    "clipped": [2],  # the log-sum-exp first; values are read in the second loop only
    "urpe": [1],
    "talking_heads": [2],
    "transnext": [2, 1],  # norms of the keys are stored; window, with the pooled keys held whole
    "row_stats": [1],
    "block_max": [1],
    "map_out": [2],
    "region_mass": [1],
    "rev_attn": [1, 1],
    "col_sum": [1, 1],
    "diff": [1],
    "diff_norm": [1],
    "agent": [1, 1],
    "union": [2],  # one for each set of keys
    "gated_sum": [2],
    "multi_value": [1],
    "landmark": [1],
    "combiner": [1, 2],  # summaries; then the own block and the summaries
    "channel": [2],  # the reduction over tokens, then the application
    "xca": [2],
    "tensor3": [1],
    "slot": [1, 0],  # one batch leaves processors idle: partial sums, then their merge
    "slot_dispatch": [1],
}
STORED_MAP = {"map_out"}
KNOWN = [o for o in (*LEVEL3, *LEVEL4) if o.program in LOOPS]


def call(operator: Operator, case: Case) -> tuple[Kernel, dict[str, Any]]:
    """The kernel, and the arguments of a call without their values."""
    kernel = compiled(operator.file, operator.name, "cpu")
    assert isinstance(kernel, Kernel)
    tensors = {name: t.to("meta") for name, t in operator.inputs(case).items()}
    return kernel, {**tensors, **operator.scalars}


def loops(statements: tuple[Statement, ...]) -> int:
    return sum(isinstance(s, Loop) for s in statements)


@pytest.mark.parametrize("operator", KNOWN, ids=str)
def test_passes(operator: Operator) -> None:
    kernel, arguments = call(operator, LONG)
    programs = tile_kernels(kernel._derivation, kernel.binding(**arguments), "cpu", None)
    assert [loops(p.body) for p in programs] == LOOPS[operator.program]


@pytest.mark.parametrize("operator", [o for o in KNOWN if o.program not in STORED_MAP], ids=str)
def test_no_tensor_between_kernels_or_result_has_both_lengths(operator: Operator) -> None:
    kernel, arguments = call(operator, LONG)
    binding = kernel.binding(**arguments)
    for derived in kernels_of(kernel._derivation, binding, "cpu", None):
        for tensor in derived.part.cascade.outputs:
            assert sum(binding.extents.get(r, 1) >= 3000 for r in tensor.ranks) <= 1, str(tensor)


@pytest.mark.parametrize("name", ["sigmoid_attention", "relu_n", "slot"])
def test_no_maximum_over_the_keys_where_nothing_needs_one(name: str) -> None:
    (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
    kernel, arguments = call(operator, LONG)
    for program in tile_kernels(kernel._derivation, kernel.binding(**arguments), "cpu", None):
        for loop in (s for s in program.body if isinstance(s, Loop)):
            maxima = [s for s in loop.body if isinstance(s, Reduce) and s.operator == "max"]
            assert not any(a.rank == "n.0" for s in maxima for a in s.over)


@pytest.mark.parametrize("name", ["row_stats", "diff", "union", "talking_heads"])
def test_certificates_say_what_runs_and_what_is_refused(name: str) -> None:
    (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
    kernel, arguments = call(operator, LONG)
    forms = {
        c.tensor: c.form
        for derived in kernels_of(kernel._derivation, kernel.binding(**arguments), "cpu", None)
        for c in derived.certificates
        if c.step == "online"
    }
    assert "running" in forms.values()
    assert ("refused" in forms.values()) == (name == "talking_heads")


def test_the_map_of_short_keys_is_asked_for() -> None:
    (operator,) = (o for o in LEVEL3 if o.program == "map_out")
    kernel = compiled(operator.file, operator.name, "cpu")
    _, A = kernel(torch.randn(1, 2, 9, 4), torch.randn(1, 2, 7, 4), torch.randn(1, 2, 7, 3))
    assert A.shape == (1, 2, 9, 7)
    torch.testing.assert_close(A.sum(-1), torch.ones(1, 2, 9))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["union", "row_stats", "rev_attn", "urpe"])
def test_no_call_holds_a_square_in_memory(name: str) -> None:
    """At 24576 queries and keys one map is 2.4 GB; the address space of the call may grow by an eighth of that."""
    (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
    process = multiprocessing.get_context("spawn").Process(target=_call_in_little_memory, args=(operator.program,))
    process.start()
    process.join()
    assert process.exitcode == 0


def _call_in_little_memory(name: str) -> None:
    torch.set_num_threads(1)
    (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
    case = Case("square", 24576, 24576, B=1, H=1, G=1, E=8, F=8)
    kernel = compiled(operator.file, operator.name, "cpu")
    kernel(**operator.inputs(Case("small", 3000, 3000, B=1, H=1, G=1, E=8, F=8)), **operator.scalars)
    tensors = operator.inputs(case)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 24576**2 * 4 // 8,) * 2)
    kernel(**tensors, **operator.scalars)
