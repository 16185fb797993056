// Stored and computed types: bf16 and f16 are storage and are computed in f32; small integers and bool in int32.
#pragma once
#include "vector.hpp"

namespace tile {

struct bf16 { uint16_t bits; };
struct f16 { uint16_t bits; };

template <class T> struct computed { using type = T; };
template <> struct computed<bf16> { using type = float; };
template <> struct computed<f16> { using type = float; };
template <> struct computed<bool> { using type = int32_t; };
template <> struct computed<uint8_t> { using type = int32_t; };
template <> struct computed<int8_t> { using type = int32_t; };
template <> struct computed<int16_t> { using type = int32_t; };
template <class T> struct computed<const T> : computed<T> {};
template <class T> using computed_type = typename computed<T>::type;

using halves = vec<uint16_t>;
using words = vec<uint32_t>;

// One instruction, where the compiler's own conversion takes four: 30 % of a product that reads bf16.
TILE_INLINE words words_from(halves h) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return (words)__builtin_ia32_pmovzxwd512_mask((vec<short>)h, vec<int32_t>{}, (short)-1);
#elif defined(__AVX2__) && VECTOR_BYTES == 32
    return (words)__builtin_ia32_pmovzxwd256((vec<short>)h);
#else
    return convert<uint32_t>(h);
#endif
}
TILE_INLINE vec<float> f32_from_bf16(halves h) { return bits_as<vec<float>>(words_from(h) << 16); }

// Round to nearest even; a NaN keeps its sign and upper bits and becomes quiet. The instruction of AVX512-BF16 takes
// numbers below 1.2e-38 as 0, the integer code does not.
TILE_INLINE halves bf16_from_f32(vec<float> x) {
#if defined(__AVX512BF16__) && VECTOR_BYTES == 64
    return bits_as<halves>(__builtin_ia32_cvtneps2bf16_v16sf(x));
#else
    words u = bits_as<words>(x);
    words rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    words quiet = (u >> 16) | 0x40u;
    return convert<uint16_t>(x == x ? rounded : quiet);
#endif
}

// The same in f32: no packing and unpacking where the rounded value stays in a register.
TILE_INLINE vec<float> rounded_to_bf16(vec<float> x) {
#if defined(__AVX512BF16__) && VECTOR_BYTES == 64
    return f32_from_bf16(bf16_from_f32(x));
#else
    words u = bits_as<words>(x);
    words rounded = u + 0x7fffu + ((u >> 16) & 1u);
    return bits_as<vec<float>>((x == x ? rounded : u | 0x400000u) & 0xffff0000u);
#endif
}

TILE_INLINE vec<float> f32_from_f16(halves h) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return (vec<float>)__builtin_ia32_vcvtph2ps512_mask((vec<short>)h, vec<float>{}, (short)-1, 4);
#elif defined(__F16C__) && VECTOR_BYTES == 32
    return (vec<float>)__builtin_ia32_vcvtph2ps256((vec<short>)h);
#else
    words w = convert<uint32_t>(h), sign = (w & 0x8000u) << 16, magnitude = w & 0x7fffu;
    words normal = (magnitude << 13) + (112u << 23);               // exponent bias 15 to 127
    words special = normal + (112u << 23);                         // inf and NaN
    vec<float> tiny = __builtin_convertvector((vec<int32_t>)magnitude, vec<float>) * 0x1p-24f;
    words u = magnitude >= 0x7c00u ? special : magnitude >= 0x400u ? normal : bits_as<words>(tiny);
    return bits_as<vec<float>>(u | sign);
