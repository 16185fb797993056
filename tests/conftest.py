"""What every test shares: determinism, a cache of its own, golden texts, hypothesis profiles."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch is imported: threads that wait without spinning, since several test processes share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden texts instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    _use_fresh_cache(config)
    _load_hypothesis_profile()


def _use_fresh_cache(config: pytest.Config) -> None:
    """Kernels compiled by an earlier state of the compiler must not pass the tests of this one."""
    if "EINSUM_CACHE_DIR" in os.environ:  # the user's choice, or a worker that shares its controller's
        return
    folder = tempfile.mkdtemp(prefix="einsum-tests-")
    os.environ["EINSUM_CACHE_DIR"] = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def _load_hypothesis_profile() -> None:
    from hypothesis import HealthCheck, settings

    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    settings.register_profile(
        "ci", derandomize=True, deadline=None, print_blob=True, max_examples=60, suppress_health_check=quiet
    )
    settings.register_profile("wide", deadline=None, print_blob=True, max_examples=1000, suppress_health_check=quiet)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a GPU; none here"))


def pytest_collection_finish() -> None:
    """What was imported lives as long as the process: collections of cycles need not look at it again and again."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _same_plans_everywhere() -> Iterator[None]:
    """Plans are chosen for the same machine wherever the tests run, so that they may say which."""
    from tests.machine import ZEN3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("einsum_compiler.cost.cpu.cpu_device", lambda: ZEN3)
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``golden(text)`` compares with ``tests/golden/<path of the test>/<name of the test>.txt``.

    A missing golden text fails, unless ``--update-golden`` is given, which writes it.
    """

    def compare(text: str, suffix: str = "txt") -> None:
        here = Path(str(request.node.path)).resolve().relative_to(TESTS).with_suffix("")
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in request.node.name)
        path = TESTS / "golden" / here / f"{name}.{suffix}"
        text = text if text.endswith("\n") else text + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"no golden text at {path.relative_to(ROOT)}; write it with --update-golden and read it"
        assert text == path.read_text()

    return compare
