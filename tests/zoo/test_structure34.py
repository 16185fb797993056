"""What the compiler makes of the operators of levels 3 and 4: kernels, loops, and nothing that grows with the product of both lengths."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from einsum_compiler.inspection import kernels_of, tile_kernels
from einsum_compiler.ir.tile import Loop, Reduce
from einsum_compiler.kernel import Kernel
from tests.zoo.cases import Case, Operator
from tests.zoo.checking import compiled
from tests.zoo.inputs34 import LEVEL3, LEVEL4

LONG = Case("long", 3000, 3000, B=1)
# The loops over every rank of keys, all kernels together: the passes that the operator needs (operators.md, 9.3). The plan may take a pass
# as programs of a kernel of its own, so these are what a plan must not exceed.
PASSES = {
    "music_rel": {"n": 1},
    "cosine": {"n": 1},
    "sigmoid_attention": {"n": 1},
    "relu_n": {"n": 1},
    "clipped": {"n": 2},  # the log-sum-exp first; values are read in the second loop only
    "urpe": {"n": 1},
    "transnext": {"o": 1, "c": 1},
    "talking_heads": {"n": 2},
    "row_stats": {"n": 1},
    "block_max": {"n": 1},
    "map_out": {"n": 2},
    "region_mass": {"n": 1},
    "rev_attn": {"n": 1, "m": 1},
    "col_sum": {"n": 2, "m": 1},  # row statistics; then the columns over queries, or accumulated over keys again
    "diff": {"n": 1},
    "diff_norm": {"n": 1},
    "agent": {"n": 1, "a": 1},
    "union": {"i": 1, "j": 1},
    "gated_sum": {"i": 1, "j": 1},
    "multi_value": {"n": 1},
    "landmark": {"c": 1},
    "combiner": {"n": 2, "c": 1},  # summaries; then the own block, then the summaries
    "channel": {"n": 2},  # the reduction over tokens, then the application
    "xca": {"n": 2},
    "tensor3": {"j_k": 1},
    "slot": {"n": 1},
    "slot_dispatch": {"c": 1},
}
STORED_MAP = {"map_out"}
KNOWN = [o for o in (*LEVEL3, *LEVEL4) if o.program in PASSES]


def call(operator: Operator, case: Case) -> tuple[Kernel, dict[str, Any]]:
    """The kernel, and the arguments of a call without their values."""
    kernel = compiled(operator.file, operator.name, "cpu")
    assert isinstance(kernel, Kernel)
    tensors = {name: t.to("meta") for name, t in operator.inputs(case).items()}
    return kernel, {**tensors, **operator.scalars}


@pytest.mark.parametrize("operator", KNOWN, ids=str)
def test_passes(operator: Operator) -> None:
    kernel, arguments = call(operator, LONG)
    programs = tile_kernels(kernel._derivation, kernel.binding(**arguments), "cpu", None)
    loops = Counter(s.rank.split(".")[0] for p in programs for s in p.body if isinstance(s, Loop))
    allowed = PASSES[operator.program]
    assert set(allowed) & set(loops)
    # Beside the keys only channels are streamed: of a norm, or of a score.
    assert all(number <= allowed.get(rank, 2 * (rank in "efrs")) for rank, number in loops.items()), loops
    if operator.program == "col_sum":
        assert loops["n"] + loops["m"] == 2


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
