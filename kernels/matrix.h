// Matrices in float32 or int8, and the inputs that they are multiplied by.
//
// float32: weights that a float16 holds exactly, as those of a checkpoint in float16, lie in one.
// The products are the same to the bit, and half as much is read.
//
// int8: a number is a whole number from -127 to 127 times a scale. Weights have a scale for each
// output, inputs for each 128 of a row. musicgen_engine/model/int8.py has the same in torch.

#pragma once

#include <math.h>
#include <stddef.h>

#include "amx.h"
#include "lanes.h"

constexpr int GROUP = 128;  // inputs with one scale
constexpr int QUADS = GROUP / 4;
constexpr int BLOCK = 4;  // rows that share a read of the weights

inline int groups(int inputs) { return (inputs + GROUP - 1) / GROUP; }

// Four inputs, and four weights of each output to multiply them by. The instructions want one side
// without sign, so a weight is stored as weight + 128; the sum starts at -128 times the inputs.

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
struct Quad {
    int32_t inputs;
    void set(const int8_t* x) { memcpy(&inputs, x, 4); }
};
struct QuadWeights {
    IntVector weights;
    void load(const uint8_t* w) { memcpy(&weights, w, sizeof weights); }
    IntVector add(IntVector sum, const Quad& quad) const {
#if defined(__AVX512VNNI__)
        return (IntVector)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights,
                                              _mm512_set1_epi32(quad.inputs));
#else
        return (IntVector)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)weights,
                                                  _mm256_set1_epi32(quad.inputs));
#endif
    }
};
#elif defined(__AVX2__)
struct Quad {
    int32_t even, odd;  // inputs 0 and 2, 1 and 3, in 16 bits each
    void set(const int8_t* x) {
        even = (uint16_t)x[0] | x[2] * 65536;
        odd = (uint16_t)x[1] | x[3] * 65536;
    }
};
struct QuadWeights {
    __m256i even, odd;
    void load(const uint8_t* w) {
        const __m256i weights = _mm256_loadu_si256((const __m256i*)w);
        even = _mm256_and_si256(weights, _mm256_set1_epi16(0xff));
        odd = _mm256_srli_epi16(weights, 8);
    }
    IntVector add(IntVector sum, const Quad& quad) const {
        sum += (IntVector)_mm256_madd_epi16(even, _mm256_set1_epi32(quad.even));
        return sum + (IntVector)_mm256_madd_epi16(odd, _mm256_set1_epi32(quad.odd));
    }
};
#else
struct Quad {
    int8_t inputs[4];
    void set(const int8_t* x) { memcpy(inputs, x, 4); }
};
struct QuadWeights {
    const uint8_t* weights;
    void load(const uint8_t* w) { weights = w; }
    IntVector add(IntVector sum, const Quad& quad) const {
        for (int out = 0; out < WIDTH; out++)
            for (int in = 0; in < 4; in++) sum[out] += weights[4 * out + in] * quad.inputs[in];
        return sum;
    }
};
#endif

// Rows to multiply. `values` is filled first; int8 matrices take what `quantize` makes of it.
struct Inputs {
    int stride;
    float* values;     // [rows, stride]
    Quad* quads;       // [rows, stride / 4]
    float* scales;     // [rows, groups(stride)]
    int32_t* offsets;  // [rows, groups(stride)], -128 times the sum of the group

    float* row(int row) const { return values + (size_t)row * stride; }

    void quantize(int row, int inputs) const {
        for (int group = 0; group < groups(inputs); group++) {
            const int first = group * GROUP,
                      count = inputs - first < GROUP ? inputs - first : GROUP;
            const float *x = this->row(row) + first, most = peak(x, count);
            const float steps = steps_to(most);
            Quad* quad = quads + ((size_t)row * stride + first) / 4;
            int32_t total = 0;
            for (int i = 0; i < count; i += LANES) {
                float lanes[LANES];
                int8_t whole[LANES];
                rounded(steps > 0 ? Floats::load(x + i) * steps : 0.0f).store(lanes);
                for (int lane = 0; lane < LANES; lane++) total += whole[lane] = (int8_t)lanes[lane];
                for (int lane = 0; lane < LANES; lane += 4) (quad++)->set(whole + lane);
            }
            scales[(size_t)row * groups(stride) + group] = most / 127.0f;
            offsets[(size_t)row * groups(stride) + group] = -128 * total;
        }
    }
};

enum class Then { STORE, ADD, GELU };

// In tiles of 16 outputs: floats or halves [outputs / 16, inputs, 16], or weight + 128 in a byte
// [outputs / 16, inputs / 4, 16, 4] and a scale for each output.
struct Matrix {
    int outputs, inputs;
    float* floats;
    Half* halves;
    uint8_t* bytes;
    float* scales;
    float* bias;  // or none

    // Whether halves hold all weights of a tile.
    bool fits_halves(int tile, const float* source) const {
        const float* w = source + (size_t)tile * LANES * inputs;
        int others = 0;
        for (int i = 0; i < LANES * inputs; i++) others += Half::of(w[i]) != w[i];
        return !others;
    }

