"""Names of C++ for names of tile programs."""

from __future__ import annotations

import re

# What generated code may not redefine: words of C++ and the parameters and variables of the skeleton.
WORDS = """
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue default delete do double
    else enum explicit export extern false float for friend goto if inline int long mutable namespace new not operator or private
    protected public register return short signed sizeof static struct switch template this throw true try typedef typename union
    unsigned using virtual void volatile while xor tile tensors strides integers reals threads programs program chunk scratch j
    near far main linux unix M_PI NAN INFINITY EOF abs exp log sin cos sqrt
"""
RESERVED = frozenset(WORDS.split())


class Names:
    """One C++ name for every (kind, name), legal and different from all others."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._taken = set(RESERVED)

    def of(self, kind: str, name: str) -> str:
        """The name of a rank, extent, tile, tensor or scalar; always the same for the same arguments."""
        key = kind, name
        if key not in self._given:
            self._given[key] = self.fresh(name)
        return self._given[key]

    def give(self, kind: str, name: str, code: str) -> None:
        """Name something by a name that ``fresh`` gave."""
        self._given[kind, name] = code

    def fresh(self, stem: str) -> str:
        """A name that nothing has."""
        stem = re.sub(r"\W", "_", stem)
        # Names with double or leading underscores belong to the compiler.
        stem = re.sub(r"__+", "_", stem).lstrip("_") or "v"
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}" if not stem[-1].isdigit() else f"{stem}_v{count}"
        self._taken.add(name)
        return name
