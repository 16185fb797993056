"""The program that a command line names: its text, its kernel, and its inputs at the sizes asked for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from einsum_compiler.devices import backend_of

if TYPE_CHECKING:
    from einsum_compiler.ir.binding import Binding
    from einsum_compiler.ir.cascade import Module
    from einsum_compiler.kernel import Kernel


class UsageError(Exception):
    """Arguments of the command line that do not fit the program: exit code 2."""


def text_of_file(options: argparse.Namespace) -> tuple[str, str]:
    """The text of the file and its name."""
    from einsum_compiler.text import read_text

    if not options.file.is_file():
        raise UsageError(f"there is no file '{options.file}'")
    return read_text(options.file)


def module_of(options: argparse.Namespace, generated: bool = False) -> Module:
    """The parsed file, which has the cascade that is asked for; ``generated``: names with dots are allowed."""
    from einsum_compiler.ir.parser import parse

    module = parse(*text_of_file(options), generated=generated)
    names = [c.name for c in module.cascades]
    if options.name is not None and options.name not in names:
        raise UsageError(f"no cascade '{options.name}' in {options.file}; there are {', '.join(names)}")
    return module


def kernel_of(options: argparse.Namespace) -> Kernel:
    """The program for the back end, target and plan that are asked for."""
    from einsum_compiler.kernel import compile

    module_of(options)
    target = getattr(options, "target", None)
    backend = options.backend or backend_of(target) or "cpu"
    if target and backend_of(target) != backend:
        raise UsageError(f"target {target} is not one of the backend {backend}")
    plan = options.plan
    if plan and Path(plan).is_file():
        plan = Path(plan).read_text(encoding="utf-8")
    return compile(options.file, options.name, backend=backend, plan=plan, target=target)


def binding_of(kernel: Kernel, options: argparse.Namespace, data: bool) -> Binding:
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
