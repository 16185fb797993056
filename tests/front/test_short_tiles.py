"""Gradients where every stream takes several trips: the operators of ``examples/`` are small, so one tile would hold each of their ranks whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from einsum_compiler.cost import choice, grids
from einsum_compiler.cost.grids import Grid
from tests.front.test_example_gradients import compiled, gradients
from tests.passes.test_differentiate import EXAMPLES

QUICK = {"block_max", "gqa"}


@pytest.fixture
def _tiles_of_four(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Tiles of 4 and 8; no plan that was chosen otherwise is known."""
    monkeypatch.setitem(grids.GRIDS, "cpu", Grid((4, 8), (8,), (4,), (8,)))
    monkeypatch.setenv("EINSUM_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(choice, "_KNOWN", {})
    yield


@pytest.mark.usefixtures("_tiles_of_four")
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem in QUICK else pytest.mark.slow) for p in EXAMPLES],
    ids=lambda p: p.stem,
)
def test_every_gradient_is_that_of_the_evaluator(path: Path) -> None:
    found, expected = gradients(compiled(path)), gradients(compiled(path, "reference"))
    for name, reference in expected.items():
        torch.testing.assert_close(
            found[name], reference, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"gradient of {n}: {m}"
        )
