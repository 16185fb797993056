"""From lark's tree to our nodes, spans included. Bare names stay ``Parameter`` until ``ir.resolve`` knows the cascade."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from lark import Token, Tree

from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Definition, Equation, Module, Scalar, Target, Tensor
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    CascadeCall,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Membership,
    Parameter,
    Rank,
    Read,
    Reduction,
    Selection,
    Slice,
    Unary,
)
from einsum_compiler.ir.hints import did_you_mean
from einsum_compiler.ir.operators import DERIVED_REDUCTIONS, REDUCTIONS, SELECTIONS
from einsum_compiler.ir.span import Source, Span
from einsum_compiler.ir.types import DTYPES

CONSTANTS: dict[str, bool | float] = {"pi": math.pi, "inf": math.inf, "true": True, "false": False}
SCALAR_TYPES = ("int", "float", "bool", *DTYPES)


@dataclass(frozen=True, slots=True)
class _Arguments:
    """What stands in the parentheses of a call, sorted by kind."""

    values: tuple[Expression, ...] = ()
    where: Expression | None = None
    count: Expression | None = None


class Builder:
    """Builds the nodes of one source: a method for every rule of the grammar, called with the rule's children."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def build(self, node: Any) -> Any:
        """The node of a tree; tokens and absent optional parts stand for themselves."""
        if not isinstance(node, Tree):
            return node
        method = getattr(self, f"rule_{node.data}")
        return method(self.span(node), *[self.build(child) for child in node.children])

    def span(self, node: Tree[Token] | Token) -> Span:
        if isinstance(node, Token):
            return Span(self.source, node.start_pos or 0, node.end_pos or 0)
        if node.meta.empty:
            return Span(self.source, 0, 0)
        return Span(self.source, node.meta.start_pos, node.meta.end_pos)

    # Texts, cascades, equations

    def rule_start(self, span: Span, *items: Cascade | Definition) -> Module:
        return Module(
            tuple(i for i in items if isinstance(i, Definition)), tuple(i for i in items if isinstance(i, Cascade))
        )

    def rule_definition(self, span: Span, name: Token, names: tuple[str, ...] | None, body: Expression) -> Definition:
        return Definition(str(name), names or (), body, span)

    def rule_names(self, span: Span, *names: Token) -> tuple[str, ...]:
        return tuple(map(str, names))

    def rule_cascade(
        self,
        span: Span,
        name: Token,
        ranks: tuple[str, ...] | None,
        inputs: tuple[Tensor, ...] | None,
        scalars: tuple[Scalar, ...] | None,
        outputs: tuple[Tensor, ...],
        equations: tuple[Equation, ...],
    ) -> Cascade:
        for tensor in inputs or ():
            self.lower_case(tensor)
        for tensor in outputs:
            self.lower_case(tensor, "the last state is an output of its own: {}")
        # Errors about a cascade as a whole point at its name.
        return Cascade(str(name), inputs or (), scalars or (), outputs, equations, ranks or (), self.span(name))

    def rule_ranks(self, span: Span, *ranks: str) -> tuple[str, ...]:
        return ranks

    def rule_rank(self, span: Span, name: Token) -> str:
        return str(name)

    def rule_tensors(self, span: Span, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors

    def rule_tensor(self, span: Span, name: Token, dtype: Token | None, ranks: tuple[str, ...] | None) -> Tensor:
        return Tensor(str(name), ranks or (), self.dtype(dtype), span)

    def rule_scalars(self, span: Span, *scalars: Scalar) -> tuple[Scalar, ...]:
        return scalars

    def rule_scalar(self, span: Span, name: Token, dtype: Token | None, default: Expression | None) -> Scalar:
        return Scalar(str(name), self.dtype(dtype, SCALAR_TYPES), default, span)

    def rule_equations(self, span: Span, *equations: Equation) -> tuple[Equation, ...]:
        return equations

    def rule_equation(
        self,
        span: Span,
        targets: tuple[Target, ...],
        value: Expression,
        otherwise: bool | None,
        where: Expression | None,
    ) -> Equation:
        return Equation(targets, value, where, bool(otherwise), span)

    def rule_targets(self, span: Span, *targets: Target) -> tuple[Target, ...]:
        return targets

    def rule_target(
        self, span: Span, name: Token, dtype: Token | None, indices: tuple[Expression, ...] | None
    ) -> Target:
        return Target(str(name), indices or (), self.dtype(dtype), span)

    def rule_else(self, span: Span) -> bool:
        return True

    def rule_filter(self, span: Span, predicate: Expression) -> Expression:
        return predicate

    # Indices and arguments

    def rule_indices(self, span: Span, *indices: Expression) -> tuple[Expression, ...]:
        return indices

    def rule_slice(self, span: Span) -> Expression:
        return Slice(span=span)

    def rule_ellipsis(self, span: Span, dots: Token) -> Expression:
        return Rank(ELLIPSIS, span=span)

    def rule_argument(self, span: Span, value: Expression, where: Expression | None) -> _Arguments:
        return _Arguments((value,), where)

    def rule_keyword(self, span: Span, name: Token, value: Expression) -> _Arguments:
        if name != "count":
            notes = ("ranks stand in brackets: sum[n](X[m,n])",) if name in ("dim", "axis") else ()
            raise SpecError(f"unknown keyword {str(name)!r}: the only one is 'count', of topk", self.span(name), notes)
        return _Arguments((), None, value)

    def rule_arguments(self, span: Span, *parts: _Arguments) -> _Arguments:
        wheres = [p.where for p in parts if p.where is not None]
        counts = [p.count for p in parts if p.count is not None]
        if len(wheres) > 1:
            raise SpecError("a call has one filter: join the two with 'and'", wheres[1].span)
        if len(counts) > 1:
            raise SpecError("'count' is given twice", counts[1].span)
        values = tuple(v for p in parts for v in p.values)
        return _Arguments(values, wheres[0] if wheres else None, counts[0] if counts else None)

    # Expressions

    def rule_number(self, span: Span, token: Token) -> Expression:
        text = str(token).lower()
        if text.startswith("0x"):
            return Constant(int(text, 16), span=span)
        return Constant(int(text) if text.isdigit() else float(text), span=span)

    def rule_name(self, span: Span, token: Token) -> Expression:
        if token in CONSTANTS:
            return Constant(CONSTANTS[token], span=span)
        return Parameter(str(token), span=span)

    def rule_parenthesised(self, span: Span, inner: Expression) -> Expression:
        return replace(inner, span=span)

    def rule_binary(self, span: Span, left: Expression, operator: Token, right: Expression) -> Expression:
        return Binary(str(operator), left, right, span=span)

    def rule_or(self, span: Span, left: Expression, right: Expression) -> Expression:
        return Binary("or", left, right, span=span)

    def rule_and(self, span: Span, left: Expression, right: Expression) -> Expression:
        return Binary("and", left, right, span=span)

    def rule_not(self, span: Span, operand: Expression) -> Expression:
        return Unary("not", operand, span=span)

    def rule_minus(self, span: Span, minus: Token, operand: Expression) -> Expression:
        # A literal is folded only as it stands: '--3' and '-(3)' keep their signs apart.
        folds = operand.span is not None and operand.span.text[0] not in "-("
        if folds and isinstance(operand, Constant) and not isinstance(operand.value, bool):
            return Constant(-operand.value, span=span)
        return Unary("-", operand, span=span)

    def rule_comparison(self, span: Span, *parts: Any) -> Expression:
        return Comparison(tuple(map(str, parts[1::2])), tuple(parts[::2]), span=span)

    def rule_member(self, span: Span, item: Expression, collection: Expression) -> Expression:
        if not isinstance(collection, Read):
            raise SpecError(
                "expected a tensor with a slice after 'in'", collection.span, ("for example: n // T in I[m, :]",)
            )
        return Membership(item, collection, span=span)

    def rule_not_member(self, span: Span, item: Expression, collection: Expression) -> Expression:
        return replace(self.rule_member(span, item, collection), negated=True)  # type: ignore[call-arg]

    def rule_read(self, span: Span, name: Token, indices: tuple[Expression, ...] | None) -> Expression:
        return Read(str(name), indices or (), span=span)

    def rule_call(self, span: Span, name: Token, arguments: _Arguments | None) -> Expression:
        arguments = arguments or _Arguments()
        if arguments.count is not None:
            raise SpecError(f"{name!s} has no keyword 'count': only topk has", arguments.count.span)
        values = arguments.values
        if arguments.where is not None:
            if name in REDUCTIONS or name in DERIVED_REDUCTIONS:
                raise SpecError(f"name the ranks that {name!s} reduces: {name!s}[ranks](...)", self.span(name))
            # Only a cascade takes a filter; ir.verify refuses the name if there is no such cascade.
            return CascadeCall(str(name), (), values, arguments.where, span=span)
        if name == "if":
            self.count(span, "if", values, 3, "a condition and two values")
            return Conditional(*values, span=span)
        if name == "cast":
            self.count(span, "cast", values, 2, "a value and an element type")
            kind = values[1]
            if not isinstance(kind, Parameter):
                raise SpecError("the second argument of cast is an element type", kind.span, ("for example: f32",))
            if kind.name not in DTYPES:
                notes = did_you_mean(kind.name, DTYPES, all_of=True)
                raise SpecError(f"unknown element type {kind.name!r}", kind.span, notes)
            return Cast(values[0], kind.name, span=span)
        return Call(str(name), values, span=span)

    def rule_bracket_call(
        self, span: Span, name: Token, indices: tuple[Expression, ...] | None, arguments: _Arguments | None
    ) -> Expression:
        arguments = arguments or _Arguments()
        ranks = tuple(self.rank_of(index) for index in indices or ())
        selects = name in SELECTIONS
        if arguments.count is not None and name != "topk":
            raise SpecError(f"{name!s} has no keyword 'count': only topk has", arguments.count.span)
        if name in REDUCTIONS or name in DERIVED_REDUCTIONS or selects:
            if not ranks:
                raise SpecError(f"{name!s} names no rank: write {name!s}[ranks](...)", span)
            filtered = len(arguments.values) > 1 and arguments.where is not None
            notes = ("conditions are joined with 'and'",) if filtered else ()
            self.count(span, str(name), arguments.values, 1, "the expression over the ranks in brackets", notes)
        if selects:
            if name == "topk" and arguments.count is None:
                raise SpecError("topk needs a count", span, ("for example: topk[c](C[q,c], count = 16)",))
            return Selection(str(name), ranks, arguments.values[0], arguments.where, arguments.count, span=span)
        if name in REDUCTIONS or name in DERIVED_REDUCTIONS:
            return Reduction(str(name), ranks, arguments.values[0], arguments.where, span=span)
        return CascadeCall(str(name), ranks, arguments.values, arguments.where, span=span)

    # Checks that need no more than the text at hand

    def lower_case(self, tensor: Tensor, last: str | None = None) -> None:
        """The ranks of a declaration; ``last`` says how the last position of a carried tensor is given out."""
        for rank in tensor.ranks:
            if rank == rank.lower() or rank == ELLIPSIS:
                continue
            notes = [f"write {rank.lower()}"]
            if last is not None:
                kept = ",".join(r for r in tensor.ranks if r != rank)
                notes.append(last.format(f"{tensor.name}T[{kept}] = {tensor.name}[{','.join(tensor.ranks)}]"))
            raise SpecError(f"a rank is lower-case: {rank!r} names an extent", tensor.span, tuple(notes))

    def dtype(self, token: Token | None, known: tuple[str, ...] = DTYPES) -> str | None:
        if token is not None and token not in known:
            notes = did_you_mean(str(token), known, all_of=True)
            raise SpecError(f"unknown element type {str(token)!r}", self.span(token), notes)
        return None if token is None else str(token)

    def rank_of(self, index: Expression) -> str:
        """The name in the brackets of a reduction or call."""
        if not isinstance(index, Parameter):
            raise SpecError("expected a rank: the brackets before '(' name ranks only", index.span)
        if index.name != index.name.lower():
            raise SpecError(
                f"a rank is lower-case: {index.name!r} names an extent", index.span, (f"write {index.name.lower()}",)
            )
        return index.name

    def count(
        self,
        span: Span,
        name: str,
        values: tuple[Expression, ...],
        expected: int,
        what: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        if len(values) != expected:
            plural = "argument" if expected == 1 else "arguments"
            raise SpecError(f"{name} takes {expected} {plural} ({what}), found {len(values)}", span, notes)
