// Exact functions: rounding, absolute value, extrema, square root, floor division and remainder, comparisons.
// Every function takes vectors or scalars.
#pragma once
#include "convert.hpp"

namespace tile {

template <class V> TILE_INLINE mask_of<V> sign_bit(V x) {
    using I = mask_of<V>;
    return bits_as<I>(x) & (I{} + element<I>(1ull << (8 * sizeof(element<I>) - 1)));
}
template <class V> TILE_INLINE V abs(V x) {
    if constexpr (is_vector<V> && is_float<V>) return bits_as<V>(bits_as<mask_of<V>>(x) ^ sign_bit(x));
    else if constexpr (is_vector<V>) return select(compared(less(), x, 0), -x, x);
    else if constexpr (same<V, float>) return __builtin_fabsf(x);
    else if constexpr (same<V, double>) return __builtin_fabs(x);
    else return x < 0 ? -x : x;
}
// Vectors of floats.
template <class V> TILE_INLINE V copy_sign(V magnitude, V sign) {
    return bits_as<V>(bits_as<mask_of<V>>(abs(magnitude)) | sign_bit(sign));
}

template <class V> TILE_INLINE V sqrt(V x) {
    if constexpr (same<V, float>) return __builtin_sqrtf(x);
    else if constexpr (same<V, double>) return __builtin_sqrt(x);
    else if constexpr (is_f32_register<V>) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
        return (V)__builtin_ia32_sqrtps512_mask(x, x, (short)-1, 4);
#elif defined(__AVX__) && VECTOR_BYTES == 32
        return (V)__builtin_ia32_sqrtps256(x);
#elif defined(__SSE2__) && VECTOR_BYTES == 16
        return (V)__builtin_ia32_sqrtps(x);
#endif
    }
    return map_lanes(x, [](element<V> e) { return element<V>(__builtin_sqrt(e)); });
}
template <class V> TILE_INLINE V rsqrt(V x) { return element<V>(1) / sqrt(x); }

// Rounding ----------------------------------------------------------------------------------------------------------

// To an integer, half to even. From 2^23 (2^52) on every float is one; below, adding that number drops the fraction.
template <class V> TILE_INLINE V round(V x) {
    if constexpr (!is_float<V>) return x;
    else if constexpr (!is_vector<V>) return round(splat(x))[0];
    else {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
        if constexpr (is_f32_register<V>) return (V)__builtin_ia32_rndscaleps_mask(x, 8, x, (short)-1, 4);
#elif defined(__AVX__) && VECTOR_BYTES == 32
        if constexpr (is_f32_register<V>) return (V)__builtin_ia32_roundps256(x, 8);
#endif
        constexpr element<V> unit = sizeof(element<V>) == 4 ? 0x1p23 : 0x1p52;
        V magnitude = abs(x);
        V integer = (magnitude + unit) - unit;
        return copy_sign(select(compared(less(), magnitude, unit), integer, x), x);
    }
}
template <class V> TILE_INLINE V floor(V x) {
    if constexpr (!is_float<V>) return x;
    else if constexpr (!is_vector<V>) return floor(splat(x))[0];
    else {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
        if constexpr (is_f32_register<V>) return (V)__builtin_ia32_rndscaleps_mask(x, 9, x, (short)-1, 4);
#elif defined(__AVX__) && VECTOR_BYTES == 32
        if constexpr (is_f32_register<V>) return (V)__builtin_ia32_roundps256(x, 9);
#endif
        V r = round(x);
        return select(compared(greater(), r, x), r - element<V>(1), r);
    }
}
template <class V> TILE_INLINE V ceil(V x) {
    if constexpr (!is_float<V>) return x;
    else return -floor(-x);
}
template <class V> TILE_INLINE V trunc(V x) {
    if constexpr (!is_float<V>) return x;
    else return select(x < 0, ceil(x), floor(x));
}

// Extrema -----------------------------------------------------------------------------------------------------------

