"""States that a moving context turns: circular functions of a running value, which is infinite before the first tile and may be 0 at any."""

from __future__ import annotations

import pytest
import torch

import einsum_compiler as ec

SUM = """cascade c(G[m,n], V[n,f]) -> O[m,f] {{
  X[m] = max[n](G[m,n])
  O[m,f] = sum[n]({}(G[m,n] - X[m]) * V[n,f])
}}"""
TWICE = """cascade c(G[m,n], V[n,f]) -> O[m,f] {
  X[m] = max[n](G[m,n])
  R[m,n] = sin(G[m,n] - X[m])
  D[m] = sum[n](R[m,n])
  C[m,n] = D[m]
  W[m,n] = (R[m,n] + C[m,n]) * sin(G[m,n])
  O[m,f] = W[m,n] * V[n,f]
}"""
PLAN = "plan c { kernel O { program m:16  stream n:32  resident f } }"


@pytest.mark.parametrize("text", [SUM.format("sin"), SUM.format("cos"), TWICE], ids=["sin", "cos", "twice"])
@pytest.mark.parametrize("zeros", [0, 32, 70], ids=["moving", "zero at first", "zero"])
def test_a_rotation_has_no_poles(text: str, zeros: int) -> None:
    kernel = ec.compile(text, backend="cpu", plan=PLAN)
    torch.manual_seed(0)
    g, v = torch.randn(19, 70), torch.randn(70, 5)
    g[:, :zeros] = 0
    kernel.validate(g, v)
    program = kernel.ir("tile", g, v)
    assert program.count("  loop ") == 1
    assert "/ sin" not in program and "/ cos" not in program
