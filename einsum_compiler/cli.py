"""``einsumc``: check, look at, run and time programs from the command line.

Exit codes: 0, 1 for a wrong program (or a kernel outside its error budget), 2 for wrong arguments, 130 after an interruption.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsum_compiler.devices import GPU_TARGETS, backend_of
from einsum_compiler.ir.errors import EinsumError, EinsumWarning, InternalError
from einsum_compiler.ir.types import DTYPES
from einsum_compiler.knobs import INSTRUCTION_SETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.ir.cascade import Module
    from einsum_compiler.kernel import Kernel

Command = Callable[[argparse.Namespace], None]
PIPELINE = "inline,normalize,flatten,defer,online"
SIZES = (
    "without --size, last axes are 64, the axes before them 1024 and outer ones 4; parameters without default are 16"
)


class UsageError(Exception):
    """Arguments of the command line that do not fit the program: exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with _warnings_as_lines():
            options.command(options)
        sys.stdout.flush()
        return 0
    except EinsumError as error:
        print(error, file=sys.stderr)
        return 1
    except UsageError as error:
        print(f"einsumc {options.verb}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe left: not our error
        return 0


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Warnings about the text on standard error, with their carets and without Python's line."""

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        print(message, file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", EinsumWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


# -- arguments ----------------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "einsumc",
        description="Compile cascades of extended Einsums to fused kernels.",
        epilog="Exit codes: 0, 1 for a wrong program, 2 for wrong arguments. 'einsumc COMMAND --help' says more.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Command, text: str, example: str, sizes: bool = True) -> argparse.ArgumentParser:
        epilog = f"example: einsumc {name} {example}" + (f". {SIZES[0].upper()}{SIZES[1:]}." if sizes else "")
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog)
        sub.set_defaults(command=run, verb=name)
        sub.add_argument("file", type=Path, metavar="FILE", help="an .ein file")
        if name != "repro":
            sub.add_argument("--name", help="the cascade of the file to take (default: the last one)")
        if sizes:
            sub.add_argument(
                "--size", type=_sizes, default={}, metavar="m=4096,W=256", help="extents of ranks, and parameters"
            )
            sub.add_argument(
                "--dtype",
                type=_dtypes,
                default=("f32", {}),
                metavar="bf16,B=f32",
                help="type of the inputs, and of single ones",
            )
        if sizes and name != "opt":
            sub.add_argument("--backend", choices=("cpu", "triton"), help="default: by the target, else cpu")
            sub.add_argument("--plan", help="a plan in place of the chosen one: its text, or the path of a file")
        return sub

    def target(sub: argparse.ArgumentParser, *targets: str) -> None:
        sub.add_argument(
            "--target", choices=targets, help="an instruction set of the CPU, or a GPU that need not be here"
        )

    command("check", _check, "Verify a program; print nothing if it is right.", "attention.ein", sizes=False)
    command(
        "passes",
        _passes,
        "Print the passes that the mathematics forces on each rank, as written and compiled.",
        "attention.ein",
    )
    sub = command(
        "bound",
        _bound,
        "Print lower bounds on data movement beside what the plan moves.",
        "attention.ein --size m=4096,n=4096 --device h200",
    )
    memory = sub.add_mutually_exclusive_group()
    memory.add_argument(
        "--device",
        metavar="h200",
        help="at the memory of one processor and at the last cache (default: the one compiled for)",
    )
    memory.add_argument("--capacity", type=float, metavar="N", help="a fast memory of N elements in place of a device")
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub.add_argument("--latex", action="store_true", help="formulas for TeX")
    sub = command(
        "run",
        _run,
        "Run a program on random inputs and compare it with the float64 reference.",
        "attention.ein --size m=100,n=300",
    )
    target(sub, *INSTRUCTION_SETS)
    sub.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    sub = command(
        "bench", _bench, "Time a program on random inputs.", "attention.ein --size m=4096,n=4096 --dtype bf16"
    )
    target(sub, *INSTRUCTION_SETS)
    sub.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    sub = command(
        "tune",
        _tune,
        "Search for the fastest plan on random inputs; later calls with these and nearby sizes use it.",
        "attention.ein --size m=4096,n=4096 --dtype bf16 --budget 120",
    )
    target(sub, *INSTRUCTION_SETS)
    sub.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    sub.add_argument(
        "--budget", type=float, default=60.0, metavar="SECONDS", help="for the search, but its end (default: 60)"
    )
    sub.add_argument("--exhaustive", action="store_true", help="try the whole grid of plans")
    sub.add_argument("-o", "--output", type=Path, metavar="tuned.json", help="write the outcome to a file")
    sub.add_argument(
        "--import",
        dest="imported",
        type=Path,
        metavar="tuned.json",
        help="take over the plans of such a file; those of another machine or version are timed first",
    )
    sub.add_argument(
        "--hook", metavar="MODULE:FUNCTION", help="called with every candidate in the process that runs it"
    )
    sub = command("source", _source, "Print the generated C++ or Triton code.", "attention.ein --target sm_90")
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub = command(
        "compile",
        _compile,
        "Compile, and report what the kernels need of the target.",
        "attention.ein --target sm_90 --dtype bf16",
    )
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub = command(
        "opt",
        _opt,
        "Run passes over a program and print the cascade.",
        f"attention.ein -p {PIPELINE} --print-after=changed",
    )
    sub.add_argument(
        "-p",
        "--pipeline",
        default=PIPELINE,
        help=f"passes by name, with options: online{{tile=64}} (default: {PIPELINE})",
    )
    sub.add_argument(
        "--print-after", default="", metavar="all|changed|NAME", help="print the cascade after these passes too"
    )
    sub.add_argument(
        "--verify",
        choices=("structure", "each"),
        default="structure",
        help="each: also compare values after every pass",
    )
    sub.add_argument("--time", action="store_true", help="print the time of each pass")
    sub = command(
        "report",
        _report,
        "Write one HTML page: what was derived, the plan, data moved against the bound, times, code.",
        "attention.ein -o attention.html",
    )
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub.add_argument(
        "-o", "--output", type=Path, metavar="PAGE", help="where to write it (default: FILE with the ending .html)"
    )
    sub.add_argument(
        "--device", metavar="h200", help="whose memories and rates are shown (default: that of the backend)"
    )
    sub.add_argument("--measure", action="store_true", help="time a call on random inputs too, on this machine")
    command(
        "repro",
        _repro,
        "Rerun what made the compiler fail, from the file that it wrote.",
        "repro-1234.ein",
        sizes=False,
    )
    return parser


def _sizes(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = {"true": True, "false": False}[value] if value in ("true", "false") else int(value)
        except ValueError:
            try:
                found[name.strip()] = float(value)
            except ValueError:
                raise argparse.ArgumentTypeError(f"'{part}': expected name=number") from None
    return found


def _dtypes(text: str) -> tuple[str, dict[str, str]]:
    """The type of all inputs, and those of single ones by name."""
    every, single = "f32", {}
    for part in filter(None, text.split(",")):
        name, equals, dtype = part.partition("=")
        dtype = dtype if equals else name
        if dtype not in DTYPES:
            raise argparse.ArgumentTypeError(f"'{dtype}' is no element type; one of {', '.join(DTYPES)}")
        if equals:
            single[name.strip()] = dtype
        else:
            every = dtype
    return every, single


def _text(options: argparse.Namespace) -> tuple[str, str]:
    from einsum_compiler.text import read_text

    if not options.file.is_file():
        raise UsageError(f"there is no file '{options.file}'")
    return read_text(options.file)


def _module(options: argparse.Namespace, generated: bool = False) -> Module:
    from einsum_compiler.ir.parser import parse

    module = parse(*_text(options), generated=generated)
    names = [c.name for c in module.cascades]
    if options.name is not None and options.name not in names:
        raise UsageError(f"no cascade '{options.name}' in {options.file}; there are {', '.join(names)}")
    return module


def _kernel(options: argparse.Namespace) -> Kernel:
    from einsum_compiler.kernel import compile

    _module(options)
    target = getattr(options, "target", None)
    backend = options.backend or backend_of(target) or "cpu"
    if target and backend_of(target) != backend:
        raise UsageError(f"target {target} is not one of the backend {backend}")
    plan = options.plan
    if plan and Path(plan).is_file():
        plan = Path(plan).read_text(encoding="utf-8")
    return compile(options.file, options.name, backend=backend, plan=plan, target=target)


def _binding(kernel: Kernel, options: argparse.Namespace, data: bool) -> Binding:
    """Sizes from the command line over nominal ones; random inputs if ``data``, else inputs without storage."""
    from einsum_compiler.nominal import nominal_binding

    cascade = kernel.cascade
    known = {r for t in cascade.inputs for r in t.ranks} | {p.name for p in cascade.parameters}
    unknown = sorted({*options.size} - known)
    if unknown:
        raise UsageError(
            f"--size: {cascade.name} has no rank or parameter {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    every, single = options.dtype
    unknown = sorted({*single} - {t.name for t in cascade.inputs})
    if unknown:
        raise UsageError(
            f"--dtype: {cascade.name} has no input {', '.join(unknown)}; there are {', '.join(t.name for t in cascade.inputs)}"
        )
    return nominal_binding(cascade, options.size, every, options.seed if data else None, single)


# -- commands -----------------------------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> None:
    from einsum_compiler.ir.lint import lint
    from einsum_compiler.ir.verify import verify

    module = _module(options)
    for cascade in module.cascades:
        if options.name in (None, cascade.name):
            verify(cascade, module)
            lint(cascade, module)


def _passes(options: argparse.Namespace) -> None:
    from einsum_compiler.explain import pass_report

    kernel = _kernel(options)
    binding = _binding(kernel, options, False)
    print(
        kernel.with_plan(binding, kernel.backend, lambda p: pass_report(kernel._derivation, binding, kernel.backend, p))
    )


def _bound(options: argparse.Namespace) -> None:
    from einsum_compiler.bounding import bounds, in_order_of_plan, report_text
    from einsum_compiler.compilation import compilation
    from einsum_compiler.cost.device import device, device_for
    from einsum_compiler.movement import moved_elements
    from einsum_compiler.tables import text_of
    from einsum_compiler.traffic_formulas import formula_text, traffic_formulas

    if options.capacity is not None and not options.capacity >= 4:
        raise UsageError(f"--capacity {options.capacity:g}: expected at least 4 elements")
    kernel = _kernel(options)
    binding = _binding(kernel, options, False)
    chosen = None
    if options.capacity is None:
        chosen = device(options.device) if options.device else device_for(kernel.backend, kernel.target)
    found = bounds(kernel._derivation, binding, chosen, options.capacity)
    sizes = ", ".join(f"{r.upper()} = {n}" for r, n in binding.extents.items())
    plan, notes, formulas = None, list[str](), ""
    try:
        compiled = compilation(kernel._derivation, binding, kernel.backend, kernel.plan)
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


def _run(options: argparse.Namespace) -> None:
    from einsum_compiler.validate import validate

    kernel = _kernel(options)
    binding = _binding(kernel, options, True)
    for name, value in kernel.run(binding).items():
        print(f"{name}: {list(value.shape)} {str(value.dtype).removeprefix('torch.')}")
    print(validate(kernel, binding))


def _bench(options: argparse.Namespace) -> None:
    from einsum_compiler.benchmark import benchmark
    from einsum_compiler.cost import calibration

    kernel = _kernel(options)
    binding = _binding(kernel, options, True)
    if kernel.backend_for(binding) == "cpu":
        calibration.calibrate()
    print(benchmark(kernel, binding))


def _tune(options: argparse.Namespace) -> None:
    from einsum_compiler.tuning.search import Limits
    from einsum_compiler.tuning.transfer import UnusableFile, read_results, take_over
    from einsum_compiler.tuning.tune import Options, tune

    if not options.budget > 0:
        raise UsageError(f"--budget: expected a positive number of seconds, found {options.budget:g}")
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output: there is no folder '{options.output.parent}'")
    kernel = _kernel(options)
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
    binding = _binding(kernel, options, True)
    limits = Limits(options.budget)
    result = tune(kernel, binding, Options(limits, options.exhaustive, options.hook, tuple(given)))
    print(result)
    if options.output is not None:
        result.save(options.output)
    if result.interrupted:
        raise KeyboardInterrupt


def _source(options: argparse.Namespace) -> None:
    from einsum_compiler.inspection import generated_source

    kernel = _kernel(options)
    binding = _binding(kernel, options, False)
    print(
        kernel.with_plan(
            binding, kernel.backend, lambda p: generated_source(kernel._derivation, binding, kernel.backend, p)
        )
    )


def _compile(options: argparse.Namespace) -> None:
    from einsum_compiler.inspection import static_report

    kernel = _kernel(options)
    if kernel.backend == "triton" and options.target is None:
        raise UsageError(f"--backend triton needs a --target: {', '.join(GPU_TARGETS)}")
    binding, target = _binding(kernel, options, False), options.target or "native"
    print(
        kernel.with_plan(
            binding, kernel.backend, lambda p: static_report(kernel._derivation, binding, kernel.backend, p, target)
        )
    )


def _report(options: argparse.Namespace) -> None:
    from einsum_compiler.cost.device import device, device_for
    from einsum_compiler.report.page import report_page

    known = device(options.device) if options.device else None
    if known is not None and options.backend is None and options.target is None:
        options.backend = known.backend
    kernel = _kernel(options)
    if known is not None and known.backend != kernel.backend:
        raise UsageError(f"--device {options.device} runs kernels of the backend {known.backend}, not {kernel.backend}")
    options.seed = 0
    binding = _binding(kernel, options, options.measure)
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
        lambda p: report_page(kernel._derivation, binding, kernel.backend, p, known, measured),
    )
    path = options.output or options.file.with_suffix(".html")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror or error}") from error
    print(path)


def _opt(options: argparse.Namespace) -> None:
    from einsum_compiler.crash import Case, reproducible
    from einsum_compiler.opt import optimise
    from einsum_compiler.passes.pipeline import parse_pipeline
    from einsum_compiler.passes.registry import PASSES

    module = _module(options, generated=True)
    try:
        stages = parse_pipeline(options.pipeline, PASSES)
    except EinsumError as error:
        raise UsageError(f"-p: {error.message}") from error
    names = [s.step.name for s in stages]
    if options.print_after not in ("", "all", "changed", *names):
        raise UsageError(
            f"--print-after: no pass '{options.print_after}' in the pipeline; there are {', '.join(names)}"
        )
    text, source = _text(options)
    every, single = options.dtype
    values = options.verify == "each"
    with reproducible(Case(text, source, options.name, pipeline=options.pipeline)):
        shown = optimise(
            module, options.name, stages, options.print_after, values, options.time, options.size, every, single
        )
    print(shown)


def _repro(options: argparse.Namespace) -> None:
    import traceback

    from einsum_compiler.crash import read_case
    from einsum_compiler.reproduce import reproduce

    _text(options)
    try:
        reproduce(read_case(options.file))
    except InternalError as error:
        traceback.print_exception(error.__cause__)
        raise
    print("the compiler does not fail here any more")


if __name__ == "__main__":
    sys.exit(main())
