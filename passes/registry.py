"""The registry of passes: the names that a pipeline string may use, in the order they usually run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.passes.box_order import BoxOrder, box_order
from einsum_compiler.passes.certificate import Transformed
from einsum_compiler.passes.defer import Defer, defer
from einsum_compiler.passes.flatten import Flatten, flatten
from einsum_compiler.passes.inline import Inline, inline
from einsum_compiler.passes.lattices.lattices import Lattices, over_lattices
from einsum_compiler.passes.normalize import Normalize, normalize
from einsum_compiler.passes.online import Online, online
from einsum_compiler.passes.pipeline import Context, Pass
from einsum_compiler.passes.precision import Precision, precision
from einsum_compiler.passes.reassociate import Reassociate, reassociate
from einsum_compiler.passes.split import Split, split


def _plain(run: Callable[[Cascade, Any], Cascade]) -> Callable[[Cascade, Any, Context], Transformed]:
    return lambda cascade, options, context: Transformed(run(cascade, options))


def _proving(run: Callable[[Cascade, Any], Transformed]) -> Callable[[Cascade, Any, Context], Transformed]:
    return lambda cascade, options, context: run(cascade, options)


PASSES = {
    p.name: p
    for p in (
        Pass("inline", Inline, lambda c, o, context: Transformed(inline(c, context.module))),
        Pass("normalize", Normalize, _plain(normalize)),
        Pass("lattices", Lattices, _proving(over_lattices)),
        Pass("reassociate", Reassociate, _proving(reassociate)),
        Pass("flatten", Flatten, _plain(flatten)),
        Pass("box_order", BoxOrder, _plain(box_order)),
        Pass("split", Split, _proving(split)),
        Pass("defer", Defer, _proving(defer)),
        Pass("online", Online, _proving(online)),
        Pass("precision", Precision, lambda c, o, context: Transformed(precision(c, context.dtypes))),
    )
}
