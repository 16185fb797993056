"""What the compiler proves of the operators of levels 3 and 4, and what it leaves out where nothing needs it."""

from __future__ import annotations

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


def call(operator: Operator, case: Case) -> tuple[Kernel, dict[str, Any]]:
    """The kernel, and the arguments of a call without their values."""
    kernel = compiled(operator.file, operator.name, "cpu")
    assert isinstance(kernel, Kernel)
    tensors = {name: t.to("meta") for name, t in operator.inputs(case).items()}
    return kernel, {**tensors, **operator.scalars}


@pytest.mark.parametrize("name", ["sigmoid_attention", "relu_n", "slot"])
def test_no_maximum_over_the_keys_where_nothing_needs_one(name: str) -> None:
    (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
    kernel, arguments = call(operator, LONG)
    for program in tile_kernels(kernel.derivation, kernel.binding(**arguments), "cpu", None):
        for loop in (s for s in program.body if isinstance(s, Loop)):
            maxima = [s for s in loop.body if isinstance(s, Reduce) and s.operator == "max"]
            assert not any(a.rank == "n.0" for s in maxima for a in s.over)


@pytest.mark.parametrize("name", ["row_stats", "diff", "union", "talking_heads"])
def test_certificates_say_what_runs_and_what_is_refused(name: str) -> None:
    (operator,) = (o for o in (*LEVEL3, *LEVEL4) if o.program == name)
    kernel, arguments = call(operator, LONG)
    forms = {
        c.tensor: c.form
        for derived in kernels_of(kernel.derivation, kernel.binding(**arguments), "cpu", None)
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
