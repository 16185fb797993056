// Matrix products on register blocks.
#pragma once
#include "panels.hpp"

namespace tile {

// Note [Register blocks]
// A block of R rows and N vectors of C stays in registers over the whole depth: per step N loads of B, R broadcasts of
// A, R N multiply-adds. Two loads and two multiply-adds a cycle are the machine's, so R N >= R + N keeps the arithmetic
// busy, and R N must reach the latency of the multiply-add times two (8 to 10). 16 registers (AVX2): 6 x 2 = 12 for C,
// 2 for B, 1 for A. 32 registers (AVX-512): 6 x 4 = 24, 4, 1. Without a fused instruction the product needs a register
// of its own: 4 x 2 (``block_rows`` and ``block_vectors`` stand in spans.hpp). What is left over at the edges runs as narrower blocks of the same code: 8 rows as
// 4 + 4, which fill the units, not as 6 + 2.
// Measured with AVX2 on one core: 93 % of the multiply-add peak at depth 64, 95 % at 128, 98 % at 1024.

// What happens to C: C = A B; C += A B; C[i, :] = C[i, :] * scale[i] + A B. The last one costs no sweep of its own,
// so a running accumulator is rescaled where it is updated.
struct overwrite {};
struct accumulate {};
template <class T> struct rescale { const T* scale; };
template <class T> struct update { bool reads; const T* scale; };
template <class T> TILE_INLINE update<T> update_of(overwrite) { return {false, nullptr}; }
template <class T> TILE_INLINE update<T> update_of(accumulate) { return {true, nullptr}; }
template <class T> TILE_INLINE update<T> update_of(rescale<T> r) { return {true, r.scale}; }
template <class T> TILE_INLINE update<T> update_of(rescale<const T> r) { return {true, r.scale}; }

// One step of depth: operands of types A and B, sums of type C.
template <class A, class B, class C> struct single_step {
    static constexpr int lanes = VECTOR_BYTES / sizeof(C), depth = 1;
    using sum = vec<C, lanes>;
    using a_type = A;
    using b_type = B;
    static TILE_INLINE sum load_b(const B* p, int) {
        if constexpr (same<B, C>) return load_raw<sum>(p);
        else if constexpr (lanes == LANES) return convert<C>(load(p, whole{0}));
        else {
            sum v;
            for (int l = 0; l < lanes; ++l) v[l] = C(widen(p[l]));
            return v;
        }
    }
    static TILE_INLINE sum multiply_add(sum acc, const A* a, long, sum b, int) { return acc + splat<C, lanes>(C(widen(*a))) * b; }
};

template <class Step, int R, int N, class C>
__attribute__((noinline)) void product_block(long depth, const typename Step::a_type* a, long a_row, long a_depth,
                                             const typename Step::b_type* b, long b_depth, C* c, long c_row, update<C> u) {
    using sum = typename Step::sum;
    constexpr int L = Step::lanes, width = L * Step::depth;
    sum acc[R][N];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) acc[r][v] = sum{};
    for (long k = 0; k < depth; ++k, b += b_depth, a += a_depth * Step::depth) {
#pragma GCC unroll 2
        for (int h = 0; h < Step::depth; ++h) {
            decltype(Step::load_b(b, 0)) row[N];
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) row[v] = Step::load_b(b + v * width, h);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
                for (int v = 0; v < N; ++v) acc[r][v] = Step::multiply_add(acc[r][v], a + r * a_row, a_depth, row[v], h);
        }
    }
    if (u.reads) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const C scale = u.scale ? u.scale[r] : C(1);
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) acc[r][v] += load_raw<sum>(c + r * c_row + v * L) * scale;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) store_raw(c + r * c_row + v * L, acc[r][v]);
}

// All rows of one block of columns, from R rows at a time down to 4, 2 and 1 (single vectors: to 1).
template <class Step, int R, int N, class C>
TILE_INLINE void product_rows(long i, long rows, long depth, const typename Step::a_type* a, long a_row, long a_depth,
                              const typename Step::b_type* b, long b_depth, C* c, long c_row, update<C> u) {
    constexpr bool halves = R == 6 && N > 1;
    for (; i + R <= rows && !(halves && (rows - i == 8 || rows - i == 9)); i += R) {
        update<C> here = {u.reads, u.scale ? u.scale + i : nullptr};
        product_block<Step, R, N>(depth, a + i * a_row, a_row, a_depth, b, b_depth, c + i * c_row, c_row, here);
    }
    constexpr int fewer = N == 1 ? R > 1 : R > 4 ? 4 : R / 2;  // few kinds of block: each is compiled anew
    if constexpr (fewer > 0)
        if (i < rows) product_rows<Step, fewer, N>(i, rows, depth, a, a_row, a_depth, b, b_depth, c, c_row, u);
}

