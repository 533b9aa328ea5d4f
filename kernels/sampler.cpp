// Sampling in native code: softmax, the likeliest tokens, and a race with random numbers.
//
// Torch makes a random number for each token of the vocabulary; here only the tokens that stay get
// one. Source of the arithmetic: musicgen_engine/model/sampler.py and rng.py.

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

constexpr int MAX_VOCAB = 4096, NOT_FINITE = -1;

namespace {

struct Settings {
    float temperature;  // 0 takes the likeliest token
    int64_t top_k;      // the vocabulary's size keeps every token
    float top_p;        // infinity keeps every token
};

uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

// The i-th number of the generator SplitMix64 with this seed.
uint64_t number(uint64_t seed, uint64_t i) { return mix(seed + (i + 1) * 0x9E3779B97F4A7C15); }

float exponentially_distributed(uint64_t bits) {
    const float uniform = (float)(int64_t)((bits | 1) & INT64_MAX) * 0x1.fffffep-64f;
    return -log1pf(-uniform);
}

bool finite(const float* logits, int count) {
    Floats total = 0.0f;  // hides no NaN
    for (int i = 0; i < count; i += LANES) total = total + Floats::load(logits + i);
    return isfinite(sum(total));
}

int likeliest(const float* logits, int vocab) {
    int most = 0;
    for (int token = 1; token < vocab; token++)
        if (logits[token] > logits[most]) most = token;
    return most;
}

// p, up to a factor. Returns their sum.
float softmax(const float* logits, int vocab, float temperature, float* p) {
    Floats most = Floats::load(logits), total = 0.0f;
    for (int i = 0; i < vocab; i += LANES) most = larger(most, Floats::load(logits + i));
    float lanes[LANES];
    most.store(lanes);
    const float peak = lanes[likeliest(lanes, LANES)] / temperature;
    for (int i = 0; i < vocab; i += LANES) {
        const Floats e = exponential(Floats::load(logits + i) / temperature - peak);
        e.store(p + i);
        total = total + e;
    }
    return sum(total);
}

// The p of the least likely token that stays. Numbers that are not negative have the order of their
// bits, so that this finds one bit after the other, without sorting.
float least_kept(const float* p, int vocab, float total, const Settings& settings) {
    float least = 0.0f;
    for (uint32_t bit = 1u << 30, bits = 0; bit; bit >>= 1) {
        float next;
        const uint32_t set = bits | bit;
        memcpy(&next, &set, sizeof next);
        bool rules_out_too_much;
        if (isinf(settings.top_p)) {
            int kept = 0;
            for (int i = 0; i < vocab; i++) kept += p[i] >= next;
            rules_out_too_much = kept < settings.top_k;
        } else {  // a token stays if those that are likelier have no more than top_p
            Floats likelier = 0.0f;
            for (int i = 0; i < vocab; i += LANES)
                likelier = likelier + if_at_least(next, Floats::load(p + i));
            rules_out_too_much = sum(likelier) <= settings.top_p * total;
        }
        if (rules_out_too_much) continue;
        bits = set;
        least = next;
    }
    return least;
}

// The token with the largest p / E, where E is exponential.
int code(const float* logits, int vocab, const Settings& settings, uint64_t key) {
    if (settings.temperature == 0) return likeliest(logits, vocab);
    float p[MAX_VOCAB], best = -1.0f;
    const float total = softmax(logits, vocab, settings.temperature, p);
    const float least = least_kept(p, vocab, total, settings);
    int winner = 0;
    for (int token = 0; token < vocab; token++) {
        if (p[token] < least) continue;
        const float race = p[token] / exponentially_distributed(number(key, token));
        if (race > best) best = race, winner = token;
    }
    return winner;
}

// u + sum((c_i - u) * weight_i) of the rows of a sequence; u is the second. From row to row: `next`
// numbers.
void combine(const float* logits, size_t next, int rows, const float* weights, int vocab,
             float* guided) {
    for (int i = 0; i < vocab; i += LANES) {
        const Floats unconditional = Floats::load(logits + next + i);
        Floats total = unconditional;
        for (int prompt = 0; prompt < rows - 1; prompt++) {
            const int row = prompt ? prompt + 1 : 0;
            const Floats difference = Floats::load(logits + row * next + i) - unconditional;
            total = total + difference * weights[prompt];
        }
        total.store(guided + i);
    }
}

}  // namespace

extern "C" {

// Of all slots.
struct SamplerSettings {
    int32_t codebooks, vocab, most_rows;
    const int64_t *seed, *rows;  // by slot
    const float* guidance;       // [slots, most_rows - 1]
    const float* temperature;    // [slots, codebooks], and so on
    const int64_t* top_k;
    const float* top_p;
};

// The codes [n, codebooks] of n sequences by their logits [rows of all, codebooks, vocab].
// `frames`: [n, codebooks].
void sampler_sample(const SamplerSettings* all, int32_t n, const int64_t* slots,
                    const float* logits, const int64_t* frames, int64_t* codes) {
    const int codebooks = all->codebooks, vocab = all->vocab;
    const size_t next = (size_t)codebooks * vocab;
    for (int sequence = 0; sequence < n; sequence++, frames += codebooks, codes += codebooks) {
        const int64_t slot = slots[sequence], rows = all->rows[slot];
        const float* weights = all->guidance + slot * (all->most_rows - 1);
        const uint64_t seed = mix(all->seed[slot]);
        bool sound = true;
        for (int codebook = 0; codebook < codebooks; codebook++) {
            float guided[MAX_VOCAB];
            combine(logits + (size_t)codebook * vocab, next, rows, weights, vocab, guided);
            const int64_t of = slot * codebooks + codebook;
            const Settings settings = {all->temperature[of], all->top_k[of], all->top_p[of]};
            const uint64_t key = number(seed, frames[codebook] + ((uint64_t)codebook << 32));
            sound = sound && finite(guided, vocab);
            if (sound) codes[codebook] = code(guided, vocab, settings, key);
        }
        for (int i = 0; i < codebooks && !sound; i++) codes[i] = NOT_FINITE;
        logits += rows * next;
    }
}
}
