"""``differentiate``: the backward cascade of a cascade, and the forward one with what the backward one reads again.

Law: the chain rule, one equation at a time, from the last to the first (``gradient.reverse``). Tensors that nothing depends on have no gradient:
maxima by shift invariance, where it is proved (``gradient.shifts``). What the forward cascade saves is the caller's choice among ``residuals``; usual are results
of reductions no larger than an output or an input that they read (row statistics). Everything else is computed again, so that no tensor over a pair of long
ranks is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction
from einsum_compiler.ir.cascade import Cascade, Equation, Tensor
from einsum_compiler.ir.check_types import declared_types
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Rank,
    Read,
    Reduction,
)
from einsum_compiler.ir.types import is_integer
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.domains import Domains
from einsum_compiler.passes.gradient.extents import with_extents
from einsum_compiler.passes.gradient.quotients import divided_once
from einsum_compiler.passes.gradient.recognise import recognised
from einsum_compiler.passes.gradient.reverse import ReverseSweep
from einsum_compiler.passes.gradient.shifts import irrelevant
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.scope import plain, ranks_of_tensors, reads_in


@dataclass(frozen=True)
class Gradient:
    """A cascade and its derivative.

    ``forward`` writes the outputs and then ``saved``; ``backward`` reads the inputs, the saved tensors and a cotangent of each output (``cotangents``:
    output -> input of the backward cascade), and writes ``gradients`` (input or parameter -> output of the backward cascade). What no output
    depends on has no entry: its gradient is 0.
    """

    forward: Cascade
    backward: Cascade
    saved: tuple[str, ...]
    cotangents: Mapping[str, str]
    gradients: Mapping[str, str]
    certificates: tuple[Certificate, ...]


def differentiate(
    cascade: Cascade,
    wanted: Collection[str],
    accumulator: str = "f32",
    dtypes: Mapping[str, str] | None = None,
    saved: Collection[str] | None = None,
) -> Gradient:
    """The gradient of a normalized cascade along the inputs and parameters ``wanted``.

    ``accumulator``: the type of what is saved; ``dtypes``: the types of gradients by input, where they are not what they are computed from; ``saved``: some of
    ``Differentiated.residuals``, in place of the usual ones.

    Raises ``PlanError`` for recurrences, selections, functions without a derivative, and tensors that cannot be saved.
    """
    return differentiated(cascade, wanted, accumulator, dtypes).gradient(saved)


def differentiated(
    cascade: Cascade, wanted: Collection[str], accumulator: str = "f32", dtypes: Mapping[str, str] | None = None
) -> Differentiated:
    """As ``differentiate``, with the choice of what is saved still open."""
    for equation in cascade.equations:
        if not plain(equation):
            raise PlanError(
                f"'{equation.target.tensor}' has cases or is a recurrence, which has no gradient here", equation.span
            )
    return Differentiated(cascade, tuple(wanted), accumulator, dtypes or {})


class Differentiated:
    """A cascade with its adjoint equations, before it is said which tensors the backward cascade reads and which it computes again.

    ``residuals``: what may be saved, in the order of the forward cascade; ``usual``: those of them that are saved where nothing else is said.
    """

    def __init__(self, cascade: Cascade, wanted: tuple[str, ...], accumulator: str, dtypes: Mapping[str, str]) -> None:
        self.cascade = self._cascade = cascade
        self._wanted, self._accumulator, self._dtypes = wanted, accumulator, dtypes
        self._types = declared_types(cascade)
        self._domains = Domains(cascade)
        self._axes = ranks_of_tensors(cascade)
        self._proved, self._refused = irrelevant(cascade)
        self._whole, self._cotangents, self._gradients, self._found = self._with_adjoints()
        needed = {e.target.tensor for e in self._whole.equations}
        legal = [e for e in cascade.equations if e.target.tensor in needed and self._may_be_saved(e)]
        self.residuals = tuple(e.target.tensor for e in legal)
        self.usual = tuple(e.target.tensor for e in legal if isinstance(e.value, Reduction))

    @property
    def exists(self) -> bool:
        """Whether any output has a derivative along anything that is wanted."""
        return bool(self._gradients)

    def _with_adjoints(self) -> tuple[Cascade, dict[str, str], dict[str, str], tuple[Certificate, ...]]:
        """The cascade that computes gradients from inputs and cotangents, with nothing saved; its inputs by output, its outputs by input; what was proved."""
        sweep = ReverseSweep(self._cascade, self._wanted, self._proved, self._types, self._domains, self._axes)
        equations, gradients, cotangents = sweep.equations()
        self._compared = sweep.compared
        inputs = [t for t in self._cascade.inputs]
        inputs += [Tensor(name, self._axes[output]) for output, name in cotangents.items()]
        outputs = tuple(Tensor(name, self._axes.get(of, ()), self._dtypes.get(of)) for of, name in gradients.items())
        bound = {r.upper() for t in inputs for r in t.ranks}
        whole = replace(
            self._cascade,
            inputs=tuple(inputs),
            # An extent that a cotangent has is no longer given by hand.
            parameters=tuple(p for p in (*self._cascade.parameters, *sweep.scalars) if p.name not in bound),
            outputs=outputs,
            equations=(*self._cascade.equations, *equations),
        )
        exchanged = recognised(normalize(replace(whole, outputs=(*self._cascade.outputs, *outputs))))
        divided = divided_once(exchanged.cascade)
        whole = live(replace(divided.cascade, outputs=outputs))
        return whole, cotangents, gradients, (*exchanged.certificates, *divided.certificates)

    def gradient(self, chosen: Collection[str] | None = None) -> Gradient:
        """The two cascades with these tensors saved, or the usual ones. Raises ``PlanError`` for what cannot be saved."""
        refused = [n for n in chosen or () if n not in self.residuals]
        if refused:
            possible = ", ".join(self.residuals) or "nothing"
            raise PlanError(
                f"'saves {refused[0]}': {self._cascade.name} can save {possible} for its backward pass",
                self._cascade.span,
            )
        kept = self.usual if chosen is None else chosen
        saved = tuple(n for n in self.residuals if n in kept)
        backward = normalize(self._restored(self._whole, saved))
        used = {r.tensor for e in backward.equations for r in reads_in(e)}
        given = {self._saved_name(s): s for s in saved}
        backward = with_extents(replace(backward, inputs=tuple(t for t in backward.inputs if t.name in used)))
        saved = tuple(s for n, s in given.items() if n in used)
        return Gradient(
            self._forward(saved),
            backward,
            saved,
            {o: n for o, n in self._cotangents.items() if n in used},
            self._gradients,
            (
                *self._proved.values(),
                *self._found,
                *(c for c in self._refused if c.tensor in self._compared),
            ),
        )

    # -- what is saved

    def _may_be_saved(self, equation: Equation) -> bool:
        """A computed tensor of numbers that is no larger than an output, or an input it reads. An extremum that is compared is found again, and so are
        positions and truth values."""
        name = equation.target.tensor
        if name in self._compared or is_integer(self._types[name]) or self._types[name] == "bool":
            return False
        ranks, read = set(self._axes[name]), {r.tensor for r in reads_in(equation)}
        return any(
            ranks <= set(t.ranks)
            for t in (*self._cascade.outputs, *(t for t in self._cascade.inputs if t.name in read))
        )

    def _saved_name(self, name: str) -> str:
        return f"{name}.saved" if self._domains.of_tensor(name) else name

    def _restored(self, whole: Cascade, saved: tuple[str, ...]) -> Cascade:
        """The cascade that reads what was saved. A stored tensor is 0 where it was empty: its filter comes back."""
        inputs = [*whole.inputs]
        equations: list[Equation] = []
        for equation in whole.equations:
            name = equation.target.tensor
            if name not in saved or name in {t.tensor for e in equations for t in e.targets}:
                equations.append(equation)
                continue
            stored = self._saved_name(name)
            inputs.append(Tensor(stored, self._axes[name], self._type_of(name)))
            if stored != name:
                value = Read(stored, tuple(map(Rank, self._axes[name])))
                equations.append(replace(equation, value=value, where=conjunction(self._domains.of_tensor(name) or ())))
        return in_order(live(replace(whole, inputs=tuple(inputs), equations=tuple(equations))))

    def _type_of(self, name: str) -> str | None:
        """Saved statistics keep the precision they were computed in; an output is saved as it is returned."""
        return None if any(t.name == name for t in self._cascade.outputs) else self._accumulator

    def _forward(self, saved: tuple[str, ...]) -> Cascade:
        returned = {t.name for t in self._cascade.outputs}
        further = tuple(Tensor(s, self._axes[s], self._accumulator) for s in saved if s not in returned)
        return replace(self._cascade, outputs=(*self._cascade.outputs, *further))
