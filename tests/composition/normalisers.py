"""Normalisers of the grammar: from the scores of one or more sets of keys, which share a normaliser, to a map over each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.composition.text import Keys, Text, normal, positive


@dataclass(frozen=True)
class Side:
    """The scores of one set of keys, as a read at its ranks."""

    keys: Keys
    score: str


def over(operator: str, sides: Sequence[Side], value: Callable[[Side], str]) -> str:
    """A reduction over the keys of all sides."""
    parts = [f"{operator}[{s.keys.list}]({value(s)})" for s in sides]
    if len(parts) == 1:
        return parts[0]
    return f"max({', '.join(parts)})" if operator == "max" else " + ".join(parts)


def _each(t: Text, stem: str, sides: Sequence[Side], value: Callable[[Side], str]) -> list[Side]:
    """A tensor over the points of every side."""
    return [Side(s.keys, t.define(stem, t.point(s.keys), value(s))) for s in sides]


def _divided(t: Text, weights: Sequence[Side], total: str) -> list[Side]:
    D = t.define("D", t.row, total)
    return _each(t, "A", weights, lambda s: f"{s.score} / {D}")


def _summed(t: Text, weights: Sequence[Side], more: str = "") -> list[Side]:
    return _divided(t, weights, over("sum", weights, lambda s: s.score) + more)


def _softmax(t: Text, sides: Sequence[Side], exponential: str = "exp", least: str = "", more: str = "") -> list[Side]:
    most = over("max", sides, lambda s: s.score)
    MX = t.define("MX", t.row, f"max({most}, {least})" if least else most)
    P = _each(t, "P", sides, lambda s: f"{exponential}({s.score} - {MX})")
    return _summed(t, P, more.format(MX=MX))


def _library(t: Text, sides: Sequence[Side], name: str) -> list[Side]:
    if len(sides) > 1:
        return _softmax(t, sides, least="0" if name == "softmax1" else "", more=" + exp(-{MX})" if name == "softmax1" else "")  # fmt: skip
    return _each(t, "A", sides, lambda s: f"{name}[{s.keys.list}]({s.score})")


def _sink(t: Text, sides: Sequence[Side]) -> list[Side]:
    logit = t.operand("SG", ("h",), normal)
    return _softmax(t, sides, least=logit, more=f" + exp({logit} - {{MX}})")


def _tempered(t: Text, sides: Sequence[Side]) -> list[Side]:
    MX = t.define("MX", t.row, over("max", sides, lambda s: s.score))
    T = t.operand("TS", ("h",), positive)
    return _summed(t, _each(t, "P", sides, lambda s: f"exp(({s.score} - {MX}) / {T})"))


def _sigmoid(t: Text, sides: Sequence[Side]) -> list[Side]:
    return _each(t, "A", sides, lambda s: f"sigmoid({s.score} - 1)")


def _relu(t: Text, sides: Sequence[Side]) -> list[Side]:
    count = " * ".join(r.upper() for s in sides for r in s.keys.ranks)
    return _each(t, "A", sides, lambda s: f"relu({s.score}) / max({count}, 1)")


def _squared_relu(t: Text, sides: Sequence[Side]) -> list[Side]:
    return _summed(t, _each(t, "P", sides, lambda s: f"relu({s.score})**2"), " + 0.1")


def _power(t: Text, sides: Sequence[Side]) -> list[Side]:
    D = t.define("D", t.row, over("sum", sides, lambda s: f"abs({s.score})**3") + " + 1e-2")
    return _each(t, "A", sides, lambda s: f"{s.score} / {D}**(1 / 3)")


def _absolute(t: Text, sides: Sequence[Side]) -> list[Side]:
    D = t.define("D", t.row, over("sum", sides, lambda s: f"abs({s.score})"))
    return _each(t, "A", sides, lambda s: f"{s.score} / max({D}, 1)")


def _l2(t: Text, sides: Sequence[Side]) -> list[Side]:
    D = t.define("D", t.row, f"sqrt({over('sum', sides, lambda s: f'{s.score}**2')} + 1e-3)")
    return _each(t, "A", sides, lambda s: f"{s.score} / {D}")


def _polynomial(t: Text, sides: Sequence[Side]) -> list[Side]:
    return _summed(t, _each(t, "P", sides, lambda s: f"1 + {s.score} + {s.score}**2 / 2"), " + 1e-3")


def _clipped(t: Text, sides: Sequence[Side]) -> list[Side]:
    return _each(t, "A", _softmax(t, sides), lambda s: f"clamp(1.2 * {s.score} - 0.05, 0, 1)")


def _softplus(t: Text, sides: Sequence[Side]) -> list[Side]:
    return _summed(t, _each(t, "P", sides, lambda s: f"softplus({s.score})"), " + 0.5")


def _standardised(t: Text, sides: Sequence[Side]) -> list[Side]:
    """Softmax of scores less their mean over their deviation, as far as keys are seen."""
    C = t.define("C", t.row, over("sum", sides, lambda s: f"if({s.score} == {s.score}, 1, 0)"))
    MU = t.define("MU", t.row, f"({over('sum', sides, lambda s: s.score)}) / max({C}, 1)")
    VA = t.define("VA", t.row, f"({over('sum', sides, lambda s: f'({s.score} - {MU})**2')}) / max({C}, 1)")
    return _softmax(t, _each(t, "Z", sides, lambda s: f"({s.score} - {MU}) / sqrt({VA} + 0.1)"))


def _near_the_maximum(t: Text, sides: Sequence[Side]) -> list[Side]:
    """Weights that fall linearly from the maximum: two sweeps."""
    MX = t.define("MX", t.row, over("max", sides, lambda s: s.score))
    return _summed(t, _each(t, "P", sides, lambda s: f"relu({s.score} - {MX} + 2)"))


def _twice(t: Text, sides: Sequence[Side]) -> list[Side]:
    """The squares of the probabilities, normalised again."""
    return _summed(t, _each(t, "P", _softmax(t, sides), lambda s: f"{s.score}**2"), " + 1e-3")


def _both_sides(t: Text, sides: Sequence[Side]) -> list[Side]:
    """The product of softmaxes over keys and over queries."""
    A = _softmax(t, sides)
    query = ",".join(t.query)
    B = [t.define("B", t.point(s.keys), f"softmax[{query}]({s.score})") for s in sides]
    return [Side(a.keys, t.define("A", t.point(a.keys), f"{a.score} * {b} * 3")) for a, b in zip(A, B, strict=True)]


def _over_heads(t: Text, sides: Sequence[Side]) -> list[Side]:
    return _each(t, "A", sides, lambda s: f"softmax[h]({s.score})")


NORMALISERS: dict[str, Callable[[Text, Sequence[Side]], list[Side]]] = {
    "softmax": _softmax,
    "library": lambda t, s: _library(t, s, "softmax"),
    "quiet": lambda t, s: _library(t, s, "softmax1"),
    "base two": lambda t, s: _softmax(t, s, "exp2"),
    "sink": _sink,
    "constant": lambda t, s: _softmax(t, s, least="0", more=" + 0.5"),
    "tempered": _tempered,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "squared relu": _squared_relu,
    "power": _power,
    "absolute": _absolute,
    "l2": _l2,
    "polynomial": _polynomial,
    "softplus": _softplus,
    "clipped": _clipped,
    "standardised": _standardised,
    "near the maximum": _near_the_maximum,
    "twice": _twice,
    "both sides": _both_sides,
    "over heads": _over_heads,
}


def normalised(t: Text, sides: Sequence[Side]) -> list[Side]:
    """A map over the keys of every side."""
    return NORMALISERS[t.pick(NORMALISERS)](t, sides)
