// sin and cos.
#pragma once
#include "logarithm.hpp"

namespace tile {

// x = quadrant pi/2 + rest in f64. pi/2 is split so that its first part times quadrant is exact below 2^20; larger
// arguments go to the C library.
constexpr float largest_reduced = 1e6f;
template <class V> struct angle { V rest; mask_of<V> quadrant; };
template <class V> TILE_INLINE angle<V> reduce_angle(V x) {
    using D = vec<double, lanes_of<V>>;
    D d = convert<double>(x);
    D shifted = d * 6.36619772367581382433e-01 + 0x1.8p52;
    D n = shifted - 0x1.8p52;
    D rest = d - n * 1.57079632673412561417e+00;
    rest = rest - n * 6.07710050650619224932e-11;
    return {convert<float>(rest), convert<int32_t>(bits_as<mask_of<D>>(shifted) & 3)};
}
// Cephes, |r| <= pi/4
template <class V> TILE_INLINE V sin_near(V r) {
    V s = r * r;
    V p = s * -1.9515295891e-4f + 8.3321608736e-3f;
    p = p * s - 1.6666654611e-1f;
    return p * s * r + r;
}
template <class V> TILE_INLINE V cos_near(V r) {
    V s = r * r;
    V p = s * 2.443315711809948e-5f - 1.388731625493765e-3f;
    p = p * s + 4.166664568298827e-2f;
    return p * s * s + (1.0f - 0.5f * s);
}
template <class V> TILE_INLINE bool any_lane(V mask) {
    element<V> bits = 0;
    for (int l = 0; l < lanes_of<V>; ++l) bits |= mask[l];
    return bits != 0;
}
template <class V> TILE_INLINE V sin_from(V x, int quarter_turns) {
    auto [r, quadrant] = reduce_angle(x);
    quadrant = quadrant + quarter_turns;
    V y = (quadrant & 1) != 0 ? cos_near(r) : sin_near(r);
    return bits_as<V>(bits_as<mask_of<V>>(y) ^ ((quadrant & 2) << 30));
}

template <class V> TILE_INLINE V sin(V x) {
    if constexpr (same<V, double>) return __builtin_sin(x);
    else if constexpr (!is_vector<V>) return __builtin_sinf(x);
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_sin(e); });
    else if (__builtin_expect(any_lane(abs(x) > largest_reduced), 0)) return map_lanes(x, [](float e) { return __builtin_sinf(e); });
    else return sin_from(x, 0);
}
template <class V> TILE_INLINE V cos(V x) {
    if constexpr (same<V, double>) return __builtin_cos(x);
    else if constexpr (!is_vector<V>) return __builtin_cosf(x);
    else if constexpr (same<element<V>, double>) return map_lanes(x, [](double e) { return __builtin_cos(e); });
    else if (__builtin_expect(any_lane(abs(x) > largest_reduced), 0)) return map_lanes(x, [](float e) { return __builtin_cosf(e); });
    else return sin_from(x, 1);
}

}  // namespace tile
