// Rows of a tile read from places that lanes have each for themselves.
#pragma once
#include "convert.hpp"
#include "loops.hpp"
#include "spans.hpp"

namespace tile {

// Note [Runs]
// A table that is read along a box (``T[y - y2, x - x2]``) is read in runs: the elements of `run` neighbouring lanes lie side by side, upwards or
// downwards, all are the same one, or they lie within `run` elements in any order, as where a row of the box is shorter than a vector. How they lie
// is found once for a tile, from their offsets; then each run is one load, and perhaps a permutation, for every row of the tile. What forms no run is
// read lane by lane. Elements between two of one tensor belong to it, so what a load of them all takes in besides is never outside.
constexpr int run = LANES < 8 ? LANES : 8;
enum : int8_t { scattered = 0, ascending = 1, descending = -1, same_place = 2, near_by = 3 };
struct lane_run {
    int8_t kind;
    int8_t last;         // of the elements: the distance from the lowest to the highest
    int16_t first;       // the lane of the lowest
    int32_t place[run];  // of the element of each lane, from the lowest
};
static_assert(sizeof(lane_run) <= 8 * run);  // the room of its lanes, see columns.py
TILE_INLINE void find_runs(lane_run* runs, const int64_t* offsets, long size) {
    for (long first = 0; first + run <= size; first += run) {
        lane_run& r = runs[first / run];
        const int64_t* const o = offsets + first;
        const int64_t step = o[1] - o[0];
        bool even = true;
        int64_t low = o[0], high = o[0];
        int16_t lowest = 0;
        for (int l = 1; l < run; ++l) {
            even = even & (o[l] - o[l - 1] == step);
            if (o[l] < low) low = o[l], lowest = int16_t(l);
            if (o[l] > high) high = o[l];
        }
        r.kind = even && step == 1 ? ascending : even && step == -1 ? descending : even && step == 0 ? same_place : high - low < run ? near_by : scattered;
        if (r.kind == scattered) continue;
        r.first = lowest;
        r.last = int8_t(high - low);
        for (int l = 0; l < run; ++l) r.place[l] = int32_t(o[l] - low);
    }
}
#if defined(__AVX2__) && VECTOR_BYTES >= 32
typedef int lanes8 __attribute__((vector_size(32)));
// The elements of a run's lanes; `from` is that of its first lane's row.
template <class T> TILE_INLINE lanes8 load_near(const T* from, const int64_t* offsets, const lane_run& r) {
    static const int32_t prefix[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const lanes8 x = (lanes8)__builtin_ia32_maskloadd256((const lanes8*)(from + offsets[r.first]), load_raw<lanes8>(prefix + 7 - r.last));
    return (lanes8)__builtin_ia32_permvarsi256(x, load_raw<lanes8>(r.place));
}
#endif
template <int Bytes> struct unsigned_of;
template <> struct unsigned_of<1> { using type = uint8_t; };
template <> struct unsigned_of<2> { using type = uint16_t; };
template <> struct unsigned_of<4> { using type = uint32_t; };
template <> struct unsigned_of<8> { using type = uint64_t; };
template <class V, int... I> TILE_INLINE V reversed(V v, indices<I...>) { return __builtin_shufflevector(v, v, (int(sizeof...(I)) - 1 - I)...); }

// to[l] = from[offsets[l]] for l < count, the rest up to `size` is the fill; and the same where a mask of the lanes is set.
template <class From, class To>
TILE_INLINE void gather_row(To* to, const From* from, const int64_t* offsets, [[maybe_unused]] const lane_run* runs, long count, long size, computed_type<To> fill) {
    long l = 0;
    if constexpr (same<From, To>) {
        using bits = vec<typename unsigned_of<sizeof(To)>::type, run>;
        for (; l + run <= count; l += run) {
            const lane_run& r = runs[l / run];
            const int8_t kind = r.kind;
            if (kind == ascending) store_raw(to + l, load_raw<bits>(from + offsets[l]));
            else if (kind == descending) store_raw(to + l, reversed(load_raw<bits>(from + offsets[l + run - 1]), first_indices<run>()));
            else {
#if defined(__AVX2__) && VECTOR_BYTES >= 32
                if constexpr (sizeof(To) == 4)
                    if (kind != scattered) {
                        store_raw(to + l, load_near(from, offsets + l, r));
                        continue;
                    }
#endif
                for (int i = 0; i < run; ++i) to[l + i] = from[offsets[l + i]];
            }
        }
    }
    for (; l < count; ++l) to[l] = narrow<To>(widen(from[offsets[l]]));
    const To rest = narrow<To>(fill);
    for (l = count; l < size; ++l) to[l] = rest;
}
template <class From, class To, class F>
TILE_INLINE void gather_row_where(To* to, const From* from, const int64_t* offsets, [[maybe_unused]] const lane_run* runs, long count, long size, computed_type<To> fill, F live) {
    const From nothing = narrow<From>(fill);
    for_each_column(count, [&](auto j) __attribute__((always_inline)) {
        const vec<int32_t> m = live(j);
        int l = 0;
#if defined(__AVX2__) && VECTOR_BYTES >= 32
        if constexpr (same<From, To> && sizeof(To) == 4) {
            using v8 = lanes8;
            for (; l + run <= j.count; l += run) {
                const lane_run& r = runs[(j.first + l) / run];
                const int8_t kind = r.kind;
                if (kind == scattered) break;
                v8 lanes, x;
                __builtin_memcpy(&lanes, (const int32_t*)&m + l, sizeof lanes);
                const int some_lanes = __builtin_ia32_movmskps256(bits_as<vec<float, 8>>(lanes));
                if (kind == near_by) {
                    if (some_lanes == 255) x = load_near(from, offsets + j.first + l, r);
                    else {
                        const v8 fills = v8{} + bits_as<int32_t>(nothing);
                        const int* const lowest = (const int*)(from + offsets[j.first + l + r.first]);
                        x = some_lanes ? (v8)__builtin_ia32_gathersiv8si(fills, lowest, load_raw<v8>(r.place), lanes, 4) : fills;
                    }
                    store_raw(to + j.first + l, x);
                    continue;
                }
                const int64_t first = offsets[j.first + l];
                if (kind == ascending) x = (v8)__builtin_ia32_maskloadd256((const v8*)(from + first), lanes);
                else if (kind == descending) {
                    const v8 back = (v8)__builtin_ia32_maskloadd256((const v8*)(from + first - (run - 1)), reversed(lanes, first_indices<run>()));
                    x = reversed(back, first_indices<run>());
                } else {
                    x = bits_as<v8>(vec<uint32_t, 8>{} + bits_as<uint32_t>(*(some_lanes ? from + first : &nothing)));
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
TILE_INLINE void gather_row(To* to, const From* from, const int64_t* offsets, const lane_run* runs, long count, span s, computed_type<To> fill) {
    const long size = s.end - s.begin;
    gather_row(to + s.begin, from, offsets + s.begin, runs + s.begin / run, count ? size : 0, size, fill);
}
template <class From, class To, class F>
TILE_INLINE void gather_row_where(To* to, const From* from, const int64_t* offsets, const lane_run* runs, long count, span s, computed_type<To> fill, F live) {
    const long size = s.end - s.begin;
    gather_row_where(to + s.begin, from, offsets + s.begin, runs + s.begin / run, count ? size : 0, size, fill, [&](auto j) __attribute__((always_inline)) {
        j.first += s.begin;
        return live(j);
    });
}

}  // namespace tile
