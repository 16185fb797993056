"""split: values do not change, chunks merge in any order, what cannot be merged is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import pytest
import torch

from einsum_compiler.backends.reference.evaluate import evaluate
from einsum_compiler.ir.cascade import Cascade
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.parser import parse
from einsum_compiler.passes.analysis.levels import pass_levels
from einsum_compiler.passes.chunks import chunk_length, is_refused
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.passes.inline import inline
from einsum_compiler.passes.kernel_cascade import KernelCascade
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.pipeline import Run
from einsum_compiler.passes.split import Split, split
from tests.passes import zoo
from tests.passes.support import check, evaluated, inputs_of, run, same

STABLE = """
cascade stable(S[m,n], V[n,f]) -> MX[m], D[m], A[m,f] {
  MX[m] = max[n](S[m,n])
  P[m,n] = exp(S[m,n] - MX[m])
  D[m] = sum[n](P[m,n])
  A[m,f] = P[m,n] * V[n,f]
}
"""

GUARDED = STABLE.replace("exp(S[m,n] - MX[m])", "exp(S[m,n] - C[m])").replace(
    "  P[m,n]", "  C[m] = if(MX[m] == -inf, 0, MX[m])\n  P[m,n]"
)

SPLITS = {
    "attention": (zoo.ATTENTION, "n"),
    "causal window": (zoo.CAUSAL, "n"),
    "empty rows": (zoo.EMPTY_ROWS, "n"),
    "library": (zoo.LIBRARY, "n"),
    "soft cap, alibi": (zoo.SOFTCAP_ALIBI, "n"),
    "bias": (zoo.BIAS, "n"),
    "sink": (zoo.SINK, "n"),
    "differential": (zoo.DIFFERENTIAL, "n"),
    "row statistics": (zoo.ROW_STATS, "n"),
    "through lse": (zoo.LOG_SUM, "n"),
    "sigmoid": (zoo.SIGMOID, "n"),
    "variance": (zoo.VARIANCE, "n"),
    "third moment": (zoo.THIRD_MOMENT, "n"),
    "layernorm gemm": (zoo.LAYERNORM_GEMM, "k"),
    "rmsnorm gemm": (zoo.RMSNORM_GEMM, "k"),
    "two key sets": (zoo.UNION, "n"),
    "map out": (zoo.MAP_OUT, "n"),
    "stable": (STABLE, "n"),
    "guarded": (GUARDED, "n"),
}


def normalized(text: str) -> Cascade:
    module = parse(text)
    return normalize(inline(module.cascade(), module))


def was_split(result: Run) -> bool:
    forms = [c.form for c in result.certificates if c.step == "split"]
    return bool(forms) and "refused" not in forms


# -- values


@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        *((name, chunks) for name in SPLITS for chunks in (2, 7)),
        *((name, chunks) for name in ("attention", "row statistics", "third moment") for chunks in (1, 3)),
    ],
)
def test_values_stay(name: str, chunks: int) -> None:
    text, rank = SPLITS[name]
    pipeline = f"inline,normalize,split{{rank={rank} chunks={chunks}}}"
    # 11 points in 7 chunks of 2: the last chunk is empty, the one before ragged.
    assert was_split(check(text, pipeline=pipeline))


@pytest.mark.parametrize("name", SPLITS)
def test_values_stay_when_chunks_are_streamed(name: str) -> None:
    text, rank = SPLITS[name]
    check(text, pipeline=f"inline,normalize,split{{rank={rank} chunks=3 tile=2}},defer,online{{tile=2 ranks={rank}.2}}")


@pytest.mark.parametrize("name", ["attention", "sink", "row statistics", "stable", "guarded"])
def test_one_pass_inside_a_chunk(name: str) -> None:
    text, rank = SPLITS[name]
    result = run(text, f"inline,normalize,split{{rank={rank} chunks=3}},defer,online{{ranks={rank}.2}}")
    assert pass_levels(result.cascade, f"{rank}.2.1").passes == 1


@pytest.mark.parametrize("chunks", [2, 3, 7])
@pytest.mark.parametrize("text", [STABLE, GUARDED, zoo.ATTENTION, zoo.ROW_STATS])
def test_large_logits(text: str, chunks: int) -> None:
    cascade = parse(text).cascade()
    tensors = inputs_of(cascade, scale=200.0)
    tensors |= {name: value * 100 for name, value in tensors.items() if name == "S"}
    for streamed in ("", ",defer,online{tile=1 ranks=n.2}"):
        check(text, tensors, f"inline,normalize,split{{rank=n chunks={chunks}}}{streamed}")


@pytest.mark.parametrize("streamed", ["", ",defer,online{tile=2 ranks=n.2}"])
@pytest.mark.parametrize("text", [STABLE, GUARDED, zoo.BIAS])
def test_chunks_of_negative_infinity(text: str, streamed: str) -> None:
    """A chunk of scores that are all -inf changes nothing, before and after chunks with points; logits far below 0 neither."""
    cascade = parse(text).cascade()
    name = "S" if cascade.input("S") else "B"
    for dead in (slice(0, 4), slice(4, 8), slice(8, 11), slice(0, 8)):
        tensors = inputs_of(cascade)
        tensors[name] = tensors[name] - 2e4
        tensors[name][..., dead] = -math.inf
        result = check(text, tensors, f"inline,normalize,split{{rank=n chunks=3}}{streamed}")
        found = evaluated(result.cascade, tensors)
        assert all(value.isfinite().all() for value in found.values())


def test_rows_without_any_point() -> None:
    tensors = inputs_of(parse(zoo.BIAS).cascade())
    tensors["B"][:, 2] = -math.inf
    result = check(zoo.BIAS, tensors, "inline,normalize,split{rank=n chunks=3},defer,online{tile=2 ranks=n.2}")
    assert (evaluated(result.cascade, tensors)["O"][:, 2] == 0).all()


def test_no_digits_lost_in_a_variance() -> None:
    x = 1e4 + 1e-2 * torch.randn(7, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cascade = run(zoo.VARIANCE, "inline,normalize,split{rank=n chunks=8},defer,online{tile=16 ranks=n.2}").cascade
    found = evaluate(cascade, {"X": x.float()}, dtype=torch.float32)["VAR"]
    # A mean that is off by one rounding (half a unit in the last place) adds its square to the variance; raw moments lose all digits.
    mean_error = 1e4 * torch.finfo(torch.float32).eps / 2
    torch.testing.assert_close(found.double(), x.float().double().var(-1, correction=0), rtol=0, atol=2 * mean_error**2)


# -- the form


def test_what_a_split_prints() -> None:
    result = split(normalized(STABLE), Split("n", 4, 2))
    assert str(result.cascade) == (
        "cascade stable(S[m,n], V[n,f]; N.3 = 4, N.2 = ceil(N / (N.3 * 2)) * 2) -> MX[m], D[m], A[m,f] {\n"
        "  MX.n[n.3,m] = max[n.2](S[m,n.3 * N.2 + n.2] where n.3 * N.2 + n.2 < N)\n"
        "  MX.cur[m,n.3] = if(MX.n[n.3,m] == -inf, 0, MX.n[n.3,m])\n"
        "  P.n[m,n.3,n.2] = exp(S[m,n.3 * N.2 + n.2] - MX.cur[m,n.3]) where n.3 * N.2 + n.2 < N\n"
        "  D.n[n.3,m] = sum[n.2](P.n[m,n.3,n.2] where n.3 * N.2 + n.2 < N)\n"
        "  MX[m] = max[n.3](MX.n[n.3,m])\n"
        "  D.fix[m,n.3] = if(MX.n[n.3,m] == MX[m], 1, exp(MX.n[n.3,m] - if(MX[m] == -inf, 0, MX[m])))\n"
        "  A.n[n.3,m,f] = sum[n.2](P.n[m,n.3,n.2] * V[n.3 * N.2 + n.2,f] where n.3 * N.2 + n.2 < N)\n"
        "  D[m] = sum[n.3](D.n[n.3,m] * D.fix[m,n.3])\n"
        "  A[m,f] = sum[n.3](A.n[n.3,m,f] * D.fix[m,n.3])\n"
        "}"
    )
    assert [str(c).splitlines()[0] for c in result.certificates] == [
        "split: MX over n: plain",
        "split: D over n: running",
        "split: A over n: running",
    ]


@pytest.mark.parametrize(
    ("extent", "chunks", "tile"), [(11, 3, 1), (11, 7, 1), (11, 7, 4), (5000, 16, 64), (1, 2, 8), (0, 2, 8)]
)
def test_length_of_chunks(extent: int, chunks: int, tile: int) -> None:
    length = chunk_length(extent, chunks, tile)
    assert length % tile == 0 and length * chunks >= extent
    assert (length - tile) * chunks < max(extent, 1)


# -- refusals


def test_a_clipped_weight_is_refused() -> None:
    cascade = normalized(zoo.CLIPPED)
    result = split(cascade, Split("n", 4))
    assert is_refused(result)
    assert result.cascade is cascade
    (refusal,) = [c for c in result.certificates if c.form == "refused"]
    assert (refusal.step, refusal.tensor, refusal.ranks) == ("split", "O", ("n",))
    assert "does not separate" in refusal.reason and "clamp" in refusal.reason


def test_a_sigmoid_of_the_distance_to_the_maximum_is_refused() -> None:
    cascade = normalized(zoo.SIGMOID_OF_MAX)
    result = split(cascade, Split("n", 4))
    assert is_refused(result) and result.cascade is cascade


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (STABLE, Split("q", 2), "rank q cannot be split: the cascade has no such rank"),
        (STABLE, Split("n", 2, 0), "rank n cannot be split into 2 chunks of tiles of 0"),
        ("cascade map(X[m]) -> Y[m] { Y[m] = X[m] + 1 }", Split(), "nothing is reduced, so there is no rank to split"),
        (
            "cascade scan(X[t,m]) -> H[t,m] { H[t+1,m] = 0.5 * H[t,m] + X[t,m] }",
            Split("t", 2),
            "rank t cannot be split: the recurrence of H runs along it",
        ),
    ],
)
def test_what_cannot_be_split(text: str, options: Split, message: str) -> None:
    with pytest.raises(PlanError) as raised:
        split(normalized(text), options)
    assert raised.value.message == message


# -- the join law (theory.md 8.5)


def kernels_of(text: str) -> tuple[KernelCascade, ...]:
    """The kernel of the partial states, and those of the merge."""
    extents = {"m": 7, "n": 600, "f": 2, "n.3": 4, "n.2": 150}
    return fuse(split(normalized(text), Split("n", 4)).cascade, extents, ("n.3",))


State = tuple[torch.Tensor, ...]


def states_of(scores: torch.Tensor, values: torch.Tensor) -> State:
    top = scores.amax(-1) if scores.shape[-1] else torch.full(scores.shape[:-1], -math.inf, dtype=scores.dtype)
    weights = (scores - top.masked_fill(top == -math.inf, 0)[:, None]).exp()
    return top, weights.sum(-1), weights @ values


def ran(kernel: KernelCascade, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a kernel writes. A merge has as many chunks as its inputs, and no coordinates of the rank itself."""
    tensors = {t.name: held[t.name] for t in kernel.cascade.inputs}
    if kernel.stream is not None:
        return evaluate(kernel.cascade, tensors)
    extents = {r: size for t in kernel.cascade.inputs for r, size in zip(t.ranks, held[t.name].shape, strict=True)}
    return evaluate(replace(kernel.cascade, parameters=()), tensors, {}, extents)


