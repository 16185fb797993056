// Products of bf16 whose depth is packed in pairs, as the dot instruction of AVX512-BF16 reads them.
#pragma once
#include "product.hpp"

namespace tile {

// Where the machine has the pair product both operands are bf16. Elsewhere keep A in f32 and pack B in pairs: two
// integer operations widen a vector of each half, which the multiply-adds hide (AVX2: 95 of 103 GFLOP/s, as f32; with
// A in bf16 as well 54).
#if (defined(__AVX512BF16__) && VECTOR_BYTES == 64) || defined(PAIR_PRODUCT)
constexpr bool has_pair_product = true;
#else
constexpr bool has_pair_product = false;
#endif

template <class A> struct pair_step {
    static constexpr int lanes = LANES, depth = 2;
    using sum = vec<float>;
    using a_type = A;
    using b_type = bf16;
    // One lane is two elements of depth, the earlier in the low half.
    static TILE_INLINE auto load_b(const bf16* p, int half) {
        words w = load_raw<words>(p);
        return bits_as<sum>(half ? w & 0xffff0000u : w << 16);
    }
    static TILE_INLINE sum multiply_add(sum acc, const A* a, long a_depth, sum b, int half) {
        return acc + splat<float>(widen(a[half * a_depth])) * b;
    }
};
#if defined(__AVX512BF16__) && VECTOR_BYTES == 64
// `Adjacent`: the pairs of A lie side by side. A test inside of the loop costs as many instructions as the products.
template <bool Adjacent> struct dot_step {
    static constexpr int lanes = LANES, depth = 2;
    using sum = vec<float>;
    using a_type = bf16;
    using b_type = bf16;
    static TILE_INLINE auto load_b(const bf16* p, int) { return load_raw<words>(p); }
    static TILE_INLINE sum multiply_add(sum acc, const bf16* a, long a_depth, words b, int half) {
        if (half) return acc;  // both halves are done by one instruction
        uint32_t pair;
        if constexpr (Adjacent) __builtin_memcpy(&pair, a, 4);
        else pair = a[0].bits | uint32_t(a[a_depth].bits) << 16;
        return (sum)__builtin_ia32_dpbf16ps_v16sf(acc, bits_as<operand>(words{} + pair), bits_as<operand>(b));
    }
#if __GNUC__ >= 13 || defined(__clang__)
    typedef __bf16 operand __attribute__((vector_size(64)));
#else
    typedef short operand __attribute__((vector_size(64)));
#endif
};
#endif

// C[rows, columns] = A B with B packed as [pairs][columns][2]: B.stride is the distance of pairs (2 * padded columns or
// more). A is bf16 (or f32, widened path) with any strides, best with unit column stride; an odd depth is completed by a zero in A and B.
template <class How, class A, class C, class Where = everywhere>
TILE_INLINE void product_pairs(How how, long rows, long columns, long pairs, strided<A> a, matrix<const bf16> b, matrix<C> c, Where where = {}) {
    auto with = [&](auto step) __attribute__((always_inline)) {
        product_tiles<decltype(step), C>(update_of<C>(how), rows, columns, pairs, a.data, a.row_stride, a.column_stride, side_by_side<C>(b, 2), c.data, c.stride, where);
    };
#if defined(__AVX512BF16__) && VECTOR_BYTES == 64
    if constexpr (same<typename plain<A>::type, bf16>) {
        if (a.column_stride == 1) return with(dot_step<true>());
        else return with(dot_step<false>());
    }
#endif
    with(pair_step<typename plain<A>::type>());
}
template <class How, class A, class C>
TILE_INLINE void product_pairs(How how, long rows, long columns, long pairs, matrix<A> a, matrix<const bf16> b, matrix<C> c) {
    product_pairs(how, rows, columns, pairs, rows_of(a), b, c);
}

}  // namespace tile
