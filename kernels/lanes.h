// 16 numbers at a time, in as many registers as the instruction set needs for them.
//
// Nothing here depends on the width of a register, so all instruction sets with FMA give the same
// bits: sums have 16 lanes, which are added up in one order.

#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

constexpr int LANES = 16;
constexpr int AHEAD = 2048;  // bytes to fetch ahead of a long read: the processor stops at pages

#if defined(__AVX512F__)
constexpr int WIDTH = 16;  // numbers of a register
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
constexpr int PARTS = LANES / WIDTH;

typedef float FloatVector __attribute__((vector_size(4 * WIDTH)));
typedef int32_t IntVector __attribute__((vector_size(4 * WIDTH)));
typedef float FloatsInMemory __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

// A float16. Its numbers are floats, so arithmetic on them is exact in float32.
struct Half {
    uint16_t bits;

    static Half of(float x) {  // exact where Half has x; see `widened`
        uint32_t bits;
        x *= 0x1p-112f;
        memcpy(&bits, &x, sizeof bits);
        return {(uint16_t)(bits >> 16 & 0x8000 | bits >> 13 & 0x7fff)};
    }
    operator float() const {
        const uint32_t bits = (uint32_t)(this->bits & 0x8000) << 16 | (this->bits & 0x7fff) << 13;
        float x;
        memcpy(&x, &bits, sizeof x);
        return x * 0x1p112f;  // the exponents of a float16 begin at -15, those of a float at -127
    }
};

#if defined(__AVX512F__)
inline FloatVector fused(FloatVector a, FloatVector b, FloatVector c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline FloatVector widened(const int8_t* x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)x)));
}
inline FloatVector widened(const Half* x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)x));
}
inline FloatVector widened(const int16_t* x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i*)x)));
}
#elif defined(__AVX2__)
inline FloatVector fused(FloatVector a, FloatVector b, FloatVector c) {
    return _mm256_fmadd_ps(a, b, c);
}
inline FloatVector widened(const Half* x) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)x));
}
inline FloatVector widened(const int8_t* x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)x)));
}
inline FloatVector widened(const int16_t* x) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i*)x)));
}
#else
inline FloatVector fused(FloatVector a, FloatVector b, FloatVector c) { return a * b + c; }
template <class T>
inline FloatVector widened(const T* x) {
    return FloatVector{(float)x[0], (float)x[1], (float)x[2], (float)x[3]};
}
inline FloatVector widened(const Half* x) { return FloatVector{x[0], x[1], x[2], x[3]}; }
#endif

struct Floats {
    FloatVector part[PARTS];

    Floats() = default;
    Floats(float x) {
        for (FloatVector& v : part) v = x - FloatVector{};
    }
    static Floats load(const float* x) {
        Floats v;
        for (int p = 0; p < PARTS; p++) v.part[p] = *(const FloatsInMemory*)(x + p * WIDTH);
        return v;
    }
    template <class T>
    static Floats load(const T* x) {
        Floats v;
        for (int p = 0; p < PARTS; p++) v.part[p] = widened(x + p * WIDTH);
        return v;
    }
    void store(float* x) const {
        for (int p = 0; p < PARTS; p++) *(FloatsInMemory*)(x + p * WIDTH) = part[p];
    }
};

template <class Operation>
inline Floats map(const Floats& a, const Floats& b, Operation operation) {
    Floats v;
#pragma GCC unroll 4
    for (int p = 0; p < PARTS; p++) v.part[p] = operation(a.part[p], b.part[p]);
    return v;
}

inline Floats operator+(const Floats& a, const Floats& b) {
    return map(a, b, [](FloatVector a, FloatVector b) { return a + b; });
}
inline Floats operator-(const Floats& a, const Floats& b) {
    return map(a, b, [](FloatVector a, FloatVector b) { return a - b; });
}
inline Floats operator*(const Floats& a, const Floats& b) {
    return map(a, b, [](FloatVector a, FloatVector b) { return a * b; });
}
inline Floats operator/(const Floats& a, const Floats& b) {
    return map(a, b, [](FloatVector a, FloatVector b) { return a / b; });
}
inline Floats larger(const Floats& a, const Floats& b) {
    return map(a, b, [](FloatVector a, FloatVector b) { return a > b ? a : b; });
}
inline Floats smaller(const Floats& a, const Floats& b) {
    return map(a, b, [](FloatVector a, FloatVector b) { return a < b ? a : b; });
}
inline Floats if_at_least(const Floats& least, const Floats& x) {  // else 0
    return map(least, x, [](FloatVector a, FloatVector b) { return b >= a ? b : FloatVector{}; });
}
inline Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
    Floats v;
