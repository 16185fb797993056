// The part of a partial tile that counts: for every block of rows the columns that some row of it sees.
#pragma once
#include "vector.hpp"

namespace tile {

#if VECTOR_BYTES == 64 || defined(__aarch64__) || defined(__FMA__)
constexpr int block_rows = 6;
#else
constexpr int block_rows = 4;
#endif

// Vectors of columns of a register block (Note [Register blocks] in product.hpp).
#if VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int block_vectors = 4;
#else
constexpr int block_vectors = 2;
#endif

// Columns begin <= j < end, both multiples of LANES: whole vectors.
struct span { int begin, end; };

// Note [Spans]
// Where a filter bounds the columns of a row, as the diagonal of a causal mask does, points outside of the bounds add nothing to
// any result. They are left out by whole register blocks: products with these columns compute the blocks that some row sees, products
// over these columns add up the columns that some row of a block sees, sweeps run over the same columns. What lies outside is never written and never read.
template <int Rows> struct spans {
    static constexpr int count = (Rows + block_rows - 1) / block_rows;
    span block[count], all;
    spans() {
        for (int r = 0; r < count; ++r) block[r] = {1 << 30, 0};
        all = {1 << 30, 0};
    }
    // One row sees begin <= j < end.
    TILE_INLINE void see(long row, int64_t begin, int64_t end) {
        if (begin >= end) return;
        span& s = block[row / block_rows];
        const int first = int(begin) / LANES * LANES, last = (int(end) + LANES - 1) / LANES * LANES;
        if (first < s.begin) s.begin = first;
        if (last > s.end) s.end = last;
    }
    TILE_INLINE void close() {
        for (int r = 0; r < count; ++r) {
            if (block[r].end == 0) block[r].begin = 0;
            else if (block[r].begin < all.begin) all.begin = block[r].begin;
            if (block[r].end > all.end) all.end = block[r].end;
        }
        if (all.end == 0) all.begin = 0;
    }
    TILE_INLINE const span& of(long row) const { return block[row / block_rows]; }
    template <class J> TILE_INLINE bool sees(long row, J j) const { return j.first >= of(row).begin && j.first < of(row).end; }
};

// Which blocks of a product are computed: part(first row, rows, first step of depth, steps) for the columns [j, j + width).
struct everywhere {
    static constexpr bool is_everywhere = true;
    TILE_INLINE span columns(long size) const { return {0, int(size)}; }
    TILE_INLINE span depths(long size) const { return {0, int(size)}; }
    template <class F> TILE_INLINE void parts(long, long, long rows, long depth, F part) const { part(0L, rows, 0L, depth); }
};
// The columns of the product are those of the spans.
template <int Rows> struct columns_within {
    static constexpr bool is_everywhere = false;
    const spans<Rows>& s;
    TILE_INLINE span columns(long) const { return s.all; }
    TILE_INLINE span depths(long size) const { return {0, int(size)}; }
    template <class F> TILE_INLINE void parts(long j, long width, long rows, long depth, F part) const {
        for (long i = 0, r = 0; i < rows; i += block_rows, ++r)
            if (s.block[r].begin < j + width && s.block[r].end > j) part(i, i + block_rows < rows ? i + block_rows : rows, 0L, depth);
    }
};
// The depth of the product runs over the columns of the spans.
template <int Rows> struct depth_within {
    static constexpr bool is_everywhere = false;
    const spans<Rows>& s;
    TILE_INLINE span columns(long size) const { return {0, int(size)}; }
    TILE_INLINE span depths(long) const { return s.all; }
    template <class F> TILE_INLINE void parts(long, long, long rows, long, F part) const {
        for (long i = 0, r = 0; i < rows; i += block_rows, ++r)
            part(i, i + block_rows < rows ? i + block_rows : rows, long(s.block[r].begin), long(s.block[r].end - s.block[r].begin));
    }
};

// Note [Rows ahead]
// Rows that lie anywhere are read once, when they are packed, and no unit that guesses addresses follows them from one short stretch to the next. Asked for
// at once they wait for each other, as a copy of them does. So they are asked for a few at a time, between the register blocks of a product
// before: ``where`` with rows in small parts, and before each of them ask(row) for the next rows of ``count``.
template <class Where, class F> struct asking {
    static constexpr bool is_everywhere = Where::is_everywhere;
    static constexpr long some_rows = 2 * block_rows;
    const Where where;
    const F ask;
    const long count, parts_ahead;  // rows, and parts of the product that they are spread over
    mutable long next = 0;
    TILE_INLINE span columns(long size) const { return where.columns(size); }
    TILE_INLINE span depths(long size) const { return where.depths(size); }
    template <class G> TILE_INLINE void parts(long j, long width, long rows, long depth, G part) const {
        where.parts(j, width, rows, depth, [&](long i, long end, long k, long steps) __attribute__((always_inline)) {
            while (i < end) {
                // The last part is as large as its blocks need: what is left over runs as the same blocks as without parts.
                const long last = end - i < some_rows + block_rows ? end : i + some_rows;
                for (const long until = next + (count + parts_ahead - 1) / parts_ahead; next < until && next < count; ++next) ask(next);
                part(i, last, k, steps);
                i = last;
            }
        });
    }
};
// `count` rows spread over a product with so many rows and columns of sums of type C.
template <class C, class F, class Where = everywhere> TILE_INLINE asking<Where, F> asking_for(long rows, long columns, long count, F ask, Where where = {}) {
    constexpr long lanes = VECTOR_BYTES / long(sizeof(C)), width = block_vectors * lanes;
    const long across = columns / width + columns % width / lanes, down = (rows - block_rows) / asking<Where, F>::some_rows + 1;
    return {where, ask, count, across ? across * down : 1};
}
// Functions that ask and do nothing else look to GCC as if they did nothing: all must be inlined.
template <int Bytes, int Write> TILE_INLINE void ask_for_row(const void* row) {
#pragma GCC unroll 8
    for (int l = 0; l < Bytes; l += 64) __builtin_prefetch((const char*)row + l, Write);
}

}  // namespace tile
