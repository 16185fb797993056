// Rows of a tile read from places that lanes have each for themselves.
#pragma once
#include "convert.hpp"
#include "loops.hpp"
#include "spans.hpp"

namespace tile {

// Note [Runs]
// A table that is read along a box (``T[y - y2, x - x2]``) is read in runs: neighbouring lanes lie one element apart, upwards or downwards, or all
// read the same one. How `run` lanes lie is found once for a tile, from their offsets; then each run is one load for every row of the tile.
// What forms no run is read lane by lane.
constexpr int run = LANES < 8 ? LANES : 8;
enum : int8_t { scattered = 0, ascending = 1, descending = -1, same_place = 2 };
TILE_INLINE void find_runs(int8_t* runs, const int64_t* offsets, long size) {
    for (long first = 0; first + run <= size; first += run) {
        const int64_t step = offsets[first + 1] - offsets[first];
        bool even = true;
        for (int l = 2; l < run; ++l) even = even & (offsets[first + l] - offsets[first + l - 1] == step);
        runs[first / run] = !even ? scattered : step == 1 ? ascending : step == -1 ? descending : step == 0 ? same_place : scattered;
    }
}
template <int Bytes> struct unsigned_of;
template <> struct unsigned_of<1> { using type = uint8_t; };
template <> struct unsigned_of<2> { using type = uint16_t; };
template <> struct unsigned_of<4> { using type = uint32_t; };
template <> struct unsigned_of<8> { using type = uint64_t; };
template <class V, int... I> TILE_INLINE V reversed(V v, indices<I...>) { return __builtin_shufflevector(v, v, (int(sizeof...(I)) - 1 - I)...); }

// to[l] = from[offsets[l]] for l < count, the rest up to `size` is the fill; and the same where a mask of the lanes is set.
template <class From, class To>
TILE_INLINE void gather_row(To* to, const From* from, const int64_t* offsets, [[maybe_unused]] const int8_t* runs, long count, long size, computed_type<To> fill) {
    long l = 0;
    if constexpr (same<From, To>) {
        using bits = vec<typename unsigned_of<sizeof(To)>::type, run>;
        for (; l + run <= count; l += run) {
            const int8_t kind = runs[l / run];
            if (kind == ascending) store_raw(to + l, load_raw<bits>(from + offsets[l]));
            else if (kind == descending) store_raw(to + l, reversed(load_raw<bits>(from + offsets[l + run - 1]), first_indices<run>()));
            else for (int i = 0; i < run; ++i) to[l + i] = from[offsets[l + i]];
        }
    }
    for (; l < count; ++l) to[l] = narrow<To>(widen(from[offsets[l]]));
    const To rest = narrow<To>(fill);
    for (l = count; l < size; ++l) to[l] = rest;
}
template <class From, class To, class F>
TILE_INLINE void gather_row_where(To* to, const From* from, const int64_t* offsets, [[maybe_unused]] const int8_t* runs, long count, long size, computed_type<To> fill, F live) {
    const From nothing = narrow<From>(fill);
    for_each_column(count, [&](auto j) __attribute__((always_inline)) {
        const vec<int32_t> m = live(j);
        int l = 0;
#if defined(__AVX2__) && VECTOR_BYTES >= 32
        if constexpr (same<From, To> && sizeof(To) == 4) {
            typedef int v8 __attribute__((vector_size(32)));
            for (; l + run <= j.count; l += run) {
                const int8_t kind = runs[(j.first + l) / run];
                if (kind == scattered) break;
                v8 lanes, x;
                __builtin_memcpy(&lanes, (const int32_t*)&m + l, sizeof lanes);
                const int64_t first = offsets[j.first + l];
                if (kind == ascending) x = (v8)__builtin_ia32_maskloadd256((const v8*)(from + first), lanes);
                else if (kind == descending) {
                    const v8 back = (v8)__builtin_ia32_maskloadd256((const v8*)(from + first - (run - 1)), reversed(lanes, first_indices<run>()));
                    x = reversed(back, first_indices<run>());
                } else {
                    const bool some = __builtin_ia32_movmskps256(bits_as<vec<float, 8>>(lanes)) != 0;
                    x = bits_as<v8>(vec<uint32_t, 8>{} + bits_as<uint32_t>(*(some ? from + first : &nothing)));
                }
                store_raw(to + j.first + l, lanes ? x : v8{} + bits_as<int32_t>(nothing));
            }
        }
#endif
        // The address is chosen by the mask: a branch would be mispredicted at every edge of the filter.
        for (; l < j.count; ++l) to[j.first + l] = narrow<To>(widen(*(m[l] ? from + offsets[j.first + l] : &nothing)));
    });
    const To rest = narrow<To>(fill);
    for (long l = count; l < size; ++l) to[l] = rest;
}
// The same over the columns of a span: `count` is 0 or the length of the row.
template <class From, class To>
TILE_INLINE void gather_row(To* to, const From* from, const int64_t* offsets, const int8_t* runs, long count, span s, computed_type<To> fill) {
    const long size = s.end - s.begin;
    gather_row(to + s.begin, from, offsets + s.begin, runs + s.begin / run, count ? size : 0, size, fill);
}
template <class From, class To, class F>
TILE_INLINE void gather_row_where(To* to, const From* from, const int64_t* offsets, const int8_t* runs, long count, span s, computed_type<To> fill, F live) {
    const long size = s.end - s.begin;
    gather_row_where(to + s.begin, from, offsets + s.begin, runs + s.begin / run, count ? size : 0, size, fill, [&](auto j) __attribute__((always_inline)) {
        j.first += s.begin;
        return live(j);
    });
}

}  // namespace tile
