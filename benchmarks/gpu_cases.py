"""What is compiled and measured for GPUs: every cascade of ``examples/`` at sizes of a model, as data.

Sizes go by the names of ranks, which mean the same in all examples; a case gives those that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from einsum_compiler.ir.binding import Binding, bind
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.torch_types import torch_dtype

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LENGTH, SIDE, HEADS, GROUPS, BATCH = 4096, 64, 16, 4, 2
WIDTHS = (64, 128)  # of queries, keys and values

RANKS: Mapping[str, int] = {
    "b": BATCH, "h": HEADS, "g": GROUPS, "m": LENGTH, "n": LENGTH, "i": LENGTH, "j": LENGTH // 4,
    "y": SIDE, "x": SIDE, "y2": SIDE, "x2": SIDE, "z": 8, "z2": 8, "t": 16, "t2": 16, "u": 32, "v": 32, "c": 256, "a": 64, "d": 64,
}  # fmt: skip


Fill = Callable[[tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class Case:
    """A cascade of a file in ``examples/``, extents that differ from ``RANKS``, and parameters.

    ``filled``: values of inputs that are no random numbers, by name, from their shape.
    ``level``: of difficulty, 1 to 4.
    """

    file: str
    cascade: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    scalars: Mapping[str, Any] = field(default_factory=dict)
    filled: Mapping[str, Fill] = field(default_factory=dict)
    level: int = 1

    @property
    def name(self) -> str:
        return self.cascade

    @property
    def path(self) -> Path:
        return EXAMPLES / f"{self.file}.ein"

    def extents(self, width: int) -> dict[str, int]:
        """The extent of every rank, with heads of a width."""
        return {**RANKS, "e": width, "f": width, "r": width, "s": width, **self.sizes}

    def binding(
        self, cascade: Cascade, width: int, dtype: str = "bf16", device: str = "meta", seed: int = 0
    ) -> Binding:
        """The arguments of a call. On ``meta`` they have no values; elsewhere floats are normal, and what is ``filled`` as it says."""
        extents = self.extents(width)
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for declared in cascade.inputs:
            shape = tuple(extents[r] for r in declared.ranks)
            element = torch_dtype(declared.dtype or dtype)
            if device == "meta":
                tensors[declared.name] = torch.empty(shape, dtype=element, device=device)
            elif declared.name in self.filled:
                tensors[declared.name] = self.filled[declared.name](shape).to(device, element)
            else:
                tensors[declared.name] = torch.randn(shape, generator=generator).to(element).to(device)
        return bind(cascade, (), {**tensors, **self.scalars})


def documents(count: int) -> Fill:
    """Equal stretches of a sequence, numbered."""
    return lambda shape: (torch.arange(shape[-1]) * count // shape[-1]).expand(shape).contiguous()


def constant(value: float) -> Fill:
    return lambda shape: torch.full(shape, value)


def counted(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(shape[-1]).expand(shape).contiguous()


def uniform(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape)


def mostly(share: float) -> Fill:
    """True for that share of the elements."""
    return lambda shape: torch.rand(shape) < share


def some_blocks(shape: tuple[int, ...]) -> Tensor:
    """For every row the ascending numbers of a few blocks, of as many as there are rows."""
    lists = [torch.randperm(shape[-2])[: shape[-1]].sort().values for _ in range(prod(shape[:-1]))]
    return torch.stack(lists).reshape(shape)


CAUSAL = {"causal": True}
WHOLE = {"r": 2 * LENGTH - 1}  # a row for every offset
CASES = (
    Case("softmax", "attention"),
    Case("causal", "causal"),
    Case("gqa", "grouped"),
    Case("cross", "cross", {"n": 1024}, filled={"NK": constant(1000)}),
    Case("padding", "padding", filled={"KEEP": mostly(0.9)}),
    Case("prefix_lm", "prefix_lm", filled={"PL": constant(LENGTH // 4)}),
    Case("window", "window"),
    Case("dilated", "dilated"),
    Case("sink_window", "sink_window", filled={"SINK": constant(4), "WIDTH": constant(256)}),
    Case("segment", "segment", scalars=CAUSAL, filled={"SQ": documents(8), "SK": documents(8)}),
    Case(
        "seg_table", "seg_table", {"u": 8, "v": 8}, filled={"SQ": documents(8), "SK": documents(8), "AL": mostly(0.4)}
    ),
    Case("chunk_causal", "chunk_causal"),
    Case("chunk_causal", "chunk_ids", filled={"CH": documents(64)}),
    Case("alibi", "alibi", scalars=CAUSAL),
    Case("alibi", "alibi_fixed", scalars=CAUSAL),
    Case("t5_bias", "t5_bias", {"n": 1024, "m": 1024}),
    Case("bias", "bias", {"n": 2048, "m": 2048}),
    Case("bias", "key_bias"),
    Case("bias", "weighted_keys", filled={"WN": uniform}),
    Case("temperature", "temperature", scalars=CAUSAL),
    Case("soft_cap", "soft_cap", scalars=CAUSAL),
    Case("out_gate", "out_gate", scalars=CAUSAL),
    Case("out_gate", "out_scale", scalars=CAUSAL),
    Case("sink_logit", "sink_logit", scalars=CAUSAL),
    Case("strided_head", "strided_head", filled={"OFF": counted}, level=2),
    Case("block_strided", "block_strided", level=2),
    Case("block_strided", "strided_columns", level=2),
    Case("pow2", "pow2", level=2),
    Case("block_list", "block_list", {"i": LENGTH // 64, "k": 8}, filled={"BL": some_blocks}, level=2),
    Case("block_list", "shared_block_list", {"i": LENGTH // 64, "k": 8}, filled={"BL": some_blocks}, level=2),
    Case("natten", "natten_1d", {"x": LENGTH, "x2": LENGTH}, {"w": 127}, level=2),
    Case("natten", "natten", {}, {"wy": 13, "wx": 13}, level=2),
    Case("natten", "natten_3d", {"y": 24, "x": 24, "y2": 24, "x2": 24}, {"wz": 3, "wy": 7, "wx": 7}, level=2),
    Case("swin", "swin", {"i": 15, "j": 15}, {"window": 8}, level=2),
    Case("halo", "halo", {"i": 21, "j": 21}, level=2),
    Case("radial", "radial", level=2),
    Case("disc", "disc", {"m": SIDE * SIDE + 128, "n": SIDE * SIDE + 128}, {"text": 128, "width": SIDE}, level=2),
    Case("disc", "disc_grid", {}, {"radius": 12}, level=2),
    Case("tree", "tree", {"m": 64}, filled={"AN": mostly(0.3)}, level=2),
    Case("axial", "axial", level=2),
    Case("axial", "axial_columns", level=2),
    Case("axial", "temporal", {"y": 16, "x": 16}, level=2),
    Case("pooled_kv", "pooled_kv", {}, {"r": 4}, level=2),
    Case("pooled_kv", "pooled_grid", {"i": 4, "j": 4}, filled={"WP": uniform}, level=2),
    Case("music_rel", "music_rel", {**WHOLE, "g": GROUPS}, CAUSAL, level=3),
    Case("cosine", "cosine", scalars=CAUSAL, level=3),
    Case("sigmoid", "sigmoid_attention", scalars=CAUSAL, level=3),
    Case("relu_n", "relu_n", scalars=CAUSAL, level=3),
    Case("clipped", "clipped", scalars=CAUSAL, level=3),
    Case("urpe", "urpe", WHOLE, CAUSAL, level=3),
    Case("transnext", "transnext", {"o": 9, "c": 64}, level=3),
    Case("talking_heads", "talking_heads", {"m": 1024, "n": 1024, "k": HEADS, "j": HEADS}, CAUSAL, level=3),
    Case("row_stats", "row_stats", scalars=CAUSAL, level=3),
    Case("block_max", "block_max", scalars={"block": 64}, level=3),
    Case("map_out", "map_out", {"m": 2048, "n": 2048}, level=3),
    Case("map_out", "region_mass", filled={"RG": uniform}, level=3),
    Case("rev_attn", "rev_attn", scalars=CAUSAL, level=3),
    Case("col_sum", "col_sum", scalars=CAUSAL, level=3),
    Case("diff", "diff", scalars=CAUSAL, filled={"LAM": uniform}, level=4),
    Case("diff", "diff_norm", filled={"LAM": uniform}, level=4),
    Case("agent", "agent", level=4),
    Case("union", "union", filled={"AL": mostly(0.6)}, level=4),
    Case("gated_sum", "gated_sum", level=4),
    Case("multi_value", "multi_value", scalars=CAUSAL, level=4),
    Case("landmark", "landmark", {"m": 1024, "n": 1024}, {"block": 64}, level=4),
    Case("combiner", "combiner", {"c": LENGTH // 64}, {"block": 64}, level=4),
    Case("channel", "channel", {"u": HEADS}, level=4),
    Case("xca", "xca", {"u": HEADS}, level=4),
    Case("tensor3", "tensor3", {"m": 512, "j": 64, "k": 64}, level=4),
    Case("slot", "slot", {"c": 64}, level=4),
    Case("slot", "slot_dispatch", {"c": 64}, level=4),
)
