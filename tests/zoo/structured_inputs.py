"""Inputs for the operators of level 2: sequences and grids, with the operands and scalars of every text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Scalars = Mapping[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Lengths of sequences, sides of a grid and of a volume, heads and widths."""

    name: str
    M: int = 130
    N: int = 130
    grid: tuple[int, int] = (12, 15)
    volume: tuple[int, int, int] = (3, 6, 7)
    B: int = 2
    H: int = 4
    G: int = 2
    E: int = 32
    F: int = 24
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return self.name

    def attention(self, queries: tuple[int, ...], keys: tuple[int, ...]) -> Tensors:
        """Q, K and V over the given token ranks, with the heads inside as models have them."""

        def tensor(heads: int, tokens: tuple[int, ...], width: int) -> Tensor:
            return torch.randn(self.B, *tokens, heads, width).movedim(-2, 1)

        return {
            "Q": tensor(self.H, queries, self.E),
            "K": tensor(self.G, keys, self.E),
            "V": tensor(self.G, keys, self.F),
        }


@dataclass(frozen=True)
class Operator:
    """One cascade of examples/: the operands besides Q, K and V, and the scalars of its calls.

    ``large``: the factor of Q and K that makes scores large. ``tokens``: the token ranks of queries and keys for some sizes.
    """

    file: str
    name: str | None = None
    tokens: Callable[[Sizes], tuple[tuple[int, ...], tuple[int, ...]]] = field(default=lambda s: ((s.M,), (s.N,)))
    operands: Callable[[Sizes], Tensors] = field(default=lambda s: {})
    scalars: Scalars = field(default_factory=dict)
    options: tuple[Scalars, ...] = ()
    large: float = 1e2

    def __str__(self) -> str:
        return self.program

    @property
    def program(self) -> str:
        return self.name or self.file

    def inputs(self, sizes: Sizes) -> Tensors:
        """All operands, floats in the type of the sizes."""
        tensors = {**sizes.attention(*self.tokens(sizes)), **self.operands(sizes)}
        return {n: t.to(sizes.dtype) if t.is_floating_point() else t for n, t in tensors.items()}

    def calls(self) -> list[Scalars]:
        return [self.scalars, *({**self.scalars, **option} for option in self.options)]


def on_grid(s: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return s.grid, s.grid


def in_volume(s: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return s.volume, s.volume


def block_lists(s: Sizes, rows: int, columns: int, *outer: int) -> Tensor:
    """Ascending block numbers, -1 at the end; some lists are empty."""
    blocks = -(-s.N // columns)
    lists = torch.full((*outer, -(-s.M // rows), blocks), -1, dtype=torch.int32)
    for row in lists.reshape(-1, blocks) if blocks else ():
        chosen = torch.randperm(blocks)[: int(torch.randint(0, blocks + 1, ()))].sort().values
        row[: len(chosen)] = chosen
    return lists


def tables(s: Sizes, window: int) -> Tensors:
    return {"TB": torch.randn(s.H, 2 * window - 1, 2 * window - 1)}


def vectors(s: Sizes, reach: int) -> Tensors:
    return {"RY": torch.randn(s.H, 2 * reach - 1, s.E), "RX": torch.randn(s.H, 2 * reach - 1, s.E)}


def ancestors(s: Sizes) -> Tensors:
    nodes = torch.zeros(s.M, s.M, dtype=torch.bool)
    for m in range(s.M):
        nodes[m, m] = True
        if m:
            nodes[m] |= nodes[(m - 1) // 2]
    return {"AN": nodes}


OPERATORS = (
    Operator(
        "strided_head",
        operands=lambda s: {"OFF": torch.arange(s.H, dtype=torch.int32)},
        scalars={"block": 16, "local": 1, "stride": 4},
        options=({"block": 7, "local": 3, "stride": 3},),
    ),
    Operator(
        "block_strided", "block_strided", scalars={"block": 16, "columns": 3}, options=({"block": 33, "columns": 33},)
    ),
    Operator("block_strided", "strided_columns", scalars={"block": 16}, options=({"block": 33},)),
    Operator("pow2", scalars={"block": 8, "local": 2}, options=({"block": 3, "local": 0},)),
    Operator(
        "block_list",
        "block_list",
        operands=lambda s: {"BL": block_lists(s, 16, 32, s.B, s.H)},
        scalars={"rows": 16, "columns": 32},
        options=({"causal": True},),
    ),
    Operator(
        "block_list",
        "shared_block_list",
        operands=lambda s: {"BL": block_lists(s, 16, 16)},
        scalars={"rows": 16, "columns": 16},
    ),
    Operator(
        "natten",
        "natten_1d",
        lambda s: ((s.M,), (s.M,)),
        scalars={"w": 7, "d": 3, "t": 2},
        options=({"d": 1, "t": 1}, {"w": 5, "t": 5, "causal": True}),
    ),
    Operator(
        "natten",
        None,
        on_grid,
        scalars={"wy": 5, "wx": 7},
        options=(
            {"wy": 3, "wx": 3, "dy": 2, "dx": 4, "ty": 3},
            {"wy": 4, "ty": 4, "tx": 2, "causal_x": True},
            {"wy": 9, "wx": 11},
            {"causal_y": True, "causal_x": True, "ty": 2, "dx": 2, "wx": 4},
        ),
    ),
    Operator(
        "natten",
        "natten_3d",
        in_volume,
        scalars={"wz": 2, "wy": 3, "wx": 5, "causal_z": True},
        options=({"wz": 3, "dx": 2, "wx": 3, "ty": 2, "causal_z": False},),
    ),
    Operator("swin", None, on_grid, lambda s: tables(s, 4), {"window": 4, "shift": 2}, ({"shift": 0},)),
    Operator("halo", None, on_grid, lambda s: vectors(s, 6), {"block": 4, "halo": 2}),
    Operator("radial", scalars={"tokens": 13}, options=({"tokens": 1}, {"tokens": 200})),
    Operator(
        "disc",
        tokens=lambda s: ((7 + s.grid[0] * s.grid[1],), (7 + s.grid[0] * s.grid[1],)),
        scalars={"text": 7, "width": 15, "radius": 4},
        options=({"radius": 1},),
    ),
    Operator("disc", "disc_grid", on_grid, scalars={"radius": 4}, options=({"radius": 1},)),
    Operator("tree", tokens=lambda s: ((min(s.M, 33),), (s.N,)), operands=lambda s: ancestors(small_tree(s))),
    Operator("axial", "axial", on_grid, options=({"causal": True},)),
    Operator("axial", "axial_columns", on_grid, options=({"causal": True},)),
    # Beyond, two of the few scores of a row tie now and then, and their rounding decides.
    Operator("axial", "temporal", in_volume, options=({"causal": True},), large=1e1),
    Operator("pooled_kv", "pooled_kv", scalars={"r": 4}, options=({"r": 1}, {"r": 7})),
    Operator(
        "pooled_kv",
        "pooled_grid",
        lambda s: ((s.M,), s.grid),
        lambda s: {"WP": torch.rand(3, 4) + 0.1},
        large=1e1,  # beyond, two cells tie now and then, and the rounding of their means decides
    ),
)


def small_tree(s: Sizes) -> Sizes:
    return Sizes(s.name, M=min(s.M, 33))
