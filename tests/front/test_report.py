"""The page of a report: what it says, that it is whole and loads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from html import unescape
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import networkx
import numpy as np
import pytest
import torch

import einsum_compiler as ec
from einsum_compiler import cli
from einsum_compiler.compilation import Compilation, compilation
from einsum_compiler.report.differences import marked_lines
from einsum_compiler.report.graph import cascade_graph
from einsum_compiler.report.graph_drawing import GAP, LAYER_GAP, _size
from einsum_compiler.report.graphs import kernel_graph, written_graph
from einsum_compiler.report.layers import layout
from einsum_compiler.report.stages import meaning_of, stage_groups
from einsum_compiler.report.syntax import code_lines
from einsum_compiler.report.tile_maps import FULL, PARTIAL, TileMap, Unknown, tile_maps
from tests.front.programs import ATTENTION
from tests.front.visited import visited
from tests.passes import wide_zoo, zoo

EXAMPLES = Path(__file__).parents[2] / "examples"
# Forms that compile: one kernel, two kernels, a refusal, states of finite rank, several contexts, cases, two axes.
COMPILED = ("ATTENTION", "COLUMN_SUM", "CLIPPED", "LAYERNORM_GEMM", "DIFFERENTIAL", "CASES", "TWO_DIMENSIONS", "UNION")
XHTML = "{http://www.w3.org/1999/xhtml}"


def compiled(text: str | Path, plan: str | None = None) -> Compilation:
    kernel = ec.compile(text, plan=plan)
    return compilation(kernel.derivation, kernel.binding(), "cpu", kernel.plan)


def text_of(page: str) -> str:
    """What a reader sees, without the style sheet."""
    body = page[page.index("<body>") :]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


# -- the page -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a program with a refusal."""
    plan = "plan clipped { kernel O { program m:96  stream n:128  resident e, f } }"
    path = ec.compile(zoo.CLIPPED, plan=plan).report(tmp_path_factory.mktemp("report") / "page.html")
    return path.read_text()


def test_the_page_is_well_formed_and_every_entry_of_its_contents_exists(clipped: str) -> None:
    root = ElementTree.fromstring(clipped)
    anchors = {a.get("href") for nav in root.iter(f"{XHTML}nav") for a in nav.iter(f"{XHTML}a")}
    sections = [s for s in root.iter(f"{XHTML}section")]
    assert anchors == {f"#{s.get('id')}" for s in sections} and len(sections) >= 8
    for section in sections:
        assert len("".join(section.itertext()).split()) > 10, f"section {section.get('id')} is empty"
    ids = Counter(e.get("id") for e in root.iter() if e.get("id") and e.tag.startswith(XHTML))
    assert max(ids.values()) == 1


def test_the_page_loads_nothing(clipped: str) -> None:
    root = ElementTree.fromstring(clipped)
    tags = {e.tag.rpartition("}")[2] for e in root.iter()}
    assert not tags & {"link", "script", "img", "iframe", "object", "embed", "use", "image", "base"}
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] in ("href", "src", "srcset", "data", "action", "xlink:href"):
                assert value.startswith("#"), f"{element.tag} has {name}={value}"
    style = "".join(s.text or "" for s in root.iter(f"{XHTML}style"))
    assert "@import" not in style and "url(" not in style


def test_the_page_says_what_was_proved_refused_and_planned(clipped: str) -> None:
    seen = text_of(clipped)
    assert "Refused for O over n : O waits until what it depends on is finished, which costs a pass over n." in seen
    assert "does not separate into a function of the points and a function of A.mx[m], A.d[m]" in seen
    assert "given that exp(-A.mx[m]) is never zero" in seen
    assert "37 full, 16 partial, 35 skipped: 60% visited." in seen
    assert "streamed: a loop inside every program 128 8" in seen
    assert "at most in a program: " in seen and "The same as formulas in the sizes" in seen
    assert "tensor elements moved bytes that a step touches, on average" in seen


