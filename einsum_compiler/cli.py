"""``einsumc``: check, look at, run and time programs from the command line.

Exit codes: 0, 1 for a wrong program (or a kernel outside its error budget), 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from einsum_compiler.ir.errors import EinsumError

if TYPE_CHECKING:
    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.kernel import Kernel

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except EinsumError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe left: not our error
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("einsumc", description="Compile cascades of extended Einsums to fused kernels.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, sizes: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=run)
        sub.add_argument("file", help="an .ein file")
        sub.add_argument("--name", help="the cascade of the file to take; the last one by default")
        if sizes:
            sub.add_argument(
                "--size", type=_sizes, default={}, metavar="m=4096,n=4096", help="extents of ranks, and parameters"
            )
            sub.add_argument("--dtype", default="f32", help="element type of the inputs (default: f32)")
            sub.add_argument("--backend", choices=("cpu", "triton"), default="cpu")
            sub.add_argument("--plan", help="a plan to use in place of the chosen one: its text, or the path of a file")
        return sub

    command("check", _check, "Verify a program and print nothing if it is right.", sizes=False)
    command("passes", _passes, "The passes the mathematics forces on each rank, before and after.")
    run = command("run", _run, "Run a program on random inputs and compare it with the float64 reference.")
    run.add_argument("--seed", type=int, default=0)
    bench = command("bench", _bench, "Time a program on random inputs.")
    bench.add_argument("--seed", type=int, default=0)
    source = command("source", _source, "The generated C++ or Triton code.")
    source.add_argument("--target", help="of the C++: avx512, avx2, portable")
    compiled = command("compile", _compile, "Compile and report; with --target for a GPU that need not be here.")
    compiled.add_argument("--target", choices=(*TARGETS, "avx512", "avx2", "portable", "native"), default="native")
    opt = command("opt", _opt, "Run passes over a program and print the cascade.")
    opt.add_argument(
        "-p",
        "--pipeline",
        default="inline,normalize,flatten,defer,online",
        help="passes by name, with options: online{tile=64}",
    )
    opt.add_argument(
        "--print-after", default="", metavar="all|changed|NAME", help="print the cascade after these passes too"
    )
    opt.add_argument(
        "--verify",
        choices=("structure", "each"),
        default="structure",
        help="each: also compare values after every pass",
    )
    opt.add_argument("--time", action="store_true", help="print the time of each pass")
    return parser


def _sizes(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = int(value)
        except ValueError:
            try:
                found[name.strip()] = float(value)
            except ValueError:
                raise argparse.ArgumentTypeError(f"'{part}': expected name=number") from None
    return found


def _kernel(options: argparse.Namespace, target: str | None = None) -> Kernel:
    from einsum_compiler.kernel import compile

    plan = options.plan
    if plan and Path(plan).is_file():
        plan = Path(plan).read_text(encoding="utf-8")
    return compile(Path(options.file), options.name, backend=options.backend, plan=plan, target=target)


def _binding(kernel: Kernel, options: argparse.Namespace, data: bool) -> Binding:
    """Sizes from the command line over nominal ones; random inputs if ``data``, else inputs without storage."""
    from einsum_compiler.nominal import nominal_binding

    return nominal_binding(kernel.cascade, options.size, options.dtype, getattr(options, "seed", 0) if data else None)


def _check(options: argparse.Namespace) -> int:
    from einsum_compiler.ir.parser import parse
    from einsum_compiler.ir.verify import verify
    from einsum_compiler.text import read_text

    module = parse(*read_text(Path(options.file)))
    for cascade in module.cascades:
        if options.name in (None, cascade.name):
            verify(cascade, module)
    return 0


def _passes(options: argparse.Namespace) -> int:
    from einsum_compiler.explain import pass_report

    kernel = _kernel(options)
    print(pass_report(kernel._derivation, _binding(kernel, options, False), options.backend, kernel.plan))
    return 0


def _run(options: argparse.Namespace) -> int:
    from einsum_compiler.validate import validate

    kernel = _kernel(options)
    binding = _binding(kernel, options, True)
    for name, value in kernel.run(binding).items():
        print(f"{name}: {list(value.shape)} {value.dtype}")
    print(validate(kernel, binding))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from einsum_compiler.benchmark import benchmark

    kernel = _kernel(options)
    print(benchmark(kernel, _binding(kernel, options, True)))
    return 0


def _source(options: argparse.Namespace) -> int:
    from einsum_compiler.inspection import generated_source

    kernel = _kernel(options)
    print(generated_source(kernel._derivation, _binding(kernel, options, False), options.backend, kernel.plan))
    return 0


def _compile(options: argparse.Namespace) -> int:
    from einsum_compiler.inspection import static_report

    if options.target in TARGETS:
        options.backend = "triton"
    kernel = _kernel(options)
    print(
        static_report(
            kernel._derivation, _binding(kernel, options, False), options.backend, kernel.plan, options.target
        )
    )
    return 0


def _opt(options: argparse.Namespace) -> int:
    from einsum_compiler.ir.parser import parse
    from einsum_compiler.opt import optimise
    from einsum_compiler.text import read_text

    text, source = read_text(Path(options.file))
    module = parse(text, source, generated=True)
    print(
        optimise(
            module,
            options.name,
            options.pipeline,
            options.print_after,
            options.verify == "each",
            options.time,
            options.size,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
