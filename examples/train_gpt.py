"""Trains a tiny GPT on seven sonnets with a variant of attention written here: ``python examples/train_gpt.py [--steps 200]``.

The variant is causal attention in a window with a learned distance penalty per head. The same model with the same seeds is trained with PyTorch's
``scaled_dot_product_attention`` and a mask, and with the formula in plain PyTorch: the loss curves must agree, and the steps are timed side by side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import einsum_compiler as ec

VARIANT = """
cascade decaying_window(Q[b,m,h,e], K[b,n,h,e], V[b,n,h,f], SLOPE[h]; W: int, scale = 1/sqrt(E)) -> O[b,m,h,f] {
  R[b,h,m,n] = Q[b,m,h,e] * K[b,n,h,e] * scale
  S[b,h,m,n] = R[b,h,m,n] - SLOPE[h] * (m - n)   where n <= m and m - n < W
  MX[b,h,m]  = max[n](S[b,h,m,n])
  P[b,h,m,n] = exp(S[b,h,m,n] - MX[b,h,m])
  D[b,h,m]   = sum[n](P[b,h,m,n])
  A[b,h,m,n] = P[b,h,m,n] / D[b,h,m]
  O[b,m,h,f] = A[b,h,m,n] * V[b,n,h,f]
}
"""
LENGTH, WINDOW, WIDTH, HEADS, LAYERS, BATCH = 512, 128, 128, 4, 2, 4
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def mask(slope: Tensor, length: int) -> Tensor:
    """What the variant adds to the scores, -inf where a key is hidden: [h, m, n]."""
    m, n = torch.arange(length)[:, None], torch.arange(length)[None]
    bias = -slope[:, None, None] * (m - n)
    return bias.masked_fill((n > m) | (m - n >= WINDOW), float("-inf"))


def masked_attention(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
    """The same variant as a mask that PyTorch's attention adds to the scores."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    bias = mask(slope, q.shape[2])
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
    """The formula in plain PyTorch."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5 + mask(slope, q.shape[2])
    return (scores.softmax(-1) @ v).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.heads, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.slope = nn.Parameter(torch.full((HEADS,), 0.02))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(self.before(x)).view(*x.shape[:2], 3, HEADS, -1).unbind(2)
        x = x + self.out(self.attention(q, k, v, self.slope).flatten(2))
        return x + self.mlp(self.after(x))


class TinyGPT(nn.Module):
    def __init__(self, symbols: int, attention: Attention) -> None:
        super().__init__()
        self.tokens = nn.Embedding(symbols, WIDTH)
        self.blocks = nn.Sequential(*(Block(attention) for _ in range(LAYERS)))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, symbols)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.norm(self.blocks(self.tokens(tokens))))


def train(attention: dict[str, Attention], steps: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Losses and seconds of every step; the models take turns, so that both see the same machine."""
    text = (Path(__file__).parent / "data" / "sonnets.txt").read_text()
    symbols = sorted(set(text))
    data = torch.tensor([symbols.index(c) for c in text])
    models, optimisers = {}, {}
    for name, function in attention.items():
        torch.manual_seed(0)
        models[name] = TinyGPT(len(symbols), function)
        optimisers[name] = torch.optim.AdamW(models[name].parameters(), lr=1e-3)
    losses: dict[str, list[float]] = {name: [] for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    random = torch.Generator().manual_seed(1)
    for step in range(steps):
        starts = torch.randint(len(data) - LENGTH - 1, (BATCH,), generator=random)
        batch = torch.stack([data[s : s + LENGTH + 1] for s in starts.tolist()])
        for name, model in models.items():
            begin = time.perf_counter()
            predicted = model(batch[:, :-1])
            loss = nn.functional.cross_entropy(predicted.flatten(0, 1), batch[:, 1:].flatten())
            optimisers[name].zero_grad()
            loss.backward()
            optimisers[name].step()
            seconds[name].append(time.perf_counter() - begin)
            losses[name].append(loss.item())
        if step % 20 == 0 or step == steps - 1:
            print(
                f"step {step:4d}  " + "  ".join(f"{name} {loss[-1]:.4f}" for name, loss in losses.items()), flush=True
            )
    return losses, seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=200)
    steps = options.parse_args().steps
    kernel = ec.compile(VARIANT)
    losses, seconds = train(
        {
            "compiled": lambda q, k, v, slope: kernel(q, k, v, slope, W=WINDOW),
            "sdpa": masked_attention,
            "eager": plain_attention,
        },
        steps,
    )
    print()
    for name, other in (("compiled", "sdpa"), ("compiled", "eager"), ("sdpa", "eager")):
        worst = max(abs(a - b) / b for a, b in zip(losses[name], losses[other], strict=True))
        print(f"largest relative difference of the losses, {name} and {other}: {worst:.1e}")
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    for name, time_of_step in median.items():
        print(f"median step, {name}: {1e3 * time_of_step:.0f} ms ({time_of_step / median['compiled']:.2f} x)")


if __name__ == "__main__":
    main()
