"""Main memory behind a cache: different elements against those the interpreter touches, and the model recomputed by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.backends.reference import tile_statements
from einsum_compiler.inspection import tile_kernels
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.passes.traffic import CachedTraffic, traffic_behind_cache
from einsum_compiler.passes.traffic.cache import families_of
from einsum_compiler.passes.traffic.distinct import distinct, is_exact, taken_apart
from einsum_compiler.passes.traffic.space import Space
from tests.passes.traffic.attentions import attentions
from tests.passes.traffic.counted import Compared, compared, random_plan
from tests.passes.traffic.test_exact import LENGTHS, TILES, attention_inputs

Touches = dict[str, list[tuple[dict[str, int], str, set[int]]]]


@pytest.fixture(scope="module")
def touches() -> Iterator[Touches]:
    """By kernel, every load and store of the interpreter: the indices of programs and loop, the tensor, its elements."""
    found: Touches = defaultdict(list)
    places = tile_statements.Run._places

    def recorded(run: Any, tensor: str, *arguments: Any) -> Any:
        where, mask = places(run, tensor, *arguments)
        flat = torch.zeros(mask.shape, dtype=torch.int64)
        for place, extent in zip(where, run.tensors[tensor].shape, strict=True):
            flat = flat * extent + place
        found[run.kernel.name].append((dict(run.scope.indices), tensor, set(flat[mask].tolist())))
        return where, mask

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_statements.Run, "_places", recorded)
        yield found


def check_distinct(one: Compared, touches: Touches) -> None:
    """The different elements that the steps of every program rank touch: said exactly, or too many where indices are neither bare nor shared."""
    space = Space.of(one.kernel, one.sizes, {"W": 6, "scale": 0.5}, one.tensors)
    order = tuple(space.counts)
    families = families_of(space)
    for depth in range(len(order) + 1):
        steps: dict[str, dict[tuple[int, ...], set[int]]] = defaultdict(lambda: defaultdict(set))
        for indices, tensor, elements in touches[one.kernel.name]:
            steps[tensor][tuple(indices[r] for r in order[:depth])] |= elements
        for tensor, sets in steps.items():
            mine = [f for f in families if f.tensor == tensor]
            really, said = sum(map(len, sets.values())), sum(distinct(space, f, order[:depth]) for f in mine)
            assert said >= really, (tensor, depth)
            if len(mine) == 1 and is_exact(*taken_apart(space, mine[0])):
                assert said == really, (tensor, depth)


@given(attentions(), st.sampled_from([2, 4]), LENGTHS, TILES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_different_elements_of_random_attentions(
    touches: Touches, text: str, heads: int, lengths: tuple[int, int], tiles: list[int]
) -> None:
    kernel = ec.compile(text)
    tensors = attention_inputs(kernel, heads, *lengths)
    plan = random_plan(parse_plan(kernel.ir("plan", **tensors)), tiles)
    touches.clear()
    for one in compared(kernel, kernel.binding(**tensors), plan=plan):
        check_distinct(one, touches)


SHARED = {
    "heads of a tile share keys": (
        "cascade one(Q[h,m,e], K[g,n,e]) -> S[h,m,n] { S[h,m,n] = Q[h,m,e] * K[h // (H // G),n,e] }",
        "plan one { kernel S { program h:4, m:16, n:16  stream e:8 } }",
        {"Q": (6, 40, 8), "K": (2, 36, 8)},
    ),
    "every row is read twice": (
        "cascade one(X[i,e], Y[m,e]) -> Z[m] { Z[m] = sum[e](X[m // 2,e] * Y[m,e]) }",
        "plan one { kernel Z { program m:16  stream e:4 } }",
        {"X": (21, 6), "Y": (41, 6)},
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_coordinates_of_a_tile_that_share_elements(touches: Touches, name: str) -> None:
    text, plan, shapes = SHARED[name]
    kernel = ec.compile(text)
    tensors = {n: torch.randn(shape) for n, shape in shapes.items()}
    touches.clear()
    (one,) = compared(kernel, kernel.binding(**tensors), plan=parse_plan(plan))
    space = Space.of(one.kernel, one.sizes, {}, one.tensors)
    assert all(is_exact(*taken_apart(space, f)) for f in families_of(space))
    assert not all(is_exact(space, f) for f in families_of(space))
    check_distinct(one, touches)


# By hand


def behind(text: str, plan: str, capacity: int, **shapes: tuple[int, ...]) -> CachedTraffic:
    kernel = ec.compile(text)
    binding = kernel.binding(**{name: torch.empty(shape) for name, shape in shapes.items()})
    (program,) = tile_kernels(kernel.derivation, binding, "cpu", parse_plan(plan))
    return traffic_behind_cache(program, binding.extents, {}, {}, capacity)


HEADS = """cascade heads(Q[h,m,e], K[g,n,e], V[g,n,f]) -> O[h,m,f] {
  S[h,m,n] = Q[h,m,e] * K[h // (H // G),n,e]  A[h,m,n] = softmax[n](S[h,m,n])  O[h,m,f] = A[h,m,n] * V[h // (H // G),n,f]
}"""
PLAN = "plan heads { kernel O { program h, m:64  stream n:64  resident e, f } }"
SHAPES = {"Q": (4, 256, 64), "K": (2, 256, 64), "V": (2, 256, 64)}
ROWS, KEYS = 64 * 64, 256 * 64  # elements of a tile of Q or O, and of K or V of one head

# One program touches its tiles of Q and O, and K and V of its head. A head: 4 tiles of Q and O. All: 4 heads of Q and O, 2 of K and V.
PROGRAM, HEAD, KERNEL = (4 * n for n in (2 * ROWS + 2 * KEYS, 4 * 2 * ROWS + 2 * KEYS, 4 * 4 * 2 * ROWS + 2 * 2 * KEYS))


@pytest.mark.parametrize(
    ("capacity", "kept", "heads_fetched"),
    [
        (KERNEL, "", 2),  # everything fits: every element once
        (HEAD, "h", 2),  # what one head touches fits: the next head of the group finds K and V
        (
            PROGRAM,
            "m.1",
            4,
        ),  # what one program touches fits: the next rows find K and V of the head, the next head does not
        (PROGRAM - 1, None, 4 * 4),  # not even that: every program fetches K and V of its head
    ],
)
def test_a_cache_keeps_what_the_next_program_reads_again(capacity: int, kept: str | None, heads_fetched: int) -> None:
    found = behind(HEADS, PLAN, capacity, **SHAPES)
    assert found.working_sets == (("", KERNEL), ("h", HEAD), ("m.1", PROGRAM))
    assert found.kept == kept
    moved = {t.tensor: (t.loaded, t.stored) for t in found.traffic.tensors}
    whole = 4 * 4 * ROWS
    assert moved == {
        "Q": (whole, 0), "K": (heads_fetched * KEYS, 0), "V": (heads_fetched * KEYS, 0), "O": (0, whole),
    }  # fmt: skip


@pytest.mark.parametrize(("rows", "moved"), [(63, 70.3), (255, 18.9), (1023, 6.3)])
def test_stationary_rows_reach_the_traffic_of_theory(rows: int, moved: float) -> None:
    # One pass with P0 stationary rows: ceil(P / P0) * M * (E + F) + P * (E + F) elements for P = M = 4096 and E = F = 128 (millions).
    text = "cascade one(Q[m,e], K[n,e], V[n,f]) -> O[m,f] { S[m,n] = Q[m,e] * K[n,e]  A[m,n] = softmax[n](S[m,n])  O[m,f] = A[m,n] * V[n,f] }"
    plan = f"plan one {{ kernel O {{ program m:{rows}  stream n:16  resident e, f }} }}"
    found = behind(text, plan, 0, Q=(4096, 128), K=(4096, 128), V=(4096, 128))
    elements = sum((t.loaded or 0) + (t.stored or 0) for t in found.traffic.tensors)
    assert elements == -(-4096 // rows) * 4096 * 256 + 4096 * 256
    assert round(elements / 1e6, 1) == moved