#endif
}
TILE_INLINE halves f16_from_f32(vec<float> x) {
#if defined(__AVX512F__) && VECTOR_BYTES == 64
    return (halves)__builtin_ia32_vcvtps2ph512_mask(x, 0, vec<short>{}, (short)-1);
#elif defined(__F16C__) && VECTOR_BYTES == 32
    return (halves)__builtin_ia32_vcvtps2ph256(x, 0);
#else
    words u = bits_as<words>(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    words normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    normal = normal > 0x7c00u ? words{} + 0x7c00u : normal;        // 65520 and more is inf
    // Adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded to nearest even by the addition.
    words tiny = bits_as<words>(bits_as<vec<float>>(magnitude) + 0.5f) - 0x3f000000u;
    words nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    words h = magnitude > 0x7f800000u ? nan : magnitude < (113u << 23) ? tiny : normal;
    return convert<uint16_t>(h | sign);
#endif
}

TILE_INLINE float f32_from(bf16 x) { return bits_as<float>(uint32_t(x.bits) << 16); }
TILE_INLINE float f32_from(f16 x) { return f32_from_f16(halves{} + x.bits)[0]; }

// One element in its computed type, and back.
template <class T> TILE_INLINE auto widen(T x) {
    if constexpr (same<T, bf16> || same<T, f16>) return f32_from(x);
    else return computed_type<T>(x);
}
template <class T, class S> TILE_INLINE T narrow(S x) {
    if constexpr (same<T, bf16>) return bf16{bf16_from_f32(splat<float>(x))[0]};
    else if constexpr (same<T, f16>) return f16{f16_from_f32(splat<float>(x))[0]};
    else if constexpr (same<T, bool>) return x != 0;
    else return T(x);
}

// The stored vector as computed values, and back. `S` is the type in memory with bf16, f16 and bool seen as integers.
template <class T> struct stored { using type = T; };
template <> struct stored<bf16> { using type = uint16_t; };
template <> struct stored<f16> { using type = uint16_t; };
template <> struct stored<bool> { using type = uint8_t; };
template <class T> struct stored<const T> : stored<T> {};
template <class T> using stored_type = typename stored<T>::type;

template <class T, class S> TILE_INLINE vec<computed_type<T>> widen_vector(S raw) {
    if constexpr (same<T, bf16>) return f32_from_bf16(raw);
    else if constexpr (same<T, f16>) return f32_from_f16(raw);
    else return convert<computed_type<T>>(raw);
}
template <class T, class V> TILE_INLINE vec<stored_type<T>> narrow_vector(V v) {
    if constexpr (same<T, bf16>) return bf16_from_f32(convert<float>(v));
    else if constexpr (same<T, f16>) return f16_from_f32(convert<float>(v));
    else if constexpr (same<T, bool>) return convert<uint8_t>(v != 0) & 1;
    else return convert<T>(v);
}

// Tensors in memory ---------------------------------------------------------------------------------------------------

// Row-major with unit column stride; `stride` counts elements.
template <class T> struct matrix {
    T* data;
    long stride;
    TILE_INLINE T& operator()(long i, long j) const { return data[i * stride + j]; }
    TILE_INLINE T* row(long i) const { return data + i * stride; }
    TILE_INLINE matrix from(long i) const { return {row(i), stride}; }
    operator matrix<const T>() const { return {data, stride}; }
};
// Any two strides.
template <class T> struct strided {
    T* data;
    long row_stride, column_stride;
    TILE_INLINE T& operator()(long i, long j) const { return data[i * row_stride + j * column_stride]; }
    TILE_INLINE T* row(long i) const { return data + i * row_stride; }
    TILE_INLINE strided from(long i) const { return {row(i), row_stride, column_stride}; }
    operator strided<const T>() const { return {data, row_stride, column_stride}; }
};
// Rows that lie anywhere, with unit column stride.
template <class T> struct row_table {
    T* const* rows;
    static constexpr long column_stride = 1;
    TILE_INLINE T& operator()(long i, long j) const { return rows[i][j]; }
    TILE_INLINE T* row(long i) const { return rows[i]; }
    TILE_INLINE row_table from(long i) const { return {rows + i}; }
};
// What a hidden row of a table is.
template <class T, long Columns> alignas(64) inline const T zeros[Columns] = {};
template <class T> TILE_INLINE strided<T> rows_of(matrix<T> m) { return {m.data, m.stride, 1}; }
template <class T> TILE_INLINE strided<T> transposed(matrix<T> m) { return {m.data, 1, m.stride}; }
template <class T> TILE_INLINE strided<T> transposed(strided<T> m) { return {m.data, m.column_stride, m.row_stride}; }

template <class T> TILE_INLINE auto load(const T* p, whole j) {
    return widen_vector<T>(load_raw<vec<stored_type<T>>>(p + j.first));
}
template <class T> TILE_INLINE auto load(const T* p, partial j) {
    return widen_vector<T>(load_prefix<vec<stored_type<T>>>((const stored_type<T>*)(p + j.first), j.count));
}
template <class T, class V> TILE_INLINE void store(T* p, whole j, V v) {
    if constexpr (is_vector<V>) store_raw(p + j.first, narrow_vector<T>(v));
    else store_raw(p + j.first, narrow_vector<T>(splat<V>(v)));
}
template <class T, class V> TILE_INLINE void store(T* p, partial j, V v) {
    if constexpr (is_vector<V>) store_prefix((stored_type<T>*)(p + j.first), narrow_vector<T>(v), j.count);
    else store_prefix((stored_type<T>*)(p + j.first), narrow_vector<T>(splat<V>(v)), j.count);
}
template <class T, class J> TILE_INLINE auto load(matrix<T> m, long i, J j) { return load((const T*)m.row(i), j); }
template <class T, class J> TILE_INLINE auto load(row_table<T> m, long i, J j) { return load((const T*)m.row(i), j); }
template <class T, class J, class V> TILE_INLINE void store(matrix<T> m, long i, J j, V v) { store(m.row(i), j, v); }

// Lane l is element index[l]; where the mask fails memory is not touched and the lane is `otherwise`.
template <class T, class I> TILE_INLINE auto gather(const T* p, I index) {
    vec<computed_type<T>> v;
    for (int l = 0; l < LANES; ++l) v[l] = widen(p[index[l]]);
    return v;
}
template <class T, class I, class M> TILE_INLINE auto gather(const T* p, I index, M mask, computed_type<T> otherwise) {
    computed_type<T> lane[LANES];
#pragma GCC unroll 1
    for (int l = 0; l < LANES; ++l) lane[l] = mask[l] ? widen(p[index[l]]) : otherwise;
    return load_raw<vec<computed_type<T>>>(lane);
}
// Elements `step` apart, for a row whose columns are not adjacent; 0 from `columns` on.
template <class T, class J> TILE_INLINE auto load_apart(T* p, long step, long columns, J j) {
    computed_type<T> lane[LANES] = {};
    for (int l = 0; l < j.count && j.first + l < columns; ++l) lane[l] = widen(p[(j.first + l) * step]);
    return load_raw<vec<computed_type<T>>>(lane);
}
template <class T, class J, class V> TILE_INLINE void store(strided<T> m, long i, J j, V v) {
    for (int l = 0; l < j.count; ++l) {
        if constexpr (is_vector<V>) m(i, j.first + l) = narrow<T>(v[l]);
        else m(i, j.first + l) = narrow<T>(v);
    }
}

}  // namespace tile
