// exp, exp2 and what is built on them: sigmoid, tanh, erf, softplus.
#pragma once
#include "logarithm.hpp"

namespace tile {

// Note [Polynomials of exp2]
// 2^x = 2^n 2^r with n = round(x), |r| <= 1/2; exp subtracts n ln 2 in two parts so that r is exact to the last place.
// The polynomials are minimax in relative error: degree 6 2.6e-9, degree 5 9.1e-8, both with the constant exactly 1, so
// exp(0) = 1 (free, degree 5 reaches 7.5e-8, but its constant is no f32 and the rounding costs more); degree 3 7.5e-5 for results that are rounded to bf16 or f16 at once. Taylor coefficients of degree 5 and 3 are 40 and
// 10 times worse. Results below 2^-126 are 0, so no denormal ever enters a product.
template <int Degree> struct exp2_polynomial;
template <> struct exp2_polynomial<6> {
    static constexpr float base2[] = {1.0f, 0x1.62e432p-1f, 0x1.ebfbe2p-3f, 0x1.c6ae72p-5f, 0x1.3b270ep-7f, 0x1.5f7266p-10f, 0x1.470b4ap-13f};
    static constexpr float base_e[] = {1.0f, 1.0f, 0x1.000002p-1f, 0x1.5553c2p-3f, 0x1.55515ep-5f, 0x1.12903ep-7f, 0x1.709b64p-10f};
};
template <> struct exp2_polynomial<5> {
    static constexpr float base2[] = {1.0f, 0x1.62e42ap-1f, 0x1.ebf9bcp-3f, 0x1.c6b752p-5f, 0x1.3cea88p-7f, 0x1.5bba14p-10f};
    static constexpr float base_e[] = {1.0f, 0x1.fffff6p-1f, 0x1.fffdc6p-2f, 0x1.555a6ap-3f, 0x1.573a54p-5f, 0x1.0fa834p-7f};
};
template <> struct exp2_polynomial<3> {
    static constexpr float base2[] = {0x1.fff692p-1f, 0x1.62f31ap-1f, 0x1.f0de1ap-3f, 0x1.c3f760p-5f};
    static constexpr float base_e[] = {0x1.fff692p-1f, 0x1.000ac2p+0f, 0x1.028a8cp-1f, 0x1.5349f8p-3f};
};

template <int Terms, class V> TILE_INLINE V horner(const float (&c)[Terms], V x) {
    V p = V{} + c[Terms - 1];
#pragma GCC unroll 8
    for (int i = Terms - 2; i >= 0; --i) p = p * x + c[i];
    return p;
}

// Adding 1.5 2^23 rounds to an integer and leaves it in the low bits; shifted up it is added to the exponent of p.
constexpr float round_to_bits = 0x1.8p23f;
template <class V> TILE_INLINE V scale_by_power(V p, V shifted) {
    return bits_as<V>(bits_as<mask_of<V>>(p) + (bits_as<mask_of<V>>(shifted) << 23));
}

// `y` for x >= limit, 0 below, NaN where x is one: the low bits of a NaN would be added to the exponent like any others.
template <class V> TILE_INLINE V zero_below(float limit, V x, V y) { return x >= limit ? y : max_ordered(V{}, x); }

// For arguments proved <= 0, as in x - max(x): no upper limit is tested. -inf gives 0, NaN stays. f32 vectors.
template <int Degree = 6, class V> TILE_INLINE V exp2_nonpositive(V x) {
    if constexpr (same<V, double>) return __builtin_exp2(x);
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_exp2(e); });
    else if constexpr (!is_vector<V>) return exp2_nonpositive<Degree>(splat(x))[0];
    else {
        V shifted = x + round_to_bits;
        V p = horner(exp2_polynomial<Degree>::base2, x - (shifted - round_to_bits));
        return zero_below(-126.0f, x, scale_by_power(p, shifted));
    }
}
template <int Degree = 6, class V> TILE_INLINE V exp_nonpositive(V x) {
    if constexpr (same<V, double>) return __builtin_exp(x);
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_exp(e); });
    else if constexpr (!is_vector<V>) return exp_nonpositive<Degree>(splat(x))[0];
    else {
        V shifted = x * 0x1.715476p+0f + round_to_bits;
        V n = shifted - round_to_bits;
        V r = x - n * 0x1.62ep-1f;  // 11 bits: exact for |n| < 2^12 without a fused multiply too
        r = r - n * 0x1.0bfbe8p-15f;
        V p = horner(exp2_polynomial<Degree>::base_e, r);
        return zero_below(-0x1.5d58ap+6f, x, scale_by_power(p, shifted));
    }
}
// exp of x - max(x): one step reduces the argument, so the error grows with |x| (4e-6 at -87) where the result is nothing beside 1. Exact at 0.
template <int Degree = 6, class V> TILE_INLINE V exp_difference(V x) {
    if constexpr (!same<element<V>, float> || !is_vector<V>) return exp_nonpositive<Degree>(x);
    else {
        V shifted = x * 0x1.715476p+0f + round_to_bits;
        V p = horner(exp2_polynomial<Degree>::base2, x * 0x1.715476p+0f - (shifted - round_to_bits));
        return zero_below(-0x1.5d58ap+6f, x, scale_by_power(p, shifted));
    }
}
template <int Degree = 6, class V> TILE_INLINE V exp2(V x) {
    if constexpr (same<V, double>) return __builtin_exp2(x);
    else if constexpr (!is_vector<V>) return exp2<Degree>(splat<float>(x))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_exp2(e); });
    else return x > 0x1.fffffep+6f ? V{} + __builtin_inff() : exp2_nonpositive<Degree>(x);
}
template <int Degree = 6, class V> TILE_INLINE V exp(V x) {
    if constexpr (same<V, double>) return __builtin_exp(x);
    else if constexpr (!is_vector<V>) return exp<Degree>(splat<float>(x))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_exp(e); });
    else return x > 0x1.62e42ep+6f ? V{} + __builtin_inff() : exp_nonpositive<Degree>(x);
}
template <class V> TILE_INLINE V expm1(V x) {
    if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_expm1(e); });
    else return map_lanes(x, [](float e) { return __builtin_expm1f(e); });
}

