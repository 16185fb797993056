// What generated kernels need besides tile arithmetic: scratch memory, rows of a sweep, ragged copies, masks, dots along rows.
#pragma once
#include "gather.hpp"
#include "tile.hpp"
#include <stdlib.h>

namespace tile {

// Scratch of the calling thread, aligned to a cache line. It is kept between calls: fresh pages cost more than a small kernel.
inline char* scratch(size_t bytes) {
    static thread_local char* memory = nullptr;
    static thread_local size_t held = 0;
    if (bytes > held) {
        free(memory);
        held = (bytes + 4095) & ~size_t(4095);
        memory = (char*)aligned_alloc(4096, held);
        if (!memory) abort();
        __builtin_memset(memory, 0, held);  // padding lanes compute on numbers, whatever they are
    }
    return memory;
}

constexpr long padded(long columns) { return (columns + LANES - 1) / LANES * LANES; }
template <class A, class B> TILE_INLINE int64_t least(A a, B b) { return int64_t(a) < int64_t(b) ? int64_t(a) : int64_t(b); }
template <class A, class B> TILE_INLINE int64_t most(A a, B b) { return int64_t(a) > int64_t(b) ? int64_t(a) : int64_t(b); }
// How many of `size` positions lie below a bound.
TILE_INLINE long count_below(int64_t bound, long size) { return bound < 0 ? 0 : bound < size ? long(bound) : size; }
// A bound on a position, in 32 bits: positions are small, so whatever does not fit is beyond all of them.
TILE_INLINE int32_t saturated(int64_t bound) { return bound < -2147483647 ? -2147483647 : bound > 2147483647 ? 2147483647 : int32_t(bound); }
TILE_INLINE int32_t near(int64_t bound) { return bound < -(1 << 30) ? -(1 << 30) : bound > (1 << 30) ? 1 << 30 : int32_t(bound); }

// Rows of a sweep ------------------------------------------------------------------------------------------------------

template <class Op, class Count, class F> TILE_INLINE auto fold_row(Op op, Count columns, F body) {
    using V = decltype(body(whole{0}));
    element<V> result = Op::template identity<element<V>>;
    fold_rows(op, 1, columns, [&](long, auto j) __attribute__((always_inline)) { return body(j); },
              [&](long, element<V> total) __attribute__((always_inline)) { result = total; });
    return result;
}
// The same over the columns of a span.
template <class F> TILE_INLINE void for_each_column(span s, F body) {
    for (long j = s.begin; j < s.end; j += LANES) body(whole{j});
}
template <class Op, class F> TILE_INLINE auto fold_row(Op op, span s, F body) {
    return fold_row(op, long(s.end - s.begin), [&](auto j) __attribute__((always_inline)) {
        j.first += s.begin;
        return body(j);
    });
}
template <class T, class V> TILE_INLINE vec<T> lanes_as(V x) {
    if constexpr (is_vector<V>) return convert<T>(x);
    else return splat<T>(T(x));
}

// Masks are vectors of int32, 0 and -1, whatever was compared; a condition that is the same for all lanes is a bool.
using mask = vec<int32_t>;
template <class M> TILE_INLINE mask as_mask(M m) {
    if constexpr (is_vector<M>) return convert<int32_t>(m);
    else return mask{} - int32_t(m != 0);
}
template <class M> TILE_INLINE mask truth(M m) {
    if constexpr (is_vector<M>) return as_mask(m != 0);
    else return as_mask(m != 0);
}

// Rounding to a narrower type, back in the type of the argument.
template <class T, class V> TILE_INLINE V round_to(V x) {
    using E = element<V>;
    if constexpr (same<E, T>) return x;
    else if constexpr (same<T, bf16> && same<V, vec<float>>) return rounded_to_bf16(x);
    else if constexpr (is_vector<V>) return convert<E>(widen_vector<T>(narrow_vector<T>(x)));
    else return E(widen(narrow<T>(x)));
}

// Ragged copies --------------------------------------------------------------------------------------------------------

// to[0 .. count) = from, `step` elements apart; the rest up to `size` is the fill.
template <class From, class To>
TILE_INLINE void copy_row(To* to, const From* from, long step, long count, long size, computed_type<To> fill) {
    if (step == 1) for_each_column(count, [&](auto j) __attribute__((always_inline)) { store(to, j, load(from, j)); });
    else for (long l = 0; l < count; ++l) to[l] = narrow<To>(widen(from[l * step]));
    const To rest = narrow<To>(fill);
    for (long l = count; l < size; ++l) to[l] = rest;
}
TILE_INLINE long later(int64_t a, int64_t b) { return a > b ? long(a) : long(b); }
// The same from column `first` on: those before it are the fill too.
template <class From, class To>
TILE_INLINE void copy_row_from(int64_t first, To* to, const From* from, long step, long count, long size, computed_type<To> fill) {
    const long begin = count_below(first, size);
    const To rest = narrow<To>(fill);
    for (long l = 0; l < begin; ++l) to[l] = rest;
    copy_row(to + begin, from + begin * step, step, count > begin ? count - begin : 0, size - begin, fill);
}
// memory[l * step] = row[l] where the lane is live.
template <class T, class J, class V, class M> TILE_INLINE void store_where(T* to, long step, J j, V v, M live) {
    const mask m = as_mask(live);
    for (int l = 0; l < j.count; ++l)
        if (m[l]) {
            if constexpr (is_vector<V>) to[(j.first + l) * step] = narrow<T>(v[l]);
            else to[(j.first + l) * step] = narrow<T>(v);
        }
}
template <class T, class J, class V> TILE_INLINE void store_step(T* to, long step, J j, V v) {
    if (step == 1) store(to, j, v);
    else store(strided<T>{to, 0, step}, 0, j, v);
}
// The same for sums in memory.
template <class T, class J, class V, class M> TILE_INLINE void add_where(T* to, long step, J j, V v, M live) {
    const mask m = as_mask(live);
    for (int l = 0; l < j.count; ++l)
        if (m[l]) to[(j.first + l) * step] = narrow<T>(widen(to[(j.first + l) * step]) + v[l]);
}
template <class T, class J, class V> TILE_INLINE void add_step(T* to, long step, J j, V v) {
    if (step == 1) store(to, j, load((const T*)to, j) + v);
    else {
        const strided<T> m{to, 0, step};
        store(m, 0, j, load_apart(to, step, j.first + j.count, j) + v);
    }
}

// Products -------------------------------------------------------------------------------------------------------------

template <bool Condition, class A, class B> struct choose { using type = A; };
template <class A, class B> struct choose<false, A, B> { using type = B; };
// What products read: f16 is widened once; so is a left bf16 where the machine has no product of pairs.
template <class T> struct left_operand { using type = T; };
template <> struct left_operand<f16> { using type = float; };
template <> struct left_operand<bf16> { using type = typename choose<has_pair_product, bf16, float>::type; };
template <class T> using left_type = typename left_operand<T>::type;
template <class T> struct right_operand { using type = typename left_operand<T>::type; };
template <class T> using right_type = typename right_operand<typename plain<T>::type>::type;

// Whether a product starts or goes on may be decided at run time: with several contracted axes the first slice starts it.
template <class T> TILE_INLINE update<T> update_of(update<T> u) { return u; }

// The right operand of a product, packed in `buffer`: depth rows of an odd number of cache lines, as pairs of bf16 where the machine multiplies
// them and the depth is even, else in the type products read.
template <class T> TILE_INLINE bool packs_pairs(long depth) { return same<T, bf16> && has_pair_product && depth % 2 == 0; }
template <class T> TILE_INLINE matrix<bf16> packed_pairs(void* buffer, long width) { return {(bf16*)buffer, padded_stride<bf16>(2 * width)}; }
template <class T> TILE_INLINE matrix<right_type<T>> packed_rows(void* buffer, long width) { return {(right_type<T>*)buffer, padded_stride<right_type<T>>(width)}; }

// B given by rows [depth, columns], or by its transpose [columns, depth]. Rows: matrix or strided, or row_table.
template <template <class> class Rows, class B, class Where = everywhere> void pack(long columns, long depth, Rows<B> b, void* buffer, Where where = {}) {
    using T = typename plain<B>::type;
    const long width = padded(columns);
    if constexpr (same<T, bf16> && has_pair_product)
        if (packs_pairs<T>(depth)) return pack_pairs(depth, columns, b, packed_pairs<T>(buffer, width), width);
    const auto packed = packed_rows<T>(buffer, width);
    const span read = where.depths(depth);
    copy(read.end - read.begin, columns, b.from(read.begin), packed.from(read.begin));
}
template <template <class> class Rows, class B, class Where = everywhere> void pack_transposed(long columns, long depth, Rows<B> b, void* buffer, Where where = {}) {
    using T = typename plain<B>::type;
    const long width = padded(columns);
    if constexpr (same<T, bf16> && has_pair_product)
        if (packs_pairs<T>(depth)) return transpose_pairs(columns, depth, b, packed_pairs<T>(buffer, width), width);
    const auto packed = packed_rows<T>(buffer, width);
    const span read = where.columns(columns);
    const long some = read.end - read.begin;
    transpose(some, depth, b.from(read.begin), matrix<right_type<B>>{packed.data + read.begin, packed.stride}, Where::is_everywhere ? width : some);
}
// C = A B with a packed B of elements T.
template <class T, class How, class A, class C, class Where = everywhere>
TILE_INLINE void product_packed(How how, long rows, long columns, long depth, strided<A> a, void* buffer, matrix<C> c, Where where = {}) {
    const long width = padded(columns);
    if constexpr (same<T, bf16> && has_pair_product)
        if (packs_pairs<T>(depth)) return product_pairs(how, rows, width, depth / 2, a, matrix<const bf16>(packed_pairs<T>(buffer, width)), c, where);
    product(how, rows, width, depth, a, matrix<const right_type<T>>(packed_rows<T>(buffer, width)), c, where);
}
// Rows that are read once are fetched this many bytes ahead: AVX2, one core, 32k keys of 128: 11.4 GB/s with, 9.0 without.
constexpr long fetch_ahead = 2048;

template <int N> struct together { static constexpr int count = N; };
// Sums of products along rows: C[i, j] = sum of A[i, k] B[j, k], for R rows of A. For few rows, where a transpose of B would
// cost more than it saves: B is read once and in order.
template <int R, class How, class A, class B, class C>
void product_rows_with_rows(How how, long columns, long depth, matrix<A> a, matrix<B> b, matrix<C> c) {
    using TA = typename plain<A>::type;
    using TB = typename plain<B>::type;
    const update<C> u = update_of<C>(how);
    auto some = [&](long j, auto n_rows) __attribute__((always_inline)) {
        constexpr int N = decltype(n_rows)::count;  // rows of B at a time, for independent sums
        vec<C> total[R][N] = {};
        auto step = [&](auto k) __attribute__((always_inline)) {
            vec<C> row[N];
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                row[n] = convert<C>(load((const TB*)b.row(j + n), k));
                __builtin_prefetch(b.row(j + n) + fetch_ahead / long(sizeof(TB)) + k.first);
            }
#pragma GCC unroll 4
            for (int i = 0; i < R; ++i) {
                const vec<C> left = convert<C>(load((const TA*)a.row(i), k));
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) total[i][n] += left * row[n];
            }
        };
        for_each_column(depth, step);
#pragma GCC unroll 4
        for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n)
                c(i, j + n) = (u.reads ? c(i, j + n) * (u.scale ? u.scale[i] : C(1)) : C(0)) + fold_lanes(sum(), total[i][n]);
    };
    long j = 0;
    for (; j + 2 <= columns; j += 2) some(j, together<2>());
    if (j < columns) some(j, together<1>());
}
// C = A B for R rows of A, reading B row by row as it lies in memory: a tile that is used once comes from memory, and there a walk
// down its columns is slow. C stays in the first cache level; several rows of B are added at a time. Whole vectors of columns.
template <int R, class How, class A, class B, class C>
void product_few_rows(How how, long columns, long depth, strided<A> a, matrix<B> b, matrix<C> c) {
    using TB = typename plain<B>::type;
    const update<C> u = update_of<C>(how);
    for (long i = 0; i < R; ++i)
        for (long j = 0; j < columns; j += LANES)
            store(c.row(i), whole{j}, u.reads ? load((const C*)c.row(i), whole{j}) * (u.scale ? u.scale[i] : C(1)) : vec<C>{});
    auto some = [&](long k, auto n_rows) __attribute__((always_inline)) {
        constexpr int N = decltype(n_rows)::count;
        vec<C> left[R][N];
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) left[i][n] = splat<C>(C(widen(a(i, k + n))));
        for (long j = 0; j < columns; j += LANES) {
            vec<C> row[N];
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                row[n] = convert<C>(load((const TB*)b.row(k + n), whole{j}));
                __builtin_prefetch(b.row(k + n) + fetch_ahead / long(sizeof(TB)) + j);
            }
#pragma GCC unroll 8
            for (int i = 0; i < R; ++i) {
                vec<C> total = load((const C*)c.row(i), whole{j});
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) total += left[i][n] * row[n];
                store(c.row(i), whole{j}, total);
            }
        }
    };
    constexpr int N = 8 / R;  // the left factors fill half of 16 registers
    long k = 0;
    for (; k + N <= depth; k += N) some(k, together<N>());
    for (; k < depth; ++k) some(k, together<1>());
}
// Any strides of C and B: for results whose axes lie in another order.
template <class A, class B, class C> void product_strided(long rows, long columns, long depth, strided<A> a, strided<B> b, strided<C> c, bool accumulates) {
    for (long i = 0; i < rows; ++i)
        for (long j = 0; j < columns; ++j) {
            C total = accumulates ? c(i, j) : C(0);
            for (long k = 0; k < depth; ++k) total += C(widen(a(i, k))) * C(widen(b(k, j)));
            c(i, j) = total;
        }
}

