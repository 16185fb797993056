"""What was probably meant: notes that errors carry below the caret."""

from __future__ import annotations

from collections.abc import Iterable

PARTS = (
    "parts side by side are cases, and K = N + M a parameter: C[k] = X[k + 0] where k < N, C[k] = Y[k - N] where k >= N"
)
# Names of other languages, and how their values are written here.
ELSEWHERE = {
    "pow": "a power is written x ** y",
    "square": "a power is written x ** 2",
    "log2": "it is log(x) / log(2)",
    "log10": "it is log(x) / log(10)",
    "log1p": "it is log(1 + x)",
    "expm1": "it is exp(x) - 1",
    "logsigmoid": "it is -softplus(-x)",
    "reciprocal": "it is 1 / x",
    "argmin": "it is argmax of the value with the other sign",
    "cumsum": "a running sum has a rank of its own: C[i] = sum[n](X[n] where n <= i)",
    **dict.fromkeys(("concat", "cat", "concatenate"), PARTS),
    **dict.fromkeys(
        ("matmul", "bmm", "einsum"),
        "a contraction is a product whose rank is not on the left: C[m,n] = A[m,k] * B[k,n]",
    ),
    "transpose": "the left side says the order of ranks: C[n,m] = X[m,n]",
    "log_softmax": "it is S[n] less logsumexp[n](S[n])",
}


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Known names that a slip of the keyboard away from ``name``, best first; other cases of letters included."""
    import difflib

    known = list(dict.fromkeys(known))
    same = [k for k in known if k.lower() == name.lower() and k != name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return list(dict.fromkeys([*same, *near]))[:3]


def did_you_mean(name: str, known: Iterable[str], all_of: bool = False) -> tuple[str, ...]:
    """The note ``did you mean ...?``; with ``all_of``, else the list of what there is."""
    known = tuple(known)
    close = close_names(name, known)
    if close:
        return (f"did you mean {listed(close, 'or')}?",)
    return (f"there are {listed(known)}",) if all_of and known else ()


def unknown(name: str, known: Iterable[str], define: str) -> tuple[str, ...]:
    """The note on a function or cascade that does not exist; ``define``: how the text would define it."""
    return (ELSEWHERE[name],) if name in ELSEWHERE else did_you_mean(name, known) or (f"to define it: {define}",)


def listed(names: Iterable[str], last: str = "and") -> str:
    """``a, b and c``."""
    names = list(names)
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def counted(number: int, noun: str) -> str:
    """``1 index``, ``2 indices``."""
    plurals = {"index": "indices", "axis": "axes"}
    return f"{number} {noun if number == 1 else plurals.get(noun, noun + 's')}"
