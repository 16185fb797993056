"""Text -> ``ir.plan.Plan``: what a plan prints as reads back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.launch import Launch
from einsum_compiler.ir.plan import Accumulation, KernelPlan, Plan, RankSplit, RankTile

# What may stand in a plan, one after the other, on as many lines as one likes. An expression has no two names side by side, so the next clause ends an order.
_CLAUSES = re.compile(
    r"""(?P<saves>saves\s+[\w.]+(?:\s*,\s*[\w.]+)*)
    | order\s+(?P<order>[^\n]*?)(?=\s*(?:\n|$|\b(?:saves|order|split|kernel)\s+[\w.]))
    | split\s+(?P<split>[^{}]+?)\s+over\s+(?P<rank>\S+)(?:\s+into\s+(?P<chunks>\d+))?
    | kernel\s+(?P<outputs>[^{}]+)\{(?P<body>[^{}]*)\}""",
    re.VERBOSE,
)
_WORDS = "program|stream|resident|warps|stages|persistent|copies|contexts|accumulate"
_CLAUSE = re.compile(rf"({_WORDS})\s+((?:(?!\b(?:{_WORDS})\b).)*)", re.DOTALL)
_ACCUMULATE = re.compile(r"\s*(\S+)\s+over\s+(.*)$", re.DOTALL)


def parse_plan(text: str) -> Plan:
    """The plan that ``text`` prints. Raises ``PlanError`` on anything else."""
    head = re.match(r"\s*plan\s+([\w.]+)\s*\{(.*)\}\s*$", text, re.DOTALL)
    if not head:
        raise PlanError("not a plan: expected 'plan NAME { kernel ... }'")
    saves: tuple[str, ...] | None = None
    orders, splits, kernels = [], [], []
    for clause in _clauses(head[2]):
        if clause["saves"]:
            if saves is not None:
                raise PlanError("a plan says once what is saved")
            names = _names(clause["saves"].removeprefix("saves"))
            saves = () if names == ["nothing"] else tuple(names)
        elif clause["order"]:
            orders.append(clause["order"])
        elif clause["split"]:
            splits.append(_split(clause["split"], clause["rank"], clause["chunks"]))
        else:
            kernels.append(_kernel(clause["outputs"], clause["body"]))
    if not kernels and saves is None:
        raise PlanError("a plan needs at least one kernel, or says what is saved")
    if not kernels and (splits or orders):
        raise PlanError("a plan with a split or an order needs its kernels")
    return Plan(head[1], tuple(kernels), tuple(splits), tuple(orders), saves)


def _clauses(text: str) -> Iterator[re.Match[str]]:
    """The clauses that make up the whole of a plan's body. Raises ``PlanError`` at what is none."""
    place = 0
    while rest := text[place:].strip():
        start = len(text) - len(text[place:].lstrip())
        clause = _CLAUSES.match(text, start)
        if not clause:
            raise PlanError(f"'{_shown(rest)}': expected saves, order, split or kernel")
        yield clause
        place = clause.end()


def _shown(text: str) -> str:
    line = text.splitlines()[0]
    return line if len(line) <= 60 else f"{line[:57]}..."


def _split(outputs: str, rank: str, chunks: str | None) -> RankSplit:
    if chunks is not None and not int(chunks):
        raise PlanError(f"'split {outputs} over {rank} into 0': expected a positive number of chunks")
    return RankSplit(tuple(_names(outputs)), _rank_tile(rank), int(chunks or 0))


def _kernel(outputs: str, body: str) -> KernelPlan:
    found = _CLAUSE.findall(body)
    if rest := _CLAUSE.sub("", body).strip():
        raise PlanError(f"'{_shown(rest)}' in the kernel of {outputs.strip()}: expected {_WORDS.replace('|', ', ')}")
    clauses = {name: _names(value) for name, value in found}
    contexts = clauses.get("contexts", ["running"])[0]
    if contexts not in ("running", "finished", "whole"):
        raise PlanError(f"contexts are running, finished or whole, not '{contexts}'")
    program = [(_members(r), r) for r in clauses.get("program", [])]
    rows = [tuple(t.rank for t in members) for members, _ in program if members]
    if len(rows) > 1:
        raise PlanError("a kernel has one box of program ranks")
    stream, box = _stream(clauses.get("stream", []))
    return KernelPlan(
        tuple(_names(outputs)),
        tuple(tile for members, text in program for tile in members or (_box_tile(text),)),
        stream,
        tuple(clauses.get("resident", [])),
        _launch(clauses),
        tuple(map(_rank_tile, clauses.get("stream", [])[1:])),
        contexts,
        rows[0] if rows else (),
        box,
        tuple(_accumulation(value) for name, value in found if name == "accumulate"),
    )


def _names(text: str) -> list[str]:
    """What commas outside of parentheses separate."""
    return [n.strip() for n in re.split(r",(?![^(]*\))", text) if n.strip()]


def _accumulation(text: str) -> Accumulation:
    parts = _ACCUMULATE.match(text)
    if not parts:
        raise PlanError(f"'accumulate {text.strip()}': expected 'accumulate TENSOR over RANKS'")
    return Accumulation(parts[1], tuple(_names(parts[2])))


def _rank_tile(text: str) -> RankTile:
    rank, _, size = text.partition(":")
    if (size and not size.strip().isdigit()) or size.strip() == "0":
        raise PlanError(f"'{text}': a tile is a positive number of coordinates")
    return RankTile(rank.strip(), int(size) if size else 1)


def _box_tile(text: str) -> RankTile:
    """``y2:8`` or ``y2:8@-3``."""
    sized, at, start = text.partition("@")
    tile = _rank_tile(sized.strip())
    if not at:
        return tile
    if not re.fullmatch(r"\s*-\d+\s*", start) or not -tile.size < int(start) < 0:
        raise PlanError(f"'{text}': the first tile of {tile.size} starts at 0, or between {1 - tile.size} and -1")
    return replace(tile, start=int(start))


def _members(text: str) -> tuple[RankTile, ...]:
    """The tiles of ``(y:8, x:12)``; none if the text has no parentheses."""
    if not (text.startswith("(") and text.endswith(")")):
        return ()
    return tuple(map(_box_tile, _names(text[1:-1])))


def _stream(texts: list[str]) -> tuple[RankTile | None, tuple[RankTile, ...]]:
    """The first streamed rank and, where it is merged from others, the box that is one tile of it."""
    if not texts:
        return None, ()
    rank, _, size = texts[0].partition(":")
    box = _members(size.strip())
    return (RankTile(rank.strip(), prod(t.size for t in box)), box) if box else (_rank_tile(texts[0]), ())


def _launch(clauses: Mapping[str, list[str]]) -> Launch:
    persistent = clauses.get("persistent", ["0"])[0]
    if not persistent.isdigit():
        raise PlanError(f"'persistent {persistent}': expected a number of programs for every processor")
    copies = clauses.get("copies", ["pointers"])[0]
    if copies not in ("pointers", "descriptors"):
        raise PlanError(f"copies are through pointers or descriptors, not '{copies}'")
    warps, stages = int(clauses.get("warps", ["0"])[0]), int(clauses.get("stages", ["2"])[0])
    return Launch(warps, stages, int(persistent), copies == "descriptors")
