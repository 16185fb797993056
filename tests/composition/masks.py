"""Masks of the grammar: predicates over a query's and a key's position, tables and lists, and their combinations."""

from __future__ import annotations

from tests.composition.text import Keys, Text, ascending, booleans, integers

# Over q and k, the positions on a line.
SIMPLE = (
    "{k} <= {q}", "{q} - {k} < 6 and {k} <= {q}", "abs({q} - {k}) < 4", "({q} - {k}) % 3 == 0", "{k} < 2 or 0 <= {q} - {k} < 5", "{k} // 4 <= {q} // 4",
    "{k} // 8 == {q} // 8", "(({q} ^ {k}) & 2) == 0", "if({q} < 5, {k} < 5, {k} <= {q})", "{k} < {q} - 5", "h % 2 == 0 or {k} <= {q}",
    "({q} // 7 - {k} // 7)**2 + ({q} % 7 - {k} % 7)**2 <= 5", "{k} % 4 == 3 or {k} // 4 == {q} // 4", "{k} != {q}", "{k} > {q} + 1000",
    "clamp({q} - 2, 0, 20) <= {k} < clamp({q} - 2, 0, 20) + 5",
)  # fmt: skip


def _simple(t: Text, keys: Keys) -> str:
    return str(t.pick(SIMPLE)).format(q=t.position, k=keys.position)


def _aligned(t: Text, keys: Keys) -> str:
    """Causal with the last query at the last key."""
    total = " * ".join(r.upper() for r in keys.ranks)
    queries = " * ".join(r.upper() for r in t.query)
    return f"{keys.position} <= {t.position} + {total} - {queries}"


def _neighbourhood(t: Text, keys: Keys) -> str:
    if not t.grid or len(keys.ranks) != 2:
        return (
            f"abs({t.position} // 6 - {keys.position} // 6) <= 1 and abs({t.position} % 6 - {keys.position} % 6) <= 1"
        )
    (y, x), (v, u) = t.query, keys.ranks
    return str(
        t.pick(
            (
                f"abs({y} - {v}) <= 1 and abs({x} - {u}) <= 2",
                f"clamp({y} - 1, 0, V - 3) <= {v} < clamp({y} - 1, 0, V - 3) + 3 and {x} >= {u}",
                f"{y} // 2 == {v} // 2 and {x} // 3 == {u} // 3",
                f"({y} - {v})**2 + ({x} - {u})**2 <= 4",
            )
        )
    )


def _documents(t: Text, keys: Keys) -> str:
    queries = t.operand("SQ", ("b", *t.query), ascending)
    return f"{queries} == {t.operand(f'SK{keys.name}', ('b', *keys.ranks), ascending)}"


def _lengths(t: Text, keys: Keys) -> str:
    return f"{keys.position} < {t.operand('NL', ('b',), integers(0, 60))}"


def _prefix(t: Text, keys: Keys) -> str:
    return f"({keys.position} < {t.operand('PL', ('b',), integers(0, 30))} or {keys.position} <= {t.position})"


def _window_of_a_head(t: Text, keys: Keys) -> str:
    return f"0 <= {t.position} - {keys.position} < {t.operand('WH', ('h',), integers(1, 20))}"


def _class_table(t: Text, keys: Keys) -> str:
    queries = t.operand("SQ", ("b", *t.query), ascending)
    return t.table("AL", ("s", "w"), (queries, f"{keys.position} % 3"), booleans)


def _block_list(t: Text, keys: Keys) -> str:
    t.operand("BL", ("h", "l", "i"), integers(-1, 12))
    return f"{keys.position} // 4 in BL[h, min({t.position} // 16, 3), :]"


def _key_list(t: Text, keys: Keys) -> str:
    t.operand("LI", ("b", "i"), integers(0, 40))
    return f"{keys.position} in LI[b, :]"


def _key_mask(t: Text, keys: Keys) -> str:
    return t.operand(f"KB{keys.name}", ("b", *keys.ranks), booleans)


def _map_mask(t: Text, keys: Keys) -> str:
    return t.operand(f"AM{keys.name}", (*t.query, *keys.ranks), booleans)


def _range_of_a_query(t: Text, keys: Keys) -> str:
    low, high = (t.operand(n, ("b", *t.query), integers(*r)) for n, r in (("LO", (0, 20)), ("HI", (5, 70))))
    return f"{low} <= {keys.position} < {high}"


ATOMS = (
    _simple, _simple, _simple, _aligned, _neighbourhood, _documents, _lengths, _prefix, _window_of_a_head, _class_table, _block_list, _key_list, _key_mask,
    _map_mask, _range_of_a_query,
)  # fmt: skip


def mask(t: Text, keys: Keys, depth: int = 2) -> str:
    """A predicate, or nothing."""
    return "" if t.some(6) else _combined(t, keys, depth)


def _combined(t: Text, keys: Keys, depth: int) -> str:
    kind = t.pick(("atom", "atom", "atom", "and", "or", "not")) if depth else "atom"
    if kind == "atom":
        return str(t.pick(ATOMS)(t, keys))
    first = _combined(t, keys, depth - 1)
    return f"not ({first})" if kind == "not" else f"({first}) {kind} ({_combined(t, keys, depth - 1)})"
