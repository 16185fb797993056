// Loops over the rows and columns of a tile, and reductions of what a function computes there.
#pragma once
#include "power.hpp"
#include "trigonometry.hpp"

namespace tile {

// Note [Functions of a position]
// A body is called as body(i, j) with a row number and a position of LANES columns (`whole`, or `partial` at the end of
// a row that LANES does not divide), reads with load(m, i, j), computes on vectors, writes with store(m, i, j, v) and
// returns a vector where a reduction follows. It is instantiated for both positions: print it as
//     [&](long i, auto j) __attribute__((always_inline)) { ... }
// If everything it touches is scratch padded to LANES, pass the padded number of columns: `partial` is then never met.

template <class F> TILE_INLINE void for_each_row(long rows, long columns, F body) {
    for (long i = 0; i < rows; ++i) {
        long j = 0;
        for (; j + LANES <= columns; j += LANES) body(i, whole{j});
        if (j < columns) body(i, partial{j, int(columns - j)});
    }
}

// A number of columns or steps that is known when the kernel is compiled: bodies are instantiated only for what is met.
template <long N> struct constant {
    constexpr operator long() const { return N; }
};
// Whether four vectors side by side, single ones after them, and a partial one may be met; and of steps blocks of four, and single ones.
template <class Count> struct meets { static constexpr bool four = true, one = true, end = true, blocks = true, steps = true; };
template <long N> struct meets<constant<N>> {
    static constexpr bool four = N >= 4 * LANES, one = N % (4 * LANES) >= LANES, end = N % LANES != 0;
    static constexpr bool blocks = N >= 8, steps = N < 8 || N % 4 != 0;
};

template <class Count, class F> TILE_INLINE void for_each_column(Count columns, F body) {
    long j = 0;
    for (; j + LANES <= columns; j += LANES) body(whole{j});
    if constexpr (meets<Count>::end)
        if (j < columns) body(partial{j, int(columns - j)});
}

// Folds: an operation with its identity.
struct sum { template <class T> static constexpr T identity = T(0); template <class V> TILE_INLINE V operator()(V a, V b) const { return a + b; } };
struct prod { template <class T> static constexpr T identity = T(1); template <class V> TILE_INLINE V operator()(V a, V b) const { return a * b; } };
template <class T> constexpr T lowest = sizeof(T) == 4 ? T(-2147483647 - 1) : T(-9223372036854775807L - 1);
template <> inline constexpr float lowest<float> = -__builtin_inff();
template <> inline constexpr double lowest<double> = -__builtin_inf();
template <class T> constexpr T highest = T(-1) - lowest<T>;
template <> inline constexpr float highest<float> = __builtin_inff();
template <> inline constexpr double highest<double> = __builtin_inf();
// Extrema that keep a NaN, and those for values that hold none (see max_ordered).
struct maximum_ordered { template <class T> static constexpr T identity = lowest<T>; template <class V> TILE_INLINE V operator()(V a, V b) const { return max_ordered(a, b); } };
struct minimum_ordered { template <class T> static constexpr T identity = highest<T>; template <class V> TILE_INLINE V operator()(V a, V b) const { return min_ordered(a, b); } };
struct maximum { using ordered = maximum_ordered; template <class T> static constexpr T identity = lowest<T>; template <class V> TILE_INLINE V operator()(V a, V b) const { return max(a, b); } };
struct minimum { using ordered = minimum_ordered; template <class T> static constexpr T identity = highest<T>; template <class V> TILE_INLINE V operator()(V a, V b) const { return min(a, b); } };
// Of masks.
struct any_of { template <class T> static constexpr T identity = T(0); template <class V> TILE_INLINE V operator()(V a, V b) const { return a | b; } };
struct all_of { template <class T> static constexpr T identity = T(-1); template <class V> TILE_INLINE V operator()(V a, V b) const { return a & b; } };

template <int Step, class V, int... I> TILE_INLINE V exchange_lanes(V v, indices<I...>) { return __builtin_shufflevector(v, v, (I ^ Step)...); }
template <class V, int... I> TILE_INLINE auto lower_half(V v, indices<I...>) { return __builtin_shufflevector(v, v, I...); }
template <class V, int... I> TILE_INLINE auto upper_half(V v, indices<I...>) { return __builtin_shufflevector(v, v, (I + int(sizeof...(I)))...); }

// The fold of the lanes, as a tree.
template <class Op, class V> TILE_INLINE element<V> fold_lanes(Op op, V v) {
    constexpr int L = lanes_of<V>;
    if constexpr (L > 4) {
        first_indices<L / 2> half;
        return fold_lanes(op, op(lower_half(v, half), upper_half(v, half)));
    } else {
        if constexpr (L > 2) v = op(v, exchange_lanes<2>(v, first_indices<L>()));
        v = op(v, exchange_lanes<1>(v, first_indices<L>()));
        return v[0];
    }
}

// Whether any lane of some vectors was a NaN: one comparison serves two vectors.
template <class V> struct unordered {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    static constexpr bool by_mask = is_f32_register<V>;
#else
    static constexpr bool by_mask = false;
#endif
    mask_of<V> lanes = {};
    uint32_t bits = 0;
    TILE_INLINE void see(V a, V b) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
        if constexpr (by_mask) { bits |= (unsigned short)__builtin_ia32_cmpps512_mask(a, b, 3, (short)-1, 4); return; }
#elif defined(__AVX__) && VECTOR_BYTES == 32
        if constexpr (is_f32_register<V>) { lanes |= bits_as<mask_of<V>>(__builtin_ia32_cmpps256(a, b, 3)); return; }
#endif
        lanes |= (a != a) | (b != b);
    }
    TILE_INLINE bool any() const {
        if constexpr (by_mask) return bits != 0;
#if defined(__AVX__) && VECTOR_BYTES == 32
        if constexpr (is_f32_register<V>) return __builtin_ia32_movmskps256(bits_as<V>(lanes)) != 0;
#endif
        return fold_lanes(any_of(), lanes) != 0;
    }
};
template <class Op, class V, class = void> struct keeps_nan { static constexpr bool value = false; };
template <class Op, class V> struct keeps_nan<Op, V, decltype(void(typename Op::ordered()))> { static constexpr bool value = is_float<V>; };

