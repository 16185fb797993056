"""Exact traffic: equal to the interpreter's counts, never below what must move, and recomputed by hand."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.inspection import traffics
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.plan_parser import parse_plan
from tests import strategies
from tests.passes.traffic.attentions import SIZES, attentions
from tests.passes.traffic.counted import assert_equal_counts, compared, normal, random_plan

STEPS = tuple(step for step in strategies._STEPS if step is not strategies._recurrence)
EXTENTS = st.tuples(*[st.sampled_from([1, 3, 17, 40])] * 4)
TILES = st.lists(st.sampled_from([2, 3, 8, 16, 24, 64]), min_size=24, max_size=24)
LENGTHS = st.sampled_from([(1, 1), (3, 17), (17, 3), (9, 40)])
PLAIN = "S[m,n] = Q[m,e] * K[n,e]{where}  A[m,n] = softmax[n](S[m,n])  O[m,f] = A[m,n] * V[n,f]"


@given(strategies.cascades(6, STEPS), EXTENTS, TILES, st.booleans())
@settings(max_examples=35)
def test_random_cascades_and_plans(cascade: Cascade, extents: tuple[int, ...], tiles: list[int], chosen: bool) -> None:
    kernel = ec.compile(str(cascade))
    tensors = normal(dict(zip("mnef", extents, strict=True)), kernel)
    plan = None if chosen else random_plan(parse_plan(kernel.ir("plan", **tensors)), tiles)
    assert_equal_counts(compared(kernel, kernel.binding(**tensors), plan=plan))


@given(attentions(), st.sampled_from([2, 4]), LENGTHS, TILES)
@settings(max_examples=25)
def test_random_attentions_and_plans(text: str, heads: int, lengths: tuple[int, int], tiles: list[int]) -> None:
    kernel = ec.compile(text)
    tensors = attention_inputs(kernel, heads, *lengths)
    plan = random_plan(parse_plan(kernel.ir("plan", **tensors)), tiles)
    assert_equal_counts(compared(kernel, kernel.binding(**tensors), plan=plan))


@given(strategies.cascades(5, strategies.PLAIN_STEPS), EXTENTS, TILES)
@settings(max_examples=40)
def test_no_plan_moves_less_than_what_a_program_must_touch(
    cascade: Cascade, extents: tuple[int, ...], tiles: list[int]
) -> None:
    kernel = ec.compile(str(cascade))
    tensors = normal(dict(zip("mnef", extents, strict=True)), kernel)
    plan = random_plan(parse_plan(kernel.ir("plan", **tensors)), tiles)
    for one in compared(kernel, kernel.binding(**tensors), plan=plan):
        for tensor in one.traffic.tensors:
            if tensor.tensor in {o.name for o in one.kernel.outputs}:
                assert tensor.stored == tensor.size  # every element once, by whatever tiles
            elif "where" not in str(cascade):
                assert tensor.loaded is not None
                assert tensor.loaded >= tensor.size


def attention_inputs(kernel: ec.Kernel, heads: int, m: int, n: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(m + n)
    limits = {"NL": n + 1, "SQ": 3, "SK": 3, "BL": 9, "PO": n + 1, "AL": 2}
    found = normal({**SIZES, "h": heads, "m": m, "n": n}, kernel)
    for name, limit in limits.items():
        if name in found:
            found[name] = torch.randint(0, limit, found[name].shape, generator=generator)
    return found | ({"AL": found["AL"] > 0} if "AL" in found else {})


# By hand, from the loop nest of the printed plan: every program loads its rows of Q once and the keys its loop visits.


def elements(text: str, plan: str, **shapes: tuple[int, ...]) -> list[dict[str, tuple[int | None, int | None]]]:
    """Elements loaded and stored by tensor, for every kernel of the plan."""
    kernel = ec.compile(text)
    tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
    binding = kernel.binding(**tensors)
    found = traffics(kernel.derivation, binding, "cpu", parse_plan(plan))
    return [{t.tensor: (t.loaded, t.stored) for t in k.tensors} for k in found]


def test_dense_attention_by_hand() -> None:
    text = "cascade dense(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {" + PLAIN.format(where="") + "}"
    plan = "plan dense { kernel O { program m:96  stream n:128  resident e, f } }"
    # 200 rows in tiles of 96: 3 programs. Each reads all 300 keys once: 3 * 300 = 900 keys of 64 and values of 32 elements.
    (found,) = elements(text, plan, Q=(200, 64), K=(300, 64), V=(300, 32))
    assert found == {"Q": (200 * 64, 0), "K": (900 * 64, 0), "V": (900 * 32, 0), "O": (0, 200 * 32)}


def test_causal_attention_by_hand() -> None:
    text = "cascade causal(Q[h,m,e], K[h,n,e], V[h,n,f]) -> O[h,m,f] {"
    text += PLAIN.replace("[m", "[h,m").replace("[n,", "[h,n,").format(where=" where n <= m") + "}"
    plan = "plan causal { kernel O { program h, m:96  stream n:128  resident e, f } }"
    # Rows 0-95 see keys 0-95: tile 0, 128 keys. Rows 96-191: tiles 0 and 1, 256 keys. Rows 192-287: tiles 0 to 2, of which the last
    # ends at key 299: 300 keys. Rows 288-299: the same 300. Together 984 keys per head, and two heads: 1968.
    (found,) = elements(text, plan, Q=(2, 300, 64), K=(2, 300, 64), V=(2, 300, 16))
    assert found == {"Q": (600 * 64, 0), "K": (1968 * 64, 0), "V": (1968 * 16, 0), "O": (0, 600 * 16)}


def test_two_kernels_by_hand() -> None:
    text = (
        f"""cascade two(Q[m,e], K[n,e], V[n,f]) -> O[m,f], X[n] {{ {PLAIN.format(where="")}  X[n] = sum[m](A[m,n]) }}"""
    )
    plan = """plan two {
      kernel A.mx, A.d, O { program m:96  stream n:128  resident e, f }
      kernel X { program n:96  stream m:128  resident e }
    }"""
    first, second = elements(text, plan, Q=(200, 32), K=(300, 32), V=(300, 16))
    # 3 programs of 96 rows, each with all 300 keys; the maximum and the denominator of 200 rows are kept for the second kernel.
    assert first == {
        "Q": (200 * 32, 0), "K": (900 * 32, 0), "V": (900 * 16, 0), "A.mx": (0, 200), "A.d": (0, 200), "O": (0, 200 * 16),
    }  # fmt: skip
    # 4 programs of 96 keys, each with all 200 rows of Q and of both statistics: 4 * 200 = 800 rows.
    assert second == {"Q": (800 * 32, 0), "K": (300 * 32, 0), "A.mx": (800, 0), "A.d": (800, 0), "X": (0, 300)}


SEGMENTS = (
    "cascade s(Q[m,e], K[n,e], V[n,f], SQ: i32[m], SK: i32[n]) -> O[m,f] {"
    + PLAIN.format(where=" where SQ[m] == SK[n]")
    + "}"
)


def test_tiles_that_depend_on_values_are_counted_from_the_values_or_not_at_all() -> None:
    plan = "plan s { kernel O { program m:16  stream n:16  resident e, f } }"
    segments = torch.tensor([0] * 20 + [1] * 28, dtype=torch.int32)
    kernel = ec.compile(SEGMENTS)
    tensors = {
        "Q": torch.randn(48, 8),
        "K": torch.randn(48, 8),
        "V": torch.randn(48, 8),
        "SQ": segments,
        "SK": segments,
    }
    (known,) = traffics(kernel.derivation, kernel.binding(**tensors), "cpu", parse_plan(plan))
    # Rows 0-15 are of segment 0, which ends in tile 1: 2 tiles. Rows 16-31 are of both: 3 tiles. Rows 32-47 are of segment 1: tiles 1 and 2.
    assert known["K"].loaded == 7 * 16 * 8
    # Segments of keys are compared in partial tiles only: all but tile 0 of the first rows and tile 2 of the last.
    assert known["SK"].loaded == 5 * 16
    assert (known["tiles.offsets"].loaded, known["tiles.tiles"].loaded) == (3 * 2 * 2, 7)
    unknown = {name: t.to("meta") for name, t in tensors.items()}
    (found,) = traffics(kernel.derivation, kernel.binding(**unknown), "cpu", parse_plan(plan))
    assert found["K"].loaded is None
    assert found["K"].reason == "K: which tiles are visited depends on values: the list tiles is not known"
    assert (found["Q"].loaded, found["O"].stored, found.bytes) == (48 * 8, 48 * 8, None)


def test_long_sequences_are_counted_without_running_anything() -> None:
    text = "cascade causal(Q[m,e], K[n,e], V[n,f]) -> O[m,f] {" + PLAIN.format(where=" where n <= m") + "}"
    plan = "plan causal { kernel O { program m:64  stream n:64  resident e, f } }"
    tiles = 2**20 // 64
    (found,) = elements(text, plan, Q=(2**20, 2), K=(2**20, 2), V=(2**20, 1))
    assert found["K"] == (2 * 64 * tiles * (tiles + 1) // 2, 0)  # program i visits tiles 0 to i