template <class V> TILE_INLINE V sigmoid(V x) { return element<V>(1) / (element<V>(1) + exp(-x)); }

template <class V> TILE_INLINE V tanh(V x) {
    if constexpr (same<V, double>) return __builtin_tanh(x);
    else if constexpr (!is_vector<V>) return tanh(splat<float>(x))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_tanh(e); });
    else {
        // Odd polynomial below 0.625 (Cephes), 1 - 2 / (exp(2 |x|) + 1) above.
        constexpr float c[] = {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f, 2.06390887954e-2f, -5.70498872745e-3f};
        V magnitude = abs(x), square = x * x;
        V small = horner(c, square) * square * x + x;
        V large = 1.0f - 2.0f / (exp(magnitude + magnitude) + 1.0f);
        return magnitude > 0.625f ? copy_sign(large, x) : small;
    }
}

template <class V> TILE_INLINE V erf(V x) {
    if constexpr (same<V, double>) return __builtin_erf(x);
    else if constexpr (!is_vector<V>) return erf(splat<float>(x))[0];
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_erf(e); });
    else {
        // 1 - exp(polynomial) from 0.93 on, an odd polynomial below; each minimax to one unit in the last place.
        constexpr float near[] = {1.28379166e-1f, -3.76125336e-1f, 1.12819925e-1f, -2.67681349e-2f, 4.99119423e-3f, -5.96761703e-4f};
        V t = abs(x), s = x * x;
        V small = horner(near, s) * x + x;
        V r = t * -1.72853470e-5f + 3.83197126e-4f;
        V u = t * -3.88396438e-3f + 2.42546219e-2f;
        r = r * s + u;
        r = r * t - 1.06777877e-1f;
        r = r * t - 6.34846687e-1f;
        r = r * t - 1.28717512e-1f;
        r = r * t - t;
        return t > 0.927734375f ? copy_sign(1.0f - exp_nonpositive(r), x) : small;
    }
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), which neither overflows nor cancels.
template <class V> TILE_INLINE V softplus(V x) { return max(x, element<V>(0)) + log1p(exp(-abs(x))); }

}  // namespace tile
