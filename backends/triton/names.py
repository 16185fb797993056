"""Python identifiers for the names of a tile program."""

from __future__ import annotations

import keyword

# Names the generated file defines or uses itself.
RESERVED = frozenset(
    {"tl", "triton", "range", "kernel", "INFINITY", "float", "NEGATIVE_INFINITY"}
    | {f"reduce_{operator}" for operator in ("sum", "prod", "max", "min", "any", "all")}
    | {
        "add",
        "multiply",
        "maximum",
        "minimum",
        "either",
        "both",
        "dot",
        "number",
        "round_bf16",
        "round_even",
        "uniform",
        "sign",
    }
    | {"floor_div", "floor_mod", "floor_mod_float", "integer_power", "integer_power_of", "power"}
    | {"tanh", "sigmoid", "silu", "softplus", "gelu"}
    | set(keyword.kwlist)
    | set(keyword.softkwlist)
)


class Names:
    """Gives every name of a program its own identifier, the same one each time.

    ``MX.run`` becomes ``MX_run``; a number follows where that is taken by another name.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set(RESERVED)

    def of(self, name: str, kind: str = "") -> str:
        """The identifier of ``name``; equal names of different ``kind`` (a tile, a rank, a tensor) stay apart."""
        key = (kind, name)
        if key not in self._given:
            stem = name.replace(".", "_")
            candidate, number = stem, 1
            while candidate in self._taken:
                candidate, number = f"{stem}_{number}", number + 1
            self._taken.add(candidate)
            self._given[key] = candidate
        return self._given[key]
