"""What a pass proved, or why it refused: shown to the user, checked by tests."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_compiler.ir.cascade import Cascade


@dataclass(frozen=True, slots=True)
class Certificate:
    """One decision about one reduction.

    ``form`` is ``deferred``, ``running``, ``finite rank``, ``plain`` (nothing to correct), ``whole`` (one tile holds the ranks), ``apart`` (a chain of its own) or
    ``refused``. ``identity`` is what was proved, an equation a line (``X'`` is what ``X`` moves to), ``conditions`` its side conditions and how each is met, ``reason``
    (of a refusal) the term that does not separate.
    """

    step: str
    tensor: str
    ranks: tuple[str, ...]
    form: str
    identity: str = ""
    conditions: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        head = f"{self.step}: {self.tensor} over {', '.join(self.ranks)}: {self.form}"
        lines = [head, *(f"  {line}" for line in self.identity.splitlines())]
        lines += [f"  given {condition}" for condition in self.conditions]
        return "\n".join([*lines, *([f"  because {self.reason}"] if self.reason else [])])


@dataclass(frozen=True, slots=True)
class Transformed:
    """The result of a pass: the new cascade and what was proved on the way."""

    cascade: Cascade
    certificates: tuple[Certificate, ...] = ()
