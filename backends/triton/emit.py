"""Triton source of a tile program: the arguments, the program indices, the body."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from einsum_compiler.backends.triton.frame import Frame, Settings
from einsum_compiler.backends.triton.layout import layout_of, tile_types
from einsum_compiler.backends.triton.orientation import oriented
from einsum_compiler.backends.triton.statements import print_statement
from einsum_compiler.ir.errors import BackendError, PlanError
from einsum_compiler.ir.expression import Expression
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.tile import TileKernel

if TYPE_CHECKING:
    import jinja2

FUNCTION = "kernel"
# How an argument of a scalar type is annotated, so that Triton takes it at full width whatever its value.
SCALAR_ANNOTATIONS = {"f64": "fp64", "f32": "fp64", "i64": "i64", "bool": "i32"}


@dataclass(frozen=True, slots=True)
class TritonKernel:
    """A Triton function and how to call it.

    Arguments in order: a pointer for each of ``tensors``, then ``scalars``, ``extents`` (ranks), ``counts`` (program
    indices per rank), ``strides`` (tensor and axis). ``program`` gives the counts as expressions; ``spans`` the
    largest distance in coordinates, by tensor and axis, that offsets of 32 bits span. ``described``: tensors that are
    copied through descriptors, whose last stride must be 1 and whose pointer and other strides multiples of 16 bytes.
    """

    source: str
    tensors: tuple[str, ...]
    scalars: tuple[str, ...]
    extents: tuple[str, ...]
    counts: tuple[str, ...]
    strides: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    program: tuple[tuple[str, Expression], ...]
    spans: tuple[tuple[str, int, int], ...]
    dtypes: tuple[str, ...]
    described: tuple[str, ...] = ()


def emit_triton(
    kernel: TileKernel,
    launch: Launch = Launch(),  # noqa: B008 (frozen)
    *,
    wide: bool = False,
    interpreted: bool = False,
    tf32: bool = False,
) -> str:
    """Triton source of the kernel: one file with its own functions and the function ``kernel``.

    ``wide`` computes offsets inside tiles in 64 bits, ``interpreted`` writes it for Triton's interpreter, ``tf32``
    lets products of f32 round their operands. Raises BackendError for what has no Triton form.
    """
    return print_triton(kernel, settings_of(launch, wide=wide, interpreted=interpreted, tf32=tf32)).source


def settings_of(
    launch: Launch, *, wide: bool = False, interpreted: bool = False, tf32: bool = False, described: bool = True
) -> Settings:
    """How the code of a launch is written; ``described``: its tensors are such that descriptors may describe them."""
    return Settings(wide, interpreted, tf32, launch.persistent > 0, launch.descriptors and described)


def print_triton(kernel: TileKernel, settings: Settings = Settings()) -> TritonKernel:  # noqa: B008 (frozen)
    """The Triton function of the kernel with what a caller needs to know."""
    if kernel.accumulated:
        added = ", ".join(a.tensor for a in kernel.accumulated)
        raise PlanError(
            f"the plan accumulates {added} over programs that follow one another; programs of a GPU run in no order"
        )
    kernel = oriented(kernel)
    frame = Frame(kernel, layout_of(kernel), settings, types=tile_types(kernel))
    for operand in (*kernel.inputs, *kernel.outputs):
        frame.pointer(operand.name)
    for scalar in kernel.scalars:
        frame.names.of(scalar.name, "scalar")
    frame.indices.update(p.rank for p in kernel.program)
    persistent = settings.persistent and bool(kernel.program)
    frame.indent += persistent
    for statement in kernel.body:
        print_statement(statement, frame)
    counts = tuple(p.rank for p in kernel.program[0 if persistent else 1 :])
    made = [f"{name} = {code}" for code, (name, _) in frame.descriptors.items()]
    if persistent:
        body = [*frame.prologue(), *_persistent_programs(kernel, frame), *(f"    {line}" for line in made)]
    else:
        body = [*_program_indices(kernel, frame, "tl.program_id(0)"), *frame.prologue(), *made]
    tensors = tuple(o.name for o in (*kernel.inputs, *kernel.outputs))
    scalars = tuple(s for s in frame.parameters)
    declared = {s.name: s.dtype for s in kernel.scalars}
    unknown = [declared[s] for s in scalars if declared[s] not in SCALAR_ANNOTATIONS]
    if unknown:
        raise BackendError(f"scalar arguments of type {', '.join(unknown)} have no Triton form")
    names = (
        *(frame.pointer(t) for t in tensors),
        *(frame.pointer(a) for a in frame.arrays),
        *(frame.names.of(s, "scalar") for s in scalars),
        *(frame.extent(e).code for e in frame.extents),
        *(_count(c, frame) for c in counts),
        *(frame.stride(t, a) for t, a in frame.strides),
    )
    annotated = {frame.names.of(s, "scalar"): f': "{SCALAR_ANNOTATIONS[declared[s]]}"' for s in scalars}
    source = _template().render(
        name=kernel.name,
        interpreted=settings.interpreted,
        helpers=frame.helpers,
        function=FUNCTION,
        arguments=[f"{n}{annotated.get(n, '')}" for n in names],
        body="\n".join([*(f"    {line}" for line in body), *frame.lines]),
    )
    return TritonKernel(
        source=source,
        tensors=(*tensors, *frame.arrays),
        scalars=scalars,
        extents=tuple(frame.extents),
        counts=counts,
        strides=tuple(frame.strides),
        names=names,
        program=tuple((p.rank, p.count) for p in kernel.program),
        spans=tuple((t, a, s) for (t, a), s in frame.spans.items()),
        dtypes=(*(frame.tensor(t).dtype for t in tensors), *("i32" for _ in frame.arrays)),
        described=tuple(dict.fromkeys(tensor for _, tensor in frame.descriptors.values())),
    )


def _count(rank: str, frame: Frame) -> str:
    return frame.names.of(f"{rank}.count", "count")


def _persistent_programs(kernel: TileKernel, frame: Frame) -> list[str]:
    """A loop over the programs that are this one's to do: every so many, as are launched.

    Law: programs share nothing, so they may run in any order and any number of them one after the other.
    """
    counts = " * ".join(_count(p.rank, frame) for p in kernel.program)
    index = frame.names.of("programs.done", "program")
    first, step = "tl.program_id(0)", "tl.num_programs(0)"
    if frame.settings.interpreted:
        frame.helpers.add("number")
        first, counts, step = (f"number({code})" for code in (first, counts, step))
    return [
        f"for {index} in range({first}, {counts}, {step}):",
        *(f"    {line}" for line in _program_indices(kernel, frame, index)),
    ]


def _program_indices(kernel: TileKernel, frame: Frame, number: str) -> list[str]:
    """One launch axis holds all programs, the last rank fastest: neighbours in time share what they read."""
    if not kernel.program:
        return []
    first, *rest = kernel.program
    index = {p.rank: frame.names.of(p.rank, "rank") for p in kernel.program}
    if not rest:
        return [f"{index[first.rank]} = {number}"]
    left = frame.names.of("programs.left", "program")
    lines = [f"{left} = {number}"]
    for p in reversed(rest):
        count = _count(p.rank, frame)
        lines += [f"{index[p.rank]} = {left} % {count}", f"{left} = {left} // {count}"]
    return [*lines, f"{index[first.rank]} = {left}"]


@functools.cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("einsum_compiler.templates", ""),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("triton/kernel.py.tmpl")
