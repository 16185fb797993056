"""The ranges of a loop as Triton loops: those that run the same body, one after the other, share one.

    for m in [a, b): body; for m in [c, d): body    ->    for step in [0, (b - a) + (d - c)): m = a + step, from the second range on c - b further; body

Law: the body of a range depends on whether its tiles are partial and on nothing else, and the sequence of indices is the same. A body that stands once is compiled
once: Triton keeps the addresses of every copy in registers at the same time (causal attention's gradient of the keys, heads of 128, sm_90: 176 bytes of spills with two copies
of its partial body, none with one).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from einsum_compiler.backends.triton.combine import Scope
from einsum_compiler.backends.triton.expressions import print_value
from einsum_compiler.backends.triton.frame import Frame
from einsum_compiler.backends.triton.value import SUM, cast
from einsum_compiler.ir.errors import BackendError
from einsum_compiler.ir.tile import Loop, Range, TileList


def headed(loop: Loop, index: str, frame: Frame) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """For every loop in turn its head, the first lines of its body, and whether that body is the one of partial tiles. Emits what heads need before."""
    number = 0
    for _, group in itertools.groupby(loop.ranges, key=lambda r: (isinstance(r, Range), r.partial)):
        parts = list(group)
        ranges = [p for p in parts if isinstance(p, Range)]
        scope = frame.scope(())
        if len(ranges) > 1:
            yield *_joined(ranges, loop.rank, index, number, frame, scope), ranges[0].partial
        elif ranges:
            yield (
                f"for {index} in range({_bounds(*_limits(ranges[0], loop.rank, scope), frame)}):",
                (),
                ranges[0].partial,
            )
        else:
            for position, part in enumerate(p for p in parts if isinstance(p, TileList)):
                bounds, counter, entry = _listed(part, number + position, frame, scope)
                yield f"for {counter} in range({bounds}):", (f"{index} = {entry}",), part.partial
        number += len(parts)


def _joined(
    ranges: Sequence[Range], rank: str, index: str, number: int, frame: Frame, scope: Scope
) -> tuple[str, tuple[str, ...]]:
    """One loop over several ranges, and how its counter becomes the index."""
    step = frame.names.of(f"{rank}.step", f"ranges {number}")
    done = before = "0"
    code = step
    for position, part in enumerate(ranges):
        lower, upper = (_whole(c, frame) for c in _limits(part, rank, scope))
        first, last = (frame.names.of(f"{rank}.{word}", f"range {number + position}") for word in ("first", "last"))
        frame.emit(f"{first} = {lower}")
        frame.emit(f"{last} = {_largest(first, upper, frame)}")
        code += f" + {first}" if not position else f" + ({step} >= {done}) * ({first} - {before})"
        before = last
        done = f"{last} - {first}" if not position else f"{done} + {last} - {first}"
    return f"for {step} in range({_bounds('0', done, frame)}):", (f"{index} = {code}",)


def _limits(part: Range, rank: str, scope: Scope) -> tuple[str, str]:
    lower, upper = print_value(part.lower, scope), print_value(part.upper, scope)
    if lower.dims or upper.dims:
        raise BackendError(f"the bounds of loop '{rank}' are tiles, not scalars")
    return lower.code, upper.code


def _whole(code: str, frame: Frame) -> str:
    """A whole number as Python and Triton compute with it: under the interpreter a scalar is a tensor."""
    if not frame.settings.interpreted:
        return code
    frame.helpers.add("number")
    return f"number({code})"


def _largest(first: str, second: str, frame: Frame) -> str:
    return f"max({first}, {second})" if frame.settings.interpreted else f"tl.maximum({first}, {second})"


def _bounds(lower: str, upper: str, frame: Frame) -> str:
    return f"{_whole(lower, frame)}, {_whole(upper, frame)}"


def _listed(part: TileList, number: int, frame: Frame, scope: Scope) -> tuple[str, str, str]:
    """Bounds, counter and index of a loop over the tiles a schedule lists for this program."""
    offsets, tiles = frame.array(f"{part.schedule}.offsets"), frame.array(f"{part.schedule}.tiles")
    position = cast(print_value(part.position, scope), "i64").at(SUM + 1)
    first = 1 if part.partial else 0
    begin, end = (frame.names.of(f"{part.schedule}.{word}", f"list {number}") for word in ("begin", "end"))
    for name, step in ((begin, first), (end, first + 1)):
        frame.emit(f"{name} = tl.load({offsets} + {position} * 2{f' + {step}' if step else ''})")
    counter = frame.names.of(f"{part.schedule}.entry", "list")
    return _bounds(begin, end, frame), counter, f"tl.load({tiles} + {counter})"