def joined(merges: tuple[KernelCascade, ...], parts: list[State]) -> State:
    held = {
        f"{name}.n": torch.stack(found) for name, found in zip(("MX", "D", "A"), zip(*parts, strict=True), strict=True)
    }
    for merge in merges:
        held |= ran(merge, held)
    return held["MX"], held["D"], held["A"]


@pytest.mark.parametrize("seed", range(8))
def test_chunks_merge_in_any_order(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    merge = kernels_of(STABLE)[1:]
    scores = 30 * torch.randn(3, 40, generator=generator, dtype=torch.float64)
    scores[1, 5:25] = -math.inf
    scores[2] = -math.inf
    values = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    cuts = sorted(torch.randint(0, 41, (5,), generator=generator).tolist())
    bounds = list(zip([0, *cuts], [*cuts, 40], strict=True))
    parts = [states_of(scores[:, a:b], values[a:b]) for a, b in bounds]

    def join(left: State, right: State) -> State:
        return joined(merge, [left, right])

    def tree(found: list[State]) -> State:
        half = len(found) // 2
        return found[0] if len(found) == 1 else join(tree(found[:half]), tree(found[half:]))

    left = reduce(join, parts)
    right = reduce(lambda done, part: join(part, done), reversed(parts))
    for other in (right, tree(parts), joined(merge, parts), states_of(scores, values)):
        for a, b in zip(left, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_empty_state_is_the_identity() -> None:
    generator = torch.Generator().manual_seed(1)
    merge = kernels_of(STABLE)[1:]
    scores = 1e4 * torch.randn(3, 9, generator=generator, dtype=torch.float64)
    scores[1] = -math.inf
    values = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    state = states_of(scores, values)
    empty = states_of(scores[:, :0], values[:0])
    assert (empty[0] == -math.inf).all() and (empty[1] == 0).all() and (empty[2] == 0).all()
    for parts in ([state, empty], [empty, state], [empty, empty, state, empty]):
        assert all(torch.equal(a, b) for a, b in zip(joined(merge, parts), state, strict=True))


# -- kernels


def test_chunks_are_programs_of_one_kernel_and_held_by_the_next() -> None:
    partial, *merges = kernels_of(STABLE)
    assert (partial.outputs, partial.program, partial.stream) == (("MX.n", "D.n", "A.n"), ("n.3", "m"), "n.2")
    assert [(m.outputs, m.program, m.stream) for m in merges] == [(("MX", "D", "A"), ("m",), None)]
    assert all("n.3" in m.resident for m in merges)
    assert {t.name for m in merges for t in m.cascade.inputs} == {"MX.n", "D.n", "A.n"}


def test_kernels_give_the_values_of_the_cascade() -> None:
    kernels = kernels_of(STABLE)
    tensors = inputs_of(parse(STABLE).cascade(), {"n": 600})
    held = dict(tensors)
    for kernel in kernels:
        held |= ran(kernel, held)
    same(evaluated(parse(STABLE).cascade(), tensors), held)
