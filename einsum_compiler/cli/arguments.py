"""The arguments of every command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from einsum_compiler.cli import commands
from einsum_compiler.devices import GPU_TARGETS
from einsum_compiler.ir.types import DTYPES
from einsum_compiler.knobs import INSTRUCTION_SETS

Command = Callable[[argparse.Namespace], None]
PIPELINE = "inline,normalize,flatten,defer,online"
SIZES = (
    "without --size, last axes are 64, the axes before them 1024 and outer ones 4; parameters without default are 16"
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` of what it returns runs the one that was named."""
    whole = argparse.ArgumentParser(
        "einsumc",
        description="Compile cascades of extended Einsums to fused kernels.",
        epilog="Exit codes: 0, 1 for a wrong program, 2 for wrong arguments. 'einsumc COMMAND --help' says more.",
    )
    verbs = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Command, text: str, example: str, sizes: bool = True) -> argparse.ArgumentParser:
        epilog = f"example: einsumc {name} {example}" + (f". {SIZES[0].upper()}{SIZES[1:]}." if sizes else "")
        sub = verbs.add_parser(name, help=text, description=text, epilog=epilog)
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

    def on_random_inputs(sub: argparse.ArgumentParser) -> None:
        target(sub, *INSTRUCTION_SETS)
        sub.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")

    command("check", commands.check, "Verify a program; print nothing if it is right.", "attention.ein", sizes=False)
    command(
        "passes",
        commands.passes,
        "Print the passes that the mathematics forces on each rank, as written and compiled.",
        "attention.ein",
    )
    sub = command(
        "explain",
        commands.explain,
        "Print what the mathematics forces, what was derived and refused, the plan, its cost, and the bounds.",
        "attention.ein --size m=4096,n=4096",
    )
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub = command(
        "bound",
        commands.bound,
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
        commands.run,
        "Run a program on random inputs and compare it with the float64 reference.",
        "attention.ein --size m=100,n=300",
    )
    on_random_inputs(sub)
    sub = command(
        "bench", commands.bench, "Time a program on random inputs.", "attention.ein --size m=4096,n=4096 --dtype bf16"
    )
    on_random_inputs(sub)
    sub = command(
        "tune",
        commands.tune,
        "Search for the fastest plan on random inputs; later calls with these and nearby sizes use it.",
        "attention.ein --size m=4096,n=4096 --dtype bf16 --budget 120",
    )
    on_random_inputs(sub)
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
    sub = command("source", commands.source, "Print the generated C++ or Triton code.", "attention.ein --target sm_90")
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub = command(
        "compile",
        commands.compile,
        "Compile, and report what the kernels need of the target.",
        "attention.ein --target sm_90 --dtype bf16",
    )
    target(sub, *INSTRUCTION_SETS, *GPU_TARGETS)
    sub = command(
        "opt",
        commands.opt,
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
        commands.report,
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
        commands.repro,
        "Rerun what made the compiler fail, from the file that it wrote.",
        "repro-1234.ein",
        sizes=False,
    )
    return whole


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
