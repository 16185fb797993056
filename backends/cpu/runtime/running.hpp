// Folds up to a bound that moves with the result: sums, products and extrema of a growing part of a row.
#pragma once
#include "emit_support.hpp"

namespace tile {

// Note [Running folds]
// results[q] = fold of the values l < bound(q) (rising), or l >= bound(q) (falling), where the bound does not fall from one q to the next. What one
// result folds the next folds too, so every value is met once. A step waits for the one before, whatever it is computed in: sums of floats are kept in
// double. What a first result has in common with all others is folded in vectors: a tile that every result sees whole is nothing else.
template <class Op, class T> struct running_total { using type = T; };
template <> struct running_total<sum, float> { using type = double; };

template <class Op, class T> TILE_INLINE T fold_from(Op op, const T* values, long begin, long end) {
    return fold_row(op, end - begin, [&](auto j) __attribute__((always_inline)) { return load(values + begin, j); });
}

template <class Op, class T, class B>
TILE_INLINE void running_rising(Op op, const T* values, long size, T* results, long count, B bound) {
    using W = typename running_total<Op, T>::type;
    long at = count_below(bound(0), size);
    W total = at > 0 ? W(fold_from(op, values, 0, at)) : Op::template identity<W>;
    if (at == size || bound(count - 1) <= at) {
        for (long q = 0; q < count; ++q) results[q] = T(total);
        return;
    }
    for (long q = 0; q < count; ++q) {
        for (const long end = count_below(bound(q), size); at < end; ++at) total = op(total, W(values[at]));
        results[q] = T(total);
    }
}

template <class Op, class T, class B>
TILE_INLINE void running_falling(Op op, const T* values, long size, T* results, long count, B bound) {
    using W = typename running_total<Op, T>::type;
    long at = count_below(bound(count - 1), size);
    W total = at < size ? W(fold_from(op, values, at, size)) : Op::template identity<W>;
    if (at == 0 || bound(0) >= at) {
        for (long q = 0; q < count; ++q) results[q] = T(total);
        return;
    }
    for (long q = count - 1; q >= 0; --q) {
        for (const long begin = count_below(bound(q), size); at > begin;) total = op(total, W(values[--at]));
        results[q] = T(total);
    }
}

}  // namespace tile
