"""``differentiate``: the backward cascade of a cascade, and the forward one with what the backward one reads again.

Law: the chain rule, one equation at a time, from the last to the first (``gradient.adjoints``). Tensors that nothing depends on have no gradient:
maxima by shift invariance, where it is proved (``gradient.shifts``). What the forward cascade saves is the caller's choice among ``residuals``; usual are results
of reductions no larger than an output or an input that they read (row statistics). Everything else is computed again, so that no tensor over a pair of long
ranks is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from einsum_compiler.ir.build import conjunction, reads_of
from einsum_compiler.ir.cascade import Cascade, Equation, Scalar, Target, Tensor
from einsum_compiler.ir.check_types import declared_types
from einsum_compiler.ir.errors import PlanError
from einsum_compiler.ir.expression import (
    Binary,
    Call,
    Constant,
    Expression,
    Extent,
    Rank,
    Read,
    Reduction,
    transform,
    walk,
)
from einsum_compiler.ir.extents import equalities, expressions
from einsum_compiler.ir.types import is_integer
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.domains import Conditions, Domains
from einsum_compiler.passes.gradient.adjoints import Adjoints, Contribution
from einsum_compiler.passes.gradient.quotients import divided_once
from einsum_compiler.passes.gradient.recognise import recognised
from einsum_compiler.passes.gradient.shifts import irrelevant
from einsum_compiler.passes.normalize import normalize
from einsum_compiler.passes.order import in_order, live
from einsum_compiler.passes.scope import all_ranks, fresh, plain, ranks_of_tensors, reads_in, tensor_names


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
        self._names = tensor_names(cascade) | all_ranks(cascade)
        self._types = declared_types(cascade)
        self._domains = Domains(cascade)
        self._axes = ranks_of_tensors(cascade)
        self._proved, self._refused = irrelevant(cascade)
        self._compared: set[str] = set()
        self._scalars: list[Scalar] = []
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
        equations, gradients, cotangents = self._adjoint_equations()
        inputs = [t for t in self._cascade.inputs]
        inputs += [Tensor(name, self._axes[output]) for output, name in cotangents.items()]
        outputs = tuple(Tensor(name, self._axes.get(of, ()), self._dtypes.get(of)) for of, name in gradients.items())
        bound = {r.upper() for t in inputs for r in t.ranks}
        whole = replace(
            self._cascade,
            inputs=tuple(inputs),
            # An extent that a cotangent has is no longer given by hand.
            parameters=tuple(p for p in (*self._cascade.parameters, *self._scalars) if p.name not in bound),
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
        backward = _with_extents(replace(backward, inputs=tuple(t for t in backward.inputs if t.name in used)))
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

    # -- the adjoint equations

    def _adjoint_equations(self) -> tuple[list[Equation], dict[str, str], dict[str, str]]:
        reached = self._reached()
        reductions = [e.value.ranks for e in self._cascade.equations if isinstance(e.value, Reduction)]
        declared = {p.name.lower(): p.default for p in self._cascade.parameters if p.default is not None}
        adjoints = Adjoints(self._domains, self._axes, reductions, declared, reached, self._fresh)
        self._compared, self._scalars = adjoints.compared, adjoints.scalars
        pending: dict[str, list[Contribution]] = {}
        conditions: dict[str, Conditions] = {}
        made: list[Equation] = []
        cotangents: dict[str, str] = {}
        read = {r.tensor for e in self._cascade.equations for r in reads_in(e)}
        for output in (t.name for t in self._cascade.outputs):
            if output in reached and self._domains.is_computed(output):
                cotangents[output] = self._fresh(f"{output}.grad" if output not in read else f"{output}.given")
        for equation in reversed(self._cascade.equations):
            name = equation.target.tensor
            given = cotangents.get(name)
            if name not in reached or (given is None and name not in pending):
                continue
            equations, gradient, known = self._gathered(name, pending.pop(name, []), given)
            made += equations
            conditions[name] = known
            at = Read(gradient, tuple(map(Rank, self._axes[name])))
            for found in adjoints.of(equation, at, known):
                pending.setdefault(found.variable, []).append(found)
        gradients: dict[str, str] = {}
        for name in self._wanted:
            if name in pending:
                equations, gradients[name], _ = self._gathered(name, pending.pop(name), None)
                made += equations
        return made, gradients, cotangents

    def _reached(self) -> set[str]:
        """What depends on a wanted input and has a gradient. A filter chooses points, and a choice passes none on; neither do whole numbers and truth values,
        which are constant almost everywhere."""
        found = set(self._wanted)
        for equation in self._cascade.equations:
            name = equation.target.tensor
            value = equation.value.body if isinstance(equation.value, Reduction) else equation.value
            depends = any(r.tensor in found for r in reads_of(value)) or bool(found & _parameters(equation))
            counts = is_integer(self._types[name]) or self._types[name] == "bool"
            if depends and not counts and name not in self._proved:
                found.add(name)
        return found

    def _gathered(
        self, name: str, parts: list[Contribution], given: str | None
    ) -> tuple[list[Equation], str, Conditions]:
        """The gradient of a tensor from its contributions: equations, its name, and where it exists."""
        ranks = tuple(map(Rank, self._axes.get(name, ())))
        if given is not None and not parts:
            return [], given, ()
        if given is None and len(parts) == 1:
            last = parts[0].equations[-1]
            return list(parts[0].equations), last.target.tensor, parts[0].conditions
        equations = [e for p in parts for e in p.equations]
        own = set(self._domains.of_tensor(name) or ()) if self._domains.is_computed(name) else set()
        terms: list[Expression] = [] if given is None else [Read(given, ranks)]
        for part in parts:
            term: Expression = Read(part.equations[-1].target.tensor, ranks)
            terms.append(term if set(part.conditions) <= own else Call("default", (term, Constant(0))))
        total = terms[0]
        for term in terms[1:]:
            total = Binary("+", total, term)
        target = self._fresh(f"{name}.grad")
        known = tuple(dict.fromkeys(c for p in parts for c in p.conditions if c in own))
        return [*equations, Equation((Target(target, ranks),), total)], target, known

    def _fresh(self, stem: str) -> str:
        name = fresh(stem, self._names)
        self._names.add(name)
        return name

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


def _with_extents(cascade: Cascade) -> Cascade:
    """The cascade with a parameter for every extent that no input has any more: the gradient of a sum is as long as what was summed."""
    known = {r for t in cascade.inputs for r in t.ranks} | {p.name.lower() for p in cascade.parameters}
    reads = [(e.rank, e.axis_rank) for e in equalities(cascade)]
    while found := {r for pair in reads if known & set(pair) for r in pair} - known:
        known |= found
    needed = {r for e in cascade.equations for t in e.targets for r in t.ranks}
    values = [n for e in cascade.equations for n in expressions(e)]
    values += [n for p in cascade.parameters if p.default is not None for n in walk(p.default)]
    for node in values:
        needed |= {node.rank} if isinstance(node, Extent) else set(node.ranks) if isinstance(node, Reduction) else set()
    extents = tuple(Scalar(r.upper(), "int") for r in sorted(needed - known))
    return replace(_beside(cascade, {p.name for p in extents}), parameters=(*extents, *cascade.parameters))


def _beside(cascade: Cascade, extents: Collection[str]) -> Cascade:
    """The cascade whose inputs have other names than these parameters, for a call names its arguments: ``K.saved`` in place of ``K``."""
    renamed = {t.name: f"{t.name}.saved" for t in cascade.inputs if t.name in extents}
    if not renamed:
        return cascade

    def read(node: Expression) -> Expression:
        return replace(node, tensor=renamed[node.tensor]) if isinstance(node, Read) and node.tensor in renamed else node

    equations = tuple(
        replace(e, value=transform(e.value, read), where=None if e.where is None else transform(e.where, read))
        for e in cascade.equations
    )
    inputs = tuple(replace(t, name=renamed.get(t.name, t.name)) for t in cascade.inputs)
    return replace(cascade, inputs=inputs, equations=equations)


def _parameters(equation: Equation) -> set[str]:
    from einsum_compiler.ir.build import parameters_of

    return set(parameters_of(equation.value))
