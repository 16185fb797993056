"""The process in which candidates are compiled, checked and timed; whatever they do to it, the search goes on.

``main`` runs in a process of its own with a connection at a file descriptor, receives one ``Task`` and then requests, and answers each with ``Done`` or
``Failed``. A process that dies or does not answer in time is replaced by the other side (``process``).

A **hook** is a function ``hook(stage, plan, executable) -> executable`` named as ``module:function``. It is called in this process for every candidate after it is
compiled (``stage`` is ``compile``, ``check``, ``time`` or ``race``), and what it returns is used in place of the executable: to count, to trace, to set clocks, or, in
tests, to misbehave.
"""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.overrides import TorchFunctionMode

from einsum_compiler.executable import Executable
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import AccuracyError, BackendError, EinsumError
from einsum_compiler.tuning.messages import Check, Compile, Done, Failed, Race, Reckon, Request, Time
from einsum_compiler.tuning.task import Task

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel
    from einsum_compiler.tuning.sampled import Sample
    from einsum_compiler.tuning.static import Static
    from einsum_compiler.validate import Reference

POINTS = 2**22  # of the largest equation that the reference evaluates
LEAST_RUNS = 5
HOPELESS = 3.0  # times as slow as the best candidate: not timed further


class Runs(Protocol):
    """What a hook takes and gives: an ``Executable``, or what behaves like one."""

    def run(
        self, tensors: Mapping[str, Any], scalars: Mapping[str, Any], extents: Mapping[str, int]
    ) -> dict[str, Any]: ...


@dataclass
class _Worker:
    task: Task
    executables: dict[str, Executable] = field(default_factory=dict)

    def answer(self, request: Request) -> Any:
        match request:
            case Compile(plan=plan):
                return self.static(plan)
            case Reckon():
                self.reference  # noqa: B018  evaluated now
                return None
            case Check(plan=plan):
                return self.check(self.executable("check", plan))
            case Time(plan=plan, seconds=seconds, best=best):
                return self.time(self.executable("time", plan), seconds, best)
            case Race(plans=plans, seconds=seconds):
                return self.race([self.executable("race", p) for p in plans], seconds)

    # -- kernels

    @cached_property
    def kernel(self) -> Kernel:
        from einsum_compiler.kernel import Kernel

        task = self.task
        return Kernel(task.text, task.source, task.name, task.backend, None, task.target, generated=task.generated)

    def executable(self, stage: str, plan: str) -> Runs:
        if plan not in self.executables:
            from einsum_compiler.ir.plan_parser import parse_plan
            from einsum_compiler.specialise import specialise

            kernel = self.kernel
            self.executables[plan] = specialise(
                lambda: kernel.derivation,
                kernel.key,
                self.task.binding(values=False),
                self.task.backend,
                parse_plan(plan),
                self.task.target,
            )
        if self.task.hook is None:
            return self.executables[plan]
        return hook(self.task.hook)(stage, plan, self.executables[plan])

    def static(self, plan: str) -> Static:
        from einsum_compiler.tuning.static import static_figures

        self.executable("compile", plan)
        return static_figures(
            self.kernel, self.task.binding(values=False), self.executables[plan], plan, self.task.backend
        )

    # -- values

    @property
    def binding(self) -> Binding:
        return self.drawn[0]

    @property
    def reference(self) -> Reference:
        return self.drawn[1]

    @cached_property
    def drawn(self) -> tuple[Binding, Reference]:
        """New inputs, and the reference at the sampled coordinates. Where it is mostly NaN (roots, logarithms), inputs without their signs."""
        for positive in (False, True):
            binding = self.task.binding(values=True, positive=positive)
            reference = self.evaluated(binding, f"reference-{positive:d}.pt")
            unknown = [float(v.isnan().double().mean()) for v in reference.gold.values() if v.is_floating_point()]
            if max(unknown, default=0.0) < 0.5:
                break
        return binding, reference

    def evaluated(self, binding: Binding, name: str) -> Reference:
        """The reference, kept in a file for the process that replaces this one."""
        from einsum_compiler.validate import Reference, reference_of

        path = self.task.folder / name
        if path.exists():
            gold, plain = torch.load(path, weights_only=True)
            return Reference(gold, plain)
        found = reference_of(self.sample.cascade, self.kernel.derivation.module, self.sample.binding(binding))
        partial = path.with_suffix(".partial")
        torch.save((dict(found.gold), dict(found.plain)), partial)
        partial.rename(path)
        return found

    @cached_property
    def sample(self) -> Sample:
        from einsum_compiler.tuning.sampled import sample

        return sample(self.kernel.derivation.stages[0][1], self.task.extents, POINTS, self.task.seed)

    def check(self, executable: Runs) -> str:
        from einsum_compiler.validate import compared

        with Poisoned():
            found = self.call(executable)
        for name, value in found.items():
            if value.is_floating_point() and value.isnan().any() and not self.reference.gold[name].isnan().any():
                index = [int(i) for i in value.isnan().nonzero()[0]]
                raise AccuracyError(f"{name}{index} is not written, or NaN")
        return str(compared(self.sample.outputs(found), self.reference))

    def call(self, executable: Runs) -> dict[str, Any]:
        return executable.run(self.binding.tensors, self.binding.scalars, self.binding.extents)

    # -- times

    @cached_property
    def wait(self) -> Callable[[], Any]:
        """Until the device has done what it was given."""
        if any(t.is_cuda for t in self.binding.tensors.values()):
            return torch.cuda.synchronize
        return lambda: None

    def once(self, executable: Runs) -> float:
        started = time.perf_counter()
        self.call(executable)
        self.wait()
        return time.perf_counter() - started

    def time(self, executable: Runs, seconds: float, best: float) -> list[float]:
        warm = [self.once(executable) for _ in range(2)]
        if min(warm) > HOPELESS * best:
            return warm
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < LEAST_RUNS or time.perf_counter() - started < seconds:
            times.append(self.once(executable))
        return times

    def race(self, executables: list[Runs], seconds: float) -> list[list[float]]:
        """In turns, and every other round backwards, so that a drift of the machine meets all alike."""
        times: list[list[float]] = [[] for _ in executables]
        for executable in executables:
            self.once(executable)
        started, rounds = time.perf_counter(), 0
        while rounds < LEAST_RUNS or time.perf_counter() - started < seconds:
            order = range(len(executables)) if rounds % 2 == 0 else reversed(range(len(executables)))
            for place in order:
                times[place].append(self.once(executables[place]))
            rounds += 1
        return times


