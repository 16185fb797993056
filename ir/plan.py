"""Level 2: the plan, which says how a cascade runs. A frozen value that prints, parses, is scored and searched.

```
plan attention {
  kernel O, L { program b, h, m:96  stream n:128  resident e, f }
}
```
``program`` ranks are spread over programs, tile by tile (``m:96``; no number: one coordinate at a time); the ``stream`` rank is a loop
over tiles inside each program (of several, ``stream i:128, j:64``, the loops follow one another); ``resident`` ranks are held whole. A tensor between
kernels is the output of one and an input of later ones, so the outputs of the kernels say what is fused. Reductions that depend on others over the
stream are corrected as it runs by; with ``contexts finished`` each waits for what it depends on, in one more sweep; with ``contexts whole`` one tile holds
the stream, however long it is up to there, and each waits for what it depends on inside of the one sweep.
Ranks in parentheses are a box: ``program b, (y:8, x:12)  stream y2_x2:(y2:8, x2:16)`` spreads boxes of 8 x 12 over programs, each one axis of 96, and
streams the merged rank of y2 and x2 box by box (``passes.box_order``); of ``y2:8@-3`` the first tile starts at -3, so that the boundaries of tiles
lie where those of the filter do.
``warps 8 stages 3  persistent 2  copies descriptors`` say how a GPU runs it (``ir.launch``).
``order O = Q[m,e] * (K[n,e] * V[n,f])`` says in which order a contraction runs, one a line; ``order deferred``, first, that invariant factors left their sums
before; ``order apart``, last, that reductions have chains of their own (``passes.apart``).
``accumulate DQ over n`` says that DQ is summed over the program rank n in memory: programs that differ in n only run one after the other, each adding its share.
``split O, L over n:128 into 16`` says that the kernel of O and L became several: its stream was cut into 16 chunks of whole tiles.
``split T over m:32`` says that a rank which the kernel of T sums together with its stream was cut into chunks of 32, as many as it takes; a kernel may be split over several ranks.
``saves MX, D, O`` says what a forward pass keeps for the backward pass (``saves nothing``: all is computed again). A plan may say that alone, and leave the
kernels to be chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.launch import Launch


@dataclass(frozen=True, slots=True)
class RankTile:
    """A rank and the coordinates of it that one tile holds. ``start``: where the first tile starts, not above 0; of no streamed rank but those of a box."""

    rank: str
    size: int = 1
    start: int = 0

    def __str__(self) -> str:
        return self.rank if self.size == 1 else _sized(self)


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A tensor that programs add to: it is 0 before the launch, and programs that differ only in ``ranks`` run in order, one after the other."""

    tensor: str
    ranks: tuple[str, ...]

    def __str__(self) -> str:
        return f"accumulate {self.tensor} over {', '.join(self.ranks)}"


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """One kernel: the tensors it writes and what becomes of each rank.

    ``rows``: program ranks whose tiles are one axis, a box. ``box``: the ranks that the streamed rank was merged from, with their share of a tile; a
    tile of the stream is one box. Empty where there are none.
    """

    outputs: tuple[str, ...]
    program: tuple[RankTile, ...]
    stream: RankTile | None = None
    resident: tuple[str, ...] = ()
    launch: Launch = field(default_factory=Launch)
    later: tuple[RankTile, ...] = ()  # streamed after ``stream``
    contexts: str = "running"  # or "finished" or "whole"
    rows: tuple[str, ...] = ()
    box: tuple[RankTile, ...] = ()
    accumulated: tuple[Accumulation, ...] = ()

    @property
    def ordered(self) -> frozenset[str]:
        """The program ranks whose programs run one after the other, since they add to the same elements."""
        return frozenset(rank for a in self.accumulated for rank in a.ranks)

    @property
    def streams(self) -> tuple[RankTile, ...]:
        """Every streamed rank, in the order of the loops."""
        return () if self.stream is None else (self.stream, *self.later)

    @property
    def whole(self) -> bool:
        """Whether the loop over the stream has one trip at most."""
        return self.contexts == "whole"

    def start(self, rank: str) -> int:
        """Where the first tile of a program rank starts."""
        return next((r.start for r in self.program if r.rank == rank), 0)

    def tile(self, rank: str) -> int:
        """The tile of a program or stream rank; 1 for a program rank without one."""
        return next((r.size for r in (*self.program, *self.streams) if r.rank == rank), 1)

    def __str__(self) -> str:
        parts = [f"program {', '.join(self._program())}" if self.program else ""]
        if self.stream:
            first = f"{self.stream.rank}:({', '.join(map(_sized, self.box))})" if self.box else _sized(self.stream)
            parts.append(f"stream {', '.join([first, *map(_sized, self.later)])}")
        if self.resident:
            parts.append(f"resident {', '.join(self.resident)}")
        parts += map(str, self.accumulated)
        if str(self.launch):
            parts.append(str(self.launch))
        if self.contexts != "running":
            parts.append(f"contexts {self.contexts}")
        return f"kernel {', '.join(self.outputs)} {{ {'  '.join(p for p in parts if p)} }}"

    def _program(self) -> list[str]:
        """The program ranks in order, those of a box where its first one stands."""
        found: list[str] = []
        for tile in self.program:
            if tile.rank not in self.rows:
                found.append(str(tile))
            elif tile.rank == self.rows[0]:
                found.append(f"({', '.join(_sized(t) for r in self.rows for t in self.program if t.rank == r)})")
        return found


def _sized(tile: RankTile) -> str:
    return f"{tile.rank}:{tile.size}" + (f"@{tile.start}" if tile.start else "")


@dataclass(frozen=True, slots=True)
class RankSplit:
    """The streamed rank of the kernel that writes ``outputs``, cut into ``chunks`` that are multiples of its tile long.

    Without a number of chunks, a rank that this kernel would hold whole, cut into as many chunks of one tile as it takes.
    """

    outputs: tuple[str, ...]
    rank: RankTile
    chunks: int = 0

    def __str__(self) -> str:
        into = f" into {self.chunks}" if self.chunks else ""
        return f"split {', '.join(self.outputs)} over {self.rank}{into}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The kernels of a cascade in the order they run, the splits that some of them come from, and the orders of contractions that are not as written.

    ``saves``: what a forward pass keeps for the backward pass; None where that is left to be chosen.
    """

    name: str
    kernels: tuple[KernelPlan, ...]
    splits: tuple[RankSplit, ...] = ()
    orders: tuple[str, ...] = ()
    saves: tuple[str, ...] | None = None

    def __str__(self) -> str:
        lines = [] if self.saves is None else [saves_text(self.saves)]
        lines += [*(f"order {o}" for o in self.orders), *map(str, self.splits), *map(str, self.kernels)]
        return "\n".join([f"plan {self.name} {{", *(f"  {line}" for line in lines), "}"])


def saves_text(names: Iterable[str]) -> str:
    """``saves MX, D``, or ``saves nothing``."""
    return f"saves {', '.join(names) or 'nothing'}"


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
