"""From the text of a program to the cascades its kernels run: every pass in order, with what each printed and proved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from einsum_compiler.crash import step
from einsum_compiler.ir.cascade import Cascade, Module
from einsum_compiler.ir.plan import Accumulation, KernelPlan
from einsum_compiler.ir.types import is_float, promote
from einsum_compiler.passes.certificate import Certificate
from einsum_compiler.passes.fuse import fuse
from einsum_compiler.passes.kernel_cascade import KernelCascade, Roles

# The passes that do not depend on sizes.
EARLY = ("inline", "normalize", "lattices", "flatten")


@dataclass(frozen=True)
class Derivation:
    """A program up to the point where sizes matter: inlined, normalized and flattened."""

    text: str
    source: str
    declared: Cascade
    module: Module
    stages: tuple[tuple[str, Cascade], ...]
    warnings: tuple[str, ...] = ()
    reorderable: bool = False  # whether some contraction has another order
    separable: bool = False  # whether some reductions can have chains of their own
    divisors: tuple[str, ...] = ()  # the parameters that lattices have steps of
    orders: tuple[str, ...] = ()  # of contractions, where the last stage put them in other orders than written

    @property
    def normalized(self) -> Cascade:
        return self.stages[-1][1]

    @property
    def inlined(self) -> Cascade:
        """The cascade without calls of others, its cases still equations of their own."""
        return self.stages[0][1]

    @cached_property
    def expanded(self) -> Cascade:
        """The cascade as written, without definitions and with every sum explicit."""
        from einsum_compiler.ir.definitions import expand_cascade
        from einsum_compiler.ir.implicit_sums import explicit_sums

        return explicit_sums(expand_cascade(self.declared, self.module))

    @cached_property
    def output_sources(self) -> dict[str, frozenset[str]]:
        """For every tensor of the normalized cascade, the inputs it depends on."""
        from einsum_compiler.ir.build import reads_of

        found: dict[str, frozenset[str]] = {t.name: frozenset({t.name}) for t in self.normalized.inputs}
        for equation in self.normalized.equations:
            reads = [found.get(r.tensor, frozenset()) for r in reads_of(equation.value, equation.where)]
            name = equation.target.tensor
            found[name] = found.get(name, frozenset()).union(*reads)
        return found


def derive(text: str, source: str, name: str | None, generated: bool = False) -> Derivation:
    """Parse, verify and normalize a program. Raises ``SpecError`` where the text is wrong; ``generated``: the compiler wrote it."""
    from einsum_compiler.ir.errors import SpecError
    from einsum_compiler.ir.hints import did_you_mean
    from einsum_compiler.ir.lint import findings
    from einsum_compiler.ir.parser import parse
    from einsum_compiler.ir.verify import verify
    from einsum_compiler.passes.pipeline import Context
    from einsum_compiler.passes.registry import PASSES

    with step("parse"):
        module = parse(text, source, generated)
    if not module.cascades:
        raise SpecError("the text defines no cascade")
    names = [c.name for c in module.cascades]
    if name is not None and name not in names:
        raise SpecError(f"no cascade '{name}' in the text", None, did_you_mean(name, names, all_of=True))
    declared = module.cascade(name)
    with step("verify"):
        verify(declared, module)
        found = () if generated else findings(declared, module)
        warnings = tuple(str(f).replace("error: ", "warning: ", 1) for f in found)
    stages: list[tuple[str, Cascade]] = []
    cascade = declared
    for early in (PASSES[name] for name in EARLY if name in PASSES):
        with step(early.name):
            cascade = early.run(cascade, early.options(), Context(module)).cascade
            verify(cascade)
        stages.append((early.name, cascade))
    with step("reassociate"):
        from einsum_compiler.passes.apart import has_chains
        from einsum_compiler.passes.reassociate import has_orders

        reorderable, separable = has_orders(cascade), has_chains(cascade)
    from einsum_compiler.passes.lattices.lattices import undecided

    with step("lattices"):
        divisors = undecided(dict(stages)["normalize"])
    return Derivation(text, source, declared, module, tuple(stages), warnings, reorderable, separable, divisors)


def output_dtypes(derivation: Derivation, dtypes: Mapping[str, str]) -> dict[str, str]:
    """The element type of every tensor that a kernel stores.

    - A type written in the text holds: ``-> O: f32[m,f]``, or ``S: f32[m,n] = ...``.
    - A real output has the type that the floating inputs it depends on promote to, as in PyTorch (bf16 with f32 gives f32, bf16 with f16
      gives f32); without any, f32 (f64 if some input is f64). Inside, f16, bf16 and f8 are computed and summed in f32.
    - A real tensor between kernels keeps the type it was computed in: f32, or f64.
    - A truth value is bool; an integer or a coordinate (``argmax``, ``count``) is i64.
    """
    from einsum_compiler.passes.lowering.kinds import tensor_kinds

    cascade = derivation.normalized
    real = "f64" if "f64" in dtypes.values() else "f32"
    written = {e.target.tensor: e.target.dtype for e in cascade.equations if e.target.dtype}
    written |= {t.name: t.dtype for t in (*derivation.declared.outputs, *cascade.outputs) if t.dtype}
    scalars = scalar_dtypes(derivation)
    kinds = tensor_kinds(cascade, dtypes, scalars)
    outputs = {t.name for t in cascade.outputs}
    found: dict[str, str] = {}
    for equation in cascade.equations:
        name = equation.target.tensor
        if name in written:
            found[name] = written[name] or real
        elif kinds.get(name) == "real":
            floats = sorted(dtypes[s] for s in derivation.output_sources[name] if is_float(dtypes.get(s, "i64")))
            dtype = floats[0] if floats and name in outputs else real
            for other in floats if name in outputs else ():
                dtype = promote(dtype, other)
            found[name] = dtype
        else:
            found[name] = "bool" if kinds.get(name) == "bool" else "i64"
    return found


def scalar_dtypes(derivation: Derivation) -> dict[str, str]:
    """i64, f64 or bool for every scalar parameter: by its declaration, else by its default, else real."""
    from einsum_compiler.passes.lowering.kinds import kind_of

    found: dict[str, str] = {}
    for scalar in derivation.normalized.parameters:
        declared = {"int": "i64", "float": "f64", "bool": "bool", None: None}.get(scalar.dtype, scalar.dtype)
        if declared is None and scalar.default is not None:
            declared = {"int": "i64", "real": "f64", "bool": "bool"}[kind_of(scalar.default, lambda _: "real", found)]
        kind = declared or "f64"
        found[scalar.name] = "bool" if kind == "bool" else "f64" if is_float(kind) else "i64"
    return found


@dataclass(frozen=True)
class KernelDerivation:
    """One kernel: its part of the cascade, its plan, and the cascade after each later pass."""

    part: KernelCascade
    plan: KernelPlan
    stages: tuple[tuple[str, Cascade], ...]
    certificates: tuple[Certificate, ...]

    @property
    def final(self) -> Cascade:
        return self.stages[-1][1]


def kernel_cascades(
    derivation: Derivation,
    extents: Mapping[str, int],
    wanted: Collection[Collection[str]] | None = None,
    accumulated: Collection[Accumulation] = (),
    roles: Mapping[str, Roles] | None = None,
) -> tuple[KernelCascade, ...]:
    """The kernels for the given extents, with the sizes of tiles still open; ``wanted``, ``accumulated``, ``roles``: see ``fuse``."""
    return fuse(derivation.normalized, extents, (), wanted, accumulated, roles)


def derive_kernel(
    part: KernelCascade, plan: KernelPlan, dtypes: Mapping[str, str], verified: bool = True
) -> KernelDerivation:
    """Defer, online, tile outputs and precision for one kernel of a plan, ``verified`` after each: not where it only serves an estimate."""
    from einsum_compiler.ir.verify import verify
    from einsum_compiler.passes.defer import Defer, defer
    from einsum_compiler.passes.online import Online, online
    from einsum_compiler.passes.precision import precision
    from einsum_compiler.passes.sharing import shared
    from einsum_compiler.passes.tile_outputs import TileOutputs, tile_outputs

    stages: list[tuple[str, Cascade]] = [("fuse", part.cascade)]
    certificates: list[Certificate] = []
    cascade = part.cascade
    if plan.stream is not None:
        streams = tuple(s.rank for s in plan.streams)
        with step("defer"):
            deferred = defer(cascade, Defer(streams))
        with step("online"):
            running = online(deferred.cascade, Online(plan.stream.size, streams, plan.contexts == "running"))
            cascade = running.cascade
            for rank in streams:
                cascade = tile_outputs(cascade, TileOutputs(rank))
            if plan.accumulated or plan.whole:  # tiles of an output are made of what the running reductions read
                cascade = shared(cascade, {f"{t.name}.tile" for t in cascade.outputs})
        stages += [("defer", deferred.cascade), ("online", cascade)]
        waiting = [replace(c, form="whole", reason="") if c.form == "refused" else c for c in running.certificates]
        certificates += [*deferred.certificates, *(waiting if plan.whole else running.certificates)]
    with step("precision"):
        rounded = precision(cascade, {t.name: dtypes[t.name] for t in cascade.inputs})
    stages.append(("precision", rounded))
    for name, after in stages if verified else ():
        with step(name):
            verify(after)
    return KernelDerivation(replace(part), plan, tuple(stages), tuple(certificates))
