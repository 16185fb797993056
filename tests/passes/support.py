"""Running pipelines on random values and comparing every form with the first."""

from __future__ import annotations

import torch

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.ir.cascade import Cascade, Module
from einsum_compiler.ir.parser import parse
from einsum_compiler.ir.verify import verify
from einsum_compiler.passes.pipeline import Context, Run, parse_pipeline, run_pipeline
from einsum_compiler.passes.registry import PASSES

SIZES = {
    "b": 2,
    "h": 2,
    "g": 1,
    "m": 7,
    "n": 11,
    "k": 5,
    "e": 3,
    "f": 2,
    "j": 2,
    "r": 17,
    "y": 3,
    "x": 4,
    "v": 3,
    "u": 4,
}
PIPELINE = "inline,normalize,defer,online{tile=4}"


def module_of(text: str) -> Module:
    return parse(text)


def inputs_of(
    cascade: Cascade, sizes: dict[str, int] | None = None, seed: int = 0, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    """Random float64 inputs of a cascade."""
    generator = torch.Generator().manual_seed(seed)
    sizes = SIZES | (sizes or {})
    return {
        t.name: torch.randn([sizes[r] for r in t.ranks], generator=generator, dtype=torch.float64) * scale
        for t in cascade.inputs
    }


def evaluated(cascade: Cascade, tensors: dict[str, torch.Tensor], module: Module | None = None, **scalars: float):
    return evaluate(cascade, tensors, scalars, module=module)


def same(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], tolerance: float = 1e-9) -> None:
    """Equal values wherever the expected one is a number; a pass may turn NaN into a number, never the reverse."""
    for name, value in expected.items():
        number = ~value.isnan()
        assert not found[name][number].isnan().any(), f"{name}: a number became NaN"
        torch.testing.assert_close(
            found[name][number], value[number], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def run(text: str, pipeline: str = PIPELINE, name: str | None = None) -> Run:
    module = parse(text)
    return run_pipeline(module.cascade(name), parse_pipeline(pipeline, PASSES), Context(module), verify=verify)


def round_trip(cascade: Cascade) -> None:
    """The printed form parses back to the same cascade."""
    again = parse(str(cascade), generated=True).cascade()
    assert str(again) == str(cascade)
    assert again.equations == cascade.equations and again.parameters == cascade.parameters


def check(
    text: str,
    tensors: dict[str, torch.Tensor] | None = None,
    pipeline: str = PIPELINE,
    tolerance: float = 1e-9,
    **scalars: float,
) -> Run:
    """Runs the pipeline; every form verifies, prints, parses back and evaluates to the same values."""
    module = parse(text)
    cascade = module.cascade()
    tensors = inputs_of(cascade) if tensors is None else tensors
    expected = evaluated(cascade, tensors, module, **scalars)
    result = run(text, pipeline)
    for record in result.records:
        round_trip(record.cascade)
        same(expected, evaluated(record.cascade, tensors, **scalars), tolerance)
    return result
