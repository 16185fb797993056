"""Axes of products that lie behind one another: the runtime is called once for all of their coordinates."""

from __future__ import annotations

import re

import pytest

from einsum_compiler.backends.cpu.emit import emit_cpu
from einsum_compiler.ir.tile_parser import parse_kernel
from tests.backends.test_cpu import run_and_check
from tests.backends.tile_samples import Sample, normal

# Axes of 16, but for q, of 5, whose rows are padded; then the rows, columns and depth of one call, and the loops around it.
SIZES = {"q": 5}
FORMS = {
    "rows": ("abk", "kc", "abc", (256, 16, 16), 0),
    "depth": ("akl", "klc", "ac", (16, 16, 256), 0),
    "rows of which one tile has others": ("akb", "kc", "abc", (16, 16, 16), 1),
    "a depth that one operand pads": ("akq", "kqc", "ac", (16, 16, 16), 1),
    "the depth behind the longest": ("alkq", "lkqc", "ac", (16, 16, 256), 1),
    "columns": ("ak", "kbc", "abc", (16, 256, 16), 0),
    "a batch": ("bak", "bkc", "bac", (16, 16, 16), 1),
}


def sample(left: str, right: str, result: str) -> Sample:
    """Tiles of two whole tensors, made by maps so that they lie in scratch, and their product."""

    def size(axis: str) -> int:
        return SIZES.get(axis, 16)

    def type_of(axes: str) -> str:
        return f"f32[{', '.join(f'{a}:{size(a)}' for a in axes)}]"

    def tensor(name: str, axes: str) -> str:
        return f"{name}: f32[{', '.join(str(size(a)) for a in axes)}]"

    def index(axes: str) -> str:
        return ", ".join(axes)

    over = ", ".join(a for a in left if a in right and a not in result)
    kernel = parse_kernel(f"""
kernel joined({tensor("X", left)}, {tensor("Y", right)}; extents z) -> {tensor("O", result)} {{
  program z in Z
  x: {type_of(left)} = load X[{index(left)}] fill 0
  y: {type_of(right)} = load Y[{index(right)}] fill 0
  x2: {type_of(left)} = map x * 2
  y2: {type_of(right)} = map y + 1
  o: {type_of(result)} = dot(x2, y2) over {over}
  p: {type_of(result)} = map o * 3
  store O[{index(result)}] over {", ".join(f"{a}:{size(a)}" for a in result)} = p
}}""")
    tensors = {"X": normal(*map(size, left)), "Y": normal(*map(size, right), seed=1)}
    return Sample(kernel, tensors, {}, {"z": 1})


@pytest.mark.parametrize("form", FORMS)
def test_axes_behind_one_another_are_one(form: str) -> None:
    left, right, result, sizes, loops = FORMS[form]
    given = sample(left, right, result)
    code, _, call = emit_cpu(given.kernel).partition("// o: ")[2].partition("tile::product(")
    rows, columns, depth = sizes
    assert re.match(rf".*, {rows}, tile::padded\({columns}\), {depth}, ", call), call.partition("\n")[0]
    assert code.count("for (long") == loops
    run_and_check(given)
