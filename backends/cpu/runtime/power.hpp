// Powers: products for small whole exponents, roots for halves, and 2^(y log2 |x|) for the others.
#pragma once
#include "exponential.hpp"

namespace tile {

// x^n for a small n >= 0, by squaring. Inlined with a constant no loop is left.
template <class V> TILE_INLINE V whole_power(V x, int n) {
    if (n == 0) return splat_as<V>(1);
    while (n % 2 == 0) {
        x *= x;
        n /= 2;
    }
    V result = x;
    while (n /= 2) {
        x *= x;
        if (n % 2) result *= x;
    }
    return result;
}
template <int N, class V> TILE_INLINE V power(V x) {
    if constexpr (N < 0) return element<V>(1) / whole_power(x, -N);
    else return whole_power(x, N);
}
// x^n of integers by squaring; it wraps, and below n = 0 it is the inverse cut off: 0, or x for 1 and -1.
TILE_INLINE int64_t integer_power(int64_t x, int64_t n) {
    if (n < 0) return x == 1 ? 1 : x == -1 ? (n % 2 ? -1 : 1) : 0;
    uint64_t result = 1, square = uint64_t(x);
    for (; n; n /= 2, square *= square)
        if (n % 2) result *= square;
    return int64_t(result);
}
template <class A, class B> TILE_INLINE auto integer_power(A x, B n) {
    if constexpr (is_vector<A> && is_vector<B>) return map_lanes(x, n, [](int64_t a, int64_t b) { return integer_power(a, b); });
    else if constexpr (is_vector<A>) return integer_power(x, splat_as<A>(int64_t(n)));
    else if constexpr (is_vector<B>) return integer_power(splat_as<B>(int64_t(x)), n);
    else return integer_power(int64_t(x), int64_t(n));
}
// x^(N/2) for an odd N. The root of -0 is +0 and that of -inf inf, as the power's.
template <int N, class V> TILE_INLINE V half_power(V x) {
    using E = element<V>;
    const V root = select(x == E(-__builtin_inf()), E(__builtin_inf()), sqrt(x + E(0)));
    if constexpr (N < 0) return E(1) / (whole_power(abs(x), -N / 2) * root);
    else return whole_power(abs(x), N / 2) * root;
}

// Note [Powers in two precisions]
// An error of log2 |x| counts y times in the result, so the logarithm and its product with y are f64: 2 atanh(s) with s = f / (2 + f),
// |s| < 0.172, whose series to s^13 is good to 3e-12, and the product is at most 150 where the result is finite. What is left of it
// after the nearest whole number is at most 1/2, and f32 is enough: within 1.5 units of the last place for all x and y. Every special value is
// that of IEEE 754, and small results are denormal numbers. AVX2: 4.9 ns an element where powf, lane by lane, takes 9.0 and exp 0.47.
// By halves, which fill a register as f64; GCC itself widens two lanes at a time.
template <class V> struct halves_of { vec<float, lanes_of<V> / 2> low, high; };
template <class H> TILE_INLINE auto widened(H x) {
    using D = vec<double, lanes_of<H>>;
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return (D)__builtin_ia32_cvtps2pd512_mask(x, D{}, -1, 4);
#elif defined(__AVX__) && VECTOR_BYTES == 32
    return (D)__builtin_ia32_cvtps2pd256(x);
#else
    return __builtin_convertvector(x, D);
#endif
}
// A shuffle: two stores of halves would be waited for by the load of the whole.
template <class H, int... I> TILE_INLINE auto joined(H low, H high, indices<I...>) { return __builtin_shufflevector(low, high, I...); }
template <class D> TILE_INLINE auto narrowed(D low, D high) { return joined(convert<float>(low), convert<float>(high), first_indices<2 * lanes_of<D>>()); }
template <class H> TILE_INLINE auto log2_in_double(H exponent, H fraction) {
    constexpr double unit = 2.8853900817779268;  // 2 / ln 2
    const auto f = widened(fraction);
    const auto s = f / (f + 2.0), square = s * s;
    auto p = square * (unit / 13) + unit / 11;
    p = p * square + unit / 9;
    p = p * square + unit / 7;
    p = p * square + unit / 5;
    p = p * square + unit / 3;
    p = p * square + unit;
    return p * s + widened(exponent);
}
template <class V> V general_power(V x, V y) {
    using I = mask_of<V>;
    using H = halves_of<V>;
    const V magnitude = abs(x);
    auto [exponent, fraction] = split_at_root_half(magnitude);
    exponent = magnitude == 0.0f ? V{} - __builtin_inff() : exponent;
    exponent = magnitude == __builtin_inff() ? magnitude : exponent;
    const auto e = bits_as<H>(exponent), f = bits_as<H>(fraction), z = bits_as<H>(y);
    const auto low = widened(z.low) * log2_in_double(e.low, f.low), high = widened(z.high) * log2_in_double(e.high, f.high);
    const V rough = narrowed(low, high), n = round(rough);
    const auto m = bits_as<H>(n);
    const V rest = narrowed(low - widened(m.low), high - widened(m.high));
    const V p = horner(exp2_polynomial<6>::base2, rest);
    const I whole = bits_as<I>((rough > -160.0f && rough < 160.0f ? n : V{}) + round_to_bits) - bits_as<I>(V{} + round_to_bits);
    const I half = whole >> 1;  // 2^n in two steps: one would leave the range of exponents where results are denormal or above 2^127
    V result = p * bits_as<V>((half + 127) << 23) * bits_as<V>((whole - half + 127) << 23);
    result = rough >= 160.0f ? V{} + __builtin_inff() : result;
    result = rough <= -160.0f ? V{} : result;
    result = magnitude == 1.0f ? V{} + 1.0f : result;
    result = x < 0.0f && magnitude != __builtin_inff() && round(y) != y ? V{} + __builtin_nanf("") : result;
    const I odd = convert<int32_t>(abs(y) < 0x1p24f ? y : V{}) << 31;  // all larger ones are even
    result = bits_as<V>(bits_as<I>(result) ^ (sign_bit(x) & (round(y) == y ? odd : I{})));
    result = x == x ? result : x;
    return y == 0.0f ? V{} + 1.0f : result;
}
template <class V> TILE_INLINE V pow(V x, V y) {
    if constexpr (same<V, double>) return __builtin_pow(x, y);
    else if constexpr (same<V, float>) return __builtin_powf(x, y);
    else if constexpr (same<element<V>, double>) return map_lanes(x, y, [](double a, double b) { return __builtin_pow(a, b); });
    else if constexpr (VECTOR_BYTES < 32) return map_lanes(x, y, [](float a, float b) { return __builtin_powf(a, b); });  // two lanes of f64 are slower
    else return general_power(x, y);
}
// An exponent that all lanes share: whether it is whole is asked for once a vector, and the answer is always the same. The products
// of a fourth power lose 1.5 units of the last place.
constexpr int most_products = 4;
template <class V, class E> TILE_INLINE V pow_shared(V x, E y) {
    const int n = y >= -most_products && y <= most_products ? int(y) : 0;
    if (n == y) {
        const V product = whole_power(x, n < 0 ? -n : n);
        return n < 0 ? E(1) / product : product;
    }
    return pow(x, splat_as<V>(y));
}
template <class A, class B> TILE_INLINE auto pow(A x, B y) {
    if constexpr (is_vector<A>) return pow_shared(x, element<A>(y));
    else if constexpr (is_vector<B>) return pow<B>(splat_as<B>(element<B>(x)), y);
    else return pow<decltype(x + y)>(x, y);
}

}  // namespace tile
