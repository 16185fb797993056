"""Pipelines: ``inline,normalize,defer,online{tile=128},precision`` parsed, run, verified after each pass, timed, and kept as text."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from einsum_compiler.ir.cascade import Cascade, Module
from einsum_compiler.ir.errors import EinsumError, SpecError, VerifyError
from einsum_compiler.passes.certificate import Certificate, Transformed


@dataclass(frozen=True, slots=True)
class Context:
    """What passes may know besides the cascade: the module around it, and the types of its inputs."""

    module: Module | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass by name, with the class of its options and the function that runs it."""

    name: str
    options: type
    run: Callable[[Cascade, object, Context], Transformed]


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass of a pipeline with its options."""

    step: Pass
    options: object

    def __str__(self) -> str:
        """As a pipeline string writes it: options that differ from their defaults in braces."""
        default = self.step.options()
        given = [
            f"{f.name}={_shown(getattr(self.options, f.name))}"
            for f in fields(self.step.options)
            if getattr(self.options, f.name) != getattr(default, f.name)
        ]
        return self.step.name + (f"{{{' '.join(given)}}}" if given else "")


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of one stage: its name, the cascade after it, its text, how long it took, what it proved."""

    stage: str
    cascade: Cascade
    text: str
    seconds: float
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A finished pipeline."""

    cascade: Cascade
    records: tuple[Record, ...]

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Everything that was proved or refused."""
        return tuple(c for r in self.records for c in r.certificates)

    def after(self, name: str) -> Cascade:
        """The cascade after the last stage of that name; raises ``KeyError``."""
        for record in reversed(self.records):
            if record.stage.split("{")[0] == name:
                return record.cascade
        raise KeyError(name)


def parse_pipeline(text: str, passes: Mapping[str, Pass]) -> tuple[Stage, ...]:
    """The stages of a pipeline string; raises ``SpecError`` for an unknown pass, option or value."""
    stages: list[Stage] = []
    for part in _split(text):
        match = re.fullmatch(r"\s*([\w-]+)\s*(?:\{([^{}]*)\})?\s*", part)
        if match is None:
            raise SpecError(f"'{part.strip()}' is not a pass; write NAME or NAME{{option=value}}")
        name, inside = match.group(1), match.group(2) or ""
        if name not in passes:
            raise SpecError(f"unknown pass '{name}'; one of {', '.join(passes)}")
        stages.append(Stage(passes[name], _options(passes[name], inside)))
    return tuple(stages)


def print_pipeline(stages: tuple[Stage, ...]) -> str:
    """The string that parses to these stages."""
    return ",".join(map(str, stages))


def run_pipeline(
    cascade: Cascade,
    stages: tuple[Stage, ...],
    context: Context = Context(),
    verify: Callable[[Cascade], None] | None = None,
    compare: Callable[[Cascade, Cascade], None] | None = None,
) -> Run:
    """Runs the stages in order. ``verify`` runs after each; ``compare(before, after)`` too (``verify=each``).

    A cascade that fails either is a defect of the pass: ``VerifyError`` names the pass.
    """
    records: list[Record] = []
    for stage in stages:
        begin = time.perf_counter()
        result = stage.step.run(cascade, stage.options, context)
        seconds = time.perf_counter() - begin
        try:
            if verify is not None:
                verify(result.cascade)
            if compare is not None:
                compare(cascade, result.cascade)
        except EinsumError as error:
            raise VerifyError(
                f"after {stage}: {error.message}", error.span, (*error.notes, str(result.cascade))
            ) from error
        cascade = result.cascade
        records.append(Record(str(stage), cascade, str(cascade), seconds, result.certificates))
    return Run(cascade, tuple(records))


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside braces."""
    parts = re.findall(r"(?:[^,{}]|\{[^{}]*\})+", text)
    if "".join(parts).count("{") != text.count("{") or text.count("{") != text.count("}"):
        raise SpecError(f"unbalanced braces in the pipeline '{text}'")
    return parts


def _options(step: Pass, inside: str) -> object:
    known = {f.name: f for f in fields(step.options)}
    values: dict[str, object] = {}
    for item in inside.split():
        name, _, value = item.partition("=")
        if name not in known:
            offered = f"; its options are {', '.join(known)}" if known else "; it has none"
            raise SpecError(f"pass '{step.name}' has no option '{name}'{offered}")
        values[name] = _value(step, name, value, str(known[name].type))
    return step.options(**values)


def _value(step: Pass, name: str, text: str, annotation: str) -> object:
    if annotation.startswith("tuple"):
        return tuple(int(t) if "int" in annotation else t for t in text.split("+") if t)
    if annotation == "bool" and text in ("true", "false"):
        return text == "true"
    if annotation == "int" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if annotation == "str":
        return text
    raise SpecError(f"option '{name}' of pass '{step.name}' takes {annotation}, not '{text}'")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
