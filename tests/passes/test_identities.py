"""The identities that certificates print are equations between the user's tensors: both sides are evaluated as printed."""

from __future__ import annotations

import math
import random
import re

import pytest

from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.pipeline import Context, parse_pipeline, run_pipeline
from einsum_compiler.passes.registry import PASSES
from tests.passes import wide_zoo, zoo

MOVING = ("ATTENTION", "ROW_STATS", "VARIANCE", "THIRD_MOMENT", "LAYERNORM_GEMM", "DIFFERENTIAL", "SINK", "ENTROPY")


def _certificates(text: str) -> list[Certificate]:
    module = parse(text)
    pipeline = parse_pipeline("inline,normalize,flatten,defer,online", PASSES)
    found = run_pipeline(module.cascade(), pipeline, Context(module), lambda c: None).certificates
    return [c for c in found if c.form in ("running", "finite rank")]


def _value(text: str, names: dict[str, float]) -> float:
    """A printed expression as Python computes it, with one number for every read of the same tensor."""
    reads = re.sub(r"([A-Za-z_][\w.]*'?)\[[^\[\]]*\]", lambda m: f"names[{m[1]!r}]", text)
    value = eval(reads, {"names": names, "exp": math.exp, "log": math.log, "sqrt": math.sqrt})
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("name", MOVING)
def test_both_sides_are_equal(name: str) -> None:
    certificates = _certificates(getattr(zoo, name, None) or getattr(wide_zoo, name))
    assert certificates
    random.seed(name)
    for certificate in certificates:
        lines = certificate.identity.splitlines()
        assert lines and any("'" in line for line in lines), certificate
        for line in lines:
            left, right = line.split(" == ")
            for _ in range(5):
                names = {n: random.uniform(0.5, 2) for n in re.findall(r"([A-Za-z_][\w.]*'?)\[", line)}
                assert _value(left, names) == pytest.approx(_value(right, names), rel=1e-9), line


def test_a_finite_state_states_how_each_of_its_sums_moves() -> None:
    (variance,) = _certificates(zoo.VARIANCE)
    square, deviation = variance.identity.splitlines()
    assert square == (
        "(X[m,n] - MU'[m])**2 == (X[m,n] - MU[m])**2 + (MU[m] - X[m,n]) * (2 * MU'[m] - 2 * MU[m])"
        " + (MU[m] - MU'[m])**2"
    )
    assert deviation == "MU'[m] - X[m,n] == (MU[m] - X[m,n]) + MU'[m] - MU[m]"
