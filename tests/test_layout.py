"""The folders, what is packaged, and who may import whom."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRONT = "einsum_compiler"
PARTS = ("ir", "passes", "backends", "templates")
MAY_IMPORT = {"backends": {"ir", "templates"}, "passes": {"ir"}, "ir": set(), "templates": set()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def _sources(part: str) -> list[Path]:
    """The Python files of a top folder, links not followed."""
    found = []
    for folder, _, names in os.walk(ROOT / part):
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


ALL_SOURCES = [path for part in (FRONT, *PARTS) for path in _sources(part)]


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(path: Path) -> list[tuple[str, int]]:
    """Every module a file imports, at top level or inside a function, as (dotted name, relative level)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{node.module or ''}.{alias.name}", node.level) for alias in node.names]
    return found


def test_every_package_on_disk_is_listed_and_no_other() -> None:
    on_disk = set()
    for path in ALL_SOURCES:
        parts = path.parent.relative_to(ROOT).parts
        on_disk.add(".".join(parts if parts[0] == FRONT else (FRONT, *parts)))
    assert set(SETUPTOOLS["packages"]) == on_disk


def test_every_package_has_an_init() -> None:
    folders = {path.parent for path in ALL_SOURCES}
    assert [_id(f) for f in sorted(folders) if not (f / "__init__.py").exists()] == []


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_mapped_and_linked(part: str) -> None:
    assert SETUPTOOLS["package-dir"][f"{FRONT}.{part}"] == part
    link = ROOT / FRONT / part
    assert link.is_symlink()
    assert os.readlink(link) == f"../{part}"


def test_every_data_file_is_packaged() -> None:
    packaged = set()
    for package, patterns in SETUPTOOLS["package-data"].items():
        below = package.split(".")[1:]
        folder = ROOT.joinpath(*(below if below[:1] and below[0] in PARTS else (FRONT, *below)))
        for pattern in patterns:
            packaged |= set(folder.glob(pattern))
    data = set()
    for part in (FRONT, *PARTS):
        for folder, _, names in os.walk(ROOT / part):
            if "__pycache__" not in folder:
                data |= {Path(folder, name) for name in names if not name.endswith((".py", ".pyc"))}
    data = {path for path in data if not path.is_symlink()}
    assert {_id(p) for p in data} == {_id(p) for p in packaged & data}


@pytest.mark.parametrize("path", ALL_SOURCES, ids=_id)
def test_imports_are_absolute_and_go_one_way(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    wrong = []
    for name, level in _imports(path):
        words = name.split(".")
        if level or words[0] in PARTS:
            wrong.append(f"{'.' * level}{name}: write {FRONT}.…")
        elif words[0] == FRONT and part != FRONT:
            target = words[1] if len(words) > 1 else ""
            if target != part and target not in MAY_IMPORT[part]:
                wrong.append(f"{name}: {part} may import only {sorted(MAY_IMPORT[part]) or 'nothing of ours'}")
    assert wrong == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_cannot_be_imported_by_one_word(part: str) -> None:
    """Two names for one module would be two copies of every class; the folder refuses the wrong one."""
    child = subprocess.run(
        [sys.executable, "-c", f"import {part}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 1
    assert child.stderr.splitlines()[-1] == (
        f"ImportError: import {FRONT}.{part}, not {part}: this folder is a part of that package"
    )


@pytest.mark.parametrize("part", [FRONT, *PARTS])
def test_only_the_front_door_reads_the_environment(part: str) -> None:
    """Settings reach passes and backends as arguments; one module of the front door reads variables."""
    readers = []
    for path in _sources(part):
        names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        if names & {"environ", "getenv"}:
            readers.append(_id(path))
    assert readers in ([], ["einsum_compiler/knobs.py"])


HEAVY = ("torch", "sympy", "islpy", "lark", "networkx", "triton", "jinja2", "rich")


@pytest.mark.parametrize(
    "module",
    [
        "ir",
        *(f"ir.{name}" for name in ("expression", "cascade", "tile", "types", "errors", "span", "scalar", "binding")),
    ],
)
def test_what_a_warm_call_needs_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {FRONT}.{module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


@pytest.mark.parametrize("path", ALL_SOURCES, ids=_id)
def test_no_file_is_longer_than_600_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600
