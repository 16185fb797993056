"""The pages of docs/families/: every text of examples/ is on one of them, as it is in its file."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmarks.families_cases import EXAMPLES, FAMILIES, PAGES, RESULTS, Family
from benchmarks.families_pages import index, page

FILES = [file for family in FAMILIES for file in family.files]


def test_every_text_is_on_one_page() -> None:
    assert Counter(FILES) == Counter(path.stem for path in EXAMPLES.glob("*.ein"))
    assert {path.stem for path in PAGES.glob("*.md")} == {"index", *(family.name for family in FAMILIES)}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_a_page_holds_its_texts_and_the_figures_that_were_kept(family: Family) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    written = (PAGES / f"{family.name}.md").read_text(encoding="utf-8")
    for file in family.files:
        assert f"## {file}\n\n```\n{(EXAMPLES / f'{file}.ein').read_text(encoding='utf-8')}" in written
    assert written == page(family, results)


def test_the_index_is_that_of_the_figures() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert (PAGES / "index.md").read_text(encoding="utf-8") == index(results)
    assert {key.split("/")[0] for key in results["programs"]} <= set(FILES)
