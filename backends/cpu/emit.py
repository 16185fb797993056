"""C++ from a tile program: the frame of the file. Statements are printed by ``bodies`` and what it calls."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from einsum_compiler.backends.cpu.bodies import emit_body
from einsum_compiler.backends.cpu.coordinates import Coordinates
from einsum_compiler.backends.cpu.loops import emit_loop
from einsum_compiler.backends.cpu.names import Names
from einsum_compiler.backends.cpu.order import growing
from einsum_compiler.backends.cpu.products import left_operands
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.view import atom, c_type
from einsum_compiler.backends.cpu.writer import Writer
from einsum_compiler.ir.expression import Constant
from einsum_compiler.ir.tile import Dot, Loop, Statement, Store, TensorOperand, TileKernel, TileType
from einsum_compiler.ir.tile_printer import print_kernel

TEMPLATE = Path(__file__).resolve().parents[2] / "templates" / "cpu" / "kernel.cpp.tmpl"


@dataclass(frozen=True)
class Signature:
    """The order of the arguments of a generated function."""

    entry: str
    tensors: tuple[TensorOperand, ...]
    extents: tuple[str, ...]
    integers: tuple[str, ...]
    reals: tuple[str, ...]


def signature_of(kernel: TileKernel) -> Signature:
    """Tensors: inputs, outputs, then the lists of schedules. Integers: extents, then integer and boolean scalars."""
    lists = [
        TensorOperand(f"{s.name}.{part}", "i32", (Constant(0),))
        for s in kernel.schedules
        for part in ("offsets", "tiles")
    ]
    integers = tuple(s.name for s in kernel.scalars if s.dtype != "f64")
    reals = tuple(s.name for s in kernel.scalars if s.dtype == "f64")
    return Signature("kernel", (*kernel.inputs, *kernel.outputs, *lists), kernel.extents, integers, reals)


def emit_cpu(kernel: TileKernel, coordinates: Coordinates | None = None) -> str:
    """The source of a kernel, one for all instruction sets: ``void kernel(tensors, strides, integers, reals, threads)``.

    ``coordinates``: of that kernel, for which integers take 64 bits; it keeps the limits of the others. Raises ``BackendError`` for what the CPU backend has no code for.
    """
    signature = signature_of(kernel)
    names = Names()
    tensors = {t.name: t for t in signature.tensors}
    arguments: list[str] = []
    written = {t.name for t in kernel.outputs}
    place = 0
    for i, tensor in enumerate(signature.tensors):
        ctype = c_type(tensor.dtype, f"tensor {tensor.name}")
        const = "" if tensor.name in written else "const "
        arguments.append(f"{const}{ctype}* const {names.of('tensor', tensor.name)} = ({const}{ctype}*)tensors[{i}];")
        for d in range(len(tensor.extents)):
            stride = names.fresh(f"{tensor.name}_stride{d}")
            names.give("stride", f"{tensor.name}.{d}", stride)
            arguments.append(f"const int64_t {stride} = strides[{place}];")
            place += 1
    extents = {rank: names.of("extent", rank.upper()) for rank in kernel.extents}
    scalars: dict[str, tuple[str, str]] = {}
    arguments += [f"const int64_t {code} = integers[{i}];" for i, code in enumerate(extents.values())]
    by_name = {s.name: s.dtype for s in kernel.scalars}
    for i, name in enumerate(signature.integers):
        code = names.of("scalar", name)
        value = f"integers[{len(extents) + i}]"
        kind = "bool" if by_name[name] == "bool" else "int64_t"
        arguments.append(f"const {kind} {code} = {value};")
        scalars[name] = code, "bool" if kind == "bool" else "i64"
    for i, name in enumerate(signature.reals):
        code = names.of("scalar", name)
        arguments.append(f"const double {code} = reals[{i}];")
        scalars[name] = code, "f64"
    scope = Scope(
        kernel,
        names,
        Writer(),
        scalars,
        extents,
        tensors,
        coordinates or Coordinates(kernel),
        widened=_left_tiles(kernel),
    )
    programs, ordered = _program(scope, arguments)
    with ExitStack() as nest:
        for index, count in ordered:
            nest.enter_context(scope.writer.block(f"for (long {index} = 0; {index} < {count}; ++{index})"))
        emit_body(scope, kernel.body, (), emit_loop)
    text = _template().render(
        name=kernel.name, entry=signature.entry, program=print_kernel(kernel).splitlines(), arguments=arguments,
        tensors=[t.name for t in signature.tensors], integers=[*extents, *signature.integers], reals=signature.reals,
        programs=programs, loops=bool(ordered) or any(isinstance(s, Loop) for s in kernel.body), scratch=scope.arena.size, body=scope.writer.lines,
    )  # fmt: skip
    return str(text)


def _program(scope: Scope, arguments: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """Indices of the program from its flat number, the last fastest and long programs first; gives the number of programs that run at the same time,
    and index and count of the ranks whose programs follow one another."""
    printer = scope.expressions({}, None, "f32")
    counts: dict[str, str] = {}
    ordered: list[tuple[str, str]] = []
    for p in scope.kernel.program:
        count = scope.names.fresh(f"{p.rank}_count")
        arguments.append(f"const int64_t {count} = {printer.integer(p.count)};")
        index = scope.indices[p.rank] = scope.names.of("rank", p.rank)
        if p.rank in scope.kernel.ordered:
            ordered.append((index, count))
        else:
            counts[p.rank] = count
    rest = "program"
    longer = growing(scope.kernel)
    for rank, count in reversed(counts.items()):
        index = f"{atom(rest)} % {count}"
        scope.program_lines.append(
            f"const long {scope.indices[rank]} = {f'{count} - 1 - {index}' if rank in longer else index};"
        )
        rest = f"{rest} / {count}"
    scope.writer.extend(scope.program_lines)
    return " * ".join(counts.values()) or "1", ordered


def _left_tiles(kernel: TileKernel) -> frozenset[str]:
    """Tiles that some product reads element by element: narrow ones are held widened."""
    types: dict[str, TileType] = {}
    found: set[str] = set()

    def visit(body: tuple[Statement, ...]) -> None:
        for s in body:
            if isinstance(s, Loop):
                types.update({c.name: c.type for c in s.carries})
                visit(s.body)
            elif not isinstance(s, Store):
                types[s.target] = s.type  # type: ignore[attr-defined]
            if isinstance(s, Dot) and s.left in types and s.right in types:
                found.add(left_operands(s, types))

    visit(kernel.body)
    return frozenset(found)


def _template() -> Any:
    import jinja2

    return jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
