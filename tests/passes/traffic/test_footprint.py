"""The live footprint of a program, recomputed by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import einsum_compiler as ec
from einsum_compiler.inspection import tile_kernels
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.ir.tile import Loop, Statement, TileKernel
from einsum_compiler.ir.tile_ranges import loop_body, reads_in
from einsum_compiler.nominal import nominal_binding
from einsum_compiler.passes.traffic import Footprint, footprint_of
from einsum_compiler.passes.traffic.footprint import tile_bytes
from tests.passes.traffic.attentions import SIZES, attentions

TEXT = "cascade one(Q[m,e], K[n,e], V[n,f]) -> O[m,f] { S[m,n] = Q[m,e] * K[n,e]  A[m,n] = softmax[n](S[m,n])  O[m,f] = A[m,n] * V[n,f] }"


def footprint(m: int, n: int, length: int) -> Footprint:
    kernel = ec.compile(TEXT)
    binding = kernel.binding(Q=torch.empty(length, 64), K=torch.empty(length, 64), V=torch.empty(length, 32))
    plan = parse_plan(f"plan one {{ kernel O {{ program m:{m}  stream n:{n}  resident e, f }} }}")
    (program,) = tile_kernels(kernel.derivation, binding, "cpu", plan)
    return footprint_of(program)


def test_one_pass_attention_by_hand() -> None:
    found = footprint(96, 128, 4096)
    # Carried: maximum, sum and output of 96 rows; through the loop: the tile of Q.
    assert found.state == 4 * 96 * (1 + 1 + 32)
    assert found.resident == 4 * 96 * 64
    # The most crowded moment of a step: scores and weights (96 x 128 each), the new maximum (the old one is still read) and its guarded copy.
    assert found.step == 4 * (2 * 96 * 128 + 2 * 96)
    assert found.streamed == 4 * 128 * (64 + 32)
    assert found.packed == 4 * (96 * 64 + 128 * (64 + 32))
    assert found.total == found.state + found.resident + found.step


def test_it_does_not_depend_on_the_lengths_and_grows_with_the_tiles() -> None:
    assert footprint(96, 128, 4096) == footprint(96, 128, 131072)
    assert footprint(96, 256, 4096).total > footprint(96, 128, 4096).total


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=attentions(), length=st.sampled_from((40, 300, 2000)))
def test_it_is_the_peak_of_a_program_that_is_stepped_through(text: str, length: int) -> None:
    kernel = ec.compile(text, backend="cpu")
    binding = nominal_binding(kernel.cascade, {**SIZES, "h": 4, "m": length, "n": length})
    for program in tile_kernels(kernel.derivation, binding, "cpu", None):
        found = footprint_of(program)
        assert found.total == _stepped(program)
        assert sum(found.tiles.values()) == found.total


def _stepped(program: TileKernel) -> int:
    """The peak, statement after statement of two equal steps of every loop: a tile holds memory from the statement that makes it to its last reader."""
    peaks = []
    for partial in (False, True):
        trace = _Trace(partial, [])
        trace.run(program.body, {}, {})
        last = {place: at for at, (made, _, read) in enumerate(trace.events) for place in (made, *read)}
        live: dict[str, int] = {}
        for at, (made, size, _) in enumerate(trace.events):
            live.setdefault(made, size)
            peaks.append(sum(live.values()))
            live = {place: held for place, held in live.items() if last[place] > at}
    return max(peaks)


@dataclass
class _Trace:
    """``events``: the place that a statement writes, its bytes, and the places that it reads."""

    partial: bool
    events: list[tuple[str, int, set[str]]]

    def run(self, body: tuple[Statement, ...], places: dict[str, str], nexts: dict[str, str]) -> None:
        """``places``: where each tile lies; ``nexts``: the carried tile that a target becomes."""
        for position, statement in enumerate(body):
            if isinstance(statement, Loop):
                self.loop(statement, places)
                continue
            made = getattr(statement, "target", "")
            read = {places[t] for t in reads_in(statement)}
            old = nexts.get(made)
            in_place = old is not None and not any(old in reads_in(s) for s in body[position + 1 :])
            place = places[old] if in_place else f"{made} {len(self.events)}"
            self.events.append((place, tile_bytes(statement.type) if made else 0, read))
            places[made] = place

    def loop(self, loop: Loop, places: dict[str, str]) -> None:
        kept = {c.name: f"{c.name} {len(self.events)}" for c in loop.carries}
        for carry in loop.carries:
            self.events.append((kept[carry.name], tile_bytes(carry.type), set()))
        places |= kept
        for _ in range(2):
            inside = dict(places)
            self.run(loop_body(loop, self.partial), inside, {c.next: c.name for c in loop.carries})
            self.events.append(("", 0, {inside[c.next] for c in loop.carries} | set(kept.values())))
