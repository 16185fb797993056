"""The search: candidates from the cost model, compiled side by side, checked and timed alone, and the best compared with the default at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from einsum_compiler.ir.errors import BackendError
from einsum_compiler.tuning.messages import Check, Compile, Done, Failed, Race, Reckon, Time
from einsum_compiler.tuning.process import Pool
from einsum_compiler.tuning.progress import Shown
from einsum_compiler.tuning.result import FAILED, MEASURED, OPEN, PRUNED, SLOW, Trial, milliseconds
from einsum_compiler.tuning.static import Static
from einsum_compiler.tuning.worker import HOPELESS

FINALISTS = 3
SIGNIFICANT = 1.02  # a plan less than this much faster than the default is not worth a record that deviates


@dataclass(frozen=True)
class Limits:
    """Seconds: for the whole search but its end, to compile a candidate, to evaluate the reference, to run a candidate a few times, to time one."""

    budget: float = 60.0
    compile: float = 60.0
    reference: float = 600.0
    run: float = 10.0
    time: float = 0.2


@dataclass(frozen=True)
class Outcome:
    """The end of a search: the best candidate against the default, in turns. Not ``finished``: there was nothing to compare, and candidates are left."""

    chosen: str | None
    ratio: float | None
    default_seconds: float | None
    chosen_seconds: float | None
    reason: str
    finished: bool = True


@dataclass
class Search:
    """Trials by plan, in the order of the candidates; the default is the first."""

    pool: Pool
    limits: Limits
    trials: dict[str, Trial]
    shown: Shown = field(default_factory=Shown)
    interrupted: bool = False
    _started: float = field(default_factory=time.monotonic)

    @property
    def default(self) -> Trial:
        return next(iter(self.trials.values()))

    @property
    def best(self) -> float:
        """The least median so far, in seconds."""
        return min((t.measured for t in self.trials.values() if t.measured is not None), default=float("inf"))

    def run(self) -> None:
        """Measure candidates until all are done or the budget is spent; an interruption from the keyboard ends it as if the budget were spent.

        The default and the candidate predicted best are measured in any case.
        """
        with self.pool.interruption.awaited():
            try:
                self._prepare()
                self._try_all([t.plan for t in self.trials.values() if t.outcome == OPEN])
            except KeyboardInterrupt:
                self.interrupted = True
                self.pool.stop()
                self.shown.to(self._done(), "interrupted: comparing what was measured")
        self.interrupted |= self.pool.interruption.happened

    def _try_all(self, pending: Sequence[str]) -> None:
        size = max(2, self.pool.size)
        first = True
        while pending and (first or self._left() > 0):
            batch, pending = pending[:size], pending[size:]
            self._compile(batch)
            for plan in batch:
                if first or self._left() > 0:
                    self._measure(plan)
            first, size = False, 2 * self.pool.size

    def _left(self) -> float:
        return self._started + self.limits.budget - time.monotonic()

    def _done(self) -> int:
        return sum(t.outcome != OPEN for t in self.trials.values())

    def _prepare(self) -> None:
        self.shown.to(self._done(), "evaluating the reference")
        answer = self.pool.first.ask(Reckon(), self.limits.reference)
        if isinstance(answer, Failed):
            raise BackendError(
                f"the reference that candidates are compared with could not be evaluated: {answer.kind}: {answer.message}"
            )

    def _compile(self, plans: Sequence[str]) -> None:
        self.shown.to(self._done(), f"compiling {len(plans)}")
        for plan, answer in self.pool.each({p: Compile(p) for p in plans}, self.limits.compile):
            match answer:
                case Failed(kind=kind, message=message):
                    self._note(plan, outcome=FAILED, reason=f"{kind} when compiling: {message}")
                case Done(value=Static(refusal="") as found):
                    self._note(plan, figures=str(found))
                case Done(value=Static() as found):
                    self._note(plan, outcome=PRUNED, reason=found.refusal, figures=str(found))

    def _measure(self, plan: str) -> None:
        if self.trials[plan].outcome != OPEN:
            return
        best = self.best
        self.shown.to(self._done(), "timing" if best == float("inf") else f"timing; best {milliseconds(best)}")
        limit = self.limits.run + (0 if self.default.measured is None else 10 * self.default.measured)
        answer = self.pool.first.ask(Check(plan), limit)
        if isinstance(answer, Done):
            answer = self.pool.first.ask(Time(plan, self.limits.time, best), limit)
        if isinstance(answer, Failed):
            self._note(plan, outcome=FAILED, reason=said(answer))
            return
        times: list[float] = answer.value
        # The times of a plan that is far behind are two, not worth a median.
        hopeless = min(times) > HOPELESS * best
        self._note(
            plan, outcome=SLOW if hopeless else MEASURED, measured=min(times) if hopeless else statistics.median(times)
        )

    def _note(self, plan: str, **found: object) -> None:
        self.trials[plan] = replace(self.trials[plan], **found)  # type: ignore[arg-type]

    # -- the end

    def conclude(self) -> Outcome:
        """The best few against the default, in turns in one process: the winner, if it beats the default beyond doubt."""
        default = self.default
        ranked = sorted(
            (t for t in self.trials.values() if t.outcome == MEASURED and t is not default),
            key=lambda t: t.measured or 0.0,
        )
        if not ranked:
            tried = all(t.outcome != OPEN for t in self.trials.values())
            reason = "no other candidate was measured" if len(self.trials) > 1 else "there is no other candidate"
            return Outcome(None, None, default.measured, None, reason, tried)
        if default.measured is None:
            winner = ranked[0]
            reason = f"the default: {default.reason or default.outcome}"
            return Outcome(winner.plan, None, None, winner.measured, reason)
        finalists = [t.plan for t in ranked[:FINALISTS]]
        self.shown.to(self._done(), f"comparing {len(finalists)} with the default")
        compared = self._compared(finalists)
        if not compared:
            return Outcome(None, None, default.measured, None, "the best candidates failed when run again")
        return _judged(compared)

    def _compared(self, finalists: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
        """Times of the default and of each finalist in neighbouring runs. Where one of them fails, each is run alone with the default."""
        default = self.default
        seconds = min(max(8 * (1 + len(finalists)) * (default.measured or 0.0), 0.5), 5.0)
        answer = self.pool.first.ask(Race((default.plan, *finalists), seconds), 10 * seconds + self.limits.run)
        if isinstance(answer, Done):
            base, *others = answer.value
            return {plan: (base, times) for plan, times in zip(finalists, others, strict=True)}
        if len(finalists) == 1:
            self._note(finalists[0], outcome=FAILED, reason=said(answer))
            return {}
        found: dict[str, tuple[list[float], list[float]]] = {}
        for plan in finalists:
            found |= self._compared([plan])
        return found


def _judged(compared: Mapping[str, tuple[list[float], list[float]]]) -> Outcome:
    """Ratios of neighbouring runs, so that a machine whose speed drifts gives a fair answer: a winner is faster in the median and in three runs of four."""
    ratios = {p: sorted(b / t for b, t in zip(base, times, strict=True)) for p, (base, times) in compared.items()}
    winner = max(ratios, key=lambda p: statistics.median(ratios[p]))
    ratio, steady = statistics.median(ratios[winner]), ratios[winner][len(ratios[winner]) // 4]
    base, times = compared[winner]
    if ratio < SIGNIFICANT or steady < 1:
        reason = f"in turns with it, the best candidate reached {ratio:.2f} x"
        if ratio >= SIGNIFICANT:
            reason += f", but only {steady:.2f} x in a quarter of the runs"
        return Outcome(None, ratio, statistics.median(base), None, reason)
    return Outcome(winner, ratio, statistics.median(base), statistics.median(times), "")


def said(answer: Failed) -> str:
    """What happened, for the table."""
    match answer.kind:
        case "Timeout":
            return f"hangs: {answer.message}"
        case "Crash":
            return f"crashes: {answer.message}"
        case "AccuracyError":
            return f"wrong: {answer.message}"
    return f"{answer.kind}: {answer.message}"
