"""The time model: register blocks, resources that add up, tiles rather than points, and choices that follow from them."""

from __future__ import annotations

import pytest

from einsum_compiler.cost.cpu_model import product_share


@pytest.mark.parametrize(
    ("rows", "columns", "depth", "low", "high"),
    [
        (96, 128, 64, 0.88, 0.97),  # whole blocks: runtime/product.hpp measured 93 %
        (96, 128, 1024, 0.97, 1.0),  # 98 %
        (98, 128, 64, 0.85, 0.95),  # two rows left over run as a block of two
        (1, 128, 64, 0.15, 0.25),  # one row waits for its own sums
        (96, 8, 64, 0.5, 0.75),  # a single vector of columns
    ],
)
def test_products_are_priced_by_register_blocks(rows: int, columns: int, depth: int, low: float, high: float) -> None:
    assert low <= product_share(8, rows, columns, depth) <= high
