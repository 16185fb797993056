// log, log2 and log1p.
#pragma once
#include "arithmetic.hpp"

namespace tile {

// x = 2^exponent (1 + fraction) with 1 + fraction in [sqrt(1/2), sqrt(2)); numbers below 2^-126 are scaled up first.
template <class V> struct split_number { V exponent, fraction; };
template <class V> TILE_INLINE split_number<V> split_at_root_half(V x) {
    using I = mask_of<V>;
    I low = x < 0x1p-126f;
    I bits = bits_as<I>(low ? x * 0x1p23f : x);
    I exponent = (bits - 0x3f3504f3) >> 23;
    V mantissa = bits_as<V>(bits - (exponent << 23));
    return {convert<float>(exponent + (low & -23)), mantissa - 1.0f};
}
// log(1 + f) - f, f in [sqrt(1/2) - 1, sqrt(2) - 1] (Cephes logf)
template <class V> TILE_INLINE V log_correction(V f) {
    V p = f * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    V square = f * f;
    return p * f * square - 0.5f * square;
}
// log(0) = -inf, log of a negative number or NaN is NaN, log(inf) = inf
template <class V> TILE_INLINE V log_limits(V x, V result) {
    result = x == __builtin_inff() ? x : result;
    result = x == 0.0f ? V{} - __builtin_inff() : result;
    return x >= 0.0f ? result : V{} + __builtin_nanf("");
}

template <class V> TILE_INLINE V log(V x) {
    if constexpr (same<V, double>) return __builtin_log(x);
    else if constexpr (!is_vector<V>) return log(splat<float>(x))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_log(e); });
    else {
        auto [n, f] = split_at_root_half(x);
        V low = log_correction(f) - n * 2.12194440e-4f;  // ln 2 = 0.693359375 - 2.12194440e-4
        return log_limits(x, f + low + n * 0.693359375f);
    }
}
template <class V> TILE_INLINE V log2(V x) {
    if constexpr (same<V, double>) return __builtin_log2(x);
    else if constexpr (!is_vector<V>) return log2(splat<float>(x))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_log2(e); });
    else {
        auto [n, f] = split_at_root_half(x);
        V c = log_correction(f);  // log2(e) = 1 + 0.44269504: the smaller products are added first
        V low = c * 0.44269504089f + f * 0.44269504089f + c;
        return log_limits(x, low + f + n);
    }
}
// log(u) + (y - (u - 1)) / u with u = 1 + y: the second term is what the rounding of u lost
template <class V> TILE_INLINE V log1p(V y) {
    if constexpr (same<V, double>) return __builtin_log1p(y);
    else if constexpr (!is_vector<V>) return log1p(splat<float>(y))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(y, [](double e) { return __builtin_log1p(e); });
    else {
        V u = y + 1.0f;
        V result = log(u) + (y - (u - 1.0f)) / u;
        result = u == 1.0f ? y : result;
        return select(u == __builtin_inff(), u, select(u == 0.0f, -__builtin_inff(), result));
    }
}

}  // namespace tile
