"""Stores: whole vectors where rows are adjacent in the tensor, single elements under masks."""

from __future__ import annotations

from contextlib import ExitStack

from einsum_compiler.backends.cpu.accesses import access_of, split_conditions
from einsum_compiler.backends.cpu.affine import depends
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.values import LANE, REGISTER, Value, to_type
from einsum_compiler.backends.cpu.view import atom, c_type, product, sum_of
from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.tile import Store
from einsum_compiler.ir.types import is_float


def emit_store(scope: Scope, store: Store) -> None:
    """Write ``value`` where the condition holds, rounded to the tensor's type, or add it to what is there."""
    axes = store.axes
    lane = axes[-1] if axes else None
    operand = scope.tensors[store.tensor]
    ctype = c_type(operand.dtype, f"tensor {store.tensor}")
    access = access_of(scope, store.tensor, store.indices, axes)
    bounds, others = split_conditions(scope, store.where, axes)
    known = scope.known()
    scattered = lane is not None and access.strides[lane.rank] is None
    outer = axes if scattered else axes[:-1]
    positions = {a.rank: scope.position(a.rank) for a in outer}
    real = scope.real_type(operand.dtype, store.value)
    printer = scope.expressions(positions, None if scattered or lane is None else lane.rank, real)
    by_lane = printer.lane is not None
    row_conditions = [c for c in others if not by_lane or not depends(c, {lane.rank}, known)]  # type: ignore[union-attr]
    lane_condition = conjunction([c for c in others if c not in row_conditions])
    live = [to_type(printer.value(c), "bool").atom for c in row_conditions]
    for axis in outer:
        live += [f"{positions[axis.rank]} < {atom(printer.integer(b))}" for b in bounds.get(axis.rank, [])]
    count = "1"
    if by_lane and lane is not None:
        count = f"tile::constant<{lane.size}>()"
        for bound in bounds.get(lane.rank, []):
            count = f"tile::count_below({printer.bind(printer.value(bound), 'bound').code}, {count})"
    terms = [product(atom(printer.integer(node)), step) for node, step in access.base]
    terms += [product(positions[a.rank], s) for a in outer if (s := access.strides[a.rank]) is not None]
    target = sum_of([scope.names.of("tensor", store.tensor), *terms])
    # What is computed from row conditions and addresses stays outside of the condition; values are computed inside.
    guards = tuple(list(lines) for lines in printer.lines)
    value = to_type(printer.value(store.value), _kind(operand.dtype, real))
    mask = printer.condition(lane_condition) if lane_condition is not None else None
    fixed, row, lanes = printer.lines
    write = scope.writer
    with write.block(), ExitStack() as nest:
        write.extend(fixed)
        for axis in outer:
            i = positions[axis.rank]
            nest.enter_context(write.block(f"for (long {i} = 0; {i} < {axis.size}; ++{i})"))
        write.extend(guards[1])
        if live:
            nest.enter_context(write.block(f"if ({' && '.join(live)})"))
        write.extend(row[len(guards[1]) :])
        if not by_lane or lane is None:
            write.extend(lanes)
            sum = f"tile::widen(*({target})) + {value.atom}" if store.adds else value.code
            write.line(f"*({target}) = tile::narrow<{ctype}>({sum});")
            return
        name = scope.names.fresh("to")
        write.line(f"{ctype}* const {name} = {target};")
        step = access.strides[lane.rank]
        with write.block(f"tile::for_each_column({count}, [&](auto j) __attribute__((always_inline))", "});"):
            write.extend(lanes)
            verb = "add" if store.adds else "store"
            if mask is not None:
                write.line(f"tile::{verb}_where({name}, {step}, j, {_vector(value)}, {mask.code});")
            else:
                write.line(f"tile::{verb}_step({name}, {step}, j, {_vector(value)});")


def _kind(dtype: str, real: str) -> str:
    if is_float(dtype):
        return real
    return "bool" if dtype == "bool" else "i64"


def _vector(value: Value) -> str:
    if value.level == LANE:
        return value.code
    return (
        f"tile::as_mask({value.code})"
        if value.dtype == "bool"
        else f"tile::splat<{REGISTER[value.dtype]}>({value.code})"
    )