    // Packs a tile of `source`, float32 [outputs, inputs].
    void pack(int tile, const float* source) const {
        const float* w = source + (size_t)tile * LANES * inputs;
        float steps[LANES];
        for (int lane = 0; lane < LANES && bytes; lane++) {
            const float most = peak(w + (size_t)lane * inputs, inputs);
            steps[lane] = steps_to(most);
            scales[tile * LANES + lane] = most / 127.0f;
        }
        const size_t start = (size_t)tile * inputs * LANES;
        const int depth = bytes ? 4 : 1;  // inputs of an output that lie side by side
        for (int i = 0; i < inputs; i += depth)
            for (int lane = 0; lane < LANES; lane++)
                for (int j = 0; j < depth; j++) {
                    const float weight = w[(size_t)lane * inputs + i + j];
                    const size_t to = start + (size_t)i * LANES + lane * depth + j;
                    if (bytes)
                        bytes[to] = (steps[lane] > 0 ? (int)rintf(weight * steps[lane]) : 0) + 128;
                    else if (halves)
                        halves[to] = Half::of(weight);
                    else
                        floats[to] = weight;
                }
    }

    // The outputs of tiles for all rows; each row's outputs begin at y[row].
    void multiply(int tile, int end, const Inputs& x, int rows, Then then, float* const* y) const {
        int first = 0;  // the rows before are done
        if (bytes && inputs % TILE_BYTES == 0 && rows >= TILE_ROWS && TILES_PERMITTED) {
            const Tiles tiles;
            for (; first + TILE_ROWS <= rows; first += TILE_ROWS)
                for (int t = tile; t < end; t++) multiply_rows<TILE_ROWS>(t, x, first, then, y);
        }
        // Two tiles at once: few rows alone have too few sums to keep the processor busy.
        for (; tile + 2 <= end && rows <= 2 && !bytes; tile += 2) {
            if (rows == 2) multiply_rows<2, 2>(tile, x, 0, then, y);
            if (rows == 1) multiply_rows<1, 2>(tile, x, 0, then, y);
        }
        for (; tile < end; tile++) {
            int row = first;
            for (; row + BLOCK <= rows; row += BLOCK) multiply_rows<BLOCK>(tile, x, row, then, y);
            if (rows - row == 3) multiply_rows<3>(tile, x, row, then, y);
            if (rows - row == 2) multiply_rows<2>(tile, x, row, then, y);
            if (rows - row == 1) multiply_rows<1>(tile, x, row, then, y);
        }
    }

  private:
    // R rows times T tiles.
    template <int R, int T = 1>
    void multiply_rows(int tile, const Inputs& x, int first, Then then, float* const* y) const {
        Floats products[T][R];
        bytes    ? int8_products<R>(tile, x, first, products[0])
        : halves ? float32_products<R, T>(halves, tile, x, first, products)
                 : float32_products<R, T>(floats, tile, x, first, products);
        for (int t = 0; t < T; t++, tile++)
            for (int r = 0; r < R; r++) {
                float* to = y[first + r] + tile * LANES;
                Floats v = products[t][r];
                if (bytes) v = v * Floats::load(scales + tile * LANES);
                if (bias) v = v + Floats::load(bias + tile * LANES);
                if (then == Then::ADD) v = v + Floats::load(to);
                if (then == Then::GELU) v = gelu(v);
                v.store(to);
            }
    }

    template <int R, int T, class Weight>
    void float32_products(const Weight* w, int tile, const Inputs& x, int first,
                          Floats (*products)[R]) const {
        const float* row[R];
        Floats total[T][R];
        for (int r = 0; r < R; r++) row[r] = x.row(first + r);
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) total[t][r] = 0.0f;
        w += (size_t)tile * inputs * LANES;
        for (int i = 0; i < inputs; i++, w += LANES) {
#pragma GCC unroll 2
            for (int t = 0; t < T; t++) {
                const Weight* tile_w = w + (size_t)t * inputs * LANES;
                __builtin_prefetch(tile_w + AHEAD / sizeof(Weight));
                const Floats weights = Floats::load(tile_w);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++)
                    total[t][r] = multiply_add(weights, row[r][i], total[t][r]);
            }
        }
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) products[t][r] = total[t][r];
    }

    template <int R>
    void int8_products(int tile, const Inputs& x, int first, Floats* products) const {
        const uint8_t* w = bytes + (size_t)tile * inputs * LANES;
        const Quad* row[R];
        for (int r = 0; r < R; r++) {
            row[r] = x.quads + (size_t)(first + r) * x.stride / 4;
            products[r] = 0.0f;
        }
        for (int group = 0, quad = 0; group < groups(inputs); group++) {
            IntVector total[R][PARTS];
            const size_t at = (size_t)first * groups(x.stride) + group;
            for (int r = 0; r < R; r++)
                for (IntVector& part : total[r])
                    part = x.offsets[at + (size_t)r * groups(x.stride)] - IntVector{};
            const int end = quad + QUADS < inputs / 4 ? quad + QUADS : inputs / 4;
            if (R == TILE_ROWS) {
                Tiles::add(total, row[0] + quad, x.stride / 4 * sizeof(Quad), w, 4 * (end - quad));
                w += (size_t)(end - quad) * 4 * LANES, quad = end;
            }
            for (; quad < end; quad++, w += 4 * LANES) {
                __builtin_prefetch(w + AHEAD);
                QuadWeights weights[PARTS];
                for (int p = 0; p < PARTS; p++) weights[p].load(w + p * 4 * WIDTH);
#pragma GCC unroll 4
                for (int r = 0; r < R; r++)
                    for (int p = 0; p < PARTS; p++)
                        total[r][p] = weights[p].add(total[r][p], row[r][quad]);
            }
            for (int r = 0; r < R; r++) {
                Floats whole;
                for (int p = 0; p < PARTS; p++)
                    whole.part[p] = __builtin_convertvector(total[r][p], FloatVector);
                const float scale = x.scales[at + (size_t)r * groups(x.stride)];
                products[r] = multiply_add(whole, scale, products[r]);
            }
        }
    }
};
