// Vectors of LANES elements, masks, loads and stores of whole and partial vectors.
//
// Note [One lane count]
// Every vector of a kernel has the same number of lanes, VECTOR_BYTES / 4, whatever its element: f32 fills one register,
// f64 and i64 take two, bf16 is widened to f32 when loaded. So values of different types meet in one expression without
// repacking, and a loop over columns has one step. The compiler splits the wide ones.
//
// Flags: -std=gnu++17 -O2 (as fast as -O3, compiled in two thirds of the time), -DVECTOR_BYTES=64|32|16,
// -ffp-contract=fast (a * b + c becomes one instruction where the machine has it), -fno-math-errno -fno-trapping-math,
// and never -ffast-math: NaN and -inf are values here.
#pragma once
#include <stdint.h>

#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16
#endif
#define TILE_INLINE __attribute__((always_inline)) inline

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed by inlined functions only

namespace tile {

constexpr int LANES = VECTOR_BYTES / 4;

template <class T, int L> struct vector_type { typedef T type __attribute__((vector_size(sizeof(T) * L))); };
template <class T, int L = LANES> using vec = typename vector_type<T, L>::type;

template <class T> T&& made();
template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;
template <class T> struct plain { using type = T; };
template <class T> struct plain<T&> { using type = T; };
template <class T> struct plain<const T> { using type = T; };
template <class T> struct plain<const T&> { using type = T; };

template <class V, class = void> struct vector_traits {
    using element = V;
    static constexpr int lanes = 1;
    static constexpr bool is_vector = false;
};
template <class V> struct vector_traits<V, decltype(void(made<V&>()[0]))> {
    using element = typename plain<decltype(made<V&>()[0])>::type;
    static constexpr int lanes = sizeof(V) / sizeof(element);
    static constexpr bool is_vector = true;
};
template <class V> using element = typename vector_traits<V>::element;
template <class V> constexpr int lanes_of = vector_traits<V>::lanes;
template <class V> constexpr bool is_vector = vector_traits<V>::is_vector;
template <class V> constexpr bool is_float = same<element<V>, float> || same<element<V>, double>;
template <class V> constexpr bool is_f32_register = same<element<V>, float> && is_vector<V> && sizeof(V) == VECTOR_BYTES;

template <int... I> struct indices {};
template <int N> using first_indices = indices<__integer_pack(N)...>;

template <class T, int L = LANES> TILE_INLINE vec<T, L> splat(T x) { return x - vec<T, L>{}; }
// x as its type holds it: no multiply-add takes in the product behind it.
template <class V> TILE_INLINE V rounded(V x) {
#if defined(__GNUC__) && !defined(__clang__)
    return __builtin_assoc_barrier(x);
#else
    return x;
#endif
}
template <class V> TILE_INLINE V splat_as(element<V> x) {
    if constexpr (is_vector<V>) return x - V{};  // x - 0 is x for every x, -0 and NaN included
    else return x;
}
template <class To, class From> TILE_INLINE To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    __builtin_memcpy(&y, &x, sizeof y);
    return y;
}
template <class To, class V> TILE_INLINE auto convert(V x) {
    if constexpr (same<To, element<V>>) return x;
    else if constexpr (is_vector<V>) return __builtin_convertvector(x, vec<To, lanes_of<V>>);
    else return To(x);
}

// f(x[0]), f(x[1]), ...: for functions that are rare enough to call the C library lane by lane.
template <class V, class F> TILE_INLINE V map_lanes(V x, F f) {
    element<V> lane[lanes_of<V>];
    __builtin_memcpy(lane, &x, sizeof x);
#pragma GCC unroll 1
    for (int l = 0; l < lanes_of<V>; ++l) lane[l] = f(lane[l]);
    __builtin_memcpy(&x, lane, sizeof x);
    return x;
}
template <class V, class F> TILE_INLINE V map_lanes(V x, V y, F f) {
    element<V> lane[lanes_of<V>], other[lanes_of<V>];
    __builtin_memcpy(lane, &x, sizeof x);
    __builtin_memcpy(other, &y, sizeof y);
#pragma GCC unroll 1
    for (int l = 0; l < lanes_of<V>; ++l) lane[l] = f(lane[l], other[l]);
    __builtin_memcpy(&x, lane, sizeof x);
    return x;
}

// Masks -------------------------------------------------------------------------------------------------------------

// A comparison of vectors gives a mask: an integer vector of 0 and -1 as wide as what was compared.
template <class V> struct mask_type { using type = decltype(made<V>() < made<V>()); };
template <class V> using mask_of = typename mask_type<V>::type;
template <class V, class M> TILE_INLINE mask_of<V> mask_as(M m) {
    if constexpr (same<M, bool> || !is_vector<M>) return mask_of<V>{} - element<mask_of<V>>(m != 0);
    else return convert<element<mask_of<V>>>(m);
}