#pragma GCC unroll 4
    for (int p = 0; p < PARTS; p++) v.part[p] = fused(a.part[p], b.part[p], c.part[p]);
    return v;
}

inline float sum(const Floats& x) {
    float lanes[LANES];
    x.store(lanes);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

// The largest absolute value, or NaN if there is one: as a whole number it is above all others.
inline float peak(const float* x, int count) {
    IntVector most[PARTS] = {};
    for (int i = 0; i < count; i += LANES)
        for (int p = 0; p < PARTS; p++) {
            const IntVector v = (IntVector)Floats::load(x + i).part[p] & 0x7fffffff;
            most[p] = v > most[p] ? v : most[p];
        }
    int32_t lanes[LANES], largest = 0;
    memcpy(lanes, most, sizeof lanes);
    for (int32_t lane : lanes) largest = lane > largest ? lane : largest;
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

// int8 has 127 steps up to the peak of a group; this is how many a number of 1 has. Zero where the
// numbers become zero: the peak is next to nothing, or infinite or NaN. Times these they are NaN.
inline float steps_to(float peak) { return peak > 1e-30f ? 127.0f / peak : 0.0f; }

inline Floats rounded(const Floats& x) {  // to the nearest whole number, for up to 2^22
    return x + 12582912.0f - 12582912.0f;
}

// Cephes' polynomial, within 2 units in the last place. Below -87 it stays at 1e-38. Limits come
// first, so that NaN stays NaN.
__attribute__((always_inline)) inline Floats exponential(Floats x) {
    x = smaller(88.0f, larger(-87.0f, x));
    const Floats n = rounded(x * 1.44269504f);
    x = multiply_add(n, -0.693359375f, x);  // n ln 2, in two parts
    x = multiply_add(n, 2.12194440e-4f, x);
    Floats y = 1.9875691500e-4f;
    y = multiply_add(y, x, 1.3981999507e-3f);
    y = multiply_add(y, x, 8.3334519073e-3f);
    y = multiply_add(y, x, 4.1665795894e-2f);
    y = multiply_add(y, x, 1.6666665459e-1f);
    y = multiply_add(y, x, 5.0000001201e-1f);
    y = multiply_add(y, x * x, x + 1.0f);
    for (int p = 0; p < PARTS; p++) {
        IntVector power = (__builtin_convertvector(n.part[p], IntVector) + 127) << 23;
        y.part[p] *= (FloatVector)power;
    }
    return y;
}

// x (1 + erf(x / sqrt 2)) / 2, with erf as the rational function of Eigen and XLA.
inline Floats gelu(const Floats& x) {
    const Floats t = smaller(larger(x * 0.707106781f, -4.0f), 4.0f), s = t * t;
    Floats p = -2.72614225801306e-10f;
    p = multiply_add(p, s, 2.77068142495902e-08f);
    p = multiply_add(p, s, -2.10102402082508e-06f);
    p = multiply_add(p, s, -5.69250639462346e-05f);
    p = multiply_add(p, s, -7.34990630326855e-04f);
    p = multiply_add(p, s, -2.95459980854025e-03f);
    p = multiply_add(p, s, -1.60960333262415e-02f);
    Floats q = -1.45660718464996e-05f;
    q = multiply_add(q, s, -2.13374055278905e-04f);
    q = multiply_add(q, s, -1.68282697438203e-03f);
    q = multiply_add(q, s, -7.37332916720468e-03f);
    q = multiply_add(q, s, -1.42647390514189e-02f);
    return x * 0.5f * (t * p / q + 1.0f);
}
