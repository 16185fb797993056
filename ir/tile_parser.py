"""Text to tile programs: the inverse of ir.tile_printer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import lark
from lark import Token, Tree

from einsum_compiler.ir.builder import Builder
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import Constant, Expression, Extent, Parameter, Rank, Read, transform
from einsum_compiler.ir.plan import Accumulation
from einsum_compiler.ir.span import Source, Span
from einsum_compiler.ir.tile import (
    Axis,
    Carry,
    Dot,
    Load,
    Loop,
    Map,
    ProgramRank,
    Range,
    Reduce,
    ScalarOperand,
    Schedule,
    Select,
    Statement,
    Store,
    TensorOperand,
    TileKernel,
    TileList,
    TileType,
)
from einsum_compiler.ir.tile_printer import marked_tiles, ranks_of_kernel, tiles_of

T = TypeVar("T")

# lark prefixes the rules that tile.lark imports from grammar.lark.
IMPORTED = "grammar__"


def parse_kernel(text: str, name: str = "<tile>") -> TileKernel:
    """The kernel of a text; raises ``SpecError`` with the place if the text is none."""
    source = Source(text, name)
    try:
        tree = _parser().parse(text)
    except lark.exceptions.UnexpectedInput as error:
        start = getattr(error, "pos_in_stream", None) or len(text)
        found = getattr(error, "token", None)
        what = f"unexpected {str(found)!r}" if found else "unexpected character or end"
        raise SpecError(f"{what} in a tile program", Span(source, start, start + 1)) from None
    kernel: TileKernel = _TileBuilder(source).build(tree)
    return _resolved(kernel)


@functools.cache
def _parser() -> lark.Lark:
    return lark.Lark.open(
        "tile.lark", rel_to=__file__, start="kernel", parser="lalr", propagate_positions=True, maybe_placeholders=True
    )


def _resolved(kernel: TileKernel) -> TileKernel:
    """The kernel with every bare name a tile, an index or axis, a scalar operand or an extent."""
    tiles, ranks = tiles_of(kernel.body), ranks_of_kernel(kernel)
    scalars = {s.name for s in kernel.scalars}
    tiles -= marked_tiles(tiles, ranks, scalars, kernel.extents)

    def change(node: Expression) -> Expression:
        if not isinstance(node, Parameter) or node.name in scalars:
            return node
        if node.name in tiles:
            return Read(node.name, span=node.span)
        if node.name in ranks:
            return Rank(node.name, span=node.span)
        if node.name == node.name.upper():
            return Extent(node.name.lower(), span=node.span)
        raise SpecError(f"{node.name!r} is neither a tile, an index, a scalar nor an extent of this kernel", node.span)

    return _map_expressions(kernel, lambda node: transform(node, change))


def _map_expressions(value: T, change: Callable[[Expression], Expression]) -> T:
    """``value``, a tree of dataclasses and tuples, with ``change`` applied to every expression."""
    if isinstance(value, Expression):
        return change(value)  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(_map_expressions(v, change) for v in value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map_expressions(getattr(value, f.name), change) for f in fields(value)})
    return value


class _TileBuilder(Builder):
    """Statements of a tile program; expressions are built as in .ein texts."""

    def build(self, node: Any) -> Any:
        if isinstance(node, Tree):
            node.data = str(node.data).removeprefix(IMPORTED)
        return super().build(node)

    def rule_kernel(
        self,
        span: Span,
        name: Token,
        inputs: tuple[TensorOperand, ...],
        scalars: tuple[ScalarOperand, ...] | None,
        extents: tuple[str, ...] | None,
        outputs: tuple[TensorOperand, ...],
        program: tuple[ProgramRank, ...] | None,
        accumulated: tuple[Accumulation, ...],
        schedules: tuple[Schedule, ...],
        body: tuple[Statement, ...],
    ) -> TileKernel:
        return TileKernel(
            str(name), inputs, outputs, scalars or (), extents or (), program or (), body, schedules, accumulated
        )

    def rule_accumulation(self, span: Span, tensor: Token, ranks: tuple[str, ...]) -> Accumulation:
        return Accumulation(str(tensor), ranks)

    def _several(self, span: Span, *items: T) -> tuple[T, ...]:
        return items

    rule_operands = rule_numbers = rule_expressions = rule_program_ranks = _several
    rule_schedules = rule_accumulations = rule_splits = rule_statements = rule_axes = rule_tile_ranges = (
        rule_carries
    ) = _several

    def rule_operand(
        self, span: Span, name: Token, dtype: Token, extents: tuple[Expression, ...] | None
    ) -> TensorOperand:
        return TensorOperand(str(name), self._type_name(dtype), extents or ())

    def rule_number_operand(self, span: Span, name: Token, dtype: Token) -> ScalarOperand:
        return ScalarOperand(str(name), self._type_name(dtype))

    def rule_program(self, span: Span, ranks: tuple[ProgramRank, ...]) -> tuple[ProgramRank, ...]:
        return ranks

    def rule_program_rank(self, span: Span, rank: Token, count: Expression) -> ProgramRank:
        return ProgramRank(str(rank), count)

    def rule_schedule(
        self,
        span: Span,
        name: Token,
        predicate: Expression,
        splits: tuple[tuple[str, str, int], ...],
        program: tuple[ProgramRank, ...] | None,
        stream: ProgramRank,
    ) -> Schedule:
        return Schedule(str(name), predicate, splits, program or (), stream)

    def rule_split(self, span: Span, rank: Token, index: Token, size: Token) -> tuple[str, str, int]:
        return str(rank), str(index), int(size)

    def rule_load(
        self,
        span: Span,
        target: Token,
        kind: TileType,
        tensor: Token,
        indices: tuple[Expression, ...] | None,
        where: Expression | None,
        partial_where: Expression | None,
        fill: Expression,
    ) -> Load:
        return Load(str(target), kind, str(tensor), indices or (), where, partial_where, self._constant(fill))

    def rule_map(self, span: Span, target: Token, kind: TileType, value: Expression) -> Map:
        return Map(str(target), kind, value)

    def rule_select(
        self,
        span: Span,
        target: Token,
        kind: TileType,
        partial: Token | None,
        condition: Expression,
        value: Expression,
        fill: Expression,
    ) -> Select:
        return Select(str(target), kind, condition, value, self._constant(fill), partial is not None)

    def rule_dot(
        self,
        span: Span,
        target: Token,
        kind: TileType,
        left: Token,
        right: Token,
        over: tuple[str, ...] | None,
        accumulator: Expression | None,
    ) -> Dot:
        return Dot(str(target), kind, str(left), str(right), over or (), accumulator)

    def rule_reduce(
        self,
        span: Span,
        target: Token,
        kind: TileType,
        operator: Token,
        over: tuple[Axis, ...] | None,
        value: Expression,
        accumulator: Expression | None,
    ) -> Reduce:
        return Reduce(str(target), kind, str(operator), over or (), value, accumulator)

    def rule_store(
        self,
        span: Span,
        tensor: Token,
        indices: tuple[Expression, ...] | None,
        axes: tuple[Axis, ...] | None,
        value: Expression,
        where: Expression | None,
    ) -> Store:
        return Store(str(tensor), axes or (), indices or (), value, where)

    def rule_add(
        self,
        span: Span,
        tensor: Token,
        indices: tuple[Expression, ...] | None,
        axes: tuple[Axis, ...] | None,
        value: Expression,
        where: Expression | None,
    ) -> Store:
        return Store(str(tensor), axes or (), indices or (), value, where, True)

    def rule_loop(
        self,
        span: Span,
        rank: Token,
        ranges: tuple[Range | TileList, ...],
        where: Expression | None,
        carries: tuple[Carry, ...] | None,
        body: tuple[Statement, ...],
    ) -> Loop:
        return Loop(str(rank), ranges, carries or (), body, where)

    def rule_type(self, span: Span, dtype: Token, axes: tuple[Axis, ...] | None) -> TileType:
        return TileType(self._type_name(dtype), axes or ())

    def rule_axis(self, span: Span, rank: Token, size: Token) -> Axis:
        return Axis(str(rank), int(size))

    def rule_closed(self, span: Span, partial: bool, lower: Expression, upper: Expression) -> Range:
        return Range(lower, upper, partial)

    def rule_listed(self, span: Span, partial: bool, schedule: Token, position: Expression) -> TileList:
        return TileList(str(schedule), position, partial)

    def rule_coverage(self, span: Span, word: Token) -> bool:
        return str(word) == "partial"

    def rule_carry(self, span: Span, name: Token, kind: TileType, initial: Expression, following: Token) -> Carry:
        return Carry(str(name), kind, initial, str(following))

    def _type_name(self, token: Token) -> str:
        name = self.dtype(token)
        assert name is not None
        return name

    def _constant(self, node: Expression) -> Constant:
        if not isinstance(node, Constant):
            raise SpecError("a fill is a literal", node.span)
        return node
