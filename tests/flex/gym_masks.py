"""The masks of attention-gym. A query at position m sees a key at position n where the predicate holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from tests.flex.case import Case, Factory, Modifier, Sizes

GYM = "attention-gym"


def causal(b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
    return n <= m


def cuts(sizes: Sizes, generator: Generator, parts: int = 12) -> Tensor:
    """Offsets of documents of random lengths, some of them empty: i32[parts + 1] from 0 to the number of keys."""
    inner = torch.randint(0, sizes.keys, (parts - 1,), generator=generator).sort().values
    return torch.cat([torch.zeros(1), inner, torch.full((1,), sizes.keys)]).to(torch.int32)


def documents(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """``DO``: where each document begins, ``DI``: the document of each token."""
    offsets = cuts(sizes, generator)
    numbers = torch.arange(len(offsets) - 1, dtype=torch.int32)
    return {"DO": offsets, "DI": numbers.repeat_interleave(offsets.diff())}


def nested(inner: Modifier) -> Factory:
    """A mask inside each document, in the positions of that document."""

    def mask_mod(DO: Tensor, DI: Tensor, **_: Any) -> Modifier:
        def inside(b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
            return (DI[m] == DI[n]) & inner(b, h, m - DO[DI[m]], n - DO[DI[n]])

        return inside

    return mask_mod


def document(name: str, inner: str, mask: Modifier) -> Case:
    filter = "DI[m] == DI[n]" + (f" and {inner}" if inner else "")
    inputs = "DO: i32[d], DI: i32[n]"
    return Case(f"document, {name}", GYM, filter, inputs=inputs, make=documents, mask_mod=nested(mask))


def neighbourhood(place: str, mask_mod: Factory, name: str) -> Case:
    """NATTEN in some order of the tokens: ``place`` defines row(i, W, ...) and column(i, W, ...)."""
    return Case(
        name,
        GYM,
        "near(row(m, H2, W2), row(n, H2, W2), H2, R) and near(column(m, H2, W2), column(n, H2, W2), W2, R)",
        parameters="H2: int, W2: int, R: int",
        definitions=f"def near(q, k, extent, r) = abs(clamp(q, r, extent - 1 - r) - k) <= r\n{place}",
        make=lambda s, g: {"H2": s.grid[0], "W2": s.grid[1], "R": max(s.grid[0] // 8, 1)},
        mask_mod=mask_mod,
    )


def natten(place: Any) -> Factory:
    def mask_mod(H2: int, W2: int, R: int) -> Modifier:
        def near(q: Tensor, k: Tensor, extent: int) -> Tensor:
            return (q.clamp(R, extent - 1 - R) - k).abs() <= R

        def inside(b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
            (y, x), (y2, x2) = place(m, H2, W2), place(n, H2, W2)
            return near(y, y2, H2) & near(x, x2, W2)

        return inside

    return mask_mod


def rows(i: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    return i // width, i % width


def tiles(i: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    tile, inner = i // 16, i % 16
    across = width // 4
    return tile // across * 4 + inner // 4, tile % across * 4 + inner % 4


def even_bits(code: Tensor) -> Tensor:
    for shift, mask in ((0, 0x55555555), (1, 0x33333333), (2, 0x0F0F0F0F), (4, 0x00FF00FF), (8, 0x0000FFFF)):
        code = (code | code >> shift) & mask
    return code


def morton(i: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    return even_bits(i >> 1), even_bits(i)


def sliding_tiles(extents: tuple[str, ...], text: bool, name: str) -> Case:
    """Sliding tile attention: tiles of a canvas see whole tiles around them; ``text`` tokens behind it see and are seen by all."""
    axes = len(extents)
    radix = "1"
    coordinates = []
    for axis in reversed(range(axes)):
        coordinates.insert(0, f"i // T // ({radix}) % {extents[axis]}")
        radix = f"{radix} * {extents[axis]}"
    names = "zyx"[-axes:]
    arguments = ", ".join(extents)
    places = [f"def {a}(i, T, {arguments}) = {c}" for a, c in zip(names, coordinates, strict=True)]
    inside = " and ".join(
        f"window({a}(m, T, {arguments}), {a}(n, T, {arguments}), {extent}, WT)"
        for a, extent in zip(names, extents, strict=True)
    )
    window = """def window(q, k, extent, w) = lead(q, extent, w) - w // 2 <= k < lead(q, extent, w) - w // 2 + w
