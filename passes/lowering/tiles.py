"""Writing statements over tiles: loads with their masks, maps, products, reductions, and the selects that filters need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

from einsum_compiler.ir.build import add, conjunction, less, multiply, ranks_of
from einsum_compiler.ir.cascade import Cascade, Equation
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Cast,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Membership,
    Rank,
    Read,
    Reduction,
    Slice,
    Unary,
    transform,
    walk,
)
from einsum_compiler.ir.operators import REDUCTIONS
from einsum_compiler.ir.tile import Axis, Dot, Load, Map, Reduce, Select, TileType
from einsum_compiler.ir.types import PRECISION, is_float
from einsum_compiler.passes.lowering.contraction import Product, as_product
from einsum_compiler.passes.lowering.fills import FINITE, Filled, filled_value
from einsum_compiler.passes.lowering.kinds import kind_of, tensor_kinds
from einsum_compiler.passes.lowering.scope import Scope
from einsum_compiler.passes.lowering.tiling import Tiling
from einsum_compiler.passes.lowering.translate import EVERYWHERE, Domain, Translator


@dataclass(frozen=True)
class TileFacts:
    """What is known of a tile: its ranks in the cascade, where it has a value, and what it holds elsewhere."""

    type: TileType
    ranks: tuple[str, ...] = ()
    domain: Domain = EVERYWHERE
    fill: tuple[float, Domain] | None = None  # the value wherever one of these conjuncts is false
    loaded: bool = False
    inside: bool = False  # defined in a loop body


class TileWriter:
    """Appends statements to ``scope``; knows every tile written so far."""

    def __init__(
        self,
        cascade: Cascade,
        tiling: Tiling,
        dtypes: Mapping[str, str],
        scalars: Mapping[str, str],
        parameters: Mapping[str, int | bool],
        tile_of: Callable[[Read], tuple[Expression, Domain] | None],
    ) -> None:
        self.tiling, self.dtypes, self.scalars = tiling, dtypes, scalars
        self.real = "f64" if any(dtypes[t.name] == "f64" for t in cascade.inputs) else "f32"
        self.scope = Scope()
        self.facts: dict[str, TileFacts] = {}
        self.loaded: dict[str, None] = {}
        self.kinds = tensor_kinds(cascade, dtypes, scalars)
        self.next_index = add(Rank(tiling.loop or ""), Constant(1))
        self.translator = Translator(cascade, tiling, parameters, tile_of, self.load, self.member)
        self._projecting = False
        self.assumed: Domain = EVERYWHERE  # the filter of the equation being written

    # -- what is known ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, TileFacts], dict[str, None]]:
        return dict(self.facts), dict(self.loaded)

    def restore(self, saved: tuple[dict[str, TileFacts], dict[str, None]]) -> None:
        self.facts, self.loaded = dict(saved[0]), dict(saved[1])

    def declare(self, name: str, type: TileType) -> None:
        """A carried tile."""
        self.facts[name] = TileFacts(type, inside=self.scope.loop is not None)

    def alias(self, name: str, other: str, domain: Domain) -> None:
        """``name`` is the tile ``other`` where ``domain`` holds."""
        self.facts[name] = replace(self.facts[other], domain=self.facts[other].domain | domain)
        self.scope.current[name] = other

    def tile(self, name: str, read: Read) -> tuple[Expression, Domain]:
        """The tile that holds a computed tensor, read at its own coordinates."""
        facts = self.facts.get(name)
        if facts is None:
            raise PlanError(f"'{read.tensor}' is read before this kernel computes it", read.span)
        plain = tuple(i for i in read.indices if isinstance(i, Rank) and i.name != self.tiling.loop)
        if facts.ranks and {i.name for i in plain} != set(facts.ranks) - {self.tiling.loop}:
            raise PlanError(
                f"'{read.tensor}' is read at other coordinates than it is computed at: it must be stored by a kernel of its own",
                read.span,
            )
        return self.held(name)

    def held(self, name: str) -> tuple[Expression, Domain]:
        """The tile of that name and where it has a value.

        A filled copy stands in for it if the reader wants no point that the fill took away: the fill's conjuncts are among those
        under which the name has a value, or among those of the equation that reads it (``assumed``).
        """
        domain = self.facts[name].domain
        tile = self.scope.named(name)
        for copy in self.scope.copies(tile):
            fill = self.facts[copy].fill
            if fill and fill[1] <= domain | self.assumed:
                tile = copy
        return Read(tile), domain

    def kind(self, node: Expression) -> str:
        """real, int or bool: what a tile expression computes."""
        return kind_of(node, lambda tile: self._kind_of_tile(tile), self.scalars)

    def _kind_of_tile(self, name: str) -> str:
        dtype = self.facts[name].type.dtype
        return "bool" if dtype == "bool" else "real" if is_float(dtype) else "int"

    def dtype_of(self, node: Expression) -> str:
        """The element type of the tile that holds ``node``."""
        if isinstance(node, Cast):
            return node.dtype
        if isinstance(node, Read):
            return self.facts[node.tensor].type.dtype
        return {"real": self.real, "int": "i64", "bool": "bool"}[self.kind(node)]

    def state_dtype(self, name: str) -> str:
        return {"real": self.real, "int": "i64", "bool": "bool"}[self.kinds.get(name, "real")]

    def axes_of(self, node: Expression) -> frozenset[str]:
        """The axes an expression over tiles has."""
        sizes = self.tiling.axis_sizes
        found: set[str] = set()
        for n in walk(node):
            if isinstance(n, Read):
                found.update(self.facts[n.tensor].type.ranks)
            elif isinstance(n, Rank) and n.name in sizes:
                found.add(n.name)
        return frozenset(found)

    def domain_axes(self, domain: Domain) -> frozenset[str]:
        """The axes that the conjuncts of a domain have."""
        sizes, found = self.tiling.axis_sizes, set()
        for rank in ranks_of(*domain):
            axis = f"{rank}.0" if f"{rank}.0" in sizes else rank
            if axis in sizes:
                found.add(axis)
        return frozenset(found)

    def is_about_tiles(self, conjunct: Expression) -> bool:
        """Whether whole tiles can be judged by a conjunct: it has no axis that is held whole, and reads integer inputs only."""
        stream = self.translator.stream
        ranks = ranks_of(conjunct)
        if not all(r == stream or self.tiling.is_program(r) for r in ranks):
            return False
        reads = [n for n in walk(conjunct) if isinstance(n, Read)]
        return all(r.tensor in self.translator.inputs and not is_float(self.dtypes[r.tensor]) for r in reads)

    def stream_bound(self) -> Expression:
        """``n < N``, as the cascade states it."""
        stream = self.translator.stream
        assert stream is not None
        return less(Rank(stream), self.tiling.extent(stream))

    def store_axes(self, ranks: tuple[str, ...]) -> tuple[Axis, ...]:
        stream = self.translator.stream
        return self.tiling.axes(tuple(f"{r}.0" if r == stream else r for r in ranks))

    def _ordered(self, axes: frozenset[str], first: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """Axes as a tuple: those of ``first`` in its order, then the others."""
        sizes = self.tiling.axis_sizes
        head = tuple(a for a in first if a.rank in axes)
        rest = sorted(axes - {a.rank for a in head})
        return (*head, *(Axis(r, sizes[r]) for r in rest))

    def _name(self, stem: str) -> str:
        name, number = stem, 1
        while name in self.facts:
            number += 1
            name = f"{stem}{number}"
        return name

    # -- loads --------------------------------------------------------------------------------------------------------------

    def load(self, read: Read, checks: Domain) -> Expression:
        """The tile of an input at a prepared read; ``checks`` are what keeps its indices in range."""
        translator, sizes = self.translator, self.tiling.axis_sizes
        key = (read.tensor, read.indices)
        known = self.scope.find_load(key)
        if known:
            return Read(known)
        indices = tuple(translator.place(i) for i in read.indices)
        order: dict[str, None] = {}
        for index in indices:
            for n in walk(index):
                names = (
                    [n.name] if isinstance(n, Rank) else self.facts[n.tensor].type.ranks if isinstance(n, Read) else ()
                )
                order.update(dict.fromkeys(name for name in names if name in sizes))
        axes = tuple(Axis(r, sizes[r]) for r in order)
        inside = self._is_inside(indices)
        scope = self.scope
        while scope.loop and not inside and scope.outer:
            scope = scope.outer
        conditions = set(checks)
        if translator.stream and Rank(translator.stream) in read.indices:
            conditions.add(self.stream_bound())
        if inside and not self._projecting:
            conditions |= self._projection(frozenset(a.rank for a in axes), read.tensor)
        partial = [c for c in sorted(conditions, key=str) if c in scope.predicate]
        always = [c for c in sorted(conditions, key=str) if c not in scope.predicate]
        self._projecting = True
        saved, self.scope = self.scope, scope
        where = conjunction([*self.tiling.row_bounds(axes), *map(translator.place, always)])
        partial_where = conjunction(map(translator.place, partial))
        self.scope, self._projecting = saved, False
        dtype = self.dtypes[read.tensor]
        name = self._name(f"{read.tensor}.tile")
        fill = Constant(False) if dtype == "bool" else Constant(0.0 if is_float(dtype) else 0)
        scope.statements.append(Load(name, TileType(dtype, axes), read.tensor, indices, where, partial_where, fill))
        self.facts[name] = TileFacts(TileType(dtype, axes), loaded=True, inside=inside)
        self.loaded[read.tensor] = None
        scope.loads[key] = name
        return Read(name)

    def member(self, node: Membership) -> Expression:
        """``item in T[i, :]``: whether any entry of the fibre equals the item. A coordinate outside T has no members."""
        key = (node.item, node.collection)
        known = self.scope.find_load(key)
        if known is None:
            collection, declared = node.collection, self.translator.inputs.get(node.collection.tensor)
            if declared is None:
                raise PlanError(
                    f"'{collection.tensor}' is computed: a kernel tests 'in' on inputs only, so pass it as an input",
                    node.span,
                )
            fibres = tuple(r for r, i in zip(declared.ranks, collection.indices, strict=True) if isinstance(i, Slice))
            over = self.tiling.axes(fibres)
            if len(over) != len(fibres):
                raise PlanError(
                    f"the fibre of '{collection.tensor}' is not held whole: give its axis a rank of its own", node.span
                )
            indices = tuple(
                Rank(r) if isinstance(i, Slice) else i for r, i in zip(declared.ranks, collection.indices, strict=True)
            )
            read = Read(collection.tensor, indices)
            checks = self.translator.checks(read)
            entries = self.load(read, frozenset(checks))
            equal = Comparison(("==",), (self.translator.place(node.item), entries))
            value = conjunction([*map(self.translator.place, checks), equal])
            assert value is not None
            known = self._name(f"{collection.tensor}.member")
            type = TileType("bool", self._ordered(self.axes_of(value) - {a.rank for a in over}, ()))
            self.scope.statements.append(Reduce(known, type, "any", over, value))
            self.facts[known] = TileFacts(type, inside=self.scope.loop is not None)
            self.scope.loads[key] = known
        return Unary("not", Read(known)) if node.negated else Read(known)

    def _is_inside(self, nodes: tuple[Expression, ...]) -> bool:
        loop = self.tiling.loop
        stream = {loop, f"{self.translator.stream}.0"} if loop else set()
        return any(
            (isinstance(n, Rank) and n.name in stream) or (isinstance(n, Read) and self.facts[n.tensor].inside)
            for node in nodes
            for n in walk(node)
        )

    def _projection(self, axes: frozenset[str], tensor: str) -> set[Expression]:
        """The conjuncts of the loop's filter that concern only the axes of a load: a tile reads a key only if it may be seen."""
        stream = self.translator.stream
        return {
            c
            for c in self.scope.predicate
            if stream in ranks_of(c)
            and self.domain_axes(frozenset({c})) <= axes
            and not any(isinstance(n, Read) and n.tensor == tensor for n in walk(c))
        }

    # -- maps and reductions --------------------------------------------------------------------------------------------------

    def filter(self, where: Expression | None) -> Domain:
        """The conjuncts of a filter of the cascade."""
        return EVERYWHERE if where is None else self.translator.domain(self.translator.prepare(where))

    def map(self, name: str, equation: Equation) -> None:
        """A map equation; a bare read of a tile is that tile."""
        translator = self.translator
        self.assumed = self.filter(equation.where)
        value, domain = translator.value(translator.prepare(equation.value))
        domain |= self.assumed
        self.assumed = EVERYWHERE
        value = self._with_typed_limits(value)
        if equation.target.dtype is not None:
            value = Cast(value, equation.target.dtype)
        axes = self._ordered(self.axes_of(value), self.tiling.axes(equation.target.ranks))
        ranks = tuple(r for r in equation.target.ranks if r != self.tiling.loop)
        inside = self.scope.loop is not None
        if isinstance(value, Read) and not name.endswith(".next"):
            facts = self.facts[value.tensor]
            self.facts[name] = TileFacts(facts.type, ranks, domain, facts.fill, facts.loaded, facts.inside)
            self.scope.current[name] = value.tensor
            return
        type = TileType(self.dtype_of(value), axes)
        self.scope.statements.append(Map(name, type, value))
        self.facts[name] = TileFacts(type, ranks, domain, self._fill_of(value, domain), inside=inside)

    def _temporary(
        self, stem: str, value: Expression, domain: Domain = EVERYWHERE, first: tuple[Axis, ...] = ()
    ) -> str:
        """The name of a tile with the value of an expression."""
        if isinstance(value, Read):
            return value.tensor
        name = self._name(stem)
        type = TileType(self.dtype_of(value), self._ordered(self.axes_of(value), first))
        self.scope.statements.append(Map(name, type, value))
        inside = self.scope.loop is not None
        self.facts[name] = TileFacts(type, domain=domain, fill=self._fill_of(value, domain), inside=inside)
        return name

    def _fill_of(self, value: Expression, domain: Domain) -> tuple[float, Domain] | None:
        """What a map holds at points its operands' fills removed."""
        best: tuple[float, Domain] | None = None
        for read in {n for n in walk(value) if isinstance(n, Read)}:
            fill = self._fill_at(read.tensor, domain)
            if fill is None:
                continue
            result = filled_value(value, self._operand_at(fill[1], {read.tensor: fill[0]}))
            if isinstance(result, float) and (best is None or len(fill[1]) > len(best[1])):
                best = (result, fill[1])
        return best

    def _fill_at(self, name: str, domain: Domain) -> tuple[float, Domain] | None:
        """What a tile holds where conjuncts fail: by its fill, and by a conjunct ``tile > -inf``, which fails at -inf only.

        (It fails at NaN too; there a pass may leave a NaN.)
        """
        fill = self.facts[name].fill
        implied = frozenset(c for c in domain if self._bounded_below(c) == name)
        if not implied:
            return fill
        if fill is None:
            return float("-inf"), implied
        return (fill[0], fill[1] | implied) if fill[0] == float("-inf") else fill

    def _bounded_below(self, conjunct: Expression) -> str | None:
        """The tile T of a conjunct ``T > -inf``."""
        match conjunct:
            case Comparison(operators=(">",), operands=(Read() as read, Constant(value=value))) if value == float(
                "-inf"
            ):
                found = self.translator.tile_of(read)
                return found[0].tensor if found and isinstance(found[0], Read) else None
        return None

    def _operand_at(
        self, domain: Domain, assume: Mapping[str, float] | None = None, finite: bool = False
    ) -> Callable[[str], Filled]:
        """What each tile holds at a point that some conjunct of ``domain`` removed."""
        # Rows are never reduced: a value per row (a statistic) is finite, whatever the filter does to the row's points.
        axes = self.domain_axes(domain) - {f"{t.rank}.0" for t in self.tiling.plan.program}

        def operand(name: str) -> Filled:
            if assume and name in assume:
                return assume[name]
            facts = self.facts[name]
            if facts.fill and domain <= facts.fill[1]:
                return facts.fill[0]
            varies = bool(axes & set(facts.type.ranks))
            return None if varies and not finite else FINITE

        return operand

    def reduction(self, name: str, equation: Equation, reduction: Reduction, accumulator: Expression | None) -> None:
        """A reduction equation, as a product of tiles where it is one; ``accumulator`` is combined with the result."""
        translator, tiling = self.translator, self.tiling
        self.assumed = self.filter(reduction.where)
        body, domain = translator.value(translator.prepare(reduction.body))
        domain |= self.assumed
        self.assumed = EVERYWHERE
        over = tiling.axes(reduction.ranks)
        if len(over) != len(reduction.ranks):
            lost = next(r for r in reduction.ranks if tiling.axis(r) is None)
            raise PlanError(f"rank '{lost}' is reduced in a kernel that spreads it over programs", equation.span)
        if self.scope.loop and f"{translator.stream}.0" in reduction.ranks:
            self.scope.reduced.append(domain)
        carried = None if accumulator is None else translator.value(translator.prepare(accumulator))[0]
        target = tiling.axes(equation.target.ranks)
        over_axes = frozenset(a.rank for a in over)
        product = None
        if reduction.operator == "sum" and self.kind(body) == "real":
            sizes = tiling.axis_sizes
            product = as_product(body, over_axes, self.axes_of, lambda r: sizes[r])
        own_domain = self.filter(equation.where)
        ranks = tuple(r for r in equation.target.ranks if r != tiling.loop)
        if product and product.right:
            type = self._dot(name, product, domain, over, target, carried)
        else:
            body = self._neutral(reduction.operator, body, domain, over)
            axes = self._ordered(self.axes_of(body) - over_axes, target)
            if carried is not None:
                axes = self._ordered(frozenset(a.rank for a in axes) | self.axes_of(carried), target)
            type = TileType({"real": self.real, "int": "i64", "bool": "bool"}[self.kind(body)], axes)
            self.scope.statements.append(Reduce(name, type, reduction.operator, over, body, carried))
        self.facts[name] = TileFacts(type, ranks, own_domain, inside=self.scope.loop is not None)
        if equation.target.dtype is not None and not name.endswith(".next"):
            rounded = self._temporary(f"{name}.rounded", Cast(Read(name), equation.target.dtype))
            self.scope.current[name] = rounded

    def _dot(
        self,
        name: str,
        product: Product,
        domain: Domain,
        over: tuple[Axis, ...],
        target: tuple[Axis, ...],
        carried: Expression | None,
    ) -> TileType:
        assert product.right is not None
        left = self._temporary(f"{name}.left", product.left.value, first=target)
        right = self._temporary(f"{name}.right", product.right.value, first=target)
        left, right = self._same_dtype(left, right)
        if domain:
            filled = self._neutral("sum", multiply(Read(left), Read(right)), domain, over, product=True)
            assert isinstance(filled, Binary) and isinstance(filled.left, Read) and isinstance(filled.right, Read)
            left, right = filled.left.tensor, filled.right.tensor
            left, right = self._unseen(left, right, domain), self._unseen(right, left, domain)
        axes = (set(self.facts[left].type.ranks) | set(self.facts[right].type.ranks)) - {a.rank for a in over}
        type = TileType(self.real, self._ordered(frozenset(axes), target))
        names = tuple(a.rank for a in over)
        if product.scale is None:
            self.scope.statements.append(Dot(name, type, left, right, names, carried))
            return type
        inner = self._name(f"{name}.sum")
        self.scope.statements.append(Dot(inner, type, left, right, names))
        self.facts[inner] = TileFacts(type, inside=self.scope.loop is not None)
        value = multiply(Read(inner), product.scale)
        value = value if carried is None else add(carried, value)
        type = TileType(self.real, self._ordered(self.axes_of(value), target))
        self.scope.statements.append(Map(name, type, value))
        return type

    def _same_dtype(self, left: str, right: str) -> tuple[str, str]:
        """Both operands of a product in one floating type: the more precise of the two."""
        types = [self.facts[n].type.dtype for n in (left, right)]
        floats = [t if is_float(t) else self.real for t in types]
        wide = max(floats, key=lambda t: PRECISION[t]) if floats[0] != floats[1] else floats[0]
        if {"f16", "bf16"} == set(floats):
            wide = self.real
        return (
            left if types[0] == wide else self._temporary(f"{left}.{wide}", Cast(Read(left), wide)),
            right if types[1] == wide else self._temporary(f"{right}.{wide}", Cast(Read(right), wide)),
        )

    # -- filters ------------------------------------------------------------------------------------------------------------------

    def _neutral(
        self, operator: str, body: Expression, domain: Domain, over: tuple[Axis, ...], product: bool = False
    ) -> Expression:
        """The body of a reduction with the identity wherever ``domain`` removed the point.

        Nothing is written if fills already made give the identity there; else one operand is filled, else the body itself.
        """
        identity = float(REDUCTIONS[operator].identity)
        reads = list(dict.fromkeys(n.tensor for n in walk(body) if isinstance(n, Read)))
        covered: set[Expression] = set()
        for name in reads:
            fill = self._fill_at(name, domain)
            if fill and filled_value(body, self._operand_at(fill[1], {name: fill[0]}, product)) == identity:
                covered |= fill[1]
        missing = frozenset(domain - covered)
        if not missing:
            return body
        axes = self.domain_axes(missing)
        choices = sorted(reads, key=lambda n: -prod(a.size for a in self.facts[n].type.axes))
        for name in choices:
            ranks = set(self.facts[name].type.ranks)
            if not axes <= ranks or self.kind(Read(name)) != "real":
                continue
            own = frozenset(c for c in domain if self.domain_axes(frozenset({c})) <= ranks)
            for value in dict.fromkeys((identity, float("-inf"), 0.0, float("inf"))):
                if filled_value(body, self._operand_at(own, {name: value}, product)) == identity:
                    return _replace_read(body, name, self._select(name, own, value))
        if product:
            # Fill the operand that has most of the axes, computed with all of them.
            assert isinstance(body, Binary) and isinstance(body.left, Read)
            first = self._temporary(
                f"{body.left.tensor}.all",
                Conditional(self.translator.place(conjunction(domain)), body.left, Constant(0.0)),
            )
            return multiply(Read(first), body.right)
        condition = self.translator.place(conjunction(domain))
        return Conditional(condition, body, self.identity(operator, self.kind(body)))

    def identity(self, operator: str, kind: str) -> Constant:
        """The identity of a reduction of such values: integers have a smallest and a largest one."""
        return self.typed(Constant(REDUCTIONS[operator].identity), kind)

    def _with_typed_limits(self, value: Expression) -> Expression:
        """``M == -inf``, the guard of a running maximum, for a tile of integers."""

        def change(node: Expression) -> Expression:
            if (
                isinstance(node, Comparison)
                and node.operators in (("==",), ("!=",))
                and "int" in (kinds := list(map(self.kind, node.operands)))
            ):
                typed = tuple(
                    self.typed(o, "int") if isinstance(o, Constant) and "real" in kinds else o for o in node.operands
                )
                return replace(node, operands=typed)
            return node

        return transform(value, change)

    def typed(self, constant: Constant, kind: str) -> Constant:
        """A constant among values of a kind: an infinity among integers is the last of them on its side."""
        if kind == "int" and constant.value in (float("inf"), float("-inf")):
            return Constant(2**63 - 1 if constant.value > 0 else -(2**63))
        return Constant(bool(constant.value > 0)) if kind == "bool" and isinstance(constant.value, float) else constant

    def _select(self, name: str, domain: Domain, value: float) -> str:
        """A copy of a tile that holds ``value`` where ``domain`` removed the point; later readers of its other points get it too."""
        facts = self.facts[name]
        result = self._name(f"{name}.fill")
        partial = self.scope.loop is not None and domain <= self.scope.predicate
        condition = self.translator.place(conjunction(sorted(domain, key=str)))
        self.scope.statements.append(Select(result, facts.type, condition, Read(name), Constant(value), partial))
        self.facts[result] = TileFacts(
            facts.type, facts.ranks, facts.domain, (value, domain), inside=self.scope.loop is not None
        )
        self.scope.filled.setdefault(name, []).append(result)
        return result

    def _unseen(self, operand: str, other: str, domain: Domain) -> str:
        """An operand of a product with 0 at coordinates that no point of the tile sees, so that a NaN there cannot leak.

        ``0 * v`` is 0 only for finite v. Conjuncts of the loop's filter on the operand's own axes mask its load; all others are tested here.
        """
        facts = self.facts[operand]
        own_axes = frozenset(facts.type.ranks)
        if not self.facts[other].fill or facts.fill:
            return operand
        about = {
            c: self.domain_axes(frozenset({c}))
            for c in sorted(domain, key=str)
            if not any(isinstance(n, Read) and n.tensor not in self.translator.inputs for n in walk(c))
        }
        own = [c for c, axes in about.items() if axes and axes <= own_axes and c not in self.scope.predicate]
        cross = [c for c, axes in about.items() if axes & own_axes and not axes <= own_axes]
        rows = [c for c, axes in about.items() if cross and axes and not axes & own_axes]
        if not own and not cross:
            return operand
        tested = frozenset([*own, *cross, *rows])
        condition = conjunction(map(self.translator.place, [*own, *cross, *rows]))
        assert condition is not None
        if cross:
            condition = self._seen(operand, own_axes, tested, condition)
        result = self._name(f"{operand}.visible")
        partial = self.scope.loop is not None and tested <= self.scope.predicate
        self.scope.statements.append(Select(result, facts.type, condition, Read(operand), Constant(0.0), partial))
        inside = self.scope.loop is not None
        self.facts[result] = TileFacts(facts.type, facts.ranks, facts.domain, (0.0, tested), inside=inside)
        return result

    def _seen(self, operand: str, own_axes: frozenset[str], tested: Domain, condition: Expression) -> Expression:
        """Whether some point of the tile sees a coordinate: the condition, over every axis the operand lacks."""
        sizes = self.tiling.axis_sizes
        axes = self.domain_axes(tested)
        beyond = tuple(Axis(r, sizes[r]) for r in sorted(axes - own_axes))
        type = TileType("bool", tuple(a for a in self.facts[operand].type.axes if a.rank in axes))
        seen = self._name(f"{operand}.seen")
        bounded = conjunction([*self.tiling.row_bounds(beyond), condition])
        assert bounded is not None
        self.scope.statements.append(Reduce(seen, type, "any", beyond, bounded))
        self.facts[seen] = TileFacts(type, inside=self.scope.loop is not None)
        return Read(seen)

    def filled_with_zero(self, value: Expression, domain: Domain) -> Expression:
        zero = Constant(0.0) if self.kind(value) == "real" else Constant(False if self.kind(value) == "bool" else 0)
        return Conditional(self.translator.place(conjunction(sorted(domain, key=str))), value, zero)

    def accumulation(self, value: Expression, operator: str, local: str) -> Expression | None:
        """What is left of ``rest combine local`` without ``local``; None if the value is not of that form."""
        combine = REDUCTIONS[operator].combine
        terms = _terms(value, combine)
        rest = [t for t in terms if not (isinstance(t, Read) and t.tensor == local)]
        if len(rest) != len(terms) - 1 or any(isinstance(n, Read) and n.tensor == local for t in rest for n in walk(t)):
            return None
        result = rest[0]
        for term in rest[1:]:
            result = _joined(combine, result, term)
        return result


def _terms(node: Expression, combine: str) -> list[Expression]:
    from einsum_compiler.ir.expression import Call

    if isinstance(node, Binary) and node.operator == combine:
        return _terms(node.left, combine) + _terms(node.right, combine)
    if isinstance(node, Call) and node.function == combine:
        return [t for a in node.arguments for t in _terms(a, combine)]
    return [node]


def _joined(combine: str, left: Expression, right: Expression) -> Expression:
    from einsum_compiler.ir.expression import Call

    return Call(combine, (left, right)) if combine in ("max", "min") else Binary(combine, left, right)


def _replace_read(node: Expression, name: str, new: str) -> Expression:
    from einsum_compiler.ir.expression import transform

    return transform(node, lambda n: Read(new) if isinstance(n, Read) and n.tensor == name else n)