// The fold of one row for extrema of floats: ordered extrema, and beside them whether a NaN was met. That is two
// instructions a vector where keeping the NaN in every step takes three in a chain.
template <class Op, class Count, class F> TILE_INLINE auto fold_row_keeping_nan(Op, Count columns, F body) {
    using V = decltype(body(whole{0}));
    using E = element<V>;
    typename Op::ordered op;
    const V identity = splat_as<V>(Op::template identity<E>);
    V part[4] = {identity, identity, identity, identity};
    unordered<V> met;
    long j = 0;
    if constexpr (meets<Count>::four)
        for (; j + 4 * LANES <= columns; j += 4 * LANES) {
            V x[4];
#pragma GCC unroll 4
            for (int u = 0; u < 4; ++u) {
                x[u] = body(whole{j + u * LANES});
                part[u] = op(part[u], x[u]);
            }
            met.see(x[0], x[1]);
            met.see(x[2], x[3]);
        }
    auto one = [&](V x) __attribute__((always_inline)) {
        part[0] = op(part[0], x);
        met.see(x, x);
    };
    if constexpr (meets<Count>::one)
        for (; j + LANES <= columns; j += LANES) one(body(whole{j}));
    if constexpr (meets<Count>::end)
        if (j < columns) {
            partial end{j, int(columns - j)};
            one(select(present(end.count), body(end), identity));
        }
    const E total = fold_lanes(op, op(op(part[0], part[1]), op(part[2], part[3])));
    return met.any() ? E(__builtin_nanf("")) : total;
}

