"""Families of operators: the texts of examples/ that have something in common, each family on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, PAGES, RESULTS = (
    ROOT / "examples",
    ROOT / "docs" / "families",
    ROOT / "benchmarks" / "results" / "families.json",
)
CACHE = "L2"  # of one core: the memory that bounds and traffic are stated for, unless a program of the plan holds more


@dataclass(frozen=True)
class Family:
    """Texts of examples/ that have something in common, on one page."""

    name: str
    title: str
    about: str
    files: tuple[str, ...]


FAMILIES = (
    Family(
        "static_masks", "Static masks",
        "A filter hides keys. Tiles that it empties are not visited, tiles that it leaves whole carry no mask code.",
        ("softmax", "causal", "cross", "padding", "prefix_lm", "window", "dilated", "sink_window", "segment", "seg_table", "chunk_causal"),
    ),
    Family(
        "structured_masks", "Structured and listed masks",
        "Masks by blocks, powers of two, lists and trees: closed forms of tile ranges where the filter is quasi-affine, lists of tiles built before the launch elsewhere.",
        ("strided_head", "block_strided", "pow2", "block_list", "radial", "tree"),
    ),
    Family(
        "grids", "Grids and other ranks of tokens",
        "Tokens of two and three dimensions; tiles are boxes where the mask is local in every dimension.",
        ("natten", "swin", "halo", "disc", "axial", "pooled_kv"),
    ),
    Family(
        "scores", "Score functions",
        "What is done to a score before the normaliser changes nothing in the derivation of the one-pass form.",
        ("alibi", "t5_bias", "bias", "temperature", "soft_cap", "music_rel", "cosine"),
    ),
    Family(
        "normalisers", "Normalisers",
        "The number of passes follows from the normaliser: none where weights only add, one where the dependence on its statistics separates, two where it does not.",
        ("sink_logit", "sigmoid", "relu_n", "clipped"),
    ),
    Family("heads", "Heads", "Groups of heads become query rows; heads that are mixed are ranks like others.", ("gqa", "talking_heads", "multi_value")),
    Family(
        "branches", "Unions and branches",
        "Several key sets, several states, states within states: more equations, the same passes.",
        ("union", "gated_sum", "diff", "agent", "landmark", "combiner", "transnext"),
    ),
    Family("ranks", "Softmax over other ranks", "Channels, slots and pairs of keys under the softmax.", ("channel", "xca", "slot", "tensor3")),
    Family(
        "after_the_map", "After the map, and outputs beside it",
        "Weights on the finished map, gates on the result, statistics of rows and columns.",
        ("urpe", "out_gate", "row_stats", "block_max", "map_out", "rev_attn", "col_sum"),
    ),
)  # fmt: skip