def hook(place: str) -> Callable[[str, str, Runs], Runs]:
    """The function at ``module:function``. Raises ``BackendError`` where there is none."""
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BackendError(f"no hook '{place}': {error}") from None
    return found  # type: ignore[no-any-return]


class Poisoned(TorchFunctionMode):
    """New tensors hold NaN (whole numbers: the largest), so that what a kernel does not write shows."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        found = function(*arguments, **(keywords or {}))
        if function is torch.empty:
            found.fill_(
                torch.nan
                if found.is_floating_point()
                else torch.iinfo(found.dtype).max
                if found.dtype != torch.bool
                else 1
            )
        return found


def main(descriptor: int) -> None:
    """Serve one connection until the other side closes it."""
    die_with_the_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the search decides what an interruption means
    connection = Connection(descriptor)
    task = connection.recv()
    torch.set_num_threads(task.threads)
    torch.set_grad_enabled(False)
    worker = _Worker(task)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(_answer(worker, request))


def _answer(worker: _Worker, request: Request) -> Done | Failed:
    try:
        return Done(worker.answer(request))
    except EinsumError as error:
        return Failed(type(error).__name__, error.message)
    except Exception as error:  # noqa: BLE001  a candidate may raise anything, and only it is at fault
        return Failed(type(error).__name__, str(error).splitlines()[0] if str(error) else "")


def die_with_the_parent() -> None:
    """A worker in an endless kernel must not outlive a search that was killed."""
    if sys.platform == "linux":
        import ctypes

        set_signal_of_parents_death = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGKILL)
