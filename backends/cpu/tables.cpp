// The least and the greatest entry in each tile of a table, read once: what a list of tiles needs of a mask or of indices.
//
// Memory is fastest where whole rows are read in their order, some of them side by side: one stream of lines waits at the end of
// every page. So a row of tiles keeps one vector of extremes per tile and adds eight rows at a time to them; the lanes are folded at
// the end. Where the entries are truth values, a tile that has both is decided: from then on it is not read.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE __attribute__((always_inline)) inline

namespace {

constexpr long ROWS = 8;  // side by side

template <class T, long Bytes> struct vector_of { typedef T type __attribute__((vector_size(Bytes), aligned(1), may_alias)); };

// A NaN stays.
template <class T> INLINE T least_of(T a, T b) { return b < a || b != b ? b : a; }
template <class T> INLINE T greatest_of(T a, T b) { return b > a || b != b ? b : a; }
template <class T> constexpr bool is_real = T(0.5) != T(0);
template <bool Real, class V> INLINE V least_in_lanes(V a, V b) {
    if constexpr (Real) return (b < a) | (b != b) ? b : a;
    else return b < a ? b : a;
}
template <bool Real, class V> INLINE V greatest_in_lanes(V a, V b) {
    if constexpr (Real) return (b > a) | (b != b) ? b : a;
    else return b > a ? b : a;
}

struct Sizes { long outer, length, middle, columns, rows, across; };

template <class V> INLINE V load(const void* from) {
    V found;
    memcpy(&found, from, sizeof(V));
    return found;
}

// Adds `Rows` rows of whole tiles; the number of tiles that it decides.
template <class T, bool Truth, long Rows, class V> INLINE long add_rows(const T* table, long step, long tiles, long across, V* low, V* high, bool* decided) {
    constexpr long LANES = sizeof(V) / sizeof(T);
    const long vectors = across / LANES;
    long found = 0;
    for (long t = 0; t < tiles; ++t) {
        if (Truth && decided[t]) continue;
        V l = low[t], h = high[t];
#pragma GCC unroll 8
        for (long r = 0; r < Rows; ++r) {
            const T* const from = table + r * step + t * across;
            for (long v = 0; v < vectors; ++v) {
                const V x = load<V>(from + v * LANES);
                if constexpr (Truth) l &= x, h |= x;
                else l = least_in_lanes<is_real<T>>(l, x), h = greatest_in_lanes<is_real<T>>(h, x);
            }
        }
        low[t] = l, high[t] = h;
        if constexpr (Truth) {
            T all = 1, any = 0;
            for (long i = 0; i < LANES; ++i) all &= l[i], any |= h[i];
            decided[t] = any && !all;
            found += decided[t];
        }
    }
    return found;
}

// One tile of rows. `least` and `greatest` have an entry per tile of columns.
template <class T, bool Truth, long Bytes> void row_of_tiles(const T* table, long rows, long step, long columns, long across, T* least, T* greatest, char* scratch) {
    typedef typename vector_of<T, Bytes>::type V;
    constexpr long LANES = Bytes / sizeof(T);
    const long tiles = columns / across;  // whole ones
    V* const low = (V*)scratch;
    V* const high = low + tiles;
    bool* const decided = (bool*)(high + tiles);
    for (long t = 0; t < tiles; ++t) {
        low[t] = high[t] = load<V>(table + t * across);
        decided[t] = false;
    }
    long open = tiles, r = 0;
    for (; r + ROWS <= rows && open; r += ROWS) open -= add_rows<T, Truth, ROWS>(table + r * step, step, tiles, across, low, high, decided);
    for (; r < rows && open; ++r) open -= add_rows<T, Truth, 1>(table + r * step, step, tiles, across, low, high, decided);
    for (long t = 0; t < tiles; ++t) {
        T l = low[t][0], h = high[t][0];
        for (long i = 1; i < LANES; ++i) l = least_of(l, T(low[t][i])), h = greatest_of(h, T(high[t][i]));
        least[t] = l, greatest[t] = h;
    }
    if (tiles * across < columns) {
        T l = table[tiles * across], h = l;
        for (long r = 0; r < rows; ++r)
            for (long c = tiles * across; c < columns; ++c) {
                l = least_of(l, table[r * step + c]);
                h = greatest_of(h, table[r * step + c]);
            }
        least[tiles] = l, greatest[tiles] = h;
    }
}

template <class T, bool Truth> void extremes(const T* table, T* least, T* greatest, const Sizes& s, int threads) {
    const long tiles = (s.length + s.rows - 1) / s.rows, across = (s.columns + s.across - 1) / s.across;
    const long bytes = s.across * sizeof(T);
    const auto body = bytes % 32 == 0 ? row_of_tiles<T, Truth, 32> : bytes % 16 == 0 ? row_of_tiles<T, Truth, 16> : row_of_tiles<T, Truth, sizeof(T)>;
#pragma omp parallel num_threads(threads)
    {
        char* const scratch = (char*)malloc((across + 1) * 65);
#pragma omp for schedule(static)
        for (long place = 0; place < s.outer * tiles * s.middle; ++place) {
            const long middle = place % s.middle, tile = place / s.middle % tiles, outer = place / s.middle / tiles;
            const long first = tile * s.rows, rows = first + s.rows < s.length ? s.rows : s.length - first;
            const T* const from = table + ((outer * s.length + first) * s.middle + middle) * s.columns;
            body(from, rows, s.middle * s.columns, s.columns, s.across, least + place * across, greatest + place * across, scratch);
        }
        free(scratch);
    }
}

}  // namespace

#define TABLE(name, type, truth)                                                                                                      \
    extern "C" __attribute__((visibility("default"))) void name(void** tables, const int64_t*, const int64_t* n, const double*, int threads) { \
        extremes<type, truth>((const type*)tables[0], (type*)tables[1], (type*)tables[2], Sizes{n[0], n[1], n[2], n[3], n[4], n[5]}, threads); \
    }

TABLE(extremes_bool, uint8_t, true)
TABLE(extremes_uint8, uint8_t, false)
TABLE(extremes_int8, int8_t, false)
TABLE(extremes_int16, int16_t, false)
TABLE(extremes_int32, int32_t, false)
TABLE(extremes_int64, int64_t, false)
TABLE(extremes_float32, float, false)
TABLE(extremes_float64, double, false)
