"""What every command does, given its parsed arguments. Heavy modules are imported where they are needed, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from einsum_compiler.cli.programs import UsageError, binding_of, kernel_of, module_of, text_of_file
from einsum_compiler.devices import GPU_TARGETS
from einsum_compiler.ir.errors import EinsumError, InternalError

if TYPE_CHECKING:
    from einsum_compiler.derivation import Derivation
    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.ir.plan import Plan

    View = Callable[[Derivation, Binding, str, Plan | None], str]


def check(options: argparse.Namespace) -> None:
    from einsum_compiler.ir.lint import lint
    from einsum_compiler.ir.verify import verify

    module = module_of(options)
    for cascade in module.cascades:
        if options.name in (None, cascade.name):
            verify(cascade, module)
            lint(cascade, module)


def passes(options: argparse.Namespace) -> None:
    """Print the passes over each rank."""
    from einsum_compiler.explain import pass_report

    _print_view(options, pass_report)


def explain(options: argparse.Namespace) -> None:
    """Print what was derived, the plan, its cost and the bounds."""
    from einsum_compiler.explain import explain as explained

    _print_view(options, explained)


def _print_view(options: argparse.Namespace, view: View) -> None:
    """Print a text about the program at the sizes of the command line, with the plan that a call would run."""
    kernel = kernel_of(options)
    binding = binding_of(kernel, options, False)
    print(kernel.with_plan(binding, kernel.backend, lambda p: view(kernel.derivation, binding, kernel.backend, p)))


def bound(options: argparse.Namespace) -> None:
    from einsum_compiler.bounding import bounds, in_order_of_plan, report_text
    from einsum_compiler.compilation import compilation
    from einsum_compiler.cost.device import device, device_for
    from einsum_compiler.movement import moved_elements
    from einsum_compiler.tables import text_of
    from einsum_compiler.traffic_formulas import formula_text, traffic_formulas

    if options.capacity is not None and not options.capacity >= 4:
        raise UsageError(f"--capacity {options.capacity:g}: expected at least 4 elements")
    kernel = kernel_of(options)
    binding = binding_of(kernel, options, False)
    chosen = None
    if options.capacity is None:
        chosen = device(options.device) if options.device else device_for(kernel.backend, kernel.target)
    found = bounds(kernel.derivation, binding, chosen, options.capacity)
    sizes = ", ".join(f"{r.upper()} = {n}" for r, n in binding.extents.items())
    plan, notes, formulas = None, list[str](), ""
    try:
        compiled = compilation(kernel.derivation, binding, kernel.backend, kernel.plan)
        plan = moved_elements(compiled)
        if compiled.plan.orders:
            notes = in_order_of_plan(bounds(compiled.ordered, binding, chosen, options.capacity), compiled.plan)
        if chosen is not None:
            formulas = text_of(*formula_text(traffic_formulas(compiled, chosen)))
    except EinsumError as error:  # bounds hold for programs that no plan runs yet
        notes = [f"no plan to compare with: {error.message}"]
    print(
        report_text(
            found, f"{kernel.cascade.name} at {sizes}" + (f" on {chosen.title}" if chosen else ""), plan, options.latex
        )
    )
    for note in [*notes, *([formulas] if formulas else [])]:
        print(note)


def run(options: argparse.Namespace) -> None:
    from einsum_compiler.validate import validate

    kernel = kernel_of(options)
    binding = binding_of(kernel, options, True)
    for name, value in kernel.run(binding).items():
        print(f"{name}: {list(value.shape)} {str(value.dtype).removeprefix('torch.')}")
    print(validate(kernel, binding))


def bench(options: argparse.Namespace) -> None:
    from einsum_compiler.benchmark import benchmark
    from einsum_compiler.cost import calibration

    kernel = kernel_of(options)
    binding = binding_of(kernel, options, True)
    if kernel.backend_for(binding) == "cpu":
        calibration.calibrate()
    print(benchmark(kernel, binding))


def tune(options: argparse.Namespace) -> None:
    from einsum_compiler.tuning.search import Limits
    from einsum_compiler.tuning.transfer import UnusableFile, read_results, take_over
    from einsum_compiler.tuning.tune import Options, tune

    if not options.budget > 0:
        raise UsageError(f"--budget: expected a positive number of seconds, found {options.budget:g}")
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output: there is no folder '{options.output.parent}'")
    kernel = kernel_of(options)
    given: list[str] = []
    if options.imported is not None:
        try:
            results = read_results(options.imported, kernel)
        except UnusableFile as error:
            raise UsageError(f"--import: {error}") from None
        lines, given, sizes = take_over(kernel, results)
        print("\n".join(lines))
        if not given:
            return
        options.size = options.size or sizes
        options.dtype = (options.dtype[0], {**results[0].dtypes, **options.dtype[1]})
    binding = binding_of(kernel, options, True)
    limits = Limits(options.budget)
    result = tune(kernel, binding, Options(limits, options.exhaustive, options.hook, tuple(given)))
    print(result)
    if options.output is not None:
        result.save(options.output)
    if result.interrupted:
        raise KeyboardInterrupt


def source(options: argparse.Namespace) -> None:
    """Print the generated code."""
    from einsum_compiler.inspection import generated_source

    _print_view(options, generated_source)


def compile(options: argparse.Namespace) -> None:
    from einsum_compiler.inspection import static_report

    kernel = kernel_of(options)
    if kernel.backend == "triton" and options.target is None:
        raise UsageError(f"--backend triton needs a --target: {', '.join(GPU_TARGETS)}")
    binding, target = binding_of(kernel, options, False), options.target or "native"
    print(
        kernel.with_plan(
            binding, kernel.backend, lambda p: static_report(kernel.derivation, binding, kernel.backend, p, target)
        )
    )


def report(options: argparse.Namespace) -> None:
    from einsum_compiler.cost.device import device, device_for
    from einsum_compiler.report.page import report_page

    known = device(options.device) if options.device else None
    if known is not None and options.backend is None and options.target is None:
        options.backend = known.backend
    kernel = kernel_of(options)
    if known is not None and known.backend != kernel.backend:
        raise UsageError(f"--device {options.device} runs kernels of the backend {known.backend}, not {kernel.backend}")
    options.seed = 0
    binding = binding_of(kernel, options, options.measure)
    measured = None
    if options.measure:
        from einsum_compiler.benchmark import benchmark

        if known is not None and known.name != device_for(kernel.backend).name:
            raise UsageError(
                f"--measure times the machine this runs on, which --device {options.device} is not said to be"
            )
        measured = benchmark(kernel, binding).median
    page = kernel.with_plan(
        binding,
        kernel.backend,
        lambda p: report_page(kernel.derivation, binding, kernel.backend, p, known, measured),
    )
    path = options.output or options.file.with_suffix(".html")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror or error}") from error
    print(path)


def opt(options: argparse.Namespace) -> None:
    from einsum_compiler.crash import Case, reproducible
    from einsum_compiler.opt import optimise
    from einsum_compiler.passes.pipeline import parse_pipeline
    from einsum_compiler.passes.registry import PASSES

    module = module_of(options, generated=True)
    try:
        stages = parse_pipeline(options.pipeline, PASSES)
    except EinsumError as error:
        raise UsageError(f"-p: {error.message}") from error
    names = [s.step.name for s in stages]
    if options.print_after not in ("", "all", "changed", *names):
        raise UsageError(
            f"--print-after: no pass '{options.print_after}' in the pipeline; there are {', '.join(names)}"
        )
    text, source = text_of_file(options)
    every, single = options.dtype
    values = options.verify == "each"
    with reproducible(Case(text, source, options.name, pipeline=options.pipeline)):
        shown = optimise(
            module, options.name, stages, options.print_after, values, options.time, options.size, every, single
        )
    print(shown)


def repro(options: argparse.Namespace) -> None:
    import traceback

    from einsum_compiler.crash import read_case
    from einsum_compiler.reproduce import reproduce

    text_of_file(options)
    try:
        reproduce(read_case(options.file))
    except InternalError as error:
        traceback.print_exception(error.__cause__)
        raise
    print("the compiler does not fail here any more")
