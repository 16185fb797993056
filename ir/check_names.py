"""Checks of declarations: every name has one meaning, every output is computed with the ranks it declares."""

from __future__ import annotations

from einsum_compiler.ir.builder import CONSTANTS
from einsum_compiler.ir.cascade import ELLIPSIS, Cascade, Definition, Module
from einsum_compiler.ir.errors import SpecError
from einsum_compiler.ir.expression import CascadeCall, Extent, Parameter, Rank, Read, Reduction, Selection, walk
from einsum_compiler.ir.extents import expressions, index_rank, known_extents, with_whole
from einsum_compiler.ir.facts import Facts
from einsum_compiler.ir.hints import counted, did_you_mean
from einsum_compiler.ir.operators import DERIVED_REDUCTIONS, FUNCTIONS, REDUCTIONS, SELECTIONS
from einsum_compiler.ir.span import Span

RESERVED = {
    **{name: "a constant" for name in CONSTANTS},
    **{name: "a reduction" for name in (*REDUCTIONS, *DERIVED_REDUCTIONS)},
    **{name: "a selection" for name in SELECTIONS},
    "if": "the conditional",
    "cast": "the conversion of types",
}


def check_module(module: Module) -> None:
    """Names of definitions and cascades, and the bodies of definitions."""
    seen: set[str] = set()
    named: list[Definition | Cascade] = [*module.definitions, *module.cascades]
    for item in named:
        if item.name in seen:
            raise SpecError(f"{item.name!r} is defined twice in this text", item.span)
        seen.add(item.name)
    for definition in module.definitions:
        if definition.name in FUNCTIONS or definition.name in RESERVED:
            raise SpecError(f"{definition.name!r} is a name of the language: choose another", definition.span)
        repeated = [p for i, p in enumerate(definition.parameters) if p in definition.parameters[:i]]
        if repeated:
            raise SpecError(f"def {definition.name} has the argument {repeated[0]!r} twice", definition.span)
        for node in walk(definition.body):
            if isinstance(node, Read | Reduction | Selection | CascadeCall):
                raise SpecError(f"def {definition.name} sees only its arguments, no tensors", node.span)
            if isinstance(node, Parameter | Rank) and node.name not in definition.parameters:
                notes = did_you_mean(node.name, definition.parameters) or (f"hand {node.name} over as an argument",)
                raise SpecError(f"def {definition.name} sees only its arguments, not {node.name!r}", node.span, notes)


def check_declarations(facts: Facts) -> None:
    """Inputs, parameters and outputs."""
    cascade = facts.cascade
    declared: dict[str, str] = {}
    for tensor in cascade.inputs:
        _declare(declared, tensor.name, "input", tensor.span)
    for parameter in cascade.parameters:
        # An extent is read bare and a tensor with brackets, so they may share a name, as those that inputs bind do. In the text of a user, whose
        # calls name arguments, an input and a parameter may not; what a pass makes a parameter of has no place in a text.
        # Passes cut a rank into tiles (s.1 and s.0), and no axis of its own may be left: its extent is one still.
        is_extent = parameter.name != parameter.name.lower() and parameter.name.lower() in with_whole(facts.carried)
        if parameter.span is not None or declared.get(parameter.name) != "input":
            _declare(declared, parameter.name, "parameter", parameter.span)
        if parameter.name in facts.computed and not is_extent:
            raise SpecError(f"{parameter.name!r} is a parameter and a tensor: give one another name", parameter.span)
        if parameter.name in facts.ranks and parameter.name != ELLIPSIS:
            raise SpecError(f"{parameter.name!r} is a parameter and a rank: give one another name", parameter.span)
        owner = next((t for t in cascade.inputs if parameter.name.lower() in t.ranks), None)
        if owner is not None and parameter.name == parameter.name.upper() != parameter.name.lower():
            raise SpecError(
                f"the parameter {parameter.name} has the name of an extent that {owner.name} binds (rank {parameter.name.lower()})",
                parameter.span,
                ("drop the parameter, or give it another name",),
            )
    outputs: dict[str, str] = {}
    for tensor in cascade.outputs:
        _declare(outputs, tensor.name, "output", tensor.span)
        if tensor.name in facts.inputs:
            raise SpecError(
                f"{tensor.name} is an input and an output: an output is computed by an equation", tensor.span
            )
        if tensor.name not in facts.computed:
            raise SpecError(
                f"the output {tensor.name} is never defined",
                tensor.span,
                did_you_mean(tensor.name, sorted(facts.computed)),
            )
    for tensor in (*cascade.inputs, *cascade.outputs):
        if not facts.is_library and ELLIPSIS in tensor.ranks:
            raise SpecError("'...' stands for ranks of a caller: only cascades that are called have it", tensor.span)
        for rank in tensor.ranks:
            if rank in CONSTANTS:
                raise SpecError(f"{rank!r} is a constant and cannot be a rank", tensor.span)
    for rank in cascade.ranks:
        if not any(rank in t.ranks for t in cascade.inputs):
            raise SpecError(f"the rank {rank} of {cascade.name} is in none of its inputs", cascade.span)


def _declare(declared: dict[str, str], name: str, kind: str, span: Span | None) -> None:
    if name in RESERVED:
        raise SpecError(f"{name!r} is {RESERVED[name]} of the language: choose another name", span)
    if name in declared:
        other = "" if declared[name] == kind else f", as {declared[name]} and as {kind}"
        raise SpecError(f"{name!r} is declared twice{other}", span)
    declared[name] = kind


def check_axes(facts: Facts) -> None:
    """Left sides of one tensor agree in the number of ranks, and those of an output have its ranks."""
    counts: dict[str, int] = {}
    outputs = {t.name: t for t in facts.cascade.outputs}
    for equation in facts.cascade.equations:
        for target in equation.targets:
            name, indices = target.tensor, target.indices
            if name in RESERVED:
                raise SpecError(f"{name!r} is {RESERVED[name]} of the language: choose another name", target.span)
            declared = outputs.get(name)
            if declared is not None and len(declared.ranks) != len(indices):
                raise SpecError(
                    f"{name} is declared with {counted(len(declared.ranks), 'rank')} ({','.join(declared.ranks)}) "
                    f"and defined with {len(indices)}",
                    target.span,
                )
            if counts.setdefault(name, len(indices)) != len(indices):
                raise SpecError(
                    f"{name} is defined with {counted(counts[name], 'rank')} above and with {len(indices)} here",
                    target.span,
                )
            for index, rank in zip(indices, declared.ranks if declared else (), strict=False):
                found = index_rank(index)
                if found is not None and found != rank:
                    raise SpecError(
                        f"{name} is declared with the ranks {','.join(declared.ranks if declared else ())}: expected {rank}, found {found}",
                        index.span or target.span,
                    )


def check_extents(facts: Facts) -> None:
    """The extent of every rank is known at a call."""
    if facts.is_library:
        return
    known = known_extents(facts.cascade)

    def check(rank: str | None, span: Span | None) -> None:
        if rank is not None and rank not in known:
            raise SpecError(
                f"the extent of rank {rank} is unknown: no input has this rank, and nothing reads an axis by it",
                span,
                (f"give it with the parameters: ; {rank.upper()} = ...",),
            )

    for equation in facts.cascade.equations:
        for target in equation.targets:
            for index in target.indices:
                check(index_rank(index), index.span or target.span)
        for node in expressions(equation):
            if isinstance(node, Rank):
                check(node.name, node.span)
            elif isinstance(node, Extent):
                check(node.rank, node.span)
            elif isinstance(node, Reduction):
                for rank in node.ranks:
                    check(rank, node.span)
