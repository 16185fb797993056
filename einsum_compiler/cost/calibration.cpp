// Figures of the processor this runs on, with the runtime that kernels use. Every function times `repeats` runs of the same
// work on all threads at once and gives the seconds of the fastest run of the slowest thread.
#include "emit_support.hpp"
#include <omp.h>
#include <stdlib.h>

namespace {

template <class F> double fastest(int threads, int repeats, F work) {
    double best = 1e30;
    for (int r = 0; r < repeats; ++r) {
        double slowest = 0;
#pragma omp parallel num_threads(threads) reduction(max : slowest)
        {
            char* const scratch = tile::scratch(1 << 20);
            work(scratch, 0);  // warm
#pragma omp barrier
            const double start = omp_get_wtime();
            work(scratch, 1);
            slowest = omp_get_wtime() - start;
        }
        if (slowest < best) best = slowest;
    }
    return best;
}

template <class T> void start(T* p, long count, double value) {
    for (long i = 0; i < count; ++i) p[i] = T(value + double(i % 7) * 0.125);
}

// C += A B of 96 x 128 x 64 with operands in the second cache level, `times` times.
template <class T> double product(int threads, int times) {
    constexpr long rows = 96, columns = 128, depth = 64, stride = tile::padded_stride<T>(columns), inner = tile::padded_stride<T>(depth);
    return fastest(threads, 3, [=](char* scratch, int measured) {
        T *a = (T*)scratch, *b = a + rows * inner, *c = b + depth * stride;
        if (!measured) start(a, rows * inner, 0.5), start(b, depth * stride, 0.5), start(c, rows * stride, 0.0);
        for (int t = 0; t < (measured ? times : 1); ++t)
            tile::product(tile::accumulate(), rows, columns, depth, tile::strided<const T>{a, inner, 1}, tile::matrix<const T>{b, stride}, tile::matrix<T>{c, stride});
    });
}

// y = f(x) on 2048 elements in the first cache level, `times` times.
template <class F> double function(int threads, int times, F f) {
    constexpr long count = 2048;
    return fastest(threads, 3, [=](char* scratch, int measured) {
        float *x = (float*)scratch, *y = x + count;
        if (!measured) start(x, count, 0.3);
        for (int t = 0; t < (measured ? times : 1); ++t)
            for (long j = 0; j < count; j += tile::LANES) tile::store(y, tile::whole{j}, f(tile::load(x, tile::whole{j})));
    });
}

// The sum of `bytes` bytes on every thread, `times` times: reads only.
double reading(int threads, long bytes, int times) {
    return fastest(threads, 2, [=](char*, int measured) {
        static thread_local float* data = nullptr;
        static thread_local long held = 0;
        const long count = bytes / 4;
        if (!measured) {
            if (held < bytes) {
                free(data);  // not new: nothing is linked with libstdc++
                data = (float*)malloc(bytes);
                held = bytes;
                for (long i = 0; i < count; ++i) data[i] = 1.0f;
            }
            return;
        }
        constexpr int unroll = 8, step = unroll * tile::LANES;
        tile::vec<float> total[unroll] = {};
        for (int t = 0; t < times; ++t)
            for (long i = 0; i + step <= count; i += step)
#pragma GCC unroll 8
                for (int u = 0; u < unroll; ++u) total[u] += tile::load_raw<tile::vec<float>>(data + i + u * tile::LANES);
        for (int u = 1; u < unroll; ++u) total[0] += total[u];
        if (total[0][0] == -1.0f) data[0] = 0.0f;  // never: keeps the sum
    });
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) double

EXPORT product_f32(int threads, int times) { return product<float>(threads, times); }
EXPORT product_f64(int threads, int times) { return product<double>(threads, times); }
EXPORT function_exp(int threads, int times) {
    return function(threads, times, [](auto x) __attribute__((always_inline)) { return tile::exp_nonpositive(-x); });
}
EXPORT function_log(int threads, int times) {
    return function(threads, times, [](auto x) __attribute__((always_inline)) { return tile::log(x); });
}
EXPORT function_tanh(int threads, int times) {
    return function(threads, times, [](auto x) __attribute__((always_inline)) { return tile::tanh(x); });
}
EXPORT function_sin(int threads, int times) {
    return function(threads, times, [](auto x) __attribute__((always_inline)) { return tile::sin(x); });
}
EXPORT function_sqrt(int threads, int times) {
    return function(threads, times, [](auto x) __attribute__((always_inline)) { return tile::sqrt(x); });
}
EXPORT function_divide(int threads, int times) {
    return function(threads, times, [](auto x) __attribute__((always_inline)) { return 1.0f / x; });
}
// B of 64 x 128, transposed and copied, `times` times: elements are 8192.
EXPORT function_transpose(int threads, int times) {
    return fastest(threads, 3, [=](char* scratch, int measured) {
        float *a = (float*)scratch, *b = a + 128 * 80;
        if (!measured) start(a, 128 * 80, 0.5);
        for (int t = 0; t < (measured ? times : 1); ++t)
            tile::transpose(128, 64, tile::strided<const float>{a, 80, 1}, tile::matrix<float>{b, 144}, 128);
    });
}
EXPORT function_convert(int threads, int times) {
    return fastest(threads, 3, [=](char* scratch, int measured) {
        tile::bf16* a = (tile::bf16*)scratch;
        float* b = (float*)(scratch + 65536);
        if (!measured) for (long i = 0; i < 128 * 80; ++i) a[i] = tile::narrow<tile::bf16>(0.5f);
        for (int t = 0; t < (measured ? times : 1); ++t) tile::copy(128, 64, tile::matrix<const tile::bf16>{a, 80}, tile::matrix<float>{b, 80});
    });
}
EXPORT reading_of(int threads, long bytes, int times) { return reading(threads, bytes, times); }
// Seconds to start `threads` threads on nothing, `times` times.
EXPORT starting(int threads, int times) {
    volatile int sink = 0;
    for (int round = 0; round < 2; ++round) {
        const double start = omp_get_wtime();
        for (int t = 0; t < times; ++t) {
#pragma omp parallel num_threads(threads)
            if (omp_get_thread_num() == 0) sink = sink + 1;
        }
        if (round) return omp_get_wtime() - start;
    }
    return 0;
}