def lead(q, extent, w) = clamp(q, w // 2, extent - w + w // 2)
"""
    seen = f"m >= VS or n >= VS or {inside}" if text else inside
    parameters = f"{', '.join(f'{e}: int' for e in extents)}, T: int, WT: int" + (", VS: int" if text else "")

    def make(sizes: Sizes, generator: Generator) -> dict[str, Any]:
        if axes == 3:
            side = round(sizes.keys ** (1 / 3))
            shape, side = (side, side, sizes.keys // side**2), max(side // 4, 2)
        else:
            height, width = sizes.grid
            shape, side = (height - height // 4 * text, width), max(height // 8, 2)
        counts = {e: size // side for e, size in zip(extents, shape, strict=True)}
        vision = {"VS": shape[0] * shape[1]} if text else {}
        return {**counts, "T": side**axes, "WT": 3 if axes == 2 else 2, **vision}

    def mask_mod(T: int, WT: int, VS: int | None = None, **counts: int) -> Modifier:
        def visible(b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
            found, q, k = torch.tensor(True), m // T, n // T
            for extent in reversed(list(counts.values())):
                low = (q % extent).clamp(WT // 2, extent - WT + WT // 2) - WT // 2
                found = found & (low <= k % extent) & (k % extent < low + WT)
                q, k = q // extent, k // extent
            return found if VS is None else (m >= VS) | (n >= VS) | found

        return visible

    definitions = window + "\n".join(places)
    return Case(name, GYM, seen, parameters=parameters, definitions=definitions, make=make, mask_mod=mask_mod)


def video(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """A prompt of an eighth of the tokens and ten frames behind it, attended in a width of two frames."""
    frame = sizes.keys * 7 // 80
    return {"PL": sizes.keys - 10 * frame, "FR": frame, "WD": 2 * frame // 8 * 8}


def images(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """Eight images and the interval of text positions that sees each: ``IM`` i32[n], ``IV`` i32[8, 2]."""
    image = torch.arange(sizes.keys, dtype=torch.int32) * 8 // sizes.keys
    ends = torch.randint(0, sizes.queries, (8, 2), generator=generator, dtype=torch.int32).sort(-1).values
    return {"IM": image, "IV": ends}


def shared(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """Documents in groups of four, of which the first is the prefix of the others."""
    found = documents(sizes, generator)
    count = len(found["DO"]) - 1
    return {**found, "PD": (torch.arange(count) // 4 * 4).to(torch.int32)}


def draft_tree(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """``AN``: whether node d is node m or one of its ancestors, in a random tree."""
    nodes = sizes.queries
    ancestors = torch.eye(nodes, dtype=torch.bool)
    for node in range(1, nodes):
        parent = int(torch.randint(max(0, node - 8), node, (1,), generator=generator))
        ancestors[node] |= ancestors[parent]
    return {"AN": ancestors}


def selected_tiles(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    """``TI``: the eighth of the key tiles that each tile of 64 queries selects; ``TS``: how many tokens of a tile are real."""
    count = sizes.keys // 64
    shape = sizes.batch, sizes.heads, sizes.queries // 64, count
    chosen = torch.rand(shape, generator=generator).topk(max(count // 8, 1)).indices.sort(-1).values
    real = torch.randint(33, 65, (count,), generator=generator, dtype=torch.int32)
    return {"TI": chosen.to(torch.int32), "TS": torch.where(real > 56, 64, real).to(torch.int32)}


def block_map(sizes: Sizes, generator: Generator) -> dict[str, Any]:
    found = selected_tiles(sizes, generator)
    chosen = found["TI"].long()
    table = torch.zeros((*chosen.shape[:3], sizes.keys // 64), dtype=torch.bool)
    return {"BM": table.scatter(-1, chosen, True), "TS": found["TS"]}


GYM_MASKS = (
    Case("causal", GYM, "n <= m", mask_mod=lambda: causal),
    Case(
        "sliding window",
        GYM,
        "n <= m and m - n <= W",
        parameters="W: int",
        make=lambda s, g: {"W": s.keys // 16},
        mask_mod=lambda W: lambda b, h, m, n: (n <= m) & (m - n <= W),
    ),
    Case(
        "dilated sliding window",
        GYM,
        "abs(m - n) <= W and abs(m - n) % D == 0",
        parameters="W: int, D: int",
        make=lambda s, g: {"W": s.keys // 16, "D": 4},
        mask_mod=lambda W, D: lambda b, h, m, n: ((m - n).abs() <= W) & ((m - n).abs() % D == 0),
    ),
    Case(
        "global and sliding window",
        GYM,
        "abs(m - n) <= W or GL[m] or GL[n]",
        inputs="GL: bool[n]",
        parameters="W: int",
        make=lambda s, g: {
            "GL": torch.arange(s.keys) % (s.keys // 4) == 0,
            "W": s.keys // 16,
        },
        mask_mod=lambda GL, W: lambda b, h, m, n: ((m - n).abs() <= W) | GL[m] | GL[n],
    ),
    Case(
        "prefix language model",
        GYM,
        "n < P or n <= m",
        parameters="P: int",
        make=lambda s, g: {"P": s.keys // 3},
        mask_mod=lambda P: lambda b, h, m, n: (n < P) | (n <= m),
    ),
    Case(
        "block diffusion",
        GYM,
        "if(n < C, m < C and block(m, C, T) == block(n, C, T), if(m < C, block(n, C, T) < block(m, C, T), block(n, C, T) <= block(m, C, T)))",
        parameters="C: int, T: int",
        definitions="def block(i, C, T) = i % C // T",
        make=lambda s, g: {"C": s.keys // 2, "T": max(s.keys // 32, 4)},
        mask_mod=lambda C, T: (
            lambda b, h, m, n: (
                ((m % C // T == n % C // T) & ((m < C) == (n < C)))
                | ((n >= C) & (m < C) & (n % C // T < m % C // T))
                | ((n >= C) & (m >= C) & (n % C // T <= m % C // T))
            )
        ),
    ),
    document("all pairs", "", lambda b, h, m, n: torch.tensor(True)),
    document("causal", "n - DO[DI[n]] <= m - DO[DI[m]]", causal),
    document(
        "sliding window", "0 <= m - DO[DI[m]] - (n - DO[DI[n]]) <= 24", lambda b, h, m, n: (0 <= m - n) & (m - n <= 24)
    ),
    document("prefix language model", "(n - DO[DI[n]] < 16 or n <= m)", lambda b, h, m, n: (n < 16) | (n <= m)),
    Case(
        "packed causal document",
        GYM,
        "DO[DI[m]] <= n <= m",
        inputs="DO: i32[d], DI: i32[n]",
        make=documents,
        mask_mod=lambda DO, DI: lambda b, h, m, n: (DO[DI[m]] <= n) & (n <= m),
    ),
    Case(
        "batchified, causal",
        GYM,
        "m // T == n // T and n % T <= m % T",
        parameters="T: int",
        make=lambda s, g: {"T": s.keys * 3 // 16},
        mask_mod=lambda T: lambda b, h, m, n: (m // T == n // T) & (n % T <= m % T),
    ),
    neighbourhood("def row(i, H2, W2) = i // W2\ndef column(i, H2, W2) = i % W2", natten(rows), "NATTEN"),
    neighbourhood(
        "def row(i, H2, W2) = i // 16 // (W2 // 4) * 4 + i % 16 // 4\ndef column(i, H2, W2) = i // 16 % (W2 // 4) * 4 + i % 4",
        natten(tiles),
        "NATTEN, tiled",
    ),
    neighbourhood(
        """def row(i, H2, W2) = fold(fold(fold(fold((i >> 1) & 0x55555555, 1, 0x33333333), 2, 0x0F0F0F0F), 4, 0x00FF00FF), 8, 0xFFFF)
def column(i, H2, W2) = row(i << 1, H2, W2)
def fold(code, shift, mask) = (code | (code >> shift)) & mask""",
        natten(morton),
        "NATTEN, Morton order",
    ),
    sliding_tiles(("NY", "NX"), False, "sliding tiles, 2-D"),
    sliding_tiles(("NY", "NX"), True, "sliding tiles, 2-D with text"),
    sliding_tiles(("NZ", "NY", "NX"), False, "sliding tiles, 3-D"),
    Case(
        "Sparse VideoGen, spatial",
        GYM,
        "m < PL or n < PL or abs(m - n) < WD",
        parameters="PL: int, FR: int, WD: int",
        make=video,
        mask_mod=lambda PL, FR, WD: lambda b, h, m, n: (m < PL) | (n < PL) | ((m - n).abs() < WD),
    ),
    Case(
        "Sparse VideoGen, spatial with sink",
        GYM,
        "m < PL or n < PL + FR or abs(m - n) < WD",
        parameters="PL: int, FR: int, WD: int",
        make=video,
        mask_mod=lambda PL, FR, WD: lambda b, h, m, n: (m < PL) | (n < PL + FR) | ((m - n).abs() < WD),
    ),
    Case(
        "Sparse VideoGen, temporal",
        GYM,
        "m < PL or n < PL or abs((m - PL) % FR - (n - PL) % FR) < WD // 10",
        parameters="PL: int, FR: int, WD: int",
        make=video,
        mask_mod=lambda PL, FR, WD: (
            lambda b, h, m, n: (m < PL) | (n < PL) | (((m - PL) % FR - (n - PL) % FR).abs() < WD // 10)
        ),
    ),
    Case(
        "Flamingo",
        GYM,
        "IV[IM[n],0] <= m < IV[IM[n],1]",
        inputs="IM: i32[n], IV: i32[i,j]",
        make=images,
        mask_mod=lambda IM, IV: lambda b, h, m, n: (IV[IM[n], 0] <= m) & (m < IV[IM[n], 1]),
    ),
    Case(
        "shared prefix",
        GYM,
        "DO[DI[m]] <= n <= m or PD[DI[m]] != DI[m] and DO[PD[DI[m]]] <= n < DO[PD[DI[m]] + 1]",
        inputs="DO: i32[d], DI: i32[n], PD: i32[c]",
        make=shared,
        mask_mod=lambda DO, DI, PD: (
            lambda b, h, m, n: (
                ((DO[DI[m]] <= n) & (n <= m)) | ((PD[DI[m]] != DI[m]) & (DO[PD[DI[m]]] <= n) & (n < DO[PD[DI[m]] + 1]))
            )
        ),
    ),
    Case(
        "JetSpec, training",
        GYM,
        "n < P or m // T == (n - P) // T and (n - P) % T <= m % T",
        parameters="P: int, T: int",
        lengths=lambda length: (length // 2, length),
        make=lambda s, g: {"P": s.keys - s.queries, "T": max(s.queries // 16, 4)},
        mask_mod=lambda P, T: (
            lambda b, h, m, n: (n < P) | ((n >= P) & (m // T == (n - P) // T) & ((n - P) % T <= m % T))
        ),
    ),
    Case(
        "JetSpec, tree",
        GYM,
        "n < N - M or AN[m,n - (N - M)]",
        inputs="AN: bool[m,d]",
        lengths=lambda length: (length // 4, length),
        make=draft_tree,
        mask_mod=lambda AN: lambda b, h, m, n: (n < 3 * len(AN)) | AN[m, (n - 3 * len(AN)).clamp(0)],
    ),
    Case(
        "VSA, selected tiles",
        GYM,
        "n // 64 in TI[b,h,m // 64,:] and n % 64 < TS[n // 64]",
        inputs="TI: i32[b,h,i,j], TS: i32[c]",
        make=selected_tiles,
        mask_mod=lambda TI, TS: lambda b, h, m, n: (TI[b, h, m // 64] == n // 64).any(-1) & (n % 64 < TS[n // 64]),
        rejected="a reduction of a captured tensor has no lowering",
    ),
    Case(
        "VSA, block map",
        GYM,
        "BM[b,h,m // 64,n // 64] and n % 64 < TS[n // 64]",
        inputs="BM: bool[b,h,i,c], TS: i32[c]",
        make=block_map,
        mask_mod=lambda BM, TS: lambda b, h, m, n: BM[b, h, m // 64, n // 64] & (n % 64 < TS[n // 64]),
    ),
)