// One instruction; with a NaN operand the result is either operand. For values proved not to be NaN, and for maxima
// that only shift an argument which carries the NaN itself.
template <class V> TILE_INLINE V max_ordered(V a, V b) {
    if constexpr (is_wide<V>) return chosen(compared(greater(), a, b), a, b);
    else return a > b ? a : b;
}
template <class V> TILE_INLINE V min_ordered(V a, V b) {
    if constexpr (is_wide<V>) return chosen(compared(less(), a, b), a, b);
    else return a < b ? a : b;
}
// A NaN operand is the result.
template <class V> TILE_INLINE V max(V a, V b) {
    if constexpr (is_float<V> && is_wide<V>) return chosen(compared(unequal(), a, a), a, max_ordered(a, b));
    else if constexpr (is_float<V>) return a != a ? a : max_ordered(a, b);  // max_ordered gives b when b is NaN
    else return max_ordered(a, b);
}
template <class V> TILE_INLINE V min(V a, V b) {
    if constexpr (is_float<V> && is_wide<V>) return chosen(compared(unequal(), a, a), a, min_ordered(a, b));
    else if constexpr (is_float<V>) return a != a ? a : min_ordered(a, b);
    else return min_ordered(a, b);
}
// Mixed vector and scalar operands.
template <class A, class B> TILE_INLINE auto max(A a, B b) {
    if constexpr (is_vector<A>) return max(a, splat_as<A>(element<A>(b)));
    else if constexpr (is_vector<B>) return max(splat_as<B>(element<B>(a)), b);
    else return max<decltype(a + b)>(decltype(a + b)(a), decltype(a + b)(b));
}
template <class A, class B> TILE_INLINE auto min(A a, B b) {
    if constexpr (is_vector<A>) return min(a, splat_as<A>(element<A>(b)));
    else if constexpr (is_vector<B>) return min(splat_as<B>(element<B>(a)), b);
    else return min<decltype(a + b)>(decltype(a + b)(a), decltype(a + b)(b));
}

// Division ----------------------------------------------------------------------------------------------------------

// floor(a / b). Integers: a divisor of 0 gives an unspecified value and never a trap, because dead lanes divide too.
template <class V> TILE_INLINE V floor_divide(V a, V b) {
    using E = element<V>;
    if constexpr (is_float<V>) return floor(a / b);
    else if constexpr (same<E, int32_t> && is_vector<V>)
        // Exact: a quotient that is not an integer is 2^-31 away from one, relatively, and f64 resolves 2^-53.
        return convert<int32_t>(floor(convert<double>(a) / convert<double>(b)));
    else if constexpr (is_vector<V>) return map_lanes(a, b, [](E x, E y) { return floor_divide<E>(x, y); });
    else {
        if (b == 0 || b == -1) return E(0 - uint64_t(a)) * E(b != 0);
        E q = a / b;
        return q - E((a % b != 0) & ((a < 0) != (b < 0)));
    }
}
// a - floor(a / b) * b: the sign of the divisor, so not negative for a positive one.
template <class V> TILE_INLINE V modulo(V a, V b) {
    using E = element<V>;
    if constexpr (same<E, float>) {
        auto f = [](E x, E y) { E r = __builtin_fmodf(x, y); return r != 0 && (r < 0) != (y < 0) ? r + y : r; };
        if constexpr (is_vector<V>) return map_lanes(a, b, f); else return f(a, b);
    } else if constexpr (same<E, double>) {
        auto f = [](E x, E y) { E r = __builtin_fmod(x, y); return r != 0 && (r < 0) != (y < 0) ? r + y : r; };
        if constexpr (is_vector<V>) return map_lanes(a, b, f); else return f(a, b);
    } else return a - floor_divide(a, b) * b;
}
template <class A, class B> TILE_INLINE auto floor_divide(A a, B b) {
    if constexpr (is_vector<A>) return floor_divide<A>(a, splat_as<A>(element<A>(b)));
    else if constexpr (is_vector<B>) return floor_divide<B>(splat_as<B>(element<B>(a)), b);
    else return floor_divide<decltype(a + b)>(decltype(a + b)(a), decltype(a + b)(b));
}
template <class A, class B> TILE_INLINE auto modulo(A a, B b) {
    if constexpr (is_vector<A>) return modulo<A>(a, splat_as<A>(element<A>(b)));
    else if constexpr (is_vector<B>) return modulo<B>(splat_as<B>(element<B>(a)), b);
    else return modulo<decltype(a + b)>(decltype(a + b)(a), decltype(a + b)(b));
}

}  // namespace tile
