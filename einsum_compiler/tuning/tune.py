"""Tuning of one kernel for the sizes of a call, and the plan that later calls find."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from einsum_compiler import knobs, store
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import BackendError, PlanError
from einsum_compiler.ir.plan import parse_plan
from einsum_compiler.tuning import records
from einsum_compiler.tuning.result import FAILED, MEASURED, PRUNED, SLOW, Trial, TuningResult

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel

BUDGET = 60.0  # seconds
MOST_COMPILERS = 8  # processes that compile side by side
KEPT = (MEASURED, SLOW, PRUNED, FAILED)


def tuned_plan(kernel: Kernel, binding: Binding, backend: str) -> records.Found | None:
    """What tuning found for a call of these sizes, in any process; None where it was not tuned for sizes near these."""
    return records.find(_place(kernel, binding, backend), binding)


def tune(
    kernel: Kernel,
    binding: Binding,
    *,
    budget: float = BUDGET,
    exhaustive: bool = False,
    hook: str | None = None,
    first: Iterable[str] = (),
    quiet: bool = False,
) -> TuningResult:
    """Time candidates for the sizes of a call, keep the outcome for later calls, and return it.

    ``budget``: seconds for the search, without the comparison at the end. ``exhaustive``: the whole grid of plans in place of the most promising ones. ``hook``: see
    ``worker``. ``first``: plans (as text) to try before others.

    One search runs on a machine at a time; others wait. Measured candidates are kept when it is interrupted, and taken up by the next search of these sizes.

    Raises ``BackendError`` where nothing can be timed, ``PlanError`` for a kernel whose plan is given, and for a plan of ``first`` that does not fit.
    """
    from filelock import FileLock

    backend = _check(kernel, binding, budget)
    place = _place(kernel, binding, backend)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(place.path.parent / "search.lock")):
        return _searched(kernel, binding, backend, place, budget, exhaustive, hook, tuple(first), quiet)


def tune_missing(kernel: Kernel, binding: Binding) -> None:
    """Tune for the sizes of a call, unless another process has done so meanwhile."""
    from filelock import FileLock

    backend = _check(kernel, binding, BUDGET)
    place = _place(kernel, binding, backend)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(place.path.parent / "search.lock")):
        if records.find(place, binding) is None:
            _searched(kernel, binding, backend, place, BUDGET, False, None, (), False)


def _searched(
    kernel: Kernel,
    binding: Binding,
    backend: str,
    place: records.Place,
    budget: float,
    exhaustive: bool,
    hook: str | None,
    first: tuple[str, ...],
    quiet: bool,
) -> TuningResult:
    from einsum_compiler.tuning.process import Pool, folder
    from einsum_compiler.tuning.progress import progress
    from einsum_compiler.tuning.search import Limits, Search
    from einsum_compiler.tuning.task import task_of

    started = time.monotonic()
    known = records.exact(place, binding)
    trials, fixed = _candidates(kernel, binding, backend, exhaustive, first)
    for trial in known.trials if known else ():
        if trial.plan in trials and trial.outcome in KEPT:
            trials[trial.plan] = trial
    if hook is not None:
        from einsum_compiler.tuning.worker import hook as load

        load(hook)
    name = kernel.cascade.name
    with folder() as files, progress(f"tuning {name}", len(trials), not quiet) as shown:
        task = task_of(kernel, binding, backend, files, hook)
        with Pool(task, min(os.cpu_count() or 1, MOST_COMPILERS, len(trials))) as pool:
            search = Search(pool, Limits(budget), trials, shown)
            outcome = None
            try:
                search.run()
                outcome = search.conclude()
            finally:
                default, *others = search.trials.values()
                others.sort(key=lambda t: t.measured if t.measured is not None else float("inf"))
                result = TuningResult(
                    name,
                    digest_of(kernel.text),
                    backend,
                    dict(binding.extents),
                    dict(place.dtypes),
                    dict(binding.scalars),
                    fixed,
                    dict(place.machine),
                    _versions(),
                    (default, *others),
                    **(asdict(outcome) if outcome else {}),
                    seconds=time.monotonic() - started,
                    finished=outcome is not None,
                )
                records.keep(place, asdict(result))
                kernel.forget()
    return result


def _candidates(
    kernel: Kernel, binding: Binding, backend: str, exhaustive: bool, first: Iterable[str]
) -> tuple[dict[str, Trial], tuple[str, ...]]:
    """The trials to make by plan, the default first; and what the kernels of the default hold constant."""
    from einsum_compiler.planning import constants_of
    from einsum_compiler.specialise import check_call, plan_of, request
    from einsum_compiler.tuning.candidates import candidates

    derivation = kernel._derivation
    check_call(derivation, binding)
    wanted = request(derivation, binding, backend)
    fixed: set[str] = set()
    for planned in plan_of(derivation, wanted, None):
        constants = constants_of(planned.part.cascade, planned.plan, wanted.scalars)
        fixed |= constants.extents | constants.parameters
    default, *others = candidates(derivation, wanted.extents, backend, wanted.dtypes, exhaustive)
    trials = {str(default.plan): Trial(str(default.plan), default.predicted)}
    for text in first:
        plan_of(derivation, wanted, parse_plan(text))
        trials.setdefault(str(parse_plan(text)), Trial(str(parse_plan(text))))
    for other in others:
        trials.setdefault(str(other.plan), Trial(str(other.plan), other.predicted))
    return trials, tuple(sorted(fixed & {*binding.extents, *binding.scalars}))


def _check(kernel: Kernel, binding: Binding, budget: float) -> str:
    """The backend to tune. Raises for what cannot be tuned."""
    if kernel.plan is not None:
        raise PlanError("this kernel has a given plan: compile it without one to tune it")
    backend = kernel.backend_for(binding)
    if backend == "reference":
        raise BackendError("the backend 'reference' has no plan to tune")
    if backend == "meta":
        raise BackendError("tensors on the device 'meta' have no values: nothing runs that could be timed")
    if backend == "triton" and any(not t.is_cuda for t in binding.tensors.values()):
        raise BackendError(
            "times under Triton's interpreter say nothing about a GPU: tune with tensors on one",
            None,
            ("'einsumc compile --target' shows what a plan needs on a GPU that is not here",),
        )
    if not binding.tensors:
        raise BackendError("a program without inputs has nothing to tune for")
    if not budget > 0:
        raise BackendError(f"a budget is a positive number of seconds, found {budget}")
    return backend


def _place(kernel: Kernel, binding: Binding, backend: str) -> records.Place:
    isa = kernel.target or (knobs.instruction_set() if backend == "cpu" else "")
    return records.place_of(kernel.text, kernel.cascade.name, binding, backend, isa, knobs.compiler())


def digest_of(text: str) -> str:
    """What identifies a program in a file of tuned plans."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    from einsum_compiler.tuning.machine import versions

    return {**versions(), "code": store.version()[:16]}