// Column blocks outside, row blocks inside: the columns of B (depth x 64 bytes or 256) stay in the first cache level
// while A streams from the second. Where A is read down its columns every step of depth touches a line of it, which the next block of rows reads again:
// then depth is cut to ``depth_slice``, so that both stay (AVX2, 192 x 64, depth 512: 95 % of the multiply-add peak for 81 %). Elsewhere it is cut to
// ``longest_chain``: the rounding error of a chain of additions grows with its partial sums (Higham, Accuracy and Stability, 4.2), and those of a
// slice start at 0. A BLAS cuts its sums alike.
constexpr long longest_chain = 256;
template <class Step, int N, class C>
TILE_INLINE void product_slices(long i, long end, long steps, const typename Step::a_type* a, long a_row, long a_depth,
                                const typename Step::b_type* b, long b_depth, C* c, long c_row, update<C> u) {
    constexpr long chain = longest_chain / Step::depth;
    const long parts = a_depth == 1 ? (steps + chain - 1) / chain : (steps + depth_slice / 2) / depth_slice;
    const long slice = parts > 1 ? (steps + parts - 1) / parts : steps;
    long k = 0;
    do {
        const long some = steps - k < slice ? steps - k : slice;
        product_rows<Step, block_rows, N>(i, end, some, a + k * Step::depth * a_depth, a_row, a_depth, b + k * b_depth, b_depth, c, c_row, u);
        u = {true, nullptr};
        k += slice;
    } while (k < steps);
}
template <class Step, class C, class Where = everywhere>
void product_tiles(update<C> u, long rows, long columns, long depth, const typename Step::a_type* a, long a_row, long a_depth,
                   panels<const typename Step::b_type> from, C* c, long c_row, Where where = {}) {
    constexpr int L = Step::lanes, N = block_vectors, D = Step::depth, width = L * D;
    const long b_depth = from.row;
    const typename Step::b_type* b = from.data;
    long j = 0;
    for (; j + N * L <= columns; j += N * L, b += from.next)
        where.parts(j, N * L, rows, depth * D, [&](long i, long end, long k, long steps) __attribute__((always_inline)) {
            product_slices<Step, N>(i, end, steps / D, a + k * a_depth, a_row, a_depth, b + k / D * b_depth, b_depth, c + j, c_row, u);
        });
    for (; j + L <= columns; j += L, b += width)
        where.parts(j, L, rows, depth * D, [&](long i, long end, long k, long steps) __attribute__((always_inline)) {
            product_slices<Step, 1>(i, end, steps / D, a + k * a_depth, a_row, a_depth, b + k / D * b_depth, b_depth, c + j, c_row, u);
        });
    if (j == columns || !Where::is_everywhere) return;  // spans are those of padded tiles: whole vectors
    // The last columns go through a buffer, so that nothing outside B and C is touched.
    constexpr int steps = 64, height = 16;
    const long count = columns - j;
    typename Step::b_type b_edge[steps * width] = {};
    C c_edge[height * L];
    for (long i = 0; i < rows; i += height) {
        const long some = rows - i < height ? rows - i : height;
        for (long r = 0; r < some; ++r)
            for (long l = 0; l < L; ++l) {
                C old = u.reads && l < count ? c[(i + r) * c_row + j + l] : C(0);
                c_edge[r * L + l] = u.scale ? old * u.scale[i + r] : old;
            }
        for (long k = 0; k < depth; k += steps) {
            const long some_depth = depth - k < steps ? depth - k : steps;
            for (long s = 0; s < some_depth; ++s)
                for (long l = 0; l < count * Step::depth; ++l) b_edge[s * width + l] = b[(k + s) * b_depth + l];
            product_rows<Step, block_rows, 1>(0, some, some_depth, a + i * a_row + k * Step::depth * a_depth, a_row, a_depth,
                                              b_edge, long(width), c_edge, long(L), update<C>{true, nullptr});
        }
        for (long r = 0; r < some; ++r)
            for (long l = 0; l < count; ++l) c[(i + r) * c_row + j + l] = c_edge[r * L + l];
    }
}

// C[rows, columns] = A[rows, depth] B[depth, columns], then as `how` says. A has any strides; B and C have unit column
// stride. C is f32, f64 or an integer; A and B may be narrower and are widened. Any sizes, zero included. Fastest when
// `columns` is a multiple of LANES: pad B and C in scratch and pass the padded number.
template <class How, class A, class B, class C, class Where = everywhere>
TILE_INLINE void product(How how, long rows, long columns, long depth, strided<A> a, panels<B> b, matrix<C> c, Where where = {}) {
    using Step = single_step<typename plain<A>::type, typename plain<B>::type, C>;
    product_tiles<Step, C>(update_of<C>(how), rows, columns, depth, a.data, a.row_stride, a.column_stride, b, c.data, c.stride, where);
}
template <class How, class A, class B, class C, class Where = everywhere>
TILE_INLINE void product(How how, long rows, long columns, long depth, strided<A> a, matrix<B> b, matrix<C> c, Where where = {}) {
    product(how, rows, columns, depth, a, side_by_side<C>(b, 1), c, where);
}
template <class How, class A, class B, class C>
TILE_INLINE void product(How how, long rows, long columns, long depth, matrix<A> a, matrix<B> b, matrix<C> c) {
    product(how, rows, columns, depth, rows_of(a), b, c);
}

}  // namespace tile
