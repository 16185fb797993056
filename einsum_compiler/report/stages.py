"""The text after every pass, with what the pass changed."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass

from einsum_compiler.compilation import Compilation
from einsum_compiler.report.differences import Line, count_changes, marked_lines

MEANINGS = {
    "inline": "Calls of library cascades and of functions are replaced by what they stand for (their tensors get names with a dot), and every sum is written out.",
    "normalize": "Every equation becomes either one map or one reduction. Equal equations are computed once, and what nobody needs is dropped.",
    "reassociate": "A chain of products is bracketed in the order that costs least at these sizes.",
    "lattices": "A reduced rank that a filter holds to a lattice runs over the points of the lattice.",
    "flatten": "Ranks that are always reduced together become one rank, so that one loop can stream them.",
    "fuse": "The equations of this kernel. A tensor that another kernel computes is one of its inputs.",
    "split": "The streamed rank is cut into chunks, so that more programs run at once; their partial results are merged.",
    "defer": "A factor that does not change along a reduced rank leaves the reduction and is applied once, to the result.",
    "online": "The streamed rank is cut into tiles: rank.1 counts tiles, rank.0 the places inside one. Every reduction becomes a running value, "
    "corrected when what it depends on moves.",
    "precision": "Operands of products take the type of the narrowest one, as matrix units want them; the text shows every rounding.",
}


@dataclass(frozen=True)
class StageView:
    """One pass: its name, what it does, how many lines it removed and added, and its text."""

    name: str
    meaning: str
    removed: int
    added: int
    lines: tuple[Line, ...]

    @property
    def changed(self) -> bool:
        return bool(self.removed or self.added)


@dataclass(frozen=True)
class StageGroup:
    """Passes over one cascade: the whole program, or what one kernel computes."""

    title: str
    stages: tuple[StageView, ...]


def stage_groups(compiled: Compilation) -> list[StageGroup]:
    """The passes over the whole program, then those over each kernel's part."""
    text = str(compiled.derivation.declared)
    views = []
    for name, cascade in compiled.derivation.stages:
        views.append(_view(name, text, str(cascade)))
        text = str(cascade)
    groups = [StageGroup("The whole program", tuple(views))]
    for number, part in enumerate(compiled.parts, 1):
        before, views = text, []
        for name, cascade in part.derived.stages:
            after = str(cascade)
            shown = "split" if name == "fuse" and part.planned.splits else name
            view = _view(shown, before, after)
            views.append(_dealt(view) if name == "fuse" else view)
            before = after
        writes = ", ".join(part.planned.plan.outputs)
        groups.append(StageGroup(f"Kernel {number} of {len(compiled.parts)}, which writes {writes}", tuple(views)))
    return groups


def _view(name: str, before: str, after: str) -> StageView:
    lines = marked_lines(before, after)
    return StageView(name, meaning_of(name), *count_changes(lines), tuple(lines))


def _dealt(view: StageView) -> StageView:
    """Equations that went to other kernels are not removed: they are not shown."""
    lines = tuple(line for line in view.lines if line.kind != "removed")
    return StageView(view.name, view.meaning, 0, view.added, lines)


def meaning_of(name: str) -> str:
    """What a pass does, in a sentence; that of its own documentation where there is none here."""
    if name in MEANINGS:
        return MEANINGS[name]
    module = importlib.import_module(f"einsum_compiler.passes.{name}")
    summary = (inspect.getdoc(module) or name).split("\n\n")[0].replace("``", "").replace("\n", " ")
    sentence = summary.partition(": ")[2] or summary
    return sentence[0].upper() + sentence[1:]