def test_the_command_writes_beside_the_file_or_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "row.ein"
    source.write_text("cascade row(X[m,n]) -> Y[m] {\n  Y[m] = sum[n](X[m,n] * X[m,n])\n}\n")
    assert cli.main(["report", str(source), "--size", "m=100,n=300", "--dtype", "bf16"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'row.html'}\n"
    page = (tmp_path / "row.html").read_text()
    assert "100 × 300" in page and "bf16" in page
    other = tmp_path / "gpu.html"
    assert cli.main(["report", str(source), "-o", str(other), "--target", "sm_90"]) == 0
    assert "tl . load" in text_of(other.read_text()) and "lines of Triton" in text_of(other.read_text())
    capsys.readouterr()
    assert cli.main(["report", str(source), "-o", str(tmp_path / "none" / "page.html")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_text_of_the_user_cannot_become_markup(tmp_path: Path) -> None:
    text = "# <script>alert(1)</script> & more\ncascade tags(X[m,n]) -> Y[m] {\n  Y[m] = sum[n](X[m,n])\n}\n"
    page = ec.compile(text).report(tmp_path / "page.html").read_text()
    ElementTree.fromstring(page)
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page


def test_a_warm_call_loads_nothing_of_the_report() -> None:
    code = "import einsum_compiler as ec, sys\nec.compile('examples/causal.ein')\nprint([m for m in sys.modules if m.startswith('einsum_compiler.report') or m in ('pygments', 'scipy', 'jinja2')])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=EXAMPLES.parent
    )
    assert found.stdout == "[]\n"


# -- the graph ----------------------------------------------------------------------------------------------------------------


def test_nodes_carry_the_pass_they_belong_to() -> None:
    program = compiled(EXAMPLES / "window.ein")
    levels = next(p.written for p in program.passes if p.rank == "n")
    nodes = {n.name: n for n in cascade_graph(dict(program.derivation.stages)["inline"], [levels]).nodes}
    assert {n: (nodes[n].level, nodes[n].traverses) for n in "SPAOL"} == {
        "S": (1, True),
        "P": (2, True),
        "A": (3, True),
        "O": (3, True),
        "L": (2, False),
    }
    assert {n.name for n in nodes.values() if n.role == "input"} == {"Q", "K", "V"}
    assert {n.name for n in nodes.values() if n.role == "output"} == {"O", "L"}


def test_a_kernel_that_streams_several_ranks_has_passes_over_each() -> None:
    program = compiled(zoo.UNION)
    both = [p for p in program.parts if len(p.planned.plan.streams) > 1]
    assert both, program.plan
    nodes = [n for n in kernel_graph(both[0]).nodes if n.traverses]
    assert {n.rank for n in nodes} == {f"{s.rank}.1" for s in both[0].planned.plan.streams}
    assert len({n.colour for n in nodes}) == len({(n.rank, n.level) for n in nodes})


def test_edges_carry_the_ranks_read_and_those_reduced() -> None:
    program = compiled(EXAMPLES / "window.ein")
    edges = {(e.source, e.target): e for e in cascade_graph(dict(program.derivation.stages)["inline"]).edges}
    assert edges["K", "S"].ranks == ("b", "h", "n", "e") and edges["K", "S"].reduced == ("e",)
    assert edges["A", "O"].reduced == ("n",) and edges["D", "A"].reduced == ()
    assert ("S", "O") not in edges


def test_a_running_value_is_marked_and_closes_no_cycle() -> None:
    program = compiled(EXAMPLES / "window.ein")
    graph = cascade_graph(program.parts[0].derived.final)
    assert {n.name for n in graph.nodes if n.carried} == {"MX.run", "D.run", "O.acc.run"}
    dependence = networkx.DiGraph((e.source, e.target) for e in graph.edges if not e.before)
    assert networkx.is_directed_acyclic_graph(dependence)


@pytest.mark.parametrize("name", COMPILED)
def test_no_box_covers_another_and_edges_point_down(name: str) -> None:
    for part in compiled(getattr(zoo, name)).parts:
        graph = kernel_graph(part)
        dependence = networkx.DiGraph()
        dependence.add_nodes_from(n.name for n in graph.nodes)
        dependence.add_edges_from((e.source, e.target) for e in graph.edges if not e.before)
        found = layout(dependence, {n.name: _size(n) for n in graph.nodes}, GAP, LAYER_GAP)
        for a, b in combinations(found.boxes.values(), 2):
            assert not a.overlaps(b)
        for box in found.boxes.values():
            assert -1e-6 <= box.x - box.width / 2 and box.x + box.width / 2 <= found.width + 1e-6
        for source, target in dependence.edges:
            assert found.boxes[source].y < found.boxes[target].y


def test_a_layout_is_the_best_one_where_it_is_known() -> None:
    """A diamond is symmetric, a chain is straight, and two crossed pairs are uncrossed."""
    size = (40.0, 20.0)
    diamond = networkx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    found = layout(diamond, dict.fromkeys("abcd", size), 10, 30).boxes
    assert found["b"].y == found["c"].y and abs(found["b"].x - found["c"].x) == pytest.approx(50)
    assert found["a"].y < found["b"].y < found["d"].y
    chain = layout(networkx.DiGraph([("a", "b"), ("b", "c")]), dict.fromkeys("abc", size), 10, 30).boxes
    assert chain["a"].x == chain["b"].x == chain["c"].x
    crossed = networkx.DiGraph()
    crossed.add_nodes_from("abxy")
    crossed.add_edges_from([("a", "y"), ("b", "x")])
    found = layout(crossed, dict.fromkeys("abxy", size), 10, 30).boxes
    assert (found["a"].x < found["b"].x) == (found["y"].x < found["x"].x)


def test_the_kernels_of_a_tensor_stand_in_its_corner() -> None:
    first, second = (
        "kernel A.mx, A.d { program m:96  stream n:128  resident e }",
        "kernel CS { program n:96  stream m:128  resident e }",
    )
    svg = written_graph(compiled(zoo.COLUMN_SUM, f"plan column_sum {{ {first} {second} }}")).svg
    assert "kernel 1, 2" in svg and "kernel 2" in svg
    assert "kernel" not in written_graph(compiled(zoo.ATTENTION)).svg.replace("aria-label", "")


# -- texts --------------------------------------------------------------------------------------------------------------------


def plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.mark.parametrize("name", COMPILED)
def test_marked_lines_hold_both_texts(name: str) -> None:
    program = compiled(getattr(zoo, name))
    before = str(program.derivation.declared)
    for _, cascade in (*program.derivation.stages, *program.parts[0].derived.stages):
        after = str(cascade)
        lines = marked_lines(before, after)
        assert [plain(line.html) for line in lines if line.kind != "removed"] == after.splitlines()
        assert Counter(plain(line.html) for line in lines if line.kind != "added") == Counter(before.splitlines())
        before = after


def test_a_change_of_one_word_marks_that_word_alone() -> None:
    lines = marked_lines("  A[m] = exp(S[m] - X[m])", "  A[m] = exp(S[m] - Y[m])")
    assert [line.kind for line in lines] == ["removed", "added"]
    assert re.findall(r'class="[^"]*changed">([^<]*)<', lines[0].html) == ["X"]
    assert re.findall(r'class="[^"]*changed">([^<]*)<', lines[1].html) == ["Y"]


def test_every_pass_that_runs_has_words() -> None:
    for name in COMPILED:
        for group in stage_groups(compiled(getattr(zoo, name))):
            for stage in group.stages:
                assert stage.meaning.endswith((".", "it")) and len(stage.meaning.split()) > 4, stage
    assert meaning_of("partition") == "The size of every tile of a kernel."


@pytest.mark.parametrize("language", ["cascade", "tile", "cpp", "python"])
def test_highlighting_keeps_the_text(language: str) -> None:
    program = compiled(zoo.CLIPPED)
    for text in (str(program.derivation.declared), str(program.parts[0].tile), 'a\n\n  b < c && "d"  # e\n\nf'):
        assert [plain(line) for line in code_lines(text, language)] == text.split("\n")


# -- tiles --------------------------------------------------------------------------------------------------------------------


def test_the_map_holds_the_tiles_that_the_loops_visit() -> None:
    plan = "plan attention { kernel O { program b, h, m:16  stream n:32  resident e, f } }"
    q, k, v = torch.randn(1, 2, 100, 16), torch.randn(1, 2, 120, 16), torch.randn(1, 2, 120, 16)
    texts = [ATTENTION, ATTENTION.replace("n <= m", "n <= m and m - n < 20"), ATTENTION.replace(" where n <= m", "")]
    for text in texts:
        kernel = ec.compile(text, plan=plan)
        (found,) = tile_maps(compilation(kernel.derivation, kernel.binding(q, k, v), "cpu", kernel.plan))
        assert isinstance(found, TileMap)
        full, partial = visited(kernel, q, k, v)
        rows = 7 // len(found.cells)  # a dense map has one row for all tiles of m
        assert (rows * found.count(FULL), rows * found.count(PARTIAL)) == (full, partial)


def test_the_map_of_a_list_is_made_from_the_values_given() -> None:
    text = ATTENTION.replace("V[b,h,n,f];", "V[b,h,n,f], D1[m], D2[n];").replace("n <= m", "D1[m] == D2[n]")
    kernel = ec.compile(text, plan="plan attention { kernel O { program b, h, m:16  stream n:16  resident e, f } }")
    q = torch.randn(1, 2, 64, 16)
    ids = torch.arange(64) // 32
    (found,) = tile_maps(compilation(kernel.derivation, kernel.binding(q, q, q, ids, ids), "cpu", kernel.plan))
    assert isinstance(found, TileMap) and found.same_for == ("h",)
    block = np.full((2, 2), FULL)
    assert np.array_equal(found.cells, np.block([[block, 0 * block], [0 * block, block]]))
    absent = [t.to("meta") for t in (q, q, q, ids, ids)]
    (unknown,) = tile_maps(compilation(kernel.derivation, kernel.binding(*absent), "cpu", kernel.plan))
    assert isinstance(unknown, Unknown) and unknown.reads == ("D1", "D2")


def test_programs_that_only_the_evaluator_runs_are_refused_as_by_a_call(tmp_path: Path) -> None:
    with pytest.raises(ec.PlanError, match="topk has no compiled form"):
        ec.compile(wide_zoo.TOPK).report(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