// uniform(seed, coordinates): Philox 4x32-10, the coordinates are the counter, the upper 24 bits of the first word the number.
TILE_INLINE double uniform(int64_t seed, int64_t c0, int64_t c1 = 0, int64_t c2 = 0, int64_t c3 = 0) {
    uint32_t x0 = uint32_t(c0), x1 = uint32_t(c1), x2 = uint32_t(c2), x3 = uint32_t(c3);
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(uint64_t(seed) >> 32);
    for (int r = 0; r < 10; ++r) {
        const uint64_t p0 = uint64_t(x0) * 0xD2511F53u, p1 = uint64_t(x2) * 0xCD9E8D57u;
        x0 = uint32_t(p1 >> 32) ^ x1 ^ k0;
        x2 = uint32_t(p0 >> 32) ^ x3 ^ k1;
        x1 = uint32_t(p1);
        x3 = uint32_t(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return double(x0 >> 8) * 0x1p-24;
}
// Lane l of an integer that may be the same for all lanes.
template <class V> TILE_INLINE int64_t lane(V v, int l) {
    if constexpr (is_vector<V>) return int64_t(v[l]);
    else return int64_t(v);
}
template <class T, class... V> TILE_INLINE vec<T> uniform_lanes(V... coordinates) {
    vec<T> r;
    for (int l = 0; l < LANES; ++l) r[l] = T(uniform(lane(coordinates, l)...));
    return r;
}

}  // namespace tile
