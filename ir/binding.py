"""The arguments of a call, matched to a cascade: tensors, scalars, and the extent of every rank.

A warm call runs this file, ``ir.parameters`` and ``ir.scalar``; none imports a heavy library.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Tensor
from einsum_compiler.ir.divisors import check_divisions, divisions
from einsum_compiler.ir.errors import ShapeError, SpecError
from einsum_compiler.ir.expression import CascadeCall, Reduction, Selection
from einsum_compiler.ir.extents import equalities, expressions, selections, with_whole
from einsum_compiler.ir.hints import counted, did_you_mean, listed
from einsum_compiler.ir.parameters import extent_of, is_meta, is_symbol, stand_in, value_of
from einsum_compiler.ir.scalar import Number, evaluate_scalar
from einsum_compiler.ir.span import Span
from einsum_compiler.ir.torch_types import dtype_name


@dataclass(frozen=True, slots=True)
class Binding:
    """What one call gives a cascade.

    ``tensors``: the inputs by name. ``scalars``: the parameters that are no extents, as Python numbers. ``extents``: the
    extent of every rank. ``scalar_tensors``: those parameters that were given as tensors (they may want a gradient).
    """

    tensors: dict[str, Any]
    scalars: dict[str, Number]
    extents: dict[str, int]
    scalar_tensors: dict[str, Any] = field(default_factory=dict)

    def names(self) -> dict[str, Number]:
        """Parameters by name and extents by upper-case name, for ``evaluate_scalar``."""
        return {**self.scalars, **{rank.upper(): extent for rank, extent in self.extents.items()}}


@dataclass(frozen=True, slots=True)
class _Size:
    """An extent, and what asserts it."""

    value: int
    source: str


def bind(cascade: Cascade, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Binding:
    """Match a call: tensors in the order declared, then parameters, each also by keyword.

    Raises ``ShapeError`` for a wrong number, dtype or device, and for extents that disagree.
    """
    return binder(cascade)(arguments, keywords)


def binder(cascade: Cascade) -> Binder:
    """The ``Binder`` of a cascade, made once per object. Raises ``SpecError`` for a cascade that only others can call."""
    # By identity: hashing a cascade walks the whole of it, at every call.
    found = _binders.get(id(cascade))
    if found is None or found.cascade is not cascade:
        if len(_binders) > 256:
            _binders.clear()
        found = _binders[id(cascade)] = Binder(cascade)
    return found


_binders: dict[int, Binder] = {}


class Binder:
    """Matches calls to one cascade; what depends on the cascade alone is computed once."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        for tensor in cascade.inputs:
            if ELLIPSIS in tensor.ranks:
                raise SpecError(
                    f"{cascade.name} can only be called by other cascades: the ranks of {tensor.name} are theirs ('...')",
                    tensor.span or cascade.span,
                )
        self.names = [t.name for t in cascade.inputs] + [p.name for p in cascade.parameters]
        self.equalities = equalities(cascade)
        self.selections = selections(cascade)
        self.divisions = divisions(cascade)
        ranks = dict.fromkeys(r for t in cascade.inputs for r in t.ranks)
        for equation in cascade.equations:
            ranks.update(dict.fromkeys(r for t in equation.targets for r in t.ranks))
            # A reduced rank may occur inside index expressions only, and a tiled one no longer bare.
            bound = (
                r for n in expressions(equation) if isinstance(n, Reduction | Selection | CascadeCall) for r in n.ranks
            )
            ranks.update(dict.fromkeys(bound))
        for equality in self.equalities:
            ranks.update(dict.fromkeys((equality.rank, equality.axis_rank)))
        self.ranks = tuple(dict.fromkeys((*ranks, *sorted(with_whole(ranks)))))

    def __call__(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Binding:
        given = self.match(arguments, keywords)
        tensors = {t.name: self.tensor(t, given) for t in self.cascade.inputs}
        self.same_device(tensors)
        sizes: dict[str, _Size] = {}
        for declared in self.cascade.inputs:
            self.measure(declared, tensors[declared.name].shape, sizes)
        self.spread(sizes)
        scalars: dict[str, Number] = {}
        scalar_tensors: dict[str, Any] = {}
        for parameter in self.cascade.parameters:
            value = value_of(parameter, given, _names(scalars, sizes))
            rank = parameter.name.lower()
            if parameter.name != rank and rank in self.ranks:
                self.assert_size(
                    sizes, rank, extent_of(parameter, value), f"the parameter {parameter.name}", parameter.span
                )
                self.spread(sizes)
                continue
            scalars[parameter.name] = value
            if hasattr(given.get(parameter.name), "requires_grad"):  # a tensor, not a number of NumPy
                scalar_tensors[parameter.name] = given[parameter.name]
        self.select(sizes, scalars)
        for parameter in self.cascade.parameters:
            if is_meta(tensor := scalar_tensors.get(parameter.name)):
                scalars[parameter.name] = stand_in(parameter, tensor, tensors)
        for rank in self.ranks:
            if rank not in sizes:
                upper = rank.upper()
                raise SpecError(
                    f"the extent of rank {rank} is unknown: no input has this rank",
                    self.cascade.span,
                    (f"give it with the parameters: ; {upper} = ...",),
                )
        extents = {r: s.value for r, s in sizes.items()}
        if not any(map(is_symbol, (*extents.values(), *scalars.values()))):
            check_divisions(self.divisions, extents, scalars)
        return Binding(tensors, scalars, extents, scalar_tensors)

    def match(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name."""
        if len(arguments) > len(self.names):
            raise ShapeError(
                f"{self.cascade.name} takes {counted(len(self.names), 'argument')} ({', '.join(self.names)}), "
                f"found {len(arguments)}",
                self.cascade.span,
            )
        given = dict(zip(self.names, arguments, strict=False))
        for name, value in keywords.items():
            if name not in self.names:
                raise ShapeError(
                    f"{self.cascade.name} has no argument {name!r}",
                    self.cascade.span,
                    did_you_mean(name, self.names, all_of=True),
                )
            if name in given:
                raise ShapeError(
                    f"{self.cascade.name} got {name!r} twice: by position and by keyword", self.cascade.span
                )
            given[name] = value
        missing = [t.name for t in self.cascade.inputs if t.name not in given]
        missing += [p.name for p in self.cascade.parameters if p.name not in given and p.default is None]
        if missing:
            what = "argument" if len(missing) == 1 else "arguments"
            raise ShapeError(f"{self.cascade.name} misses the {what} {listed(missing)}", self.cascade.span)
        return given

    def tensor(self, declared: Tensor, given: dict[str, Any]) -> Any:
        value = given[declared.name]
        if getattr(value, "is_nested", False):
            lengths = ("lengths are a tensor of their own: where n < LEN[b]",)
            raise ShapeError(f"{declared.name}: expected a dense tensor, found a nested one", declared.span, lengths)
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if shape is None or dtype is None:
            raise ShapeError(
                f"{declared.name}: expected a tensor with the ranks {_ranks(declared)}, found {type(value).__name__}",
                declared.span,
            )
        if len(shape) != len(declared.ranks):
            raise ShapeError(
                f"{declared.name}: expected {counted(len(declared.ranks), 'axis')} ({_ranks(declared)}), "
                f"found {len(shape)}: shape {_shape(shape)}",
                declared.span,
            )
        found = dtype if isinstance(dtype, str) else dtype_name(dtype)
        if found is None and not str(dtype).startswith("torch."):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            note = ("torch.from_numpy makes a tensor of an array",) if kind == "numpy.ndarray" else ()
            raise ShapeError(f"{declared.name}: expected a tensor, found {kind}", declared.span, note)
        if (layout := str(getattr(value, "layout", "torch.strided"))) != "torch.strided":
            note = ("its to_dense() is one",)
            raise ShapeError(
                f"{declared.name}: expected a dense tensor, found the layout {layout}", declared.span, note
            )
        if found is None:
            raise ShapeError(f"{declared.name}: the element type {dtype} is not one of the language", declared.span)
        if declared.dtype is not None and found != declared.dtype:
            raise ShapeError(
                f"{declared.name}: expected elements of type {declared.dtype}, found {found}", declared.span
            )
        return value

    def same_device(self, tensors: dict[str, Any]) -> None:
        devices = {name: getattr(value, "device", None) for name, value in tensors.items()}
        known = [(name, device) for name, device in devices.items() if device is not None]
        for name, device in known[1:]:
            if device != known[0][1]:
                raise ShapeError(
                    f"{known[0][0]} is on {known[0][1]} and {name} is on {device}: move them to one device",
                    self.cascade.span,
                )

    def measure(self, declared: Tensor, shape: tuple[int, ...], sizes: dict[str, _Size]) -> None:
        """The extents that the shape of one input binds."""
        for rank, size in zip(declared.ranks, shape, strict=True):
            known = sizes.get(rank)
            if known is None or known.value != size:
                source = f"{declared.name}[{_ranks(declared)}] of shape {_shape(shape)}"
                self.assert_size(sizes, rank, size, source, declared.span)

    def assert_size(self, sizes: dict[str, _Size], rank: str, value: int, source: str, span: Span | None) -> None:
        known = sizes.setdefault(rank, _Size(value, source))
        if known.value != value:
            bare = next((e.tensor for e in self.equalities if e.rank == rank), None)
            notes = (f"{bare} is read with a bare {rank}; {_beyond(rank)}",) if bare else ()
            raise ShapeError(
                f"the extents of rank {rank} disagree: {known.value} in {known.source}, {value} in {source}",
                span,
                notes,
            )

    def spread(self, sizes: dict[str, _Size]) -> None:
        """Carry extents through reads with bare ranks, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for e in self.equalities:
                one, other = sizes.get(e.rank), sizes.get(e.axis_rank)
                if one is not None and other is not None:
                    if one.value != other.value:
                        raise ShapeError(
                            f"rank {e.rank} reads axis {e.axis} ({e.axis_rank}) of {e.tensor}, and their extents disagree: "
                            f"{one.value} in {one.source}, {other.value} in {other.source}",
                            e.span,
                            (_beyond(e.rank),),
                        )
                elif one is not None:
                    sizes[e.axis_rank] = one
                    changed = True
                elif other is not None:
                    sizes[e.rank] = other
                    changed = True

    def select(self, sizes: dict[str, _Size], scalars: dict[str, Number]) -> None:
        """The extents of the new ranks of selections."""
        for selected in self.selections:
            if selected.rank in sizes:
                continue
            if selected.count is None:
                if all(r in sizes for r in selected.candidates):
                    product = functools.reduce(lambda a, r: a * sizes[r].value, selected.candidates, 1)
                    sizes[selected.rank] = _Size(product, f"argsort of {listed(selected.candidates)}")
            else:
                count = evaluate_scalar(selected.count, _names(scalars, sizes))
                if isinstance(count, bool) or not float(count).is_integer() or count < 0:
                    raise ShapeError(f"the count of topk is {count}: expected an integer from 0", selected.count.span)
                sizes[selected.rank] = _Size(int(count), "the count of topk")
            self.spread(sizes)


def _beyond(rank: str) -> str:
    return f"where {rank} may run beyond the axis, the index is {rank} + 0: it is empty there"


def _names(scalars: Mapping[str, Number], sizes: Mapping[str, _Size]) -> dict[str, Any]:
    """Parameters and extents that are known so far, for ``evaluate_scalar``."""
    return {**scalars, **{r.upper(): s.value for r, s in sizes.items()}}


def _ranks(declared: Tensor) -> str:
    return ",".join(declared.ranks)


def _shape(shape: Any) -> str:
    return f"({', '.join(map(str, shape))})"
