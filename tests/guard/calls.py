"""Calls whose tensors are all guarded: operators of the zoo and random compositions, in the layouts that tensors come in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

import einsum_compiler as ec
from einsum_compiler.ir.errors import EinsumWarning
from tests.composition.grammar import composed
from tests.guard.guarded import guarded, guarding
from tests.guard.texts import TEXTS
from tests.zoo import inputs, inputs34, structured_inputs
from tests.zoo.cases import Case

EXAMPLES = Path("examples")
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}
LENGTHS = ((1, 1), (3, 17), (17, 3), (37, 37), (37, 77), (77, 37), (1, 77), (5, 0), (0, 5))
WIDTHS = (5, 7, 12, 16)
GRIDS = ((5, 7), (1, 3), (7, 6), (12, 5))
VOLUMES = ((2, 3, 5), (3, 5, 4))
OPERATORS = {str(o): o for o in (*inputs.OPERATORS, *structured_inputs.OPERATORS, *inputs34.LEVEL3, *inputs34.LEVEL4)}


# How a tensor lies in memory. All keep the values but ``expanded``, which repeats the first slice of the first axis.
def _reversed(t: Tensor) -> Tensor:
    back = tuple(reversed(range(t.dim())))
    return t.permute(back).contiguous().permute(back)


def _swapped(t: Tensor) -> Tensor:
    return t.transpose(1, -2).contiguous().transpose(1, -2) if t.dim() > 3 else t.contiguous()


def _sliced(t: Tensor) -> Tensor:
    """As a part of a tensor that is larger along every axis."""
    larger = t.new_zeros([n + 3 for n in t.shape])
    part = larger[tuple(slice(n) for n in t.shape)]
    return part.copy_(t)


def _thinned(t: Tensor) -> Tensor:
    """Every second element of the last axis."""
    part = t.new_zeros([*t.shape[:-1], 2 * t.shape[-1]])[..., ::2] if t.dim() else t
    return part.copy_(t)


def _expanded(t: Tensor) -> Tensor:
    return t[:1].contiguous().expand(t.shape) if t.dim() and t.shape[0] else t


LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (
    Tensor.contiguous, Tensor.contiguous, _reversed, _swapped, _sliced, _thinned, _expanded,
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call: ``source`` is an operator of the zoo or the seed of a composition; ``seed`` decides sizes, types and layouts."""

    source: str
    seed: int
    gradient: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.seed}:{'backward' if self.gradient else 'forward'}"

    @staticmethod
    def named(text: str) -> Call:
        """The call that ``str`` gives this name."""
        source, seed, way = text.rsplit(":", 2)
        return Call(source, int(seed), way == "backward")

    def run(self, say: Callable[[str], None] = lambda text: None) -> None:
        """With guards behind the tensors, then before them."""
        chance = Random(f"{self.source} {self.seed}")
        torch.manual_seed(self.seed)
        kernel, tensors, scalars = self._made(chance)
        layouts = [chance.choice(LAYOUTS) for _ in tensors]
        shapes = " ".join(f"{n}{list(t.shape)}" for n, t in tensors.items())
        say(f"{next(iter(tensors.values())).dtype} {shapes} {dict(scalars)} {' '.join(f.__name__ for f in layouts)}")
        laid = {n: layout(t) for (n, t), layout in zip(tensors.items(), layouts, strict=True)}
        for end in (True, False):
            say("guards behind" if end else "guards before")
            given = {n: guarded(t, end) for n, t in laid.items()}
            with guarding(end):
                (self._back if self.gradient else self._forth)(kernel, given, scalars, end)

    def _forth(self, kernel: ec.Kernel, given: Mapping[str, Tensor], scalars: Mapping[str, Any], end: bool) -> None:
        kernel(**given, **scalars)

    def _back(self, kernel: ec.Kernel, given: Mapping[str, Tensor], scalars: Mapping[str, Any], end: bool) -> None:
        wanted = [t.requires_grad_() for t in given.values() if t.is_floating_point()]
        found = kernel(**given, **scalars)
        outputs = [o for o in (found if isinstance(found, tuple) else (found,)) if o.requires_grad]
        cotangents = [guarded(torch.randn_like(o), end) for o in outputs]
        if outputs:
            torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True)

    def _made(self, chance: Random) -> tuple[ec.Kernel, dict[str, Tensor], Mapping[str, Any]]:
        """The kernel and its arguments."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EinsumWarning)
            if self.source.isdigit():
                return self._composition(chance)
            return self._text(chance) if self.source in TEXTS else self._operator(chance)

    def _operator(self, chance: Random) -> tuple[ec.Kernel, dict[str, Tensor], Mapping[str, Any]]:
        operator = OPERATORS[self.source]
        M, N = LENGTHS[self.seed % len(LENGTHS)]
        heads = chance.choice(((4, 2), (2, 1), (2, 2)))
        sizes = {"B": chance.choice((1, 2)), "H": heads[0], "G": heads[1]}
        sizes |= {"E": chance.choice(WIDTHS), "F": chance.choice(WIDTHS)}
        dtype = DTYPES[chance.choice(list(DTYPES))]
        kernel = ec.compile(EXAMPLES / f"{operator.file}.ein", operator.name, backend="cpu")
        if isinstance(operator, structured_inputs.Operator):
            grid, volume = chance.choice(GRIDS), chance.choice(VOLUMES)
            made = structured_inputs.Sizes("guarded", M, N, grid, volume, dtype=dtype, **sizes)
            return kernel, operator.inputs(made), chance.choice(operator.calls())
        option = chance.choice(({}, *operator.options))
        return kernel, operator.inputs(Case("guarded", M, N, dtype=dtype, **sizes)), {**operator.scalars, **option}

    def _composition(self, chance: Random) -> tuple[ec.Kernel, dict[str, Tensor], Mapping[str, Any]]:
        program = composed(int(self.source))
        if self.seed % 2:  # of a rank without a coordinate
            program = replace(program, sizes={**program.sizes, chance.choice("bhmnjefyxvu"): 0})
        kernel = ec.compile(program.text, backend="cpu")
        dtype = DTYPES[chance.choice(list(DTYPES))]
        return kernel, program.inputs({t.name: t.ranks for t in kernel.cascade.inputs}, dtype), {}

    def _text(self, chance: Random) -> tuple[ec.Kernel, dict[str, Tensor], Mapping[str, Any]]:
        text = TEXTS[self.source]
        kernel = ec.compile(text.text, backend="cpu")
        dtype = DTYPES[chance.choice(list(DTYPES))]
        tensors = text.inputs({t.name: t.ranks for t in kernel.cascade.inputs}, dtype, chance)
        return kernel, tensors, {n: chance.choice(values) for n, values in text.scalars.items()}