// finish(i, fold of body(i, :)) for every row. Four vectors are folded side by side where the row is long enough, so
// that the latency of the operation does not bound the loop. The order depends on `columns` and LANES only.
template <class Op, class Count, class F, class G> TILE_INLINE void fold_rows(Op op, long rows, Count columns, F body, G finish) {
    using V = decltype(body(0L, whole{0}));
    const V identity = splat_as<V>(Op::template identity<element<V>>);
    for (long i = 0; i < rows; ++i) {
        if constexpr (keeps_nan<Op, V>::value) {
            finish(i, fold_row_keeping_nan(op, columns, [&](auto j) __attribute__((always_inline)) { return body(i, j); }));
            continue;
        }
        V total = identity;
        long j = 0;
        if constexpr (meets<Count>::four)
            if (columns >= 4 * LANES) {
                V part[4] = {identity, identity, identity, identity};
                for (; j + 4 * LANES <= columns; j += 4 * LANES)
#pragma GCC unroll 4
                    for (int u = 0; u < 4; ++u) part[u] = op(part[u], body(i, whole{j + u * LANES}));
                total = op(op(part[0], part[1]), op(part[2], part[3]));
            }
        if constexpr (meets<Count>::one)
            for (; j + LANES <= columns; j += LANES) total = op(total, body(i, whole{j}));
        if constexpr (meets<Count>::end)
            if (j < columns) {
                partial end{j, int(columns - j)};
                total = op(total, select(present(end.count), body(i, end), identity));
            }
        finish(i, fold_lanes(op, total));
    }
}

// The fold of body(0), ..., body(count - 1). Four chains side by side: the latency of the operation does not bound the loop, and a sum loses
// as much as one of a quarter of the terms. The order depends on `count` only.
template <class Op, class V, class Count, class F> TILE_INLINE V fold_steps(Op op, V identity, Count count, F body) {
    V total = identity;
    long i = 0;
    if constexpr (meets<Count>::blocks)
        if (count >= 8) {
            V part[4] = {identity, identity, identity, identity};
            for (; i + 4 <= count; i += 4)
#pragma GCC unroll 4
                for (int u = 0; u < 4; ++u) part[u] = op(part[u], body(i + u));
            total = op(op(part[0], part[1]), op(part[2], part[3]));
        }
    if constexpr (meets<Count>::steps)
        for (; i < count; ++i) total = op(total, body(i));
    return total;
}

// Some vectors of a row next to each other, for what is computed once for all of them.
template <int N> struct block_of {
    template <class V> struct values { V part[N]; };
    long first;
    template <class V> TILE_INLINE values<V> all(V x) const {
        values<V> v;
#pragma GCC unroll 4
        for (int u = 0; u < N; ++u) v.part[u] = x;
        return v;
    }
    template <class F> TILE_INLINE void each(F body) const {
#pragma GCC unroll 4
        for (int u = 0; u < N; ++u) body(whole{first + u * LANES}, u);
    }
};
// Blocks of whole vectors.
template <class F> TILE_INLINE void for_each_block(long columns, F body) {
    long j = 0;
    for (; j + 4 * LANES <= columns; j += 4 * LANES) body(block_of<4>{j});
    for (; j < columns; j += LANES) body(block_of<1>{j});
}

// finish(j, fold of body(:, j)) for every position of columns.
template <class Op, class F, class G> TILE_INLINE void fold_columns(Op op, long rows, long columns, F body, G finish) {
    using V = decltype(body(0L, whole{0}));
    auto one = [&](auto j) __attribute__((always_inline)) {
        const V identity = splat_as<V>(Op::template identity<element<V>>);
        finish(j, fold_steps(op, identity, rows, [&](long i) __attribute__((always_inline)) { return body(i, j); }));
    };
    long j = 0;
    for (; j + LANES <= columns; j += LANES) one(whole{j});
    if (j < columns) one(partial{j, int(columns - j)});
}

}  // namespace tile
