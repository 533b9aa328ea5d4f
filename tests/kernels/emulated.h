// AMX, AVX-512-VNNI and AVX-VNNI in plain C++, for a processor that has AVX2 only.
//
// The compiler reads this before the native code, which then takes these for the real ones.

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#if defined(EMULATE_AMX)

#define EMULATE_AVX512VNNI 1

// A tile that is used without its shape ends the process, as the processor's fault does.
struct TileShapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};
inline thread_local TileShapes tile_shapes;
inline thread_local uint8_t tiles[3][16][64];

inline uint8_t (*tile_rows(int tile))[64] {
    const bool shaped = tile_shapes.bytes[tile] == 64 && tile_shapes.rows[tile] == 16;
    if (tile_shapes.palette != 1 || !shaped) abort();
    return tiles[tile];
}
inline void load_tile(int tile, const void* from, size_t stride) {
    for (int row = 0; row < 16; row++) memcpy(tile_rows(tile)[row], (char*)from + row * stride, 64);
}
inline void store_tile(int tile, void* to, size_t stride) {
    for (int row = 0; row < 16; row++) memcpy((char*)to + row * stride, tile_rows(tile)[row], 64);
}
// Bytes with sign times bytes without sign; four products are added to each number of `sums`.
inline void multiply_tiles(int sums, int inputs, int weights) {
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 64; column += 4) {
            int32_t sum;
            memcpy(&sum, tile_rows(sums)[row] + column, 4);
            for (int i = 0; i < 64; i++)
                sum +=
                    (int8_t)tile_rows(inputs)[row][i] * tile_rows(weights)[i / 4][column + i % 4];
            memcpy(tile_rows(sums)[row] + column, &sum, 4);
        }
}

#define __AMX_INT8__ 1
#undef SYS_arch_prctl
#define SYS_arch_prctl SYS_sched_yield  // the system permits tiles
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#define _tile_loadconfig(shapes) memcpy(&tile_shapes, shapes, sizeof tile_shapes)
#define _tile_release() memset(&tile_shapes, 0, sizeof tile_shapes)
#define _tile_loadd load_tile
#define _tile_stored store_tile
#define _tile_dpbsud multiply_tiles

#endif

// Bytes without sign times bytes with sign; four products are added to each number of `sum`.
template <class Vector>
inline Vector dot_products(Vector sum, Vector weights, Vector inputs) {
    int32_t total[sizeof(Vector) / 4];
    uint8_t w[sizeof(Vector)];
    int8_t x[sizeof(Vector)];
    memcpy(total, &sum, sizeof sum);
    memcpy(w, &weights, sizeof w);
    memcpy(x, &inputs, sizeof x);
    for (size_t i = 0; i < sizeof(Vector); i++) total[i / 4] += w[i] * x[i];
    memcpy(&sum, total, sizeof sum);
    return sum;
}

#if defined(EMULATE_AVX512VNNI)

typedef int32_t Integers __attribute__((vector_size(64)));

inline __m512 fused_512(__m512 a, __m512 b, __m512 c) {
    for (int i = 0; i < 16; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
}
template <class T, class Packed>
inline __m512i widened_512(Packed packed) {
    T x[16];
    memcpy(x, &packed, sizeof x);
    Integers numbers;
    for (int i = 0; i < 16; i++) numbers[i] = x[i];
    return (__m512i)numbers;
}
inline __m512 halves_512(__m256i packed) {
    const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
    const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(packed, 1));
    __m512 numbers;
    memcpy(&numbers, &low, sizeof low);
    memcpy((char*)&numbers + sizeof low, &high, sizeof high);
    return numbers;
}

#define __AVX512F__ 1
#define __AVX512VNNI__ 1
#define _mm512_fmadd_ps fused_512
#define _mm512_cvtph_ps halves_512
#define _mm512_cvtepi8_epi32 widened_512<int8_t>
#define _mm512_cvtepi16_epi32 widened_512<int16_t>
#define _mm512_cvtepi32_ps(x) __builtin_convertvector((Integers)(x), __m512)
#define _mm512_set1_epi32(x) (__m512i)((x) - Integers{})
#define _mm512_dpbusd_epi32 dot_products<__m512i>

#elif defined(EMULATE_AVXVNNI)

#define __AVXVNNI__ 1
#define _mm256_dpbusd_avx_epi32 dot_products<__m256i>

#endif
