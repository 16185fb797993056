"""A text under composition: the lines so far, the operands that they read, and how their values are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor

Make = Callable[[torch.Generator, list[int]], Tensor]


def normal(g: torch.Generator, shape: list[int]) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def positive(g: torch.Generator, shape: list[int]) -> Tensor:
    return torch.rand(shape, generator=g, dtype=torch.float64) + 0.1


def integers(low: int, high: int) -> Make:
    """Integers from ``low`` up to ``high``, without it."""
    return lambda g, shape: torch.randint(low, high, shape, generator=g)


def ascending(g: torch.Generator, shape: list[int]) -> Tensor:
    """Document numbers 0 to 3 in order, with a -1 here and there."""
    ids = torch.randint(0, 4, shape, generator=g).sort(-1).values
    return torch.where(torch.rand(shape, generator=g) < 0.1, -1, ids)


def booleans(g: torch.Generator, shape: list[int]) -> Tensor:
    return torch.rand(shape, generator=g) < 0.7


@dataclass(frozen=True)
class Keys:
    """A set of keys: its ranks, and its position on a line as an expression of them."""

    name: str
    ranks: tuple[str, ...]
    position: str

    @property
    def list(self) -> str:
        return ",".join(self.ranks)


LINE = Keys("1", ("n",), "n")
GRID = Keys("1", ("v", "u"), "(v * U + u)")
MORE = Keys("2", ("j",), "j")  # a second set beside either


@dataclass
class Text:
    """``query``: the ranks of the queries, one or those of a grid; ``keys``: the main set of keys."""

    chance: Random
    query: tuple[str, ...]
    keys: Keys
    made: dict[str, Make] = field(default_factory=dict)
    declared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    count: int = 0

    @property
    def grid(self) -> bool:
        return len(self.query) == 2

    @property
    def position(self) -> str:
        return "(y * X + x)" if self.grid else "m"

    @property
    def row(self) -> str:
        """The ranks of a row of scores."""
        return ",".join(("b", "h", *self.query))

    def point(self, keys: Keys) -> str:
        """The ranks of a score."""
        return f"{self.row},{keys.list}"

    def pick(self, options: Sequence[Any]) -> Any:
        return self.chance.choice(list(options))

    def some(self, share: int) -> bool:
        """True once in ``share``."""
        return self.chance.randrange(share) == 0

    def operand(self, name: str, ranks: Sequence[str], make: Make = normal) -> str:
        """An input and a read of it at its own ranks."""
        self.declared[name], self.made[name] = tuple(ranks), make
        return f"{name}[{','.join(ranks)}]"

    def table(self, name: str, ranks: Sequence[str], indices: Sequence[str], make: Make = normal) -> str:
        """An input and a read of it at indices."""
        self.operand(name, ranks, make)
        return f"{name}[{','.join(indices)}]"

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def define(self, stem: str, ranks: str, value: str, where: str = "") -> str:
        """An equation for a new tensor, and a read of it at its ranks."""
        name = self.fresh(stem)
        self.lines.append(f"{name}[{ranks}] = {value}" + (f" where {where}" if where else ""))
        return f"{name}[{ranks}]"

    def result(self, ranks: str, value: str, stem: str = "Y") -> str:
        """An output."""
        read = self.define(stem, ranks, value)
        self.outputs[read.split("[")[0]] = ranks
        return read

    def finished(self) -> str:
        inputs = ", ".join(f"{n}[{','.join(r)}]" for n, r in self.declared.items())
        outputs = ", ".join(f"{n}[{r}]" for n, r in self.outputs.items())
        body = "\n  ".join(self.lines)
        return f"cascade composed({inputs}; scale = 1/sqrt(E)) -> {outputs} {{\n  {body}\n}}"


@dataclass(frozen=True)
class Program:
    """A finished text, the extents of its ranks, and how its inputs are made.

    ``treatment``: ``plain``, ``large`` (scores of thousands), ``equal`` (all scores alike), ``hidden`` (NaN in the keys and values that KM removes).
    """

    seed: int
    text: str
    made: Mapping[str, Make]
    sizes: Mapping[str, int]
    treatment: str

    def __repr__(self) -> str:
        return (
            f"Program(seed={self.seed}, sizes={dict(self.sizes)}, treatment={self.treatment!r}, text:\n{self.text}\n)"
        )

    def inputs(self, ranks: Mapping[str, Sequence[str]], dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
        """Tensors by name; ``ranks``: those of every input."""
        generator = torch.Generator().manual_seed(seed)
        found = {n: self.made[n](generator, [self.sizes[r] for r in rs]) for n, rs in ranks.items()}
        for name, tensor in found.items():
            if name.startswith("Q") and self.treatment in ("large", "equal"):
                found[name] = tensor * (2000 if self.treatment == "large" else 0)
        if self.treatment == "hidden":
            for name, tensor in tuple(found.items()):
                if name[0] in "KV" and tensor.is_floating_point():
                    found[name] = _hide(tensor, ranks[name], found, ranks)
        return {n: t.to(dtype) if t.is_floating_point() else t for n, t in found.items()}


def _hide(
    tensor: Tensor, ranks: Sequence[str], tensors: Mapping[str, Tensor], all_ranks: Mapping[str, Sequence[str]]
) -> Tensor:
    """NaN where the key is removed for its batch."""
    for name in ("KM1", "KM2"):
        if name in tensors and set(all_ranks[name]) <= set(ranks):
            mask = tensors[name]
            shape = [mask.shape[all_ranks[name].index(r)] if r in all_ranks[name] else 1 for r in ranks]
            return tensor.masked_fill(~mask.reshape(shape), torch.nan)
    return tensor
