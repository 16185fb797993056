"""The time of a call: medians of repeated runs, with the rates of work they mean."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from einsum_compiler.ir.binding import Binding

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel

LEAST_RUNS = 5


@dataclass(frozen=True)
class Measurement:
    """Seconds of one call (median, least, greatest), and the work of a call.

    ``operations``: of the tile programs, padding and masked points of visited tiles included; None for the backend ``reference``.
    ``compulsory_bytes``: each input and output of the program once. ``predicted``: seconds of the cost model and the resource that limits them.
    """

    median: float
    least: float
    greatest: float
    runs: int
    operations: int | None
    compulsory_bytes: int
    predicted: tuple[float, str] | None = None

    @property
    def bandwidth(self) -> float:
        """Compulsory bytes over the median time, in bytes per second."""
        return self.compulsory_bytes / self.median

    @property
    def rate(self) -> float | None:
        """Operations per second at the median time."""
        return None if self.operations is None else self.operations / self.median

    def __str__(self) -> str:
        spread = f"{self.least * 1e3:.3f} to {self.greatest * 1e3:.3f}"
        parts = [f"median {self.median * 1e3:.3f} ms of {self.runs} runs ({spread} ms)"]
        if self.rate is not None:
            parts.append(f"{self.rate / 1e9:.1f} GFLOP/s of tile operations")
        parts.append(f"{self.bandwidth / 1e9:.2f} GB/s of compulsory traffic")
        if self.predicted is not None:
            seconds, limit = self.predicted
            parts.append(f"predicted {seconds * 1e3:.3f} ms, limited by {limit}")
        return "; ".join(parts)


def measure(call: Callable[[], Any], seconds: float = 1.0, wait: Callable[[], Any] = lambda: None) -> list[float]:
    """Times of repeated calls after one warm-up, for about ``seconds`` and at least a few runs."""
    call()
    wait()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < LEAST_RUNS or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - before)
    return times


def benchmark(kernel: Kernel, binding: Binding, seconds: float = 1.0) -> Measurement:
    """The time of one call with these arguments, on the device they are on. Raises ``BackendError`` for tensors without values."""
    from einsum_compiler.ir.errors import BackendError

    if any(t.device.type == "meta" for t in binding.tensors.values()):
        raise BackendError("tensors on the device 'meta' have no values: nothing runs that could be timed")
    results = kernel.run(binding)
    moved = sum(t.numel() * t.element_size() for t in (*binding.tensors.values(), *results.values()))
    wait: Callable[[], Any] = lambda: None
    if any(t.is_cuda for t in binding.tensors.values()):
        import torch

        wait = torch.cuda.synchronize
    times = measure(lambda: kernel.run(binding), seconds, wait)
    return Measurement(
        statistics.median(times),
        min(times),
        max(times),
        len(times),
        _operations(kernel, binding),
        moved,
        _predicted(kernel, binding),
    )


def _operations(kernel: Kernel, binding: Binding) -> int | None:
    from einsum_compiler.inspection import works

    backend = kernel.backend_for(binding)
    if backend == "reference":
        return None
    found = kernel.with_plan(binding, backend, lambda plan: works(kernel.derivation, binding, backend, plan))
    counts = [w.operations for w in found]
    known = [c for c in counts if c is not None]
    return sum(known) if len(known) == len(counts) else None


def _predicted(kernel: Kernel, binding: Binding) -> tuple[float, str] | None:
    """The predicted time of a call and what limits it; None for the evaluator, and for tiles that do not fit the device."""
    from einsum_compiler.cost.considered import predictions
    from einsum_compiler.cost.gpu_model import DoesNotFit
    from einsum_compiler.cost.prediction import together
    from einsum_compiler.specialise import plan_of, request

    backend = kernel.backend_for(binding)
    if backend == "reference":
        return None
    wanted = request(kernel.derivation, binding, backend)
    try:
        found = together(predictions(plan_of(kernel.derivation, wanted, kernel.plan), wanted))
    except DoesNotFit:
        return None
    return found.seconds, found.limiting