// Note [Wide vectors]
// GCC does arithmetic in vectors of two registers register by register, but compares and chooses in them lane by lane. So halves are
// compared, and bits chosen.
template <class V> constexpr bool is_wide = is_vector<V> && sizeof(V) > VECTOR_BYTES;
struct less { template <class V> TILE_INLINE auto operator()(V a, V b) const { return a < b; } };
struct less_equal { template <class V> TILE_INLINE auto operator()(V a, V b) const { return a <= b; } };
struct greater { template <class V> TILE_INLINE auto operator()(V a, V b) const { return a > b; } };
struct greater_equal { template <class V> TILE_INLINE auto operator()(V a, V b) const { return a >= b; } };
struct equal { template <class V> TILE_INLINE auto operator()(V a, V b) const { return a == b; } };
struct unequal { template <class V> TILE_INLINE auto operator()(V a, V b) const { return a != b; } };
template <class Op, class V, class B> TILE_INLINE mask_of<V> compared(Op op, V a, B b) {
    if constexpr (!is_vector<B>) return compared(op, a, splat_as<V>(element<V>(b)));
    else if constexpr (!is_wide<V>) return op(a, b);
    else {
        struct halves { vec<element<V>, lanes_of<V> / 2> low, high; };
        const auto x = bits_as<halves>(a), y = bits_as<halves>(b);
        struct { mask_of<decltype(x.low)> low, high; } found = {op(x.low, y.low), op(x.high, y.high)};
        return bits_as<mask_of<V>>(found);
    }
}
template <class V> TILE_INLINE V chosen(mask_of<V> mask, V a, V b) {
    if constexpr (is_wide<V>) return bits_as<V>((bits_as<mask_of<V>>(a) & mask) | (bits_as<mask_of<V>>(b) & ~mask));
    else return mask ? a : b;
}
// a where the mask holds, else b. Mask and operands may be scalars; a mask of another width is converted.
template <class M, class A, class B> TILE_INLINE auto select(M mask, A a, B b) {
    if constexpr (is_vector<A> && is_vector<B>) return chosen(mask_as<A>(mask), a, b);
    else if constexpr (is_vector<A>) return chosen(mask_as<A>(mask), a, splat_as<A>(element<A>(b)));
    else if constexpr (is_vector<B>) return chosen(mask_as<B>(mask), splat_as<B>(element<B>(a)), b);
    else if constexpr (is_vector<M>) {
        using V = vec<A, lanes_of<M>>;
        return chosen(mask_as<V>(mask), splat_as<V>(a), splat_as<V>(A(b)));
    } else return mask ? a : A(b);
}

// Columns -----------------------------------------------------------------------------------------------------------

// Where a vector stands in a row: LANES columns, or the last `count` of a row whose length LANES does not divide.
struct whole { long first; static constexpr int count = LANES; };
struct partial { long first; int count; };
template <class J> TILE_INLINE vec<int32_t> columns(J j) {  // the column of each lane
    vec<int32_t> c;
    for (int l = 0; l < LANES; ++l) c[l] = l;
    return c + int32_t(j.first);
}
TILE_INLINE vec<int32_t> present(int count) { return columns(whole{0}) < count; }

// Loads and stores --------------------------------------------------------------------------------------------------

template <class V, class T> TILE_INLINE V load_raw(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
template <class V, class T> TILE_INLINE void store_raw(T* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

// The first `count` elements, zeros after them; memory behind them is not touched.
template <class V> TILE_INLINE V load_prefix(const element<V>* p, int count) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    if constexpr (sizeof(V) == 64 && lanes_of<V> == 16) {
        typedef float f __attribute__((vector_size(64)));
        return bits_as<V>((f)__builtin_ia32_loadups512_mask((const float*)p, f{}, (unsigned short)((1u << count) - 1)));
    }
#elif defined(__AVX2__) && VECTOR_BYTES == 32
    if constexpr (sizeof(V) == 32 && lanes_of<V> == 8) {
        typedef int v8 __attribute__((vector_size(32)));
        return bits_as<V>((v8)__builtin_ia32_maskloadd256((const v8*)p, (v8)present(count)));
    }
#endif
    element<V> lane[lanes_of<V>] = {};
#pragma GCC unroll 1
    for (int l = 0; l < count; ++l) lane[l] = p[l];
    return load_raw<V>(lane);
}
template <class V> TILE_INLINE void store_prefix(element<V>* p, V v, int count) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    if constexpr (sizeof(V) == 64 && lanes_of<V> == 16) {
        typedef float f __attribute__((vector_size(64)));
        return __builtin_ia32_storeups512_mask((float*)p, bits_as<f>(v), (unsigned short)((1u << count) - 1));
    }
#elif defined(__AVX2__) && VECTOR_BYTES == 32
    if constexpr (sizeof(V) == 32 && lanes_of<V> == 8) {
        typedef int v8 __attribute__((vector_size(32)));
        return __builtin_ia32_maskstored256((v8*)p, (v8)present(count), bits_as<v8>(v));
    }
#endif
    element<V> lane[lanes_of<V>];
    store_raw(lane, v);
#pragma GCC unroll 1
    for (int l = 0; l < count; ++l) p[l] = lane[l];
}

}  // namespace tile
