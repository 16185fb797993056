// Right operands of products by blocks of columns, and when a copy of them pays.
#pragma once
#include "convert.hpp"
#include "spans.hpp"

namespace tile {

// B[depth, columns] by panels of as many columns as a register block has: element (k, j) of panel p is data[p * next + k * row + j].
// A matrix as it lies is one of these, its panels side by side. ``Sum``: the type of the sums, which decides how many columns a block has.
template <class T> struct panels { T* data; long row, next; };
template <class Sum> constexpr long panel_columns = block_vectors * (VECTOR_BYTES / long(sizeof(Sum)));
template <class Sum, class T> TILE_INLINE panels<T> side_by_side(matrix<T> b, int step) { return {b.data, b.stride, panel_columns<Sum> * step}; }

// Note [Odd strides]
// The rows of one column block of B are read together. With a stride of a power of two they share a few sets of the
// first cache level and evict each other; an odd number of 64-byte lines spreads them over all sets. AVX2, 96 x 128 x 128: 97 GFLOP/s with 144 floats, 93 with 128, 55 with 1024.
template <class T> constexpr long padded_stride(long columns) {
    long lines = (columns * long(sizeof(T)) + 63) / 64;
    return (lines | 1) * (64 / long(sizeof(T)));
}

// Steps of depth between which the lines of a left operand read down its columns stay in the first cache level.
constexpr long depth_slice = 128;

// Note [Panels]
// One panel is read again for every block of rows, so it should stay in the first cache level, and the pages that its rows lie on in the
// first translation buffer. Rows that lie a multiple of the set count apart share a few sets: with 2 KiB from row to row, 16 lines of 512
// stay. AVX2, one core, 96 x 256 x 512: 61 GFLOP/s with 2 KiB, 77 with an odd number of lines, 86 where the rows of a panel lie side by side.
// Copying costs as much as one reading in place, so it pays from a few blocks of rows on. Every x86 core of the last ten years has at
// least these: 32 KiB of 8 ways, 64 pages.
constexpr long line = 64, sets = 64, ways = 8, page = 4096, pages = 64;
TILE_INLINE bool stays_near(long depth, long row_bytes, long panel_bytes) {
    if (!row_bytes) return true;  // an expanded tensor: one row
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

// The same for a left operand that is read down its columns: the lines of one block of rows are read again by the next, and by every panel.
template <class T> strided<const T> nearby_left(long rows, long columns, long depth, strided<const T> a, void* room) {
    const long some = depth < depth_slice ? depth : depth_slice;
    if (a.row_stride != 1 || columns <= 3 * panel_columns<T> || stays_near(some, a.column_stride * long(sizeof(T)), block_rows * long(sizeof(T)))) return a;
    const long stride = padded_stride<T>(rows);
    T* to = (T*)room;
    for (long k = 0; k < depth; ++k) {
        for (long i = 0; i < rows; i += line / long(sizeof(T))) __builtin_prefetch(a.data + (k + 8) * a.column_stride + i);
        __builtin_memcpy(to + k * stride, a.data + k * a.column_stride, rows * sizeof(T));
    }
    return {to, 1, stride};
}

}  // namespace tile
