"""Products that are added to a tensor: straight into it where its rows are adjacent and the tile is whole there, else through scratch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from einsum_compiler.backends.cpu.accesses import access_of, split_conditions
from einsum_compiler.backends.cpu.products import emit_product
from einsum_compiler.backends.cpu.roles import roles_of
from einsum_compiler.backends.cpu.scope import Scope
from einsum_compiler.backends.cpu.stores import emit_store
from einsum_compiler.backends.cpu.view import C_TYPES, WIDEST, atom, product, sum_of
from einsum_compiler.ir.expression import Read
from einsum_compiler.ir.tile import Dot, Statement, Store, TileType
from einsum_compiler.ir.tile_ranges import reads_in


def addition_of(scope: Scope, dot: Dot, pending: Sequence[Statement], kept: Collection[str]) -> Store | None:
    """The statement that adds a product to a tensor, if nothing else reads the product and the tensor may take its place."""
    readers = [s for s in pending if dot.target in reads_in(s)]
    if dot.accumulator is not None or dot.target in kept or dot.target in scope.in_place or len(readers) != 1:
        return None
    store = readers[0]
    if not isinstance(store, Store) or not store.adds or store.value != Read(dot.target):
        return None
    roles = roles_of(dot, *(TileType(scope.tiles[n].dtype, scope.tiles[n].axes) for n in (dot.left, dot.right)))
    access = access_of(scope, store.tensor, store.indices, store.axes)
    _, others = split_conditions(scope, store.where, store.axes)
    # One call makes the whole tile, and writes no padding beside it.
    fits = (
        store.axes == dot.type.axes == (roles.row, roles.column)
        and not roles.deep_loops
        and store.axes[-1].size % WIDEST == 0
    )
    fits = fits and scope.tensors[store.tensor].dtype == dot.type.dtype
    return store if fits and not others and None not in access.strides.values() else None


def emit_addition(scope: Scope, dot: Dot, store: Store) -> None:
    """``tensor[..] += A B``."""
    write, axes = scope.writer, store.axes
    access = access_of(scope, store.tensor, store.indices, axes)
    bounds, _ = split_conditions(scope, store.where, axes)
    view = scope.allocate(dot.target, dot.type)
    printer = scope.expressions({}, None, "f32")
    base = [product(atom(printer.integer(node)), step) for node, step in access.base]
    row, column = (access.strides[a.rank] for a in axes)
    checks = [f"{atom(str(column))} == 1"]
    checks += [f"{atom(printer.integer(b))} >= {a.size}" for a in axes for b in bounds.get(a.rank, [])]
    for lines in printer.lines:
        write.extend(lines)
    flag, pointer, step = (scope.names.fresh(f"{dot.target}_{n}") for n in ("in_place", "sum", "step"))
    address = sum_of([scope.names.of("tensor", store.tensor), *base])
    write.line(f"const bool {flag} = {' && '.join(checks)};")
    write.line(f"{C_TYPES[dot.type.dtype]}* const {pointer} = {flag} ? {address} : {view.pointer};")
    write.line(f"const long {step} = {flag} ? {row} : {view.strides[0]};")
    scope.tiles[dot.target] = replace(view, pointer=pointer, strides=(step, "1"), aliased=True)
    emit_product(scope, dot, f"tile::update<{view.ctype}>{{{flag}, nullptr}}")
    scope.tiles[dot.target] = view
    with write.block(f"if (!{flag})"):
        emit_store(scope, store)
