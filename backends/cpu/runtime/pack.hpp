// Copies that change layout or type: transposes, conversions, fills, pairs of depth.
#pragma once
#include "loops.hpp"
#include "pair_product.hpp"

namespace tile {

// Exchanges the off-diagonal quarters of size Step of two rows: log2(L) such stages transpose an L x L block.
template <int Step, int L, class V, int... I> TILE_INLINE void exchange_blocks(V& a, V& b, indices<I...>) {
    V low = __builtin_shufflevector(a, b, (I & Step ? L + (I ^ Step) : I)...);
    V high = __builtin_shufflevector(a, b, (I & Step ? L + I : (I ^ Step))...);
    a = low;
    b = high;
}
template <int Step, int L, class V> TILE_INLINE void transpose_stages(V (&v)[L]) {
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
        if (!(i & Step)) exchange_blocks<Step, L>(v[i], v[i + Step], first_indices<L>());
    if constexpr (2 * Step < L) transpose_stages<2 * Step, L>(v);
}

// to[c, r] = from[r, c] for r < rows, 0 for rows <= r < padded_rows; c < columns. Elements are converted to To. From: any of strided, row_table.
template <template <class> class Rows, class From, class To>
__attribute__((noinline)) void transpose(long rows, long columns, Rows<From> from, matrix<To> to, long padded_rows) {
    const bool blocks = from.column_stride == 1;
    const long block_rows = blocks ? rows - rows % LANES : 0, block_columns = blocks ? columns - columns % LANES : 0;
    for (long r = 0; r < block_rows; r += LANES)
        for (long c = 0; c < block_columns; c += LANES) {
            vec<computed_type<From>> v[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) v[i] = load((const From*)from.row(r + i), whole{c});
            transpose_stages<1, LANES>(v);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) store(to.row(c + i), whole{r}, v[i]);
        }
    for (long c = 0; c < columns; ++c) {
        for (long r = c < block_columns ? block_rows : 0; r < rows; ++r) to(c, r) = narrow<To>(widen(from(r, c)));
        for (long r = rows; r < padded_rows; ++r) to(c, r) = To{};
    }
}
template <class From, class To> TILE_INLINE void transpose(long rows, long columns, matrix<From> from, matrix<To> to, long padded_rows) {
    transpose(rows, columns, rows_of(from), to, padded_rows);
}

// to = from, converted.
template <template <class> class Rows, class From, class To> void copy(long rows, long columns, Rows<From> from, matrix<To> to) {
    for_each_row(rows, columns, [&](long i, auto j) __attribute__((always_inline)) { store(to, i, j, load(from, i, j)); });
}
template <class From, class To> void copy(long rows, long columns, strided<From> from, matrix<To> to) {
    if (from.column_stride == 1) return copy(rows, columns, matrix<From>{from.data, from.row_stride}, to);
    for (long i = 0; i < rows; ++i)
        for (long j = 0; j < columns; ++j) to(i, j) = narrow<To>(widen(from(i, j)));
}
// to[i, j] = value for first_row <= i < rows or first_column <= j < columns: all of it when both firsts are 0, the ragged
// frame of a padded tile otherwise.
template <class T> void fill(long first_row, long rows, long first_column, long columns, matrix<T> to, computed_type<T> value) {
    const T v = narrow<T>(value);
    for (long i = 0; i < rows; ++i)
        for (long j = i < first_row ? first_column : 0; j < columns; ++j) to(i, j) = v;
}

// B[depth, columns] row-major to [pairs][columns][2], pairs = (depth + 1) / 2, columns up to padded_columns zero: a
// lane of 32 bits is rows 2k and 2k + 1 of one column.
template <template <class> class Rows, class From> void pack_pairs(long depth, long columns, Rows<From> from, matrix<bf16> to, long padded_columns) {
    for (long k = 0; k < depth; k += 2) {
        bf16* out = to.row(k / 2);
        auto one = [&](auto j) __attribute__((always_inline)) {
            halves low = bf16_from_f32(convert<float>(load(from, k, j))), high = {};
            if (k + 1 < depth) high = bf16_from_f32(convert<float>(load(from, k + 1, j)));
            return convert<uint32_t>(low) | convert<uint32_t>(high) << 16;
        };
        long j = 0;
        for (; j + LANES <= columns; j += LANES) store_raw(out + 2 * j, one(whole{j}));
        if (j < columns) store((uint32_t*)out, partial{j, int(columns - j)}, one(partial{j, int(columns - j)}));
        for (j = columns; j < padded_columns; ++j) out[2 * j] = out[2 * j + 1] = bf16{0};
    }
}
// The same from B given by its transpose [columns, depth]: where that has unit stride along depth, pairs are already adjacent and
// this transposes 32-bit words. An odd depth has its last pair completed by 0.
TILE_INLINE bool in_words(strided<const bf16> from) { return from.column_stride == 1 && from.row_stride % 2 == 0; }
TILE_INLINE bool in_words(row_table<const bf16>) { return true; }
TILE_INLINE strided<const uint32_t> words_of(strided<const bf16> from) { return {(const uint32_t*)from.data, from.row_stride / 2, 1}; }
TILE_INLINE row_table<const uint32_t> words_of(row_table<const bf16> from) { return {(const uint32_t* const*)from.rows}; }
template <template <class> class Rows> TILE_INLINE void transpose_pairs(long columns, long depth, Rows<const bf16> from, matrix<bf16> to, long padded_columns) {
    if (in_words(from)) {
        transpose(columns, depth / 2, words_of(from), matrix<uint32_t>{(uint32_t*)to.data, to.stride / 2}, padded_columns);
    } else {
        for (long k = 0; k < depth / 2; ++k)
            for (long j = 0; j < padded_columns; ++j)
                for (int h = 0; h < 2; ++h) to(k, 2 * j + h) = j < columns ? from(j, 2 * k + h) : bf16{0};
    }
    if (depth % 2)
        for (long j = 0; j < padded_columns; ++j) {
            to(depth / 2, 2 * j) = j < columns ? from(j, depth - 1) : bf16{0};
            to(depth / 2, 2 * j + 1) = bf16{0};
        }
}

}  // namespace tile
