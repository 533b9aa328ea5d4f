// The norm of a row: mean 0 and variance 1, then a weight and a bias for each number.

#pragma once

#include <math.h>

#include "lanes.h"

struct Norm {
    float *weight, *bias;

    void apply(const float* x, int dim, float* y) const {
        Floats total = 0.0f, squares = 0.0f;
        for (int i = 0; i < dim; i += LANES) total = total + Floats::load(x + i);
        const float mean = sum(total) / dim;
        for (int i = 0; i < dim; i += LANES) {
            const Floats off = Floats::load(x + i) - mean;
            squares = multiply_add(off, off, squares);
        }
        const float scale = 1.0f / sqrtf(sum(squares) / dim + 1e-5f);
        for (int i = 0; i < dim; i += LANES) {
            const Floats normal = (Floats::load(x + i) - mean) * scale;
            multiply_add(normal, Floats::load(weight + i), Floats::load(bias + i)).store(y + i);
        }
    }
};
