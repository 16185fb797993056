"""The page: everything there is to look at about one program, as one HTML file that loads nothing."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import einsum_compiler
from einsum_compiler.compilation import compilation
from einsum_compiler.cost.device import Device, device_for
from einsum_compiler.derivation import Derivation
from einsum_compiler.inspection import reproducible_view
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.plan import Plan
from einsum_compiler.movement import movement
from einsum_compiler.proofs import proofs
from einsum_compiler.report.graphs import compiled_graphs, most_traversed, written_graph
from einsum_compiler.report.kernels import kernel_views
from einsum_compiler.report.slope import slope_picture
from einsum_compiler.report.stages import stage_groups
from einsum_compiler.report.summary import figures, operands, settings
from einsum_compiler.report.syntax import code_lines, html_of, tokens_of
from einsum_compiler.report.tile_views import tile_views
from einsum_compiler.report.times import times
from einsum_compiler.traffic_formulas import formula_views, traffic_formulas

FOLDER = Path(__file__).resolve().parent.parent / "templates" / "report"


@dataclass(frozen=True)
class Section:
    """A section of the page: its anchor and its heading."""

    anchor: str
    heading: str


SECTIONS = (
    Section("written", "What you wrote"),
    Section("forced", "What it forces"),
    Section("derived", "What was derived"),
    Section("passes", "The text after every pass"),
    Section("plan", "The plan"),
    Section("tiles", "The tiles visited"),
    Section("movement", "Data movement"),
    Section("time", "Time"),
    Section("source", "The generated source"),
    Section("versions", "Sizes and versions"),
)


@reproducible_view
def report_page(
    derivation: Derivation,
    binding: Binding,
    backend: str,
    plan: Plan | None,
    device: Device | None = None,
    measured: float | None = None,
) -> str:
    """The page as HTML, which is also well-formed XML.

    ``device``: what data movement and time are shown for; by default that of the backend. ``measured``: seconds of one call on it.
    """
    compiled = compilation(derivation, binding, backend, plan)
    known = device or device_for(backend)
    moved = movement(compiled, known)
    spent = times(compiled, known, plan, moved.kernels, measured)
    page: str = _template().render(
        title=derivation.declared.name,
        signature=html_of(tokens_of(compiled.signature, "cascade")[0]),
        sections=SECTIONS,
        figures=figures(compiled, moved, spent),
        source_name=derivation.source,
        text_lines=code_lines(derivation.text.strip("\n"), "cascade"),
        warnings=derivation.warnings,
        operands=operands(compiled),
        written=written_graph(compiled),
        passes=compiled.passes,
        most=most_traversed(compiled),
        proofs=[_highlighted(p) for p in proofs(c for p in compiled.parts for c in p.derived.certificates)],
        graphs=compiled_graphs(compiled),
        groups=stage_groups(compiled),
        plan_lines=code_lines(str(compiled.plan), "tile"),
        kernels=kernel_views(compiled, backend),
        language="C++" if backend == "cpu" else "Triton",
        tiles=tile_views(compiled),
        movement=moved,
        formulas=formula_views(traffic_formulas(compiled, known)),
        slope=slope_picture(moved),
        times=spent,
        settings=[*settings(compiled, backend), *_versions()],
    )
    return page


def _highlighted(proof: Any) -> dict[str, Any]:
    equations = [html_of(tokens_of(line, "cascade")[0]) for line in proof.equations]
    return {"proof": proof, "equations": equations}


def _versions() -> list[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    found = [("einsum-compiler", einsum_compiler.__version__), ("Python", sys.version.split()[0])]
    for package in ("torch", "triton", "sympy", "islpy"):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return [*found, ("machine", f"{platform.machine()}, {platform.system()} {platform.release()}")]


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.tmpl")
