"""Scores of the grammar: where they come from, and what is done to them point by point."""

from __future__ import annotations

from tests.composition.text import Keys, Text, positive


def heads_of(t: Text, name: str, structure: str) -> tuple[tuple[str, ...], str]:
    """The ranks of K or V that stand for heads, and what a query head reads there."""
    group = {"K": ("g", "h // (H // G)"), "V": ("c", "h // (H // C)")}[name]
    match structure:
        case "grouped":
            return ("g",), "h // (H // G)"
        case "interleaved":
            return ("g",), "h % G"
        case "different counts":
            return (group[0],), group[1]
        case "shared":
            return (), ""
        case "keys alone" if name == "V":
            return (), ""
        case _:
            return ("h",), "h"


def _read(t: Text, name: str, keys: Keys, structure: str, width: str) -> str:
    ranks, index = heads_of(t, name[0], structure)
    return t.table(name, ("b", *ranks, *keys.ranks, width), [i for i in ("b", index, *keys.ranks, width) if i])


def key(t: Text, keys: Keys, structure: str, width: str = "e") -> str:
    return _read(t, f"K{keys.name}", keys, structure, width)


def value(t: Text, keys: Keys, structure: str) -> str:
    return _read(t, f"V{keys.name}", keys, structure, "f")


def query(t: Text, name: str = "Q") -> str:
    return t.operand(name, ("b", "h", *t.query, "e"))


def _distance(t: Text, keys: Keys) -> str:
    return f"clamp({t.position} - {keys.position}, -4, 4) + 4"


def _norm(t: Text, tensor: str, ranks: str) -> str:
    length = t.define("NO", ranks, f"sqrt(sum[e]({tensor}**2))")
    return t.define("UN", f"{ranks},e", f"{tensor} / max({length}, 1e-3)")


def source(t: Text, keys: Keys, structure: str) -> str:
    """A score before anything is done to it, as a tensor of its own."""
    point = t.point(keys)
    kind = t.pick(("dot", "dot", "dot", "position", "rotary part", "bilinear", "cosine", "latent", "L2", "additive"))
    Q = query(t)
    if kind == "latent":  # keys expanded from a row that all heads share
        C = t.operand(f"KC{keys.name}", ("b", *keys.ranks, "t"))
        expanded = t.define("KN", f"b,h,{keys.list},e", f"{C} * {t.operand('WK', ('h', 't', 'e'))} * 0.4")
        return t.define("S", point, f"{Q} * {expanded} * scale")
    K = key(t, keys, structure)
    match kind:
        case "position":
            table = t.table("ER", ("h", "d", "e"), ("h", _distance(t, keys), "e"))
            value = f"Q[{t.row},e] * {K} * scale + Q[{t.row},e] * {table} * scale"
        case "rotary part":
            QR = t.operand("QR", ("b", "h", *t.query, "r"))
            value = f"({Q} * {K} + {QR} * {t.operand(f'KR{keys.name}', ('b', *keys.ranks, 'r'))}) / 3"
        case "bilinear":
            WB, KX = t.operand("WB", ("h", "e", "i")), t.operand(f"KX{keys.name}", ("b", *keys.ranks, "i"))
            value = f"{Q} * {K} * scale + {Q} * {WB} * {KX} * 0.1"
        case "cosine":
            ranks, _ = heads_of(t, "K", structure)
            at = ",".join(("b", *ranks, *keys.ranks))
            unit = _norm(t, f"K{keys.name}[{at},e]", at)
            unit = f"{unit.split('[')[0]}[{K.split('[', 1)[1]}"
            value = f"{_norm(t, Q, t.row)} * {unit} * {t.operand('TA', ('h',), positive)} * 4"
        case "L2":
            value = f"-sum[e](({Q} - {K})**2) * 0.1"
        case "additive":
            value = f"sum[e]({t.operand('WE', ('h', 'e'))} * tanh({Q} + {K}))"
        case _:
            value = f"{Q} * {K} * scale"
    return t.define("S", point, value)


def _any_bias(t: Text, keys: Keys, S: str) -> str:
    """A bias over a part of the ranks."""
    ranks = [r for r in t.point(keys).split(",") if t.pick((True, False))] or ["h"]
    return f"{S} + {t.operand(t.fresh('BI'), ranks)}"


def modified(t: Text, keys: Keys, S: str) -> str:
    """A function of a score, of its position and of operands."""
    q, k = t.position, keys.position
    kind = t.pick(
        ("plain", "temperature", "slope", "table", "cap", "bias", "bias", "polynomial", "decay", "leaky", "log", "clamp", "wave", "gate", "distance", "wide")
    )  # fmt: skip
    match kind:
        case "temperature":
            return f"{S} * {t.operand('TQ', ('b', 'h', *t.query), positive)}"
        case "slope":
            return f"{S} - {t.operand('AS', ('h',), positive)} * abs({q} - {k})"
        case "table":
            return f"{S} + {t.table('TB', ('h', 'd'), ('h', _distance(t, keys)))}"
        case "cap":
            return f"2 * tanh({S} / 2)"
        case "bias":
            return _any_bias(t, keys, S)
        case "polynomial":
            return f"{S} - 0.1 * {S}**2"
        case "decay":
            return f"{S} - softplus({t.operand(f'DK{keys.name}', ('b', 'h', *keys.ranks))}) * 0.2 * abs({q} - {k})"
        case "leaky":
            return f"if({S} > 0, {S}, 0.1 * {S})"
        case "log":
            return f"log(1 + abs({S})) * sign({S})"
        case "clamp":
            return f"clamp({S}, -2, 2)"
        case "wave":
            return f"{S} + cos(0.3 * ({q} - {k}))"
        case "gate":
            return f"{S} * sigmoid({t.operand(f'GK{keys.name}', ('b', *keys.ranks))})"
        case "distance":
            return f"{S} / (1 + 0.1 * abs({q} - {k}))"
        case "wide":
            return f"{S} + default({t.table('TB', ('h', 'd'), ('h', f'{k} - {q} + 4'))}, 0)"
    return S
