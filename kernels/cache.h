// Keys and values at fixed places, in float32 or int8, and attention over them.

#pragma once

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "lanes.h"
#include "memory.h"

// One head of one row of a cache. T is float, or int8_t with a scale for each position. Keys lie
// [positions / 16, dim, 16], so that 16 positions are scored at once; values [positions, dim].
template <class T>
struct Head {
    int dim;
    T *keys, *values;
    float *key_scales, *value_scales;

    void put(int position, const float* key, const float* value) const {
        T* column = keys + (size_t)(position / LANES) * dim * LANES + position % LANES;
        key_scales[position] = quantize(key, column, LANES);
        value_scales[position] = quantize(value, values + (size_t)position * dim, 1);
    }

    // The first `end` positions of another head.
    void copy(const Head& from, int end) const {
        const int rounded = (end + LANES - 1) / LANES * LANES;
        memcpy(keys, from.keys, (size_t)rounded * dim * sizeof(T));
        memcpy(values, from.values, (size_t)end * dim * sizeof(T));
        memcpy(key_scales, from.key_scales, end * sizeof(float));
        memcpy(value_scales, from.value_scales, end * sizeof(float));
    }

    // Softmax attention of one query over the first `end` positions → out [dim]. `weights` has room
    // for the positions, rounded up to 16.
    void attend(const float* query, int end, float* weights, float* out) const {
        const float share = 1.0f / score(query, end, weights);
        int first = 0;
        for (; first + 4 * LANES <= dim; first += 4 * LANES)
            mix<4>(first, end, weights, share, out);
        for (; first + 2 * LANES <= dim; first += 2 * LANES)
            mix<2>(first, end, weights, share, out);
        for (; first < dim; first += LANES) mix<1>(first, end, weights, share, out);
    }

  private:
    // Returns the scale. The numbers go to every `stride`th place of `to`.
    float quantize(const float* x, T* to, int stride) const {
        const bool exact = sizeof(T) == sizeof(float);
        const float most = exact ? 0.0f : peak(x, dim), steps = steps_to(most);
        for (int i = 0; i < dim; i++)
            to[i * stride] = exact ? (T)x[i] : steps > 0 ? (T)rintf(x[i] * steps) : (T)0;
        return exact ? 1.0f : most / 127.0f;
    }

    // weights = exp(score - largest score) * scale of the value. Returns the sum of the former.
    float score(const float* query, int end, float* weights) const {
        const float share = 1.0f / sqrtf((float)dim);
        float most = -INFINITY;
        for (int first = 0; first < end; first += LANES) {
            const T* k = keys + (size_t)first * dim;
            Floats even = 0.0f, odd = 0.0f;  // two sums: an addition need not wait for the last one
            for (int i = 0; i < dim; i += 2, k += 2 * LANES) {
                __builtin_prefetch(k + AHEAD / sizeof(T));
                __builtin_prefetch(k + LANES + AHEAD / sizeof(T));
                even = multiply_add(Floats::load(k), query[i] * share, even);
                odd = multiply_add(Floats::load(k + LANES), query[i + 1] * share, odd);
            }
            ((even + odd) * Floats::load(key_scales + first)).store(weights + first);
            for (int i = first; i < first + LANES; i++) {
                if (i >= end) weights[i] = -INFINITY;
                most = weights[i] > most ? weights[i] : most;
            }
        }
        Floats total = 0.0f;
        for (int first = 0; first < end; first += LANES) {
            exponential(Floats::load(weights + first) - most).store(weights + first);
            for (int i = end; i < first + LANES; i++) weights[i] = 0.0f;
            const Floats w = Floats::load(weights + first);
            total = total + w;
            (w * Floats::load(value_scales + first)).store(weights + first);
        }
        return sum(total);
    }

    // out = share * sum of weight * value, for 16 N of the dims.
    template <int N>
    void mix(int first, int end, const float* weights, float share, float* out) const {
        Floats total[N];
        for (Floats& one : total) one = 0.0f;
        const T* v = values + first;
        for (int position = 0; position < end; position++, v += dim) {
#pragma GCC unroll 4
            for (int n = 0; n < N; n += 64 / (LANES * sizeof(T)))
                __builtin_prefetch(v + n * LANES + AHEAD / sizeof(T));
#pragma GCC unroll 4
            for (int n = 0; n < N; n++)
                total[n] = multiply_add(Floats::load(v + n * LANES), weights[position], total[n]);
        }
        for (int n = 0; n < N; n++) (total[n] * share).store(out + first + n * LANES);
    }
};

// Rows of heads, each with room for a number of positions.
struct Cache {
    int heads, dim, positions;  // dim of a head
    bool int8;
    char* start;

    Cache(Memory& memory, size_t rows, int heads, int dim, int positions, bool int8)
        : heads(heads), dim(dim), positions((positions + LANES - 1) / LANES * LANES), int8(int8) {
        start = memory.take_sparsely<char>(rows * heads * head_bytes());
    }

    // key, value: [heads, dim]
    void put(size_t row, int position, const float* key, const float* value) const {
        for (int h = 0; h < heads; h++, key += dim, value += dim)
            int8 ? head<int8_t>(row, h).put(position, key, value)
                 : head<float>(row, h).put(position, key, value);
    }

    // The first `end` positions of another row.
    void copy(size_t row, size_t from, int end) const {
        for (int h = 0; h < heads; h++)
            int8 ? head<int8_t>(row, h).copy(head<int8_t>(from, h), end)
                 : head<float>(row, h).copy(head<float>(from, h), end);
    }

    void attend(size_t row, int h, const float* query, int end, float* weights, float* out) const {
        int8 ? head<int8_t>(row, h).attend(query, end, weights, out)
             : head<float>(row, h).attend(query, end, weights, out);
    }

  private:
    size_t head_bytes() const {
        const size_t numbers = 2 * (size_t)positions * dim, scales = 2 * (size_t)positions;
        return numbers * (int8 ? 1 : sizeof(float)) + scales * sizeof(float);
    }

    template <class T>
    Head<T> head(size_t row, int head) const {
        float* scales = (float*)(start + (row * heads + head) * head_bytes());
        T* keys = (T*)(scales + 2 * positions);
        return {dim, keys, keys + (size_t)positions * dim, scales, scales + positions};
    }
};
