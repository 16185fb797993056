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


@dataclass(frozen=True)
class Measurement:
    """Seconds of one call (median, least, greatest), and compulsory bytes per second at the median."""

    median: float
    least: float
    greatest: float
    runs: int
    compulsory_bytes: int

    @property
    def bandwidth(self) -> float:
        """Compulsory bytes (each input and output once) over the median time, in bytes per second."""
        return self.compulsory_bytes / self.median

    def __str__(self) -> str:
        return (
            f"median {self.median * 1e3:.3f} ms of {self.runs} runs ({self.least * 1e3:.3f} to {self.greatest * 1e3:.3f}); "
            f"{self.bandwidth / 1e9:.2f} GB/s of compulsory traffic"
        )


def measure(
    call: Callable[[], Any], seconds: float = 1.0, least_runs: int = 5, wait: Callable[[], Any] = lambda: None
) -> list[float]:
    """Times of repeated calls after one warm-up, for about ``seconds``."""
    call()
    wait()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < least_runs or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - before)
    return times


def benchmark(kernel: Kernel, binding: Binding) -> Measurement:
    """The time of one call with these arguments, on the device they are on."""
    results = kernel.run(binding)
    moved = sum(t.numel() * t.element_size() for t in (*binding.tensors.values(), *results.values()))
    wait: Callable[[], Any] = lambda: None
    if any(t.is_cuda for t in binding.tensors.values()):
        import torch

        wait = torch.cuda.synchronize
    times = measure(lambda: kernel.run(binding), wait=wait)
    return Measurement(statistics.median(times), min(times), max(times), len(times), moved)
