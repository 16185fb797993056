"""Tuning of one kernel for the sizes of a call."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from einsum_compiler import knobs, store
from einsum_compiler.ir.binding import Binding
from einsum_compiler.ir.errors import BackendError, PlanError
from einsum_compiler.ir.plan_parser import parse_plan
from einsum_compiler.tuning import records
from einsum_compiler.tuning.lookup import dtypes_of, place_of
from einsum_compiler.tuning.result import OPEN, Trial, TuningResult
from einsum_compiler.tuning.search import Limits, Search

if TYPE_CHECKING:
    from einsum_compiler.kernel import Kernel

MOST_COMPILERS = 8  # processes that compile side by side


@dataclass(frozen=True)
class Options:
    """How to search.

    ``exhaustive``: the whole grid of plans in place of the most promising ones. ``hook``: see ``worker``. ``given``: plans (as text) to compare with the default, in
    place of all others.
    """

    limits: Limits = field(default_factory=Limits)
    exhaustive: bool = False
    hook: str | None = None
    given: tuple[str, ...] = ()


def tune(kernel: Kernel, binding: Binding, options: Options = Options()) -> TuningResult:
    """Time candidates for the sizes of a call, keep the outcome for later calls, and return it.

    One search runs on a machine at a time; others wait. What was measured is kept when a search is interrupted, and taken up by the next one for these sizes.

    Raises ``BackendError`` where nothing can be timed, ``PlanError`` for a kernel whose plan is given, and for a given candidate that does not fit.
    """
    backend = _check(kernel, binding, options)
    place = place_of(kernel, dtypes_of(binding), backend)
    with _alone(place):
        return _searched(kernel, binding, backend, place, options)


def tune_missing(kernel: Kernel, binding: Binding, budget: float) -> None:
    """Tune for the sizes of a call, unless another process has done so meanwhile. Raises ``KeyboardInterrupt`` after an interruption."""
    options = Options(Limits(budget))
    backend = _check(kernel, binding, options)
    place = place_of(kernel, dtypes_of(binding), backend)
    with _alone(place):
        if records.find(place, binding) is None and _searched(kernel, binding, backend, place, options).interrupted:
            raise KeyboardInterrupt


@contextmanager
def _alone(place: records.Place) -> Iterator[None]:
    """Two searches at once would time each other."""
    from filelock import FileLock

    place.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(place.path.parent / "search.lock")):
        yield


def _searched(kernel: Kernel, binding: Binding, backend: str, place: records.Place, options: Options) -> TuningResult:
    from einsum_compiler.tuning.process import Pool, folder
    from einsum_compiler.tuning.progress import progress
    from einsum_compiler.tuning.task import task_of

    started = time.monotonic()
    trials, fixed = _candidates(kernel, binding, backend, options)
    known = records.exact(place, binding)
    for trial in known.trials if known else ():
        if trial.plan in trials and trial.outcome != OPEN:
            trials[trial.plan] = replace(trial, predicted=trials[trial.plan].predicted)
    name = kernel.cascade.name
    if knobs.debug():
        print(f"einsum_compiler: tuning {name}, {len(trials)} candidates", file=sys.stderr)
    outcome = None
    with folder() as files, progress(f"tuning {name}", len(trials), options.limits.budget) as shown:
        task = task_of(kernel, binding, backend, files, options.hook)
        with Pool(task, min(os.cpu_count() or 1, MOST_COMPILERS, len(trials))) as pool:
            search = Search(pool, options.limits, trials, shown)
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
                    versions_now(),
                    (default, *others),
                    **(asdict(outcome) if outcome else {}),
                    seconds=time.monotonic() - started,
                    interrupted=search.interrupted,
                )
                records.keep(place, asdict(result))
                kernel.forget()
    return result


def _candidates(
    kernel: Kernel, binding: Binding, backend: str, options: Options
) -> tuple[dict[str, Trial], tuple[str, ...]]:
    """The trials to make by plan, the default first; and what the kernels of the default hold constant."""
    from einsum_compiler.constants import constants_of
    from einsum_compiler.specialise import check_call, plan_of, request
    from einsum_compiler.tuning.candidates import candidates

    derivation = kernel.derivation
    check_call(derivation, binding)
    wanted = request(derivation, binding, backend)
    fixed: set[str] = set()
    for planned in plan_of(derivation, wanted, None):
        constants = constants_of(planned.part.cascade, planned.plan, wanted.scalars)
        fixed |= constants.extents | constants.parameters
    default, *others = candidates(derivation, binding, backend, options.exhaustive)
    trials = {str(default.plan): Trial(str(default.plan), default.predicted)}
    for plan in map(parse_plan, options.given):
        plan_of(derivation, wanted, plan)  # raises where it does not fit
        trials.setdefault(str(plan), Trial(str(plan)))
    for other in others if not options.given else ():
        trials.setdefault(str(other.plan), Trial(str(other.plan), other.predicted))
    return trials, tuple(sorted(fixed & {*binding.extents, *binding.scalars}))


def _check(kernel: Kernel, binding: Binding, options: Options) -> str:
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
    if not options.limits.budget > 0:
        raise BackendError(f"a budget is a positive number of seconds, found {options.limits.budget}")
    if options.hook is not None:
        from einsum_compiler.tuning.worker import hook

        hook(options.hook)
    return backend


def digest_of(text: str) -> str:
    """What identifies a program in a file of tuned plans."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions_now() -> dict[str, str]:
    from einsum_compiler.tuning.machine import versions

    return {**versions(), "code": store.version()[:16]}
