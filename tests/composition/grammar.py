"""Programs composed of independent choices: mask, score, normaliser, heads, branches, what stands after the map, further outputs.

Every choice is legal with every other: the grammar knows nothing of what the compiler finds easy.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from tests.composition.masks import mask
from tests.composition.normalisers import Side, normalised
from tests.composition.scores import modified, source, value
from tests.composition.text import GRID, LINE, MORE, Keys, Program, Text, booleans

HEADS = ("none", "grouped", "interleaved", "different counts", "shared", "keys alone", "cases")
BRANCHES = ("single", "single", "union", "difference", "gated sum", "product", "statistics")
LENGTHS = (1, 3, 37, 65)
GRIDS = ((1, 1), (3, 5), (4, 9), (7, 6))


def _conjunction(*parts: str) -> str:
    kept = [p for p in parts if p]
    return kept[0] if len(kept) == 1 else " and ".join(f"({p})" for p in kept)


def scored(t: Text, keys: Keys, structure: str, hidden: bool) -> Side:
    """The score of one set of keys, as far as a mask lets them be seen."""
    seen = t.operand(f"KM{keys.name}", ("b", *keys.ranks), booleans) if hidden else ""
    if structure != "cases":
        S = modified(t, keys, source(t, keys, structure))
        return Side(keys, t.define("X", t.point(keys), S, _conjunction(seen, mask(t, keys))))
    name = t.fresh("X")  # heads with equations of their own
    first, second = (modified(t, keys, source(t, keys, structure)) for _ in range(2))
    for value_of, heads in ((first, "h < 1"), (second, "h >= 1")):
        t.lines.append(f"{name}[{t.point(keys)}] = {value_of} where {_conjunction(heads, seen, mask(t, keys, 1))}")
    return Side(keys, f"{name}[{t.point(keys)}]")


def changed(t: Text, side: Side) -> Side:
    """A map after something was done to it."""
    match t.pick(("plain", "plain", "mixed heads", "weighted", "added")):
        case "mixed heads":
            read = side.score.replace("[b,h,", "[b,o,", 1)
            made = f"{read} * {t.operand('WM', ('o', 'h'))}"
        case "weighted":
            made = f"{side.score} * {t.table('CT', ('h', 'd'), ('h', f'clamp({t.position} - {side.keys.position}, -4, 4) + 4'))}"
        case "added":
            made = f"{side.score} + {t.operand(f'LB{side.keys.name}', ('h', *side.keys.ranks))} * 0.1"
        case _:
            return side
    return Side(side.keys, t.define("A", t.point(side.keys), made))


def contracted(t: Text, sides: Sequence[Side], structure: str) -> str:
    """The sum of values over the keys of every side."""
    terms = []
    for side in sides:
        V = value(t, side.keys, structure)
        match t.pick(("plain", "plain", "function", "scaled", "relative")):
            case "function":
                V = f"silu({V})"
            case "scaled":
                V = f"{V} * {t.operand(f'TV{side.keys.name}', ('b', *side.keys.ranks))}"
            case "relative":
                table = t.table("RV", ("d", "f"), (f"clamp({t.position} - {side.keys.position}, -4, 4) + 4", "f"))
                V = f"({V} + {table})"
        terms.append(f"{side.score} * {V}")
    return t.define("R", f"{t.row},f", " + ".join(terms))


def finished(t: Text, R: str) -> None:
    """The main result, as it is or after an epilogue."""
    ranks = f"{t.row},f"
    match t.pick(("plain", "plain", "gate", "norm", "residual", "projection")):
        case "gate":
            t.result(ranks, f"sigmoid({t.operand('GT', ranks.split(','))}) * {R}")
        case "norm":
            t.result(ranks, f"rmsnorm[f]({R})")
        case "residual":
            t.result(ranks, f"{R} + {t.operand('XR', ranks.split(','))}")
        case "projection":
            t.result(",".join(("b", *t.query, "i")), f"{R} * {t.operand('WO', ('h', 'f', 'i'))}")
        case _:
            t.outputs[R.split("[")[0]] = ranks


def further(t: Text, score: Side, weight: Side) -> None:
    """An output beside the main one, from the scores or from the map."""
    S, A, keys = score.score, weight.score, score.keys.list
    query = ",".join(t.query)
    kinds: dict[str, tuple[str, str]] = {
        "maximum": (t.row, f"max[{keys}]({S})"),
        "log-sum-exp": (t.row, f"logsumexp[{keys}]({S})"),
        "mass of columns": (f"b,h,{keys}", f"sum[{query}]({A})"),
        "mass over heads": (f"b,{keys}", f"sum[h,{query}]({A})"),
        "entropy": (t.row, f"-sum[{keys}]({A} * log(abs({A}) + 1e-3))"),
        "expected position": (t.row, f"sum[{keys}]({A} * {score.keys.position})"),
        "sum of squares": (",".join(("b", *t.query)), f"sum[h,{keys}]({A}**2)"),
        "largest weight": (t.row, f"max[{keys}]({A})"),
        "spread of scores": (t.row, f"max[{keys}]({S}) - min[{keys}]({S})"),
        "seen": (t.row, f"sum[{keys}](if({S} == {S}, 1, 0))"),
        "map": (t.point(score.keys), A),
    }
    ranks, made = kinds[t.pick(kinds)]
    t.result(ranks, made)


def _second_keys(t: Text) -> Keys:
    """Another set of keys, or the same one again."""
    return t.pick((MORE, t.keys))


def branched(t: Text, branches: str, heads: str, hidden: bool) -> None:
    """The branches of a program, each with scores and masks of its own."""
    first = scored(t, t.keys, heads, hidden)
    match branches:
        case "union":
            sides = [first, scored(t, MORE, heads, hidden)]
            maps = [changed(t, s) for s in normalised(t, sides)]
            finished(t, contracted(t, maps, heads))
        case "difference" | "product":
            second = scored(t, t.keys, heads, hidden)
            maps = normalised(t, [first])
            other = normalised(t, [second])[0].score
            joined = f"{maps[0].score} - {t.operand('LA', ('h',))} * {other}" if branches == "difference" else f"{maps[0].score} * {other}"  # fmt: skip
            maps = [changed(t, Side(t.keys, t.define("A", t.point(t.keys), joined)))]
            finished(t, contracted(t, maps, heads))
        case "gated sum":
            second = scored(t, _second_keys(t), heads, hidden)
            maps = [changed(t, normalised(t, [first])[0])]
            one, two = contracted(t, maps, heads), contracted(t, normalised(t, [second]), heads)
            gate = t.operand("GA", ("b", "h", *t.query))
            finished(t, t.define("R", f"{t.row},f", f"sigmoid({gate}) * {one} + (1 - sigmoid({gate})) * {two}"))
        case _:
            maps = [changed(t, s) for s in normalised(t, [first])]
            if branches != "statistics":
                finished(t, contracted(t, maps, heads))
    for _ in range(t.pick((0, 0, 1, 2)) if branches != "statistics" else t.pick((1, 2))):
        further(t, first, maps[0])


def _sizes(t: Text) -> dict[str, int]:
    pairs = t.pick(GRIDS), t.pick(GRIDS)
    heads = {"h": 4, "g": 2, "c": 4 if t.some(2) else 1}
    return {
        "b": t.pick((1, 2)), **heads, "o": 4, "m": t.pick(LENGTHS), "n": t.pick(LENGTHS), "j": t.pick((1, 9, 40)), "e": t.pick((1, 5, 8, 16)),
        "f": t.pick((1, 3, 8)), **dict(zip("yxvu", (*pairs[0], *pairs[t.pick((0, 1))]), strict=True)), "d": 9, "t": 6, "r": 3, "i": 3, "l": 4, "s": 4, "w": 3,
    }  # fmt: skip


def composed(seed: int) -> Program:
    """The program of a seed, with sizes and a treatment of its inputs."""
    chance = Random(seed)
    t = Text(chance, ("y", "x"), GRID) if chance.random() < 0.25 else Text(chance, ("m",), LINE)
    treatment = t.pick(("plain", "plain", "large", "equal", "hidden"))
    branched(t, t.pick(BRANCHES), t.pick(HEADS), treatment == "hidden")
    return Program(seed, t.finished(), dict(t.made), _sizes(t), treatment)


def programs(part: int = 0, parts: int = 1) -> st.SearchStrategy[Program]:
    """Random programs, others for every part. Choices come from a seed: Hypothesis's variations on an earlier example would compile most of its kernels again."""
    return st.integers(0, 2**32 - 1).map(lambda seed: composed(seed * parts + part))
