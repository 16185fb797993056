// Right operands of products by blocks of columns, and when a copy of them pays.
#pragma once
#include "convert.hpp"
#include "spans.hpp"

namespace tile {

// Vectors of columns of a register block (Note [Register blocks] in product.hpp).
#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int block_vectors = 4;
#else
constexpr int block_vectors = 2;
#endif

// B[depth, columns] by panels of as many columns as a register block has: element (k, j) of panel p is data[p * next + k * row + j].
// A matrix as it lies is one of these, its panels side by side. ``Sum``: the type of the sums, which decides how many columns a block has.
template <class T> struct panels { T* data; long row, next; };
template <class Sum> constexpr long panel_columns = block_vectors * (VECTOR_BYTES / long(sizeof(Sum)));
template <class Sum, class T> TILE_INLINE panels<T> side_by_side(matrix<T> b, int step) { return {b.data, b.stride, panel_columns<Sum> * step}; }

// Note [Panels]
// One panel is read again for every block of rows, so it should stay in the first cache level, and the pages that its rows lie on in the
// first translation buffer. Rows that lie a multiple of the set count apart share a few sets: with 2 KiB from row to row, 16 lines of 512
// stay. AVX2, one core, 96 x 256 x 512: 61 GFLOP/s with 2 KiB, 77 with an odd number of lines, 86 where the rows of a panel lie side by side.
// Copying costs as much as one reading in place, so it pays from a few blocks of rows on. Every x86 core of the last ten years has at
// least these: 32 KiB of 8 ways, 64 pages.
constexpr long line = 64, sets = 64, ways = 8, page = 4096, pages = 64;
TILE_INLINE bool stays_near(long depth, long row_bytes, long panel_bytes) {
    const long apart = row_bytes % line ? 1 : (row_bytes / line) & -(row_bytes / line);
    const long lines = (panel_bytes + line - 1) / line, reached = apart >= sets ? lines : sets / apart * lines;
    return depth * lines <= (reached < sets ? reached : sets) * ways && depth * row_bytes <= page * pages;
}

// B as it lies, or copied to ``room`` (depth x columns, rounded up to whole panels) where that pays for products with so many rows.
template <class T> panels<const T> nearby(long rows, long columns, long depth, matrix<const T> b, void* room) {
    constexpr long width = panel_columns<T>;
    if (rows <= 3 * block_rows || stays_near(depth, b.stride * long(sizeof(T)), width * long(sizeof(T)))) return side_by_side<T>(b, 1);
    // A few rows at a time: their pages stay in the translation buffer, and whole lines are written. The next ones are fetched ahead: no unit that
    // guesses addresses follows rows that lie pages apart (2.5 floats a nanosecond without, 3.5 with).
    constexpr long some_rows = 8;
    for (long first = 0; first < depth; first += some_rows) {
        const long end = first + some_rows < depth ? first + some_rows : depth;
        T* to = (T*)room;
        for (long j = 0; j < columns; j += width, to += depth * width)
            for (long k = first; k < end; ++k) {
                __builtin_prefetch(b.row(k + some_rows) + j);
                if (j + width <= columns) __builtin_memcpy(to + k * width, b.row(k) + j, width * sizeof(T));
                else for (long l = 0; j + l < columns; ++l) to[k * width + l] = b.row(k)[j + l];
            }
    }
    return {(const T*)room, width, depth * width};
}

}  // namespace tile
