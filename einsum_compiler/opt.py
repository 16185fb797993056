"""``einsumc opt``: any pipeline of passes over a text, with the cascade after each pass, times and value checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from einsum_compiler.crash import step
from einsum_compiler.ir.cascade import Cascade, Module
from einsum_compiler.ir.errors import VerifyError
from einsum_compiler.passes.pipeline import Context, Record, Run, Stage, run_pipeline


def optimise(
    module: Module,
    name: str | None,
    stages: tuple[Stage, ...],
    print_after: str = "",
    values: bool = False,
    timed: bool = False,
    sizes: Mapping[str, float] | None = None,
    dtype: str = "f32",
    dtypes: Mapping[str, str] | None = None,
) -> str:
    """The text of the cascade after a pipeline, preceded by what ``print_after`` and ``timed`` ask for.

    ``print_after`` is ``all``, ``changed`` or the name of a pass. ``values`` compares every output, in float64 on random inputs, after
    each pass; a difference raises ``VerifyError`` naming the pass.
    """
    from einsum_compiler.ir.verify import verify

    cascade = module.cascade(name)
    verify(cascade, module)
    types = {t.name: t.dtype or (dtypes or {}).get(t.name, dtype) for t in cascade.inputs}
    compare = _comparison(cascade, module, sizes or {}) if values else None
    context = Context(module, types)
    records: list[Record] = []
    current = cascade
    for stage in stages:
        with step(stage.step.name):
            run: Run = run_pipeline(current, (stage,), context, lambda c: verify(c, module), compare)
        current = run.cascade
        records += run.records
    lines: list[str] = []
    previous = str(cascade)
    for record in records:
        shown = print_after == "all" or record.stage.split("{")[0] == print_after
        if shown or (print_after == "changed" and record.text != previous):
            lines += [f"# after {record.stage}", record.text, ""]
        previous = record.text
    if timed:
        lines += [f"# {r.seconds * 1e3:8.2f} ms  {r.stage}" for r in records]
    return "\n".join([*lines, str(current)])


def _comparison(cascade: Cascade, module: Module, sizes: Mapping[str, float]) -> Callable[[Cascade, Cascade], None]:
    """A check that two cascades give the same outputs on one set of random inputs of small sizes."""
    import torch

    from einsum_compiler.backends.reference.evaluate import evaluate
    from einsum_compiler.nominal import nominal_binding

    small = {r: 5 + i % 3 for i, r in enumerate(dict.fromkeys(r for t in cascade.inputs for r in t.ranks))}
    binding = nominal_binding(cascade, {**small, **sizes}, "f64", seed=0)

    def values(version: Cascade) -> dict[str, torch.Tensor]:
        from einsum_compiler.ir.binding import bind

        given = {
            **binding.tensors,
            **{p.name: binding.scalars[p.name] for p in cascade.parameters if p.name in binding.scalars},
        }
        bound = bind(version, (), given)
        return evaluate(version, bound.tensors, bound.scalars, bound.extents, module=module)

    def compare(before: Cascade, after: Cascade) -> None:
        old, new = values(before), values(after)
        for name, expected in old.items():
            # A pass may turn a NaN into a number, never a number into a NaN (laws, D3).
            known = ~expected.isnan() if expected.is_floating_point() else torch.ones_like(expected, dtype=torch.bool)
            if not torch.allclose(new[name][known].double(), expected[known].double(), rtol=1e-9, atol=1e-12):
                raise VerifyError(f"the values of '{name}' changed")

    return compare
